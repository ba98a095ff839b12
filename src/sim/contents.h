// What simulated buffers hold, so that data tell where they came from.
//
// Nothing is computed: the bytes that a launch makes are a function of its program and of all its arguments on all its
// devices, as those of a real program are. Whoever knows what went in can say what must come out, so data that were
// mixed up, read too early or taken from a buffer that was given away are found where they are fetched. Devices that
// hold the same tile of an output hold the same bytes.
//
// Pure functions; Contents are immutable. Thread-safe.
#ifndef CAUSEWAY_SIM_CONTENTS_H_
#define CAUSEWAY_SIM_CONTENTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/control.pb.h"
#include "worker/device_runtime.h"

namespace causeway {

// The bytes of one shard, dense and row-major.
struct Contents {
  explicit Contents(std::string held);

  const std::string bytes;
  const uint64_t digest;  // of them
};
using ContentsRef = std::shared_ptr<const Contents>;

// Stands for one launch: `program` with `arguments`, by device, then by parameter.
uint64_t LaunchDigest(absl::string_view program, absl::Span<const ContentsRef> arguments);

// What a launch makes of tile `tile` of output `output`.
ContentsRef OutputContents(uint64_t launch_digest, int output, int64_t tile, int64_t bytes);

// The tile of `output` that each of `devices` devices holds. All 0 where it is not tiled, or not as it could be.
std::vector<int64_t> TilesOf(const proto::OutputInfo& output, int devices);

// The dense bytes of what lies as `shape` says at `memory`, and the other way round. `shape` is a checked one.
std::string Gather(const HostShape& shape, const char* memory);
void Scatter(absl::string_view dense, const HostShape& shape, char* memory);

}  // namespace causeway

#endif  // CAUSEWAY_SIM_CONTENTS_H_
