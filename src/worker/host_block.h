// One piece of host memory, as the shell holds it: allocated here, come with a message, or a view of a device buffer.
//
// Thread-safe as far as its bytes are; passed around by shared_ptr, which is what keeps the bytes.
#ifndef CAUSEWAY_WORKER_HOST_BLOCK_H_
#define CAUSEWAY_WORKER_HOST_BLOCK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "worker/device_runtime.h"

namespace causeway::worker {

struct HostBlock {
  // Not initialised, aligned to 64 bytes: CPU devices then use the memory itself. Of 4 MiB and more, what is given back
  // is used again (kept_blocks.h). Without `bytes` where there is no such memory: RESOURCE_EXHAUSTED is the answer to
  // whoever uses it.
  static std::shared_ptr<HostBlock> Allocate(int64_t bytes);
  static std::shared_ptr<HostBlock> Adopt(std::string data);
  static std::shared_ptr<HostBlock> View(HostBytes bytes);

  // RESOURCE_EXHAUSTED where fewer than `needed_bytes` are there.
  absl::Status Check(int64_t needed_bytes) const;

  std::shared_ptr<const void> owner;
  absl::Span<const char> bytes;
  char* writable = nullptr;  // the same memory, where it is ours to write
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_HOST_BLOCK_H_
