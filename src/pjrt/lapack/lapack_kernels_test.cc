#include "pjrt/lapack/lapack_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "pjrt/lapack/kernel_call.h"

namespace causeway::lapack {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Column-major.
template <typename T>
struct Matrix {
  int64_t rows, cols;
  std::vector<T> data;

  T& at(int64_t i, int64_t j) { return data[i + j * rows]; }
  const T& at(int64_t i, int64_t j) const { return data[i + j * rows]; }
};

template <typename T>
Matrix<T> operator*(const Matrix<T>& a, const Matrix<T>& b) {
  Matrix<T> c{a.rows, b.cols, std::vector<T>(a.rows * b.cols)};
  for (int64_t j = 0; j < b.cols; ++j) {
    for (int64_t k = 0; k < a.cols; ++k) {
      for (int64_t i = 0; i < a.rows; ++i) c.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return c;
}

template <typename T>
Matrix<T> Adjoint(const Matrix<T>& a) {
  Matrix<T> b{a.cols, a.rows, std::vector<T>(a.data.size())};
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) {
      if constexpr (ffi::IsComplexType<kDataType<T>>()) {
        b.at(j, i) = std::conj(a.at(i, j));
      } else {
        b.at(j, i) = a.at(i, j);
      }
    }
  }
  return b;
}

template <typename T>
Matrix<T> Diagonal(const std::vector<RealOf<T>>& values) {
  const int64_t n = values.size();
  Matrix<T> a{n, n, std::vector<T>(n * n)};
  for (int64_t i = 0; i < n; ++i) a.at(i, i) = values[i];
  return a;
}

template <typename T>
Matrix<T> Identity(int64_t n) {
  return Diagonal<T>(std::vector<RealOf<T>>(n, 1));
}

// A matrix without structure, the same in every run.
template <typename T>
Matrix<T> Some(int64_t rows, int64_t cols) {
  Matrix<T> a{rows, cols, {}};
  uint32_t state = 12345;
  const auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<RealOf<T>>(state >> 8) / (1 << 23) - 1;
  };
  for (int64_t i = 0; i < rows * cols; ++i) {
    if constexpr (ffi::IsComplexType<kDataType<T>>()) {
      const RealOf<T> re = next(), im = next();
      a.data.push_back({re, im});
    } else {
      a.data.push_back(next());
    }
  }
  return a;
}

template <typename T>
void ExpectNear(const Matrix<T>& got, const Matrix<T>& want) {
  ASSERT_EQ(got.data.size(), want.data.size());
  for (size_t i = 0; i < got.data.size(); ++i) EXPECT_LT(std::abs(got.data[i] - want.data[i]), 2e-5) << "element " << i;
}

template <typename T>
bool IsNan(const T& x) {
  return std::isnan(std::real(x));
}

// "lapack_sgetrf_ffi" from "getrf" for float. `complex_name` where the complex routine is named differently.
template <typename T>
std::string Target(const std::string& name, const std::string& complex_name = "") {
  const bool complex = ffi::IsComplexType<kDataType<T>>();
  const bool single = std::is_same_v<RealOf<T>, float>;
  const char prefix = complex ? (single ? 'c' : 'z') : (single ? 's' : 'd');
  return "lapack_" + std::string(1, prefix) + (complex && !complex_name.empty() ? complex_name : name) + "_ffi";
}

template <typename T>
class EveryType : public testing::Test {};
using Types = testing::Types<float, double, std::complex<float>, std::complex<double>>;
TYPED_TEST_SUITE(EveryType, Types);

TYPED_TEST(EveryType, CholeskyTimesItsAdjointIsTheMatrix) {
  using T = TypeParam;
  const Matrix<T> half = Some<T>(4, 7), a = half * Adjoint(half);
  KernelCall call(Target<T>("potrf"));
  call.Operand<T>({4, 4}, a.data).Letter("uplo", 'L');
  const int factor = call.Result<T>({4, 4}), info = call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  Matrix<T> lower{4, 4, call.Get<T>(factor)};
  for (int64_t j = 0; j < 4; ++j) {
    for (int64_t i = 0; i < j; ++i) lower.at(i, j) = 0;
  }
  ExpectNear(lower * Adjoint(lower), a);
  EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0));
}

TYPED_TEST(EveryType, QrMultipliesBackToTheMatrix) {
  using T = TypeParam;
  const Matrix<T> a = Some<T>(5, 3), c = Some<T>(5, 2);
  KernelCall geqrf(Target<T>("geqrf"));
  geqrf.Operand<T>({5, 3}, a.data);
  const int qr_result = geqrf.Result<T>({5, 3}), taus_result = geqrf.Result<T>({3});
  ASSERT_TRUE(geqrf.Run().ok());
  const std::vector<T> qr = geqrf.Get<T>(qr_result), taus = geqrf.Get<T>(taus_result);
  Matrix<T> r{3, 3, std::vector<T>(9)};
  for (int64_t j = 0; j < 3; ++j) {
    for (int64_t i = 0; i <= j; ++i) r.at(i, j) = qr[i + j * 5];
  }

  KernelCall orgqr(Target<T>("orgqr", "ungqr"));
  orgqr.Operand<T>({5, 3}, qr).template Operand<T>({3}, taus);
  const int q_result = orgqr.Result<T>({5, 3});
  ASSERT_TRUE(orgqr.Run().ok());
  const Matrix<T> q{5, 3, orgqr.Get<T>(q_result)};
  ExpectNear(Adjoint(q) * q, Identity<T>(3));
  ExpectNear(q * r, a);

  KernelCall ormqr(Target<T>("ormqr", "unmqr"));
  ormqr.Operand<T>({5, 3}, qr).template Operand<T>({3}, taus).template Operand<T>({5, 2}, c.data);
  ormqr.Attribute("left", true).Attribute("transpose", true);
  const int product = ormqr.Result<T>({5, 2});
  ASSERT_TRUE(ormqr.Run().ok());
  const Matrix<T> head = Adjoint(q) * c;  // the first three rows of the full Q's adjoint times c
  for (int64_t j = 0; j < 2; ++j) {
    for (int64_t i = 0; i < 3; ++i) EXPECT_LT(std::abs(ormqr.Get<T>(product)[i + j * 5] - head.at(i, j)), 2e-5);
  }
}

TYPED_TEST(EveryType, BothSvdRoutinesMultiplyBackToTheMatrix) {
  using T = TypeParam;
  const Matrix<T> a = Some<T>(3, 5);
  for (const char* routine : {"gesdd", "gesvd"}) {
    for (const char mode : {'S', 'A'}) {
      const int64_t vt_rows = mode == 'A' ? 5 : 3;
      KernelCall call(Target<T>(routine));
      call.Operand<T>({3, 5}, a.data).Letter("mode", mode);
      call.Result<T>({3, 5});
      const int values = call.Result<RealOf<T>>({3});
      const int u = call.Result<T>({3, 3}), vt = call.Result<T>({vt_rows, 5}), info = call.Result<int32_t>({});
      ASSERT_TRUE(call.Run().ok()) << routine << mode;
      const Matrix<T> right{vt_rows, 5, call.Get<T>(vt)};
      Matrix<T> first_rows{3, 5, std::vector<T>(15)};
      for (int64_t j = 0; j < 5; ++j) {
        for (int64_t i = 0; i < 3; ++i) first_rows.at(i, j) = right.at(i, j);
      }
      ExpectNear(Matrix<T>{3, 3, call.Get<T>(u)} * Diagonal<T>(call.Get<RealOf<T>>(values)) * first_rows, a);
      ExpectNear(right * Adjoint(right), Identity<T>(vt_rows));
      EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0));
    }
  }
}

TYPED_TEST(EveryType, SymmetricEigenvectorsMultiplyBackToTheMatrix) {
  using T = TypeParam;
  const Matrix<T> half = Some<T>(4, 4), a = half * Adjoint(half);
  Matrix<T> upper = a;
  for (int64_t j = 0; j < 4; ++j) {
    for (int64_t i = j + 1; i < 4; ++i) upper.at(i, j) = kNan;  // the other triangle is not the matrix
  }
  KernelCall call(Target<T>("syevd", "heevd"));
  call.Operand<T>({4, 4}, upper.data).Letter("mode", 'V').Letter("uplo", 'U');
  const int vectors = call.Result<T>({4, 4}), values = call.Result<RealOf<T>>({4}), info = call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  const Matrix<T> v{4, 4, call.Get<T>(vectors)};
  ExpectNear(v * Diagonal<T>(call.Get<RealOf<T>>(values)) * Adjoint(v), a);
  EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0));
}

TYPED_TEST(EveryType, SchurVectorsMultiplyBackToTheMatrix) {
  using T = TypeParam;
  const Matrix<T> a = Some<T>(5, 5);
  KernelCall call(Target<T>("gees"));
  call.Operand<T>({5, 5}, a.data).Letter("mode", 'V').Letter("sort", 'N');
  const int form = call.Result<T>({5, 5}), vectors = call.Result<T>({5, 5});
  call.Result<T>({5});
  if constexpr (!ffi::IsComplexType<kDataType<T>>()) call.Result<T>({5});
  const int selected = call.Result<int32_t>({}), info = call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  const Matrix<T> z{5, 5, call.Get<T>(vectors)};
  ExpectNear(z * Matrix<T>{5, 5, call.Get<T>(form)} * Adjoint(z), a);
  EXPECT_THAT(call.Get<int32_t>(selected), ElementsAre(0));
  EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0));
}

TYPED_TEST(EveryType, ReductionsKeepTheTrace) {
  using T = TypeParam;
  const Matrix<T> half = Some<T>(4, 4), a = half * Adjoint(half);
  const T trace = a.at(0, 0) + a.at(1, 1) + a.at(2, 2) + a.at(3, 3);

  KernelCall gehrd(Target<T>("gehrd"));
  gehrd.Operand<T>({4, 4}, a.data).template Attribute<int32_t>("low", 1).template Attribute<int32_t>("high", 4);
  const int reduced = gehrd.Result<T>({4, 4});
  gehrd.Result<T>({3});
  gehrd.Result<int32_t>({});
  ASSERT_TRUE(gehrd.Run().ok());
  const Matrix<T> h{4, 4, gehrd.Get<T>(reduced)};
  EXPECT_LT(std::abs(h.at(0, 0) + h.at(1, 1) + h.at(2, 2) + h.at(3, 3) - trace), 1e-4);
  EXPECT_NE(h.data, a.data);

  KernelCall sytrd(Target<T>("sytrd", "hetrd"));
  sytrd.Operand<T>({4, 4}, a.data).Letter("uplo", 'L');
  sytrd.Result<T>({4, 4});
  const int diagonal = sytrd.Result<RealOf<T>>({4}), off_diagonal = sytrd.Result<RealOf<T>>({3});
  sytrd.Result<T>({3});
  sytrd.Result<int32_t>({});
  ASSERT_TRUE(sytrd.Run().ok());
  RealOf<T> sum = 0, squares = 0, want_squares = 0;
  for (const RealOf<T> d : sytrd.Get<RealOf<T>>(diagonal)) sum += d, squares += d * d;
  for (const RealOf<T> e : sytrd.Get<RealOf<T>>(off_diagonal)) squares += 2 * e * e;
  for (const T& x : a.data) want_squares += std::norm(x);
  EXPECT_LT(std::abs(sum - trace), 1e-4);
  EXPECT_LT(std::abs(squares - want_squares), 1e-4 * want_squares) << "the Frobenius norm is kept too";
}

TYPED_TEST(EveryType, TriangularSystemsAreSolvedFromEitherSide) {
  using T = TypeParam;
  Matrix<T> a = Some<T>(3, 3);
  for (int64_t i = 0; i < 3; ++i) a.at(i, i) += T{3};
  for (int64_t j = 1; j < 3; ++j) {
    for (int64_t i = 0; i < j; ++i) a.at(i, j) = 0;
  }
  const Matrix<T> x = Some<T>(3, 2), y = Some<T>(2, 3);
  const struct {
    char side, trans;
    Matrix<T> b, x;
  } cases[] = {
      {'L', 'N', a * x, x}, {'L', 'C', Adjoint(a) * x, x}, {'R', 'N', y * a, y}, {'R', 'C', y * Adjoint(a), y}};
  for (const auto& c : cases) {
    KernelCall call(Target<T>("trsm"));
    call.Operand<T>({3, 3}, a.data).template Operand<T>({c.b.rows, c.b.cols}, c.b.data);
    call.Letter("side", c.side).Letter("uplo", 'L').Letter("trans_x", c.trans).Letter("diag", 'N');
    const int result = call.Result<T>({c.b.rows, c.b.cols});
    ASSERT_TRUE(call.Run().ok());
    ExpectNear(Matrix<T>{c.x.rows, c.x.cols, call.Get<T>(result)}, c.x);
  }
}

TYPED_TEST(EveryType, BothTridiagonalSolversIgnoreTheUnusedCorners) {
  using T = TypeParam;
  // [2 1 0; 3 2 1; 0 3 2] times (1, 1, 2).
  const std::vector<T> lower = {99, 3, 3}, diagonal = {2, 2, 2}, upper = {1, 1, 99}, b = {3, 7, 7};
  KernelCall gtsv(Target<T>("gtsv"));
  KernelCall perturbed("tridiagonal_solve_perturbed_ffi");
  for (KernelCall* call : {&gtsv, &perturbed}) {
    call->Operand<T>({3}, lower).template Operand<T>({3}, diagonal).template Operand<T>({3}, upper);
    call->template Operand<T>({3, 1}, b);
  }
  for (int i = 0; i < 3; ++i) gtsv.Result<T>({3});
  const int x = gtsv.Result<T>({3, 1}), info = gtsv.Result<int32_t>({});
  const int y = perturbed.Result<T>({3, 1});
  ASSERT_TRUE(gtsv.Run().ok());
  ASSERT_TRUE(perturbed.Run().ok());
  ExpectNear(Matrix<T>{3, 1, gtsv.Get<T>(x)}, Matrix<T>{3, 1, {1, 1, 2}});
  ExpectNear(Matrix<T>{3, 1, perturbed.Get<T>(y)}, Matrix<T>{3, 1, {1, 1, 2}});
  EXPECT_THAT(gtsv.Get<int32_t>(info), ElementsAre(0));
}

TYPED_TEST(EveryType, ASingularTridiagonalSystemGivesAFiniteNullVector) {
  using T = TypeParam;
  // The second difference with free ends: constants are its null space.
  KernelCall call("tridiagonal_solve_perturbed_ffi");
  call.Operand<T>({3}, {0, -1, -1}).template Operand<T>({3}, {1, 2, 1}).template Operand<T>({3}, {-1, -1, 0});
  call.template Operand<T>({3, 1}, {1, 2, 1});
  const int result = call.Result<T>({3, 1});
  ASSERT_TRUE(call.Run().ok());
  const std::vector<T> x = call.Get<T>(result);
  ASSERT_TRUE(std::isfinite(std::abs(x[0])));
  EXPECT_GT(std::abs(x[0]), 1e3) << "far along the null space";
  EXPECT_LT(std::abs(x[1] / x[0] - T{1}), 1e-3);
  EXPECT_LT(std::abs(x[2] / x[0] - T{1}), 1e-3);
}

TEST(LapackKernels, LuPivotsCountFromOne) {
  KernelCall call("lapack_sgetrf_ffi");
  call.Operand<float>({2, 2}, {0, 2, 1, 3});  // [0 1; 2 3]
  const int lu = call.Result<float>({2, 2}), pivots = call.Result<int32_t>({2}), info = call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_THAT(call.Get<float>(lu), ElementsAre(2, 0, 3, 1));
  EXPECT_THAT(call.Get<int32_t>(pivots), ElementsAre(2, 2));
  EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0));
}

TEST(LapackKernels, PivotedQrTakesTheLongestColumnFirst) {
  KernelCall call("lapack_dgeqp3_ffi");
  call.Operand<double>({2, 3}, {1, 0, 0, 3, 0, 2}).Operand<int32_t>({3}, {0, 0, 0});
  const int qr = call.Result<double>({2, 3}), jpvt = call.Result<int32_t>({3});
  call.Result<double>({2});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_EQ(call.Get<int32_t>(jpvt)[0], 2);
  EXPECT_DOUBLE_EQ(std::abs(call.Get<double>(qr)[0]), 3);
}

TEST(LapackKernels, OneBadItemOfABatchLeavesTheOthersAlone) {
  KernelCall call("lapack_spotrf_ffi");
  call.Operand<float>({3, 1, 1}, {4, -1, 9}).Letter("uplo", 'L');
  const int factor = call.AliasedResult<float>(), info = call.Result<int32_t>({3});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_THAT(call.Get<int32_t>(info), ElementsAre(0, 1, 0));
  EXPECT_EQ(call.Get<float>(factor)[0], 2);
  EXPECT_EQ(call.Get<float>(factor)[2], 3);
}

TEST(LapackKernels, ConjugatePairsOfARealMatrixGetComplexVectors) {
  // A quarter turn, and 5 in the third direction.
  const std::vector<float> a = {0, 1, 0, -1, 0, 0, 0, 0, 5};
  KernelCall call("lapack_sgeev_ffi");
  call.Operand<float>({3, 3}, a).Letter("compute_left", 'V').Letter("compute_right", 'V');
  const int re = call.Result<float>({3}), im = call.Result<float>({3});
  using C = std::complex<float>;
  const int left = call.Result<C>({3, 3}), right = call.Result<C>({3, 3}), info = call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  ASSERT_THAT(call.Get<int32_t>(info), ElementsAre(0));
  const Matrix<C> v{3, 3, call.Get<C>(right)}, u{3, 3, call.Get<C>(left)};
  const Matrix<C> matrix{3, 3, std::vector<C>(a.begin(), a.end())};
  Matrix<C> lambda = Identity<C>(3);
  for (int64_t i = 0; i < 3; ++i) lambda.at(i, i) = {call.Get<float>(re)[i], call.Get<float>(im)[i]};
  EXPECT_THAT(call.Get<float>(im), Pointwise(FloatNear(1e-6), {1.f, -1.f, 0.f}));
  ExpectNear(matrix * v, v * lambda);
  ExpectNear(Adjoint(u) * matrix, lambda * Adjoint(u));
}

TEST(LapackKernels, ComplexEigenvectorsThatAreNotAskedForStayUnwritten) {
  using C = std::complex<double>;
  const Matrix<C> a = Some<C>(3, 3);
  KernelCall call("lapack_zgeev_ffi");
  call.Operand<C>({3, 3}, a.data).Letter("compute_left", 'N').Letter("compute_right", 'V');
  const int values = call.Result<C>({3}), left = call.Result<C>({3, 3}), right = call.Result<C>({3, 3});
  call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  Matrix<C> lambda = Identity<C>(3);
  for (int64_t i = 0; i < 3; ++i) lambda.at(i, i) = call.Get<C>(values)[i];
  const Matrix<C> v{3, 3, call.Get<C>(right)};
  ExpectNear(a * v, v * lambda);
  EXPECT_THAT(call.Get<C>(left), Each(C{1}));
}

TEST(LapackKernels, SingularValuesAloneLeaveTheVectorsUnwrittenWhateverTheirShape) {
  KernelCall call("lapack_dgesdd_ffi");
  call.Operand<double>({2, 2}, {3, 0, 0, 4}).Letter("mode", 'N');
  call.Result<double>({2, 2});
  const int values = call.Result<double>({2}), u = call.Result<double>({2, 7});
  call.Result<double>({1, 2});
  call.Result<int32_t>({});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_THAT(call.Get<double>(values), ElementsAre(4, 3));
  EXPECT_THAT(call.Get<double>(u), Each(1));
}

// OpenBLAS 0.3.21 alone would answer with finite numbers here.
TEST(LapackKernels, AFloatMatrixWithNanGivesNanAndNoFiniteNumbers) {
  const std::vector<float> a = {1, kNan, 2, 3, 1, 5, 4, 2, 9};
  KernelCall lu("lapack_sgetrf_ffi");
  lu.Operand<float>({3, 3}, a);
  lu.Result<float>({3, 3});
  const int pivots = lu.Result<int32_t>({3}), info = lu.Result<int32_t>({});
  ASSERT_TRUE(lu.Run().ok());
  EXPECT_LT(lu.Get<int32_t>(info)[0], 0) << "by which JAX puts NaN in place of the factors";
  EXPECT_THAT(lu.Get<int32_t>(pivots), ElementsAre(1, 2, 3));

  KernelCall qr("lapack_sgeqrf_ffi");
  qr.Operand<float>({3, 3}, a);
  const int factors = qr.Result<float>({3, 3}), taus = qr.Result<float>({3});
  ASSERT_TRUE(qr.Run().ok());
  EXPECT_THAT(qr.Get<float>(factors), Each(testing::IsNan()));
  EXPECT_THAT(qr.Get<float>(taus), Each(testing::IsNan()));
}

TEST(LapackKernels, IterationsAreNotStartedOnAMatrixThatIsNotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  KernelCall call("lapack_dgees_ffi");
  call.Operand<double>({2, 2, 2}, {1, inf, 0, 1, 2, 0, 0, 3}).Letter("mode", 'N').Letter("sort", 'N');
  for (int i = 0; i < 2; ++i) call.Result<double>({2, 2, 2});
  const int eigenvalues = call.Result<double>({2, 2});
  call.Result<double>({2, 2});
  call.Result<int32_t>({2});
  const int info = call.Result<int32_t>({2});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_LT(call.Get<int32_t>(info)[0], 0);
  EXPECT_EQ(call.Get<int32_t>(info)[1], 0);
  EXPECT_THAT(call.Get<double>(eigenvalues), ElementsAre(1, 1, 2, 3)) << "the first item's are untouched";
}

TEST(LapackKernels, SparseProductsSkipWhatIsOutOfRange) {
  // [10 20; 0 30; padding] times [1 2; 3 4], the offsets of the last row beyond the entries.
  KernelCall call("cpu_csr_sparse_dense_ffi");
  call.Operand<float>({5}, {10, 20, 30, 7, 7}).Operand<int32_t>({4}, {0, 2, 3, 900});
  call.Operand<int32_t>({5}, {0, 1, 1, 2, -1}).Operand<float>({2, 2}, {1, 2, 3, 4});
  const int out = call.Result<float>({3, 2});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_THAT(call.Get<float>(out), ElementsAre(70, 100, 90, 120, 0, 0));
}

TEST(LapackKernels, SparseProductsOfIntegersWrapAround) {
  KernelCall call("cpu_csr_sparse_dense_ffi");
  call.Operand<int32_t>({1}, {1 << 30}).Operand<int64_t>({2}, {0, 1}).Operand<int64_t>({1}, {0});
  call.Operand<int32_t>({1}, {4});
  const int out = call.Result<int32_t>({1});
  ASSERT_TRUE(call.Run().ok());
  EXPECT_THAT(call.Get<int32_t>(out), ElementsAre(0));
}

TEST(LapackKernels, EmptyBatchesAndEmptyMatricesAreNoError) {
  for (const std::vector<int64_t>& batch : {std::vector<int64_t>{0, 3, 3}, std::vector<int64_t>{2, 0, 0}}) {
    KernelCall call("lapack_sgetrf_ffi");
    call.Operand<float>(batch, {});
    call.Result<float>(batch);
    call.Result<int32_t>({batch[0], batch[1]});
    const int info = call.Result<int32_t>({batch[0]});
    ASSERT_TRUE(call.Run().ok());
    EXPECT_THAT(call.Get<int32_t>(info), Each(0));
  }
}

TEST(LapackKernels, AnyNumberOfThreadsMayCallAtOnce) {
  const Matrix<double> half = Some<double>(60, 60), a = half * Adjoint(half);
  std::vector<std::vector<double>> factors(8);
  std::vector<std::thread> threads;
  for (std::vector<double>& factor : factors) {
    threads.emplace_back([&a, &factor] {
      KernelCall call("lapack_dpotrf_ffi");
      call.Operand<double>({60, 60}, a.data).Letter("uplo", 'L');
      const int result = call.Result<double>({60, 60});
      call.Result<int32_t>({});
      if (call.Run().ok()) factor = call.Get<double>(result);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(factors[0].size(), 3600u);
  EXPECT_THAT(factors, Each(factors[0]));
}

TEST(LapackKernels, EachTargetIsThereOnce) {
  std::set<std::string_view> names;
  for (const FfiKernel& kernel : LapackKernels()) {
    EXPECT_TRUE(names.insert(kernel.name).second) << kernel.name;
    EXPECT_NE(kernel.handler, nullptr) << kernel.name;
  }
}

TEST(Refusals, AResultOfTheWrongShapeIsNamedAndNothingIsWritten) {
  KernelCall call("lapack_sgetrf_ffi");
  call.Operand<float>({2, 3, 3}, std::vector<float>(18, 1));
  const int lu = call.Result<float>({2, 3, 3});
  call.Result<int32_t>({2, 2});
  call.Result<int32_t>({2});
  const absl::Status status = call.Run();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "LAPACK getrf: pivots must have the shape [2,3], not [2,2]");
  EXPECT_THAT(call.Get<float>(lu), Each(1));
}

TEST(Refusals, AMatrixThatMustBeSquareIs) {
  KernelCall call("lapack_spotrf_ffi");
  call.Operand<float>({2, 3}, std::vector<float>(6)).Letter("uplo", 'L');
  call.Result<float>({2, 3});
  call.Result<int32_t>({});
  EXPECT_EQ(call.Run().message(), "LAPACK potrf: a must have the shape [2,2], not [2,3]");
}

TEST(Refusals, AVectorIsNoMatrix) {
  KernelCall call("lapack_sgeqrf_ffi");
  call.Operand<float>({3}, {1, 2, 3});
  call.Result<float>({3});
  call.Result<float>({3});
  EXPECT_EQ(call.Run().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Refusals, AnUnknownOptionIsNamed) {
  KernelCall call("lapack_spotrf_ffi");
  call.Operand<float>({1, 1}, {4}).Letter("uplo", 'X');
  call.Result<float>({1, 1});
  call.Result<int32_t>({});
  EXPECT_EQ(call.Run().message(), "LAPACK potrf: option uplo must be one of the letters LU, not character 88");
}

TEST(Refusals, MoreReflectorsThanColumnsAreRefused) {
  KernelCall call("lapack_sorgqr_ffi");
  call.Operand<float>({3, 2}, std::vector<float>(6)).Operand<float>({3}, {0, 0, 0});
  call.Result<float>({3, 2});
  EXPECT_EQ(call.Run().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Refusals, AMatrixWhoseWorkSpaceCannotBeCountedIsRefusedBeforeItIsAllocated) {
  KernelCall call("lapack_sgesdd_ffi");
  call.Operand<float>({0, 40000, 40000}, {}).Letter("mode", 'N');
  call.Result<float>({0, 40000, 40000});
  call.Result<float>({0, 40000});
  call.Result<float>({0, 1, 1});
  call.Result<float>({0, 1, 1});
  call.Result<int32_t>({0});
  EXPECT_EQ(call.Run().message(), "LAPACK gesdd: a 40000 x 40000 matrix needs more work space than LAPACK can count");
}

TEST(Refusals, SparseOperandsOfDifferentLengthsAreRefused) {
  KernelCall call("cpu_csr_sparse_dense_ffi");
  call.Operand<float>({2}, {1, 2}).Operand<int32_t>({2}, {0, 2}).Operand<int32_t>({1}, {0});
  call.Operand<float>({1}, {1});
  call.Result<float>({1});
  EXPECT_EQ(call.Run().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace causeway::lapack
