// Eigenvalues of symmetric (Hermitian) and of general matrices, and the Schur form.
#include <algorithm>
#include <complex>
#include <cstdint>
#include <memory>
#include <vector>

#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"
#include "pjrt/lapack/finite.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway::lapack {
namespace {

constexpr char kMode[] = "mode";
constexpr char kUplo[] = "uplo";
constexpr char kSort[] = "sort";
constexpr char kComputeLeft[] = "compute_left";
constexpr char kComputeRight[] = "compute_right";

// Ascending eigenvalues; in place of the matrix its eigenvectors (mode V) or nothing of use (mode N).
template <typename T>
ffi::Error Syevd(In<T> a, Letter<kMode> mode, Letter<kUplo> uplo, Out<T> vectors_out, Out<RealOf<T>> values_out,
                 Out<int32_t> info_out) {
  Batch batch("syevd", a.dimensions());
  const lapack_int n = batch.rows();
  batch.RequireWorkSpace(2 * int64_t{n} * n + n * Batch::kMaxBlock);
  const char job = batch.Option("mode", *mode, "NV");
  const char triangle = batch.Option("uplo", *uplo, "LU");
  const InPlace vectors = batch.Update("a", a, vectors_out, {n, n});
  const Items values = batch.Result("eigenvalues", values_out, {n});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = vectors.Load(i);
    if (!TriangleFinite(triangle, n, matrix)) return kNotFinite;
    return Lapack<T>::syevd(LAPACK_COL_MAJOR, job, triangle, n, matrix, LeadingDim(n), values[i]);
  });
}

// LAPACK packs the eigenvectors of a real matrix: where eigenvalues j and j + 1 are a conjugate pair, columns j and
// j + 1 are the real and the imaginary part of the first's vector.
template <typename T>
void UnpackVectors(lapack_int n, const T* imag, const T* packed, std::complex<T>* vectors) {
  for (int64_t j = 0; j < n; ++j) {
    const T* const re = packed + j * n;
    std::complex<T>* const first = vectors + j * n;
    if (imag[j] == 0 || j + 1 == n) {
      std::copy_n(re, n, first);
      continue;
    }
    const T* const im = re + n;
    std::complex<T>* const second = first + n;
    for (int64_t k = 0; k < n; ++k) {
      first[k] = {re[k], im[k]};
      second[k] = std::conj(first[k]);
    }
    ++j;
  }
}

// Eigenvectors that are not asked for stay unwritten. The operand is the program's to keep: no result replaces it.
template <typename T>
ffi::Error GeevReal(In<T> a_in, Letter<kComputeLeft> compute_left, Letter<kComputeRight> compute_right, Out<T> real_out,
                    Out<T> imag_out, Out<std::complex<T>> left_out, Out<std::complex<T>> right_out,
                    Out<int32_t> info_out) {
  Batch batch("geev", a_in.dimensions());
  const lapack_int n = batch.rows();
  const char job_left = batch.Option("compute_left", *compute_left, "NV");
  const char job_right = batch.Option("compute_right", *compute_right, "NV");
  const Items a = batch.Operand("a", a_in, {n, n});
  const Items real = batch.Result("eigenvalues, real", real_out, {n});
  const Items imag = batch.Result("eigenvalues, imaginary", imag_out, {n});
  const Items left = batch.Result("left eigenvectors", left_out, {n, n});
  const Items right = batch.Result("right eigenvectors", right_out, {n, n});
  const Items info = batch.Result("info", info_out, {});
  if (batch.error().failure()) return batch.error();

  const int64_t size = a.item_size();
  const std::unique_ptr<T[]> work = Scratch<T>(size);
  const std::unique_ptr<T[]> packed_left = Scratch<T>(job_left == 'V' ? size : 0);
  const std::unique_ptr<T[]> packed_right = Scratch<T>(job_right == 'V' ? size : 0);
  return batch.Run(info, [&](int64_t i) {
    if (work == nullptr || packed_left == nullptr || packed_right == nullptr)
      return lapack_int{LAPACK_WORK_MEMORY_ERROR};
    if (!AllFinite(a[i], size)) return kNotFinite;
    std::copy_n(a[i], size, work.get());
    const lapack_int result =
        Lapack<T>::geev(LAPACK_COL_MAJOR, job_left, job_right, n, work.get(), LeadingDim(n), real[i], imag[i],
                        packed_left.get(), LeadingDim(n), packed_right.get(), LeadingDim(n));
    if (result == 0 && job_left == 'V') UnpackVectors(n, imag[i], packed_left.get(), left[i]);
    if (result == 0 && job_right == 'V') UnpackVectors(n, imag[i], packed_right.get(), right[i]);
    return result;
  });
}

template <typename T>
ffi::Error GeevComplex(In<T> a_in, Letter<kComputeLeft> compute_left, Letter<kComputeRight> compute_right,
                       Out<T> values_out, Out<T> left_out, Out<T> right_out, Out<int32_t> info_out) {
  Batch batch("geev", a_in.dimensions());
  const lapack_int n = batch.rows();
  const char job_left = batch.Option("compute_left", *compute_left, "NV");
  const char job_right = batch.Option("compute_right", *compute_right, "NV");
  const Items a = batch.Operand("a", a_in, {n, n});
  const Items values = batch.Result("eigenvalues", values_out, {n});
  const Items left = batch.Result("left eigenvectors", left_out, {n, n});
  const Items right = batch.Result("right eigenvectors", right_out, {n, n});
  const Items info = batch.Result("info", info_out, {});
  if (batch.error().failure()) return batch.error();

  const int64_t size = a.item_size();
  const std::unique_ptr<T[]> work = Scratch<T>(size);
  return batch.Run(info, [&](int64_t i) {
    if (work == nullptr) return lapack_int{LAPACK_WORK_MEMORY_ERROR};
    if (!AllFinite(a[i], size)) return kNotFinite;
    std::copy_n(a[i], size, work.get());
    return Lapack<T>::geev(LAPACK_COL_MAJOR, job_left, job_right, n, work.get(), LeadingDim(n), values[i], left[i],
                           LeadingDim(n), right[i], LeadingDim(n));
  });
}

// The Schur form in place of the matrix, and the vectors (mode V). JAX never asks for sorted eigenvalues: there is no
// way to hand a kernel the function that would choose among them. So `selected`, their number, is 0.
template <typename T>
ffi::Error GeesReal(In<T> a, Letter<kMode> mode, Letter<kSort> sort, Out<T> form_out, Out<T> vectors_out,
                    Out<T> real_out, Out<T> imag_out, Out<int32_t> selected_out, Out<int32_t> info_out) {
  Batch batch("gees", a.dimensions());
  const lapack_int n = batch.rows();
  const char job = batch.Option("mode", *mode, "NV");
  const char order = batch.Option("sort", *sort, "N");
  const InPlace form = batch.Update("a", a, form_out, {n, n});
  const Items vectors = batch.Result("Schur vectors", vectors_out, {n, n});
  const Items real = batch.Result("eigenvalues, real", real_out, {n});
  const Items imag = batch.Result("eigenvalues, imaginary", imag_out, {n});
  const Items selected = batch.Result("selected", selected_out, {});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const t = form.Load(i);
    *selected[i] = 0;
    if (!AllFinite(t, int64_t{n} * n)) return kNotFinite;
    return Lapack<T>::gees(LAPACK_COL_MAJOR, job, order, nullptr, n, t, LeadingDim(n), selected[i], real[i], imag[i],
                           vectors[i], LeadingDim(n));
  });
}

template <typename T>
ffi::Error GeesComplex(In<T> a, Letter<kMode> mode, Letter<kSort> sort, Out<T> form_out, Out<T> vectors_out,
                       Out<T> values_out, Out<int32_t> selected_out, Out<int32_t> info_out) {
  Batch batch("gees", a.dimensions());
  const lapack_int n = batch.rows();
  const char job = batch.Option("mode", *mode, "NV");
  const char order = batch.Option("sort", *sort, "N");
  const InPlace form = batch.Update("a", a, form_out, {n, n});
  const Items vectors = batch.Result("Schur vectors", vectors_out, {n, n});
  const Items values = batch.Result("eigenvalues", values_out, {n});
  const Items selected = batch.Result("selected", selected_out, {});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const t = form.Load(i);
    *selected[i] = 0;
    if (!AllFinite(t, int64_t{n} * n)) return kNotFinite;
    return Lapack<T>::gees(LAPACK_COL_MAJOR, job, order, nullptr, n, t, LeadingDim(n), selected[i], values[i],
                           vectors[i], LeadingDim(n));
  });
}

}  // namespace

std::vector<FfiKernel> EigenKernels() {
  using C64 = std::complex<float>;
  using C128 = std::complex<double>;
  return {
      {"lapack_ssyevd_ffi", Handler<Syevd<float>>()},    {"lapack_dsyevd_ffi", Handler<Syevd<double>>()},
      {"lapack_cheevd_ffi", Handler<Syevd<C64>>()},      {"lapack_zheevd_ffi", Handler<Syevd<C128>>()},
      {"lapack_sgeev_ffi", Handler<GeevReal<float>>()},  {"lapack_dgeev_ffi", Handler<GeevReal<double>>()},
      {"lapack_cgeev_ffi", Handler<GeevComplex<C64>>()}, {"lapack_zgeev_ffi", Handler<GeevComplex<C128>>()},
      {"lapack_sgees_ffi", Handler<GeesReal<float>>()},  {"lapack_dgees_ffi", Handler<GeesReal<double>>()},
      {"lapack_cgees_ffi", Handler<GeesComplex<C64>>()}, {"lapack_zgees_ffi", Handler<GeesComplex<C128>>()},
  };
}

}  // namespace causeway::lapack
