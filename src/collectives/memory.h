// Reads the memory of another process of this machine.
//
//   RETURN_IF_ERROR(ReadMemory(pid, {{.address = 0x7f..., .bytes = 4096}}, into, 4096));
//
// One copy, by the kernel, straight from where it lies to where it belongs (process_vm_readv(2)): no socket, no buffer
// between, and nothing to set up or to clean up. Memory that both map would need the operands to lie in it, and where
// they lie is the plugin's affair.
//
// Threading: pure functions.
#ifndef CAUSEWAY_COLLECTIVES_MEMORY_H_
#define CAUSEWAY_COLLECTIVES_MEMORY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "collectives/pieces.h"

namespace causeway::collectives {

struct MemoryStretch {
  uint64_t address = 0;
  int64_t bytes = 0;
};

// Puts `bytes` bytes that lie in these stretches of `process` one behind the other into `into`, which has as many.
// INVALID_ARGUMENT: the stretches have others. PERMISSION_DENIED, UNIMPLEMENTED: the system does not allow it, or has
// no such call. UNAVAILABLE: the process is gone, or nothing lies there. After an error some bytes may have been
// written.
absl::Status ReadMemory(int process, const std::vector<MemoryStretch>& from, const Pieces& into, int64_t bytes);

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_MEMORY_H_
