// The streams of the data plane in which this worker takes part, and who waits for their end.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_STREAM_TABLE_H_
#define CAUSEWAY_WORKER_STREAM_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "net/data_plane.h"
#include "worker/context.h"
#include "worker/events.h"

namespace causeway::worker {

class StreamTable {
 public:
  using Done = std::function<void(const absl::Status&)>;

  explicit StreamTable(Context& context) : context_(context) {}

  // The host memory is held, and `done` called, until the end of the stream. `done` may be null.
  StreamKey Send(SessionId session, PeerId peer, StreamId id, HostRef source, const ByteRuns& place, Done done);
  StreamKey Receive(SessionId session, PeerId peer, StreamId id, HostRef target, const ByteRuns& place, Done done);

  void OnEnded(const StreamEnded& event);

  // Ends a stream on both sides; `done` is not called. Unknown ones are ignored.
  void Cancel(StreamKey key, const absl::Status& why);
  void DropSession(SessionId session, const absl::Status& why);
  void DropAll(const absl::Status& why);

  int64_t size() const { return static_cast<int64_t>(streams_.size()); }

 private:
  struct Stream {
    SessionId session;
    HostRef memory;
    Done done;
    PeerId peer;
    bool received;
    int64_t bytes;
    absl::Time start;
  };

  Context& context_;
  uint64_t last_key_ = 0;
  std::map<StreamKey, Stream> streams_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_STREAM_TABLE_H_
