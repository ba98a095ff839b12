// Singular values, by divide and conquer (gesdd, JAX's default) or by QR iteration (gesvd).
#include <algorithm>
#include <complex>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"
#include "pjrt/lapack/finite.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway::lapack {
namespace {

constexpr char kMode[] = "mode";

template <typename T>
struct SvdItem {
  char mode;
  lapack_int m, n, ldvt;
  T* a;
  RealOf<T>* singular_values;
  T* u;
  T* vt;
};

template <typename T>
struct Gesdd {
  static constexpr std::string_view kName = "gesdd";
  static lapack_int Call(const SvdItem<T>& x) {
    return Lapack<T>::gesdd(LAPACK_COL_MAJOR, x.mode, x.m, x.n, x.a, LeadingDim(x.m), x.singular_values, x.u,
                            LeadingDim(x.m), x.vt, LeadingDim(x.ldvt));
  }
};

template <typename T>
struct Gesvd {
  static constexpr std::string_view kName = "gesvd";
  static lapack_int Call(const SvdItem<T>& x) {
    // What LAPACK had reached where it did not converge; the program does not ask for it.
    const std::unique_ptr<RealOf<T>[]> unconverged = Scratch<RealOf<T>>(std::min(x.m, x.n));
    if (unconverged == nullptr) return LAPACK_WORK_MEMORY_ERROR;
    return Lapack<T>::gesvd(LAPACK_COL_MAJOR, x.mode, x.mode, x.m, x.n, x.a, LeadingDim(x.m), x.singular_values, x.u,
                            LeadingDim(x.m), x.vt, LeadingDim(x.ldvt), unconverged.get());
  }
};

// Mode A: all of U and V^H; S: their first min(m, n) columns and rows; N: neither, and the results that the program has
// for them all the same stay as they are.
template <typename T, template <typename> class Routine>
ffi::Error Svd(In<T> a_in, Letter<kMode> mode_in, Out<T> a_out, Out<RealOf<T>> values_out, Out<T> u_out, Out<T> vt_out,
               Out<int32_t> info_out) {
  Batch batch(Routine<T>::kName, a_in.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols(), k = std::min(m, n);
  batch.RequireWorkSpace(4 * int64_t{k} * k + k * Batch::kMaxBlock + 2 * int64_t{std::max(m, n)});
  const char mode = batch.Option("mode", *mode_in, "ASN");
  const lapack_int ldvt = mode == 'A' ? n : k;
  const Items<T> none(nullptr, 0);
  const InPlace a = batch.Update("a", a_in, a_out, {m, n});
  const Items singular_values = batch.Result("singular values", values_out, {k});
  const Items u = mode == 'N' ? none : batch.Result("u", u_out, {m, mode == 'A' ? m : k});
  const Items vt = mode == 'N' ? none : batch.Result("vt", vt_out, {ldvt, n});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    T* const matrix = a.Load(i);
    if (!AllFinite(matrix, int64_t{m} * n)) return kNotFinite;
    return Routine<T>::Call({mode, m, n, ldvt, matrix, singular_values[i], u[i], vt[i]});
  });
}

}  // namespace

std::vector<FfiKernel> SingularKernels() {
  using C64 = std::complex<float>;
  using C128 = std::complex<double>;
  return {
      {"lapack_sgesdd_ffi", Handler<Svd<float, Gesdd>>()}, {"lapack_dgesdd_ffi", Handler<Svd<double, Gesdd>>()},
      {"lapack_cgesdd_ffi", Handler<Svd<C64, Gesdd>>()},   {"lapack_zgesdd_ffi", Handler<Svd<C128, Gesdd>>()},
      {"lapack_sgesvd_ffi", Handler<Svd<float, Gesvd>>()}, {"lapack_dgesvd_ffi", Handler<Svd<double, Gesvd>>()},
      {"lapack_cgesvd_ffi", Handler<Svd<C64, Gesvd>>()},   {"lapack_zgesvd_ffi", Handler<Svd<C128, Gesvd>>()},
  };
}

}  // namespace causeway::lapack
