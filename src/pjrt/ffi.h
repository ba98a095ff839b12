// Custom calls for a plugin: handlers of XLA's typed FFI, by name.
#ifndef CAUSEWAY_PJRT_FFI_H_
#define CAUSEWAY_PJRT_FFI_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "pjrt/lapack/lapack_kernels.h"
#include "pjrt/pjrt_api.h"

namespace causeway {

// XLA's name of the CPU, as RegisterFfiHandler takes it.
inline constexpr absl::string_view kFfiHostPlatform = "HOST";

// Lets programs of this plugin call `handler` (an XLA_FFI_Handler*, which must stay for the life of the process) by
// `name`. The first registration of a name counts: a later one of the same handler is OK, of another one
// ALREADY_EXISTS. UNIMPLEMENTED where the plugin has no FFI extension. Thread-safe.
absl::Status RegisterFfiHandler(const PjrtApi& api, absl::string_view name, absl::string_view platform, void* handler);

// RegisterFfiHandler for each of them.
absl::Status RegisterFfiKernels(const PjrtApi& api, absl::string_view platform, absl::Span<const FfiKernel> kernels);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_FFI_H_
