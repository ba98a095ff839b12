// Linear algebra for CPU devices: the custom calls into which JAX lowers `jnp.linalg`, `jax.scipy.linalg`,
// `lax.linalg` and sparse products on CPU.
//
// jaxlib registers these calls in its own copy of XLA only. A plugin that comes from elsewhere has none of them and
// refuses every program with an SVD in it, so the worker gives it ours, over LAPACKE and OpenBLAS. Names, operands,
// attributes and results are those of jaxlib 0.10.2, which `jaxlib.lapack.registrations()` lists.
//
//   for (const FfiKernel& kernel : LapackKernels()) {
//     RETURN_IF_ERROR(plugin.RegisterHandler(kernel.name, kernel.handler, /*platform=*/"Host"));
//   }
//
// Threading: LapackKernels() from any thread. A kernel runs on the plugin's thread that calls it, to the end, with no
// lock and no thread of its own; any number of them may run at once.
// Lifetime: everything returned is static.
#ifndef CAUSEWAY_PJRT_LAPACK_LAPACK_KERNELS_H_
#define CAUSEWAY_PJRT_LAPACK_LAPACK_KERNELS_H_

#include <string_view>

#include "absl/types/span.h"

namespace causeway {

// One custom-call target. `handler` is an XLA_FFI_Handler*, untyped as in the registration call of the C API.
struct FfiKernel {
  std::string_view name;
  void* handler;
};

// All targets, in no particular order. The first call sets OpenBLAS, process-wide, to one thread.
absl::Span<const FfiKernel> LapackKernels();

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_LAPACK_LAPACK_KERNELS_H_
