// LAPACKE's functions under one name for the four scalar types, so that a kernel is written once:
//
//   const lapack_int info = Lapack<T>::getrf(LAPACK_COL_MAJOR, m, n, a, lda, pivots);
//
// Where real and complex routines are named differently (orgqr and ungqr, syevd and heevd, ...) the real name stands
// for both. These are LAPACKE's high-level functions: they find out how much work space a call needs and allocate it,
// and return LAPACK_WORK_MEMORY_ERROR where they cannot.
#ifndef CAUSEWAY_PJRT_LAPACK_LAPACKE_H_
#define CAUSEWAY_PJRT_LAPACK_LAPACKE_H_

#include <complex>
#include <cstdint>
#include <type_traits>

// LAPACKE's own choice, C99's `float _Complex`, is not C++.
#define lapack_complex_float std::complex<float>
#define lapack_complex_double std::complex<double>
#include <lapacke.h>

namespace causeway::lapack {

// Pivots and infos are written straight into S32 buffers.
static_assert(std::is_same_v<lapack_int, int32_t>, "build against the LAPACKE with 32-bit integers");

template <typename T>
struct Lapack;

template <>
struct Lapack<float> {
  static constexpr auto gees = LAPACKE_sgees;
  static constexpr auto geev = LAPACKE_sgeev;
  static constexpr auto gehrd = LAPACKE_sgehrd;
  static constexpr auto geqp3 = LAPACKE_sgeqp3;
  static constexpr auto geqrf = LAPACKE_sgeqrf;
  static constexpr auto gesdd = LAPACKE_sgesdd;
  static constexpr auto gesvd = LAPACKE_sgesvd;
  static constexpr auto getrf = LAPACKE_sgetrf;
  static constexpr auto gtsv = LAPACKE_sgtsv;
  static constexpr auto orgqr = LAPACKE_sorgqr;
  static constexpr auto ormqr = LAPACKE_sormqr;
  static constexpr auto potrf = LAPACKE_spotrf;
  static constexpr auto syevd = LAPACKE_ssyevd;
  static constexpr auto sytrd = LAPACKE_ssytrd;
};

template <>
struct Lapack<double> {
  static constexpr auto gees = LAPACKE_dgees;
  static constexpr auto geev = LAPACKE_dgeev;
  static constexpr auto gehrd = LAPACKE_dgehrd;
  static constexpr auto geqp3 = LAPACKE_dgeqp3;
  static constexpr auto geqrf = LAPACKE_dgeqrf;
  static constexpr auto gesdd = LAPACKE_dgesdd;
  static constexpr auto gesvd = LAPACKE_dgesvd;
  static constexpr auto getrf = LAPACKE_dgetrf;
  static constexpr auto gtsv = LAPACKE_dgtsv;
  static constexpr auto orgqr = LAPACKE_dorgqr;
  static constexpr auto ormqr = LAPACKE_dormqr;
  static constexpr auto potrf = LAPACKE_dpotrf;
  static constexpr auto syevd = LAPACKE_dsyevd;
  static constexpr auto sytrd = LAPACKE_dsytrd;
};

template <>
struct Lapack<std::complex<float>> {
  static constexpr auto gees = LAPACKE_cgees;
  static constexpr auto geev = LAPACKE_cgeev;
  static constexpr auto gehrd = LAPACKE_cgehrd;
  static constexpr auto geqp3 = LAPACKE_cgeqp3;
  static constexpr auto geqrf = LAPACKE_cgeqrf;
  static constexpr auto gesdd = LAPACKE_cgesdd;
  static constexpr auto gesvd = LAPACKE_cgesvd;
  static constexpr auto getrf = LAPACKE_cgetrf;
  static constexpr auto gtsv = LAPACKE_cgtsv;
  static constexpr auto orgqr = LAPACKE_cungqr;
  static constexpr auto ormqr = LAPACKE_cunmqr;
  static constexpr auto potrf = LAPACKE_cpotrf;
  static constexpr auto syevd = LAPACKE_cheevd;
  static constexpr auto sytrd = LAPACKE_chetrd;
};

template <>
struct Lapack<std::complex<double>> {
  static constexpr auto gees = LAPACKE_zgees;
  static constexpr auto geev = LAPACKE_zgeev;
  static constexpr auto gehrd = LAPACKE_zgehrd;
  static constexpr auto geqp3 = LAPACKE_zgeqp3;
  static constexpr auto geqrf = LAPACKE_zgeqrf;
  static constexpr auto gesdd = LAPACKE_zgesdd;
  static constexpr auto gesvd = LAPACKE_zgesvd;
  static constexpr auto getrf = LAPACKE_zgetrf;
  static constexpr auto gtsv = LAPACKE_zgtsv;
  static constexpr auto orgqr = LAPACKE_zungqr;
  static constexpr auto ormqr = LAPACKE_zunmqr;
  static constexpr auto potrf = LAPACKE_zpotrf;
  static constexpr auto syevd = LAPACKE_zheevd;
  static constexpr auto sytrd = LAPACKE_zhetrd;
};

}  // namespace causeway::lapack

#endif  // CAUSEWAY_PJRT_LAPACK_LAPACKE_H_
