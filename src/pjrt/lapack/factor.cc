// Factorisations that end after a fixed number of steps: Cholesky, LU, QR with and without pivoting and what is done
// with a Q held as Householder vectors, reductions to Hessenberg and to tridiagonal form.
#include <algorithm>
#include <complex>
#include <cstdint>
#include <numeric>
#include <vector>

#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"
#include "pjrt/lapack/finite.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway::lapack {
namespace {

constexpr char kUplo[] = "uplo";
constexpr char kLeft[] = "left";
constexpr char kTranspose[] = "transpose";
constexpr char kLow[] = "low";
constexpr char kHigh[] = "high";

template <typename T>
ffi::Error Potrf(In<T> a, Letter<kUplo> uplo, Out<T> factor_out, Out<int32_t> info_out) {
  Batch batch("potrf", a.dimensions());
  const lapack_int n = batch.rows();
  const char triangle = batch.Option("uplo", *uplo, "LU");
  const InPlace factor = batch.Update("a", a, factor_out, {n, n});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = factor.Load(i);
    if (kLosesNan<T> && !TriangleFinite(triangle, n, matrix)) return kNotFinite;
    return Lapack<T>::potrf(LAPACK_COL_MAJOR, triangle, n, matrix, LeadingDim(n));
  });
}

// Row (or column) i comes from row i, counted from 1. Pivots are indices to the program, so they must be sound always.
void NoPivoting(lapack_int* pivots, int64_t count) { std::iota(pivots, pivots + count, 1); }

// Pivots are LAPACK's, counted from 1.
template <typename T>
ffi::Error Getrf(In<T> a, Out<T> lu_out, Out<int32_t> pivots_out, Out<int32_t> info_out) {
  Batch batch("getrf", a.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols();
  const InPlace lu = batch.Update("a", a, lu_out, {m, n});
  const Items pivots = batch.Result("pivots", pivots_out, {std::min(m, n)});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = lu.Load(i);
    if (kLosesNan<T> && !AllFinite(matrix, int64_t{m} * n)) {
      NoPivoting(pivots[i], std::min(m, n));
      return kNotFinite;
    }
    return Lapack<T>::getrf(LAPACK_COL_MAJOR, m, n, matrix, LeadingDim(m), pivots[i]);
  });
}

template <typename T>
ffi::Error Geqrf(In<T> a, Out<T> qr_out, Out<T> taus_out) {
  Batch batch("geqrf", a.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols();
  batch.RequireWorkSpace(n * Batch::kMaxBlock);
  const InPlace qr = batch.Update("a", a, qr_out, {m, n});
  const Items taus = batch.Result("taus", taus_out, {std::min(m, n)});
  return batch.Run([&](int64_t i) {
    T* const matrix = qr.Load(i);
    if (kLosesNan<T> && !AllFinite(matrix, int64_t{m} * n)) {
      FillNan(matrix, int64_t{m} * n);
      FillNan(taus[i], taus.item_size());
      return lapack_int{0};
    }
    return Lapack<T>::geqrf(LAPACK_COL_MAJOR, m, n, matrix, LeadingDim(m), taus[i]);
  });
}

// `jpvt`, counted from 1: going in, the columns to move to the front (0 for the free ones); coming out, where each
// column came from.
template <typename T>
ffi::Error Geqp3(In<T> a, In<int32_t> jpvt_in, Out<T> qr_out, Out<int32_t> jpvt_out, Out<T> taus_out) {
  Batch batch("geqp3", a.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols();
  batch.RequireWorkSpace(n * Batch::kMaxBlock);
  const InPlace qr = batch.Update("a", a, qr_out, {m, n});
  const InPlace jpvt = batch.Update("jpvt", jpvt_in, jpvt_out, {n});
  const Items taus = batch.Result("taus", taus_out, {std::min(m, n)});
  return batch.Run([&](int64_t i) {
    T* const matrix = qr.Load(i);
    lapack_int* const pivots = jpvt.Load(i);
    if (kLosesNan<T> && !AllFinite(matrix, int64_t{m} * n)) {
      FillNan(matrix, int64_t{m} * n);
      FillNan(taus[i], taus.item_size());
      NoPivoting(pivots, n);
      return lapack_int{0};
    }
    return Lapack<T>::geqp3(LAPACK_COL_MAJOR, m, n, matrix, LeadingDim(m), pivots, taus[i]);
  });
}

// The last dimension of `dims`, or 0 where it has none: a shape that a check will refuse.
lapack_int LastDim(ffi::AnyBuffer::Dimensions dims) {
  return dims.size() == 0 ? 0 : static_cast<lapack_int>(std::min<int64_t>(dims.back(), INT32_MAX));
}

template <typename T>
ffi::Error Orgqr(In<T> a, In<T> taus_in, Out<T> q_out) {
  Batch batch("orgqr", a.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols(), k = LastDim(taus_in.dimensions());
  batch.Require(m >= n && n >= k, "needs rows >= columns >= reflectors");
  batch.RequireWorkSpace(n * Batch::kMaxBlock);
  const InPlace q = batch.Update("a", a, q_out, {m, n});
  const Items taus = batch.Operand("taus", taus_in, {k});
  return batch.Run([&](int64_t i) {
    T* const matrix = q.Load(i);
    // LAPACK multiplies by nothing else.
    if (kLosesNan<T> && !AllFinite(taus[i], k)) {
      FillNan(matrix, int64_t{m} * n);
      return lapack_int{0};
    }
    return Lapack<T>::orgqr(LAPACK_COL_MAJOR, m, n, k, matrix, LeadingDim(m), taus[i]);
  });
}

// C times Q, or Q times C, or with the (conjugate) transpose of Q; Q from the reflectors in `a`.
template <typename T>
ffi::Error Ormqr(In<T> a, In<T> taus_in, In<T> c_in, ffi::Attr<bool, kLeft> left, ffi::Attr<bool, kTranspose> transpose,
                 Out<T> c_out) {
  Batch batch("ormqr", c_in.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols(), k = LastDim(taus_in.dimensions());
  const lapack_int order = *left ? m : n, a_cols = LastDim(a.dimensions());
  batch.Require(k <= order && k <= a_cols, "must not have more reflectors than Q has columns");
  batch.RequireWorkSpace(int64_t{std::max(m, n)} * Batch::kMaxBlock);
  const Items reflectors = batch.Operand("a", a, {order, a_cols});
  const Items taus = batch.Operand("taus", taus_in, {k});
  const InPlace c = batch.Update("c", c_in, c_out, {m, n});
  const char side = *left ? 'L' : 'R';
  const char trans = !*transpose ? 'N' : ffi::IsComplexType<kDataType<T>>() ? 'C' : 'T';
  return batch.Run([&](int64_t i) {
    return Lapack<T>::ormqr(LAPACK_COL_MAJOR, side, trans, m, n, k, reflectors[i], LeadingDim(order), taus[i],
                            c.Load(i), LeadingDim(m));
  });
}

template <typename T>
ffi::Error Gehrd(In<T> a, ffi::Attr<int32_t, kLow> low, ffi::Attr<int32_t, kHigh> high, Out<T> reduced_out,
                 Out<T> taus_out, Out<int32_t> info_out) {
  Batch batch("gehrd", a.dimensions());
  const lapack_int n = batch.rows(), from = *low, to = *high;
  batch.Require(n >= 1 && 1 <= from && from <= to && to <= n, "needs 1 <= low <= high <= order of the matrix");
  const InPlace reduced = batch.Update("a", a, reduced_out, {n, n});
  const Items taus = batch.Result("taus", taus_out, {n - 1});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = reduced.Load(i);
    if (kLosesNan<T> && !AllFinite(matrix, int64_t{n} * n)) return kNotFinite;
    return Lapack<T>::gehrd(LAPACK_COL_MAJOR, n, from, to, matrix, LeadingDim(n), taus[i]);
  });
}

template <typename T>
ffi::Error Sytrd(In<T> a, Letter<kUplo> uplo, Out<T> reduced_out, Out<RealOf<T>> diagonal_out,
                 Out<RealOf<T>> off_diagonal_out, Out<T> taus_out, Out<int32_t> info_out) {
  Batch batch("sytrd", a.dimensions());
  const lapack_int n = batch.rows();
  batch.Require(n >= 1, "the matrix must not be empty");
  const char triangle = batch.Option("uplo", *uplo, "LU");
  const InPlace reduced = batch.Update("a", a, reduced_out, {n, n});
  const Items diagonal = batch.Result("diagonal", diagonal_out, {n});
  const Items off_diagonal = batch.Result("off-diagonal", off_diagonal_out, {n - 1});
  const Items taus = batch.Result("taus", taus_out, {n - 1});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = reduced.Load(i);
    if (kLosesNan<T> && !TriangleFinite(triangle, n, matrix)) return kNotFinite;
    return Lapack<T>::sytrd(LAPACK_COL_MAJOR, triangle, n, matrix, LeadingDim(n), diagonal[i], off_diagonal[i],
                            taus[i]);
  });
}

}  // namespace

std::vector<FfiKernel> FactorKernels() {
  using C64 = std::complex<float>;
  using C128 = std::complex<double>;
  return {
      {"lapack_spotrf_ffi", Handler<Potrf<float>>()}, {"lapack_dpotrf_ffi", Handler<Potrf<double>>()},
      {"lapack_cpotrf_ffi", Handler<Potrf<C64>>()},   {"lapack_zpotrf_ffi", Handler<Potrf<C128>>()},
      {"lapack_sgetrf_ffi", Handler<Getrf<float>>()}, {"lapack_dgetrf_ffi", Handler<Getrf<double>>()},
      {"lapack_cgetrf_ffi", Handler<Getrf<C64>>()},   {"lapack_zgetrf_ffi", Handler<Getrf<C128>>()},
      {"lapack_sgeqrf_ffi", Handler<Geqrf<float>>()}, {"lapack_dgeqrf_ffi", Handler<Geqrf<double>>()},
      {"lapack_cgeqrf_ffi", Handler<Geqrf<C64>>()},   {"lapack_zgeqrf_ffi", Handler<Geqrf<C128>>()},
      {"lapack_sgeqp3_ffi", Handler<Geqp3<float>>()}, {"lapack_dgeqp3_ffi", Handler<Geqp3<double>>()},
      {"lapack_cgeqp3_ffi", Handler<Geqp3<C64>>()},   {"lapack_zgeqp3_ffi", Handler<Geqp3<C128>>()},
      {"lapack_sorgqr_ffi", Handler<Orgqr<float>>()}, {"lapack_dorgqr_ffi", Handler<Orgqr<double>>()},
      {"lapack_cungqr_ffi", Handler<Orgqr<C64>>()},   {"lapack_zungqr_ffi", Handler<Orgqr<C128>>()},
      {"lapack_sormqr_ffi", Handler<Ormqr<float>>()}, {"lapack_dormqr_ffi", Handler<Ormqr<double>>()},
      {"lapack_cunmqr_ffi", Handler<Ormqr<C64>>()},   {"lapack_zunmqr_ffi", Handler<Ormqr<C128>>()},
      {"lapack_sgehrd_ffi", Handler<Gehrd<float>>()}, {"lapack_dgehrd_ffi", Handler<Gehrd<double>>()},
      {"lapack_cgehrd_ffi", Handler<Gehrd<C64>>()},   {"lapack_zgehrd_ffi", Handler<Gehrd<C128>>()},
      {"lapack_ssytrd_ffi", Handler<Sytrd<float>>()}, {"lapack_dsytrd_ffi", Handler<Sytrd<double>>()},
      {"lapack_chetrd_ffi", Handler<Sytrd<C64>>()},   {"lapack_zhetrd_ffi", Handler<Sytrd<C128>>()},
  };
}

}  // namespace causeway::lapack
