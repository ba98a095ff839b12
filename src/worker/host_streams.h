// Streams of the data plane from and into host memory.
//
// What lies in one long run in memory travels without a copy; pieces of many short runs are gathered and scattered a
// chunk at a time, on the plane's thread, so that a stream needs no memory beyond one chunk.
#ifndef CAUSEWAY_WORKER_HOST_STREAMS_H_
#define CAUSEWAY_WORKER_HOST_STREAMS_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "net/data_plane.h"
#include "worker/byte_runs.h"
#include "worker/host_block.h"

namespace causeway::worker {

using StreamDone = std::function<void(absl::Status)>;

// Fills `place` of `target`, which is writable and large enough. `done` is called once.
std::shared_ptr<StreamSink> MakeHostSink(std::shared_ptr<HostBlock> target, ByteRuns place, StreamDone done);

// Gives `place` of `source`, which is large enough. `done` is called once.
std::shared_ptr<StreamSource> MakeHostSource(std::shared_ptr<HostBlock> source, ByteRuns place, StreamDone done);

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_HOST_STREAMS_H_
