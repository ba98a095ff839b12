// Handles are the protocol's names for arrays, programs and futures; ids are ours. One becomes the other by arithmetic,
// so the door keeps no table of them.
//
//   handle of a client  h,      1 <= h < 2^39  ->  number h
//   handle of ours      2^63+n, 0 <= n < 2^39  ->  number 2^39 + n
//
// The client counts its handles from 1 and reserves everything from 2^63 on for the server. The two lowest bits of our
// own handles say what they name, so that a future needs no table either.
//
// Threading: HandleMinter may be used from any thread; the functions are pure.
#ifndef CAUSEWAY_IFRT_HANDLES_H_
#define CAUSEWAY_IFRT_HANDLES_H_

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/ids.h"

namespace causeway {

inline constexpr uint64_t kServerHandles = uint64_t{1} << 63;
inline constexpr uint64_t kNumbersPerSide = uint64_t{1} << (kSessionNumberBits - 1);

// What a handle of ours names.
enum class HandleKind : uint64_t {
  kObject = 0,        // an array or a program
  kReady = 1,         // a future that is done: of a program that is ready, or deleted
  kDeletion = 2,      // the future of arrays' deletion, which is done
  kLaunchStatus = 3,  // the future of a launch's end
};

// INVALID_ARGUMENT where `handle` is 0 or beyond the range above.
absl::StatusOr<uint64_t> NumberOfHandle(uint64_t handle);
absl::StatusOr<ArrayId> ArrayOfHandle(SessionId session, uint64_t handle);
absl::StatusOr<ProgramId> ProgramOfHandle(SessionId session, uint64_t handle);

// What `handle` names, if it is one of ours; client-minted handles name objects.
constexpr HandleKind KindOfHandle(uint64_t handle) {
  return handle < kServerHandles ? HandleKind::kObject : static_cast<HandleKind>(handle & 3);
}

class HandleMinter {
 public:
  // RESOURCE_EXHAUSTED after 2^37 handles.
  absl::StatusOr<uint64_t> Mint(HandleKind kind);

 private:
  std::atomic<uint64_t> next_{0};
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_HANDLES_H_
