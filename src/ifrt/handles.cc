#include "ifrt/handles.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace causeway {

absl::StatusOr<uint64_t> NumberOfHandle(uint64_t handle) {
  if (handle != 0 && handle < kNumbersPerSide) return handle;
  if (handle >= kServerHandles && handle - kServerHandles < kNumbersPerSide) {
    return kNumbersPerSide + (handle - kServerHandles);
  }
  return absl::InvalidArgumentError(absl::StrCat("handle ", handle, " is none that this server or its client counts"));
}

absl::StatusOr<ArrayId> ArrayOfHandle(SessionId session, uint64_t handle) {
  ASSIGN_OR_RETURN(const uint64_t number, NumberOfHandle(handle));
  return MakeArrayId(session, number);
}

absl::StatusOr<ProgramId> ProgramOfHandle(SessionId session, uint64_t handle) {
  ASSIGN_OR_RETURN(const uint64_t number, NumberOfHandle(handle));
  return MakeProgramId(session, number);
}

absl::StatusOr<uint64_t> HandleMinter::Mint(HandleKind kind) {
  const uint64_t n = next_.fetch_add(1, std::memory_order_relaxed);
  if (n >= kNumbersPerSide / 4) {
    return absl::ResourceExhaustedError("this session has used up its handles; connect anew");
  }
  return kServerHandles + n * 4 + static_cast<uint64_t>(kind);
}

}  // namespace causeway
