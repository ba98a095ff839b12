// The kernels of each source file of this folder, for lapack_kernels.cc to gather. Which file holds a routine is its
// family's name.
#ifndef CAUSEWAY_PJRT_LAPACK_FAMILIES_H_
#define CAUSEWAY_PJRT_LAPACK_FAMILIES_H_

#include <vector>

#include "pjrt/lapack/lapack_kernels.h"

namespace causeway::lapack {

std::vector<FfiKernel> EigenKernels();        // symmetric and general eigenvalues, Schur form
std::vector<FfiKernel> FactorKernels();       // Cholesky, LU, QR; reductions to Hessenberg and tridiagonal form
std::vector<FfiKernel> SingularKernels();     // singular values
std::vector<FfiKernel> SparseKernels();       // compressed rows times dense
std::vector<FfiKernel> TriangularKernels();   // triangular systems
std::vector<FfiKernel> TridiagonalKernels();  // tridiagonal systems

}  // namespace causeway::lapack

#endif  // CAUSEWAY_PJRT_LAPACK_FAMILIES_H_
