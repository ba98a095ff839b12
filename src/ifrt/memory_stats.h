// What a client is told of a device's memory.
//
// The IFRT protocol has no question for that, and the stock client no way to put one of its own. So it is asked by
// compiling any program for the device with the option `causeway_memory_stats`: nothing is compiled, and the error that
// comes back is the answer. One round trip to the controller, in order behind all that the client has sent before
// (deletes too), and nothing in a worker. python/causeway/memory.py is the other side.
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_MEMORY_STATS_H_
#define CAUSEWAY_IFRT_MEMORY_STATS_H_

#include "absl/status/status.h"
#include "base/ids.h"
#include "controller/device_memory.h"

namespace causeway {

inline constexpr char kMemoryStatsOption[] = "causeway_memory_stats";

// ABORTED: `kMemoryStatsOption`, a colon and JSON, as `asker` is told.
absl::Status MemoryStats(const DeviceMemory::Use& use, SessionId asker);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_MEMORY_STATS_H_
