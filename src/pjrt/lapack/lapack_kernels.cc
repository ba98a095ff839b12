#include "pjrt/lapack/lapack_kernels.h"

#include <cblas.h>

#include <vector>

#include "pjrt/lapack/families.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway {
namespace {

std::vector<FfiKernel> Gather() {
  // XLA calls the kernels from as many threads as it has; more threads in each of them would only fight for the cores.
  openblas_set_num_threads(1);
  // NaN goes in and comes out as it does in jaxlib, instead of failing the whole matrix.
  LAPACKE_set_nancheck(0);

  std::vector<FfiKernel> all;
  for (const auto& family : {lapack::EigenKernels(), lapack::FactorKernels(), lapack::SingularKernels(),
                             lapack::SparseKernels(), lapack::TriangularKernels(), lapack::TridiagonalKernels()}) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

}  // namespace

absl::Span<const FfiKernel> LapackKernels() {
  static const std::vector<FfiKernel>* const kernels = new std::vector<FfiKernel>(Gather());
  return *kernels;
}

}  // namespace causeway
