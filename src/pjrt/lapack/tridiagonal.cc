// Tridiagonal systems: LAPACK's gtsv, and a solver for systems that may be singular to working precision.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"
#include "pjrt/lapack/lapacke.h"

namespace causeway::lapack {
namespace {

// JAX gives all three diagonals n elements: the lower one begins with, the upper one ends with an unused one. LAPACK
// overwrites all four operands, the right-hand sides with the solution.
template <typename T>
ffi::Error Gtsv(In<T> lower_in, In<T> diagonal_in, In<T> upper_in, In<T> b, Out<T> lower_out, Out<T> diagonal_out,
                Out<T> upper_out, Out<T> x_out, Out<int32_t> info_out) {
  Batch batch("gtsv", b.dimensions());
  const lapack_int n = batch.rows(), sides = batch.cols();
  const InPlace lower = batch.Update("lower diagonal", lower_in, lower_out, {n});
  const InPlace diagonal = batch.Update("diagonal", diagonal_in, diagonal_out, {n});
  const InPlace upper = batch.Update("upper diagonal", upper_in, upper_out, {n});
  const InPlace x = batch.Update("b", b, x_out, {n, sides});
  const Items info = batch.Result("info", info_out, {});
  return batch.Run(info, [&](int64_t i) {
    if (n == 0) return lapack_int{0};
    return Lapack<T>::gtsv(LAPACK_COL_MAJOR, n, sides, lower.Load(i) + 1, diagonal.Load(i), upper.Load(i), x.Load(i),
                           LeadingDim(n));
  });
}

// Solves a tridiagonal system by Gaussian elimination with row exchanges, moving pivots that are too small to divide by
// away from zero, so that the solution is always finite: inverse iteration solves (T - lambda I) x = b for an
// eigenvalue lambda. The method is that of LAPACK's lagtf and lagts, with the right-hand sides eliminated along, so
// that no multipliers are kept.
template <typename T>
class PerturbedSolver {
 public:
  using Real = RealOf<T>;

  // `scratch` has 3 * n elements. Diagonals as in Gtsv; `b` and `x` are n x sides, column-major.
  PerturbedSolver(int64_t n, int64_t sides, T* scratch)
      : n_(n), sides_(sides), u0_(scratch), u1_(scratch + n), u2_(scratch + 2 * n) {}

  void Solve(const T* lower, const T* diagonal, const T* upper, const T* b, T* x) {
    if (n_ == 0) return;
    Eliminate(lower, diagonal, upper, b, x);
    BackSubstitute(x);
  }

 private:
  // Leaves the upper triangular factor, a diagonal and two above it, in u0_, u1_, u2_ and the right-hand sides that
  // belong to it in `x`.
  void Eliminate(const T* lower, const T* diagonal, const T* upper, const T* b, T* x) {
    std::copy_n(b, n_ * sides_, x);
    std::fill_n(u0_, 3 * n_, T{0});
    // The row being eliminated with: its entries in columns k and k + 1.
    T pivot = diagonal[0], next = n_ > 1 ? upper[0] : T{0};
    Real scale = std::abs(pivot) + std::abs(next);
    for (int64_t k = 0; k + 1 < n_; ++k) {
      // The row below, in columns k, k + 1, k + 2.
      const T a = lower[k + 1], c = diagonal[k + 1], e = k + 2 < n_ ? upper[k + 1] : T{0};
      const Real below_scale = std::abs(a) + std::abs(c) + std::abs(e);
      const Real pivot_weight = pivot == T{0} ? Real{0} : std::abs(pivot) / scale;
      if (a == T{0} || std::abs(a) / below_scale <= pivot_weight) {
        const T factor = a == T{0} ? T{0} : a / pivot;
        u0_[k] = pivot;
        u1_[k] = next;
        pivot = c - factor * next;
        next = e;
        scale = below_scale;
        for (int64_t j = 0; j < sides_; ++j) x[k + 1 + j * n_] -= factor * x[k + j * n_];
      } else {
        const T factor = pivot / a;
        u0_[k] = a;
        u1_[k] = c;
        u2_[k] = e;
        pivot = next - factor * c;
        next = -factor * e;
        scale = std::abs(pivot) + std::abs(next);
        for (int64_t j = 0; j < sides_; ++j) {
          T* const column = x + j * n_;
          std::swap(column[k], column[k + 1]);
          column[k + 1] -= factor * column[k];
        }
      }
    }
    u0_[n_ - 1] = pivot;
  }

  void BackSubstitute(T* x) {
    Real largest = 0;
    for (int64_t k = 0; k < 3 * n_; ++k) largest = std::max(largest, std::abs(u0_[k]));
    const Real step = std::numeric_limits<Real>::epsilon() * largest;
    for (int64_t k = n_ - 1; k >= 0; --k) {
      Real row_max = 0;
      for (int64_t j = 0; j < sides_; ++j) {
        T& value = x[k + j * n_];
        if (k + 1 < n_) value -= u1_[k] * x[k + 1 + j * n_];
        if (k + 2 < n_) value -= u2_[k] * x[k + 2 + j * n_];
        row_max = std::max(row_max, std::abs(value));
      }
      const auto [pivot, row_scale] = SafePivot(u0_[k], row_max, step);
      const T inverse = T{1} / pivot;
      for (int64_t j = 0; j < sides_; ++j) x[k + j * n_] = x[k + j * n_] * row_scale * inverse;
    }
  }

  // A pivot by which a row whose largest entry is `row_max` can be divided without overflow once the row is multiplied
  // by the second value: `pivot` itself if it can be, scaled up together with the row, or moved away from zero by
  // `step`, 2 * `step`, 4 * `step`, ...
  static std::pair<T, Real> SafePivot(T pivot, Real row_max, Real step) {
    constexpr Real kSmallest = std::numeric_limits<Real>::min();
    constexpr Real kLargest = 1 / kSmallest;
    step = std::copysign(std::max(step, kSmallest), std::real(pivot));
    while (std::abs(pivot) < 1) {
      const Real size = std::abs(pivot);
      if (size >= kSmallest && row_max <= size * kLargest) break;
      if (size < kSmallest && size > 0 && row_max * kSmallest <= size) return {pivot * kLargest, kLargest};
      pivot += step;
      step *= 2;
    }
    return {pivot, Real{1}};
  }

  const int64_t n_;
  const int64_t sides_;
  T* const u0_;  // u1_ and u2_ follow it
  T* const u1_;
  T* const u2_;
};

template <typename T>
ffi::Error SolvePerturbed(ffi::AnyBuffer lower_in, ffi::AnyBuffer diagonal_in, ffi::AnyBuffer upper_in,
                          ffi::AnyBuffer b_in, ffi::Result<ffi::AnyBuffer> x_out) {
  Batch batch("tridiagonal_solve_perturbed", b_in.dimensions());
  const lapack_int n = batch.rows(), sides = batch.cols();
  const Items lower = batch.Operand<T>("lower diagonal", lower_in, {n});
  const Items diagonal = batch.Operand<T>("diagonal", diagonal_in, {n});
  const Items upper = batch.Operand<T>("upper diagonal", upper_in, {n});
  const Items b = batch.Operand<T>("b", b_in, {n, sides});
  const Items x = batch.Result<T>("x", x_out, {n, sides});
  if (batch.error().failure()) return batch.error();
  const std::unique_ptr<T[]> scratch = Scratch<T>(3 * int64_t{n});
  PerturbedSolver<T> solver(n, sides, scratch.get());
  return batch.Run([&](int64_t i) {
    if (scratch == nullptr) return lapack_int{LAPACK_WORK_MEMORY_ERROR};
    solver.Solve(lower[i], diagonal[i], upper[i], b[i], x[i]);
    return lapack_int{0};
  });
}

// One target for all types, as in jaxlib.
ffi::Error TridiagonalSolvePerturbed(ffi::AnyBuffer lower, ffi::AnyBuffer diagonal, ffi::AnyBuffer upper,
                                     ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> x) {
  switch (b.element_type()) {
    case ffi::F32:
      return SolvePerturbed<float>(lower, diagonal, upper, b, x);
    case ffi::F64:
      return SolvePerturbed<double>(lower, diagonal, upper, b, x);
    case ffi::C64:
      return SolvePerturbed<std::complex<float>>(lower, diagonal, upper, b, x);
    case ffi::C128:
      return SolvePerturbed<std::complex<double>>(lower, diagonal, upper, b, x);
    default:
      return ffi::Error::InvalidArgument("LAPACK tridiagonal_solve_perturbed: takes f32, f64, c64 and c128 only");
  }
}

}  // namespace

std::vector<FfiKernel> TridiagonalKernels() {
  return {
      {"lapack_sgtsv_ffi", Handler<Gtsv<float>>()},
      {"lapack_dgtsv_ffi", Handler<Gtsv<double>>()},
      {"lapack_cgtsv_ffi", Handler<Gtsv<std::complex<float>>>()},
      {"lapack_zgtsv_ffi", Handler<Gtsv<std::complex<double>>>()},
      {"tridiagonal_solve_perturbed_ffi", Handler<TridiagonalSolvePerturbed>()},
  };
}

}  // namespace causeway::lapack
