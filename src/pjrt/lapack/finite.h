// NaN and infinity: which matrices are not handed to LAPACK, and what the program gets for them.
//
// Iterative routines (eigenvalues, singular values, Schur form) may fail to end on such a matrix, or find fault with
// their own arguments on the way. The others would be safe, but for Debian 12's OpenBLAS 0.3.21: multiplying a float
// vector by NaN gives zeros there (sscal), so factors of a float matrix with NaN in it come out finite. Double
// precision is right and is left to LAPACK, as in jaxlib.
//
//   if (!AllFinite(a, count)) return kNotFinite;    // with an info result: JAX puts NaN in this item's place
//
// Threading: pure functions.
#ifndef CAUSEWAY_PJRT_LAPACK_FINITE_H_
#define CAUSEWAY_PJRT_LAPACK_FINITE_H_

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway::lapack {

// The info of an item that was not handed to LAPACK: what LAPACK itself says of a bad fourth argument, the matrix.
inline constexpr lapack_int kNotFinite = -4;

// Whether OpenBLAS turns NaN into finite numbers for this type.
template <typename T>
inline constexpr bool kLosesNan = std::is_same_v<RealOf<T>, float>;

template <typename T>
bool AllFinite(const T* data, int64_t count) {
  return std::all_of(data, data + count,
                     [](const T& x) { return std::isfinite(std::real(x)) && std::isfinite(std::imag(x)); });
}

// The same for one triangle ('L' or 'U', with the diagonal) of an n x n matrix; the other may hold anything.
template <typename T>
bool TriangleFinite(char triangle, lapack_int n, const T* matrix) {
  for (int64_t column = 0; column < n; ++column) {
    const int64_t first = triangle == 'L' ? column : 0;
    const int64_t last = triangle == 'L' ? n : column + 1;
    if (!AllFinite(matrix + column * n + first, last - first)) return false;
  }
  return true;
}

template <typename T>
void FillNan(T* data, int64_t count) {
  std::fill_n(data, count, T{std::numeric_limits<RealOf<T>>::quiet_NaN()});
}

}  // namespace causeway::lapack

#endif  // CAUSEWAY_PJRT_LAPACK_FINITE_H_
