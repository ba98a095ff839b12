// Triangular systems with many right-hand sides.
#include <cblas.h>

#include <complex>
#include <cstdint>
#include <vector>

#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"

namespace causeway::lapack {
namespace {

constexpr char kSide[] = "side";
constexpr char kUplo[] = "uplo";
constexpr char kTransX[] = "trans_x";
constexpr char kDiag[] = "diag";

struct TrsmCall {
  CBLAS_SIDE side;
  CBLAS_UPLO uplo;
  CBLAS_TRANSPOSE trans;
  CBLAS_DIAG diag;
  int m, n, lda, ldb;
};

void CallTrsm(const TrsmCall& c, const float* a, float* b) {
  cblas_strsm(CblasColMajor, c.side, c.uplo, c.trans, c.diag, c.m, c.n, 1.0f, a, c.lda, b, c.ldb);
}
void CallTrsm(const TrsmCall& c, const double* a, double* b) {
  cblas_dtrsm(CblasColMajor, c.side, c.uplo, c.trans, c.diag, c.m, c.n, 1.0, a, c.lda, b, c.ldb);
}
void CallTrsm(const TrsmCall& c, const std::complex<float>* a, std::complex<float>* b) {
  const std::complex<float> one = 1;
  cblas_ctrsm(CblasColMajor, c.side, c.uplo, c.trans, c.diag, c.m, c.n, &one, a, c.lda, b, c.ldb);
}
void CallTrsm(const TrsmCall& c, const std::complex<double>* a, std::complex<double>* b) {
  const std::complex<double> one = 1;
  cblas_ztrsm(CblasColMajor, c.side, c.uplo, c.trans, c.diag, c.m, c.n, &one, a, c.lda, b, c.ldb);
}

// X with op(A) X = B (side L) or X op(A) = B (side R).
template <typename T>
ffi::Error Trsm(In<T> a_in, In<T> b_in, Out<T> x_out, Letter<kSide> side, Letter<kUplo> uplo, Letter<kTransX> trans,
                Letter<kDiag> diag) {
  Batch batch("trsm", b_in.dimensions());
  const lapack_int m = batch.rows(), n = batch.cols();
  const bool left = batch.Option("side", *side, "LR") == 'L';
  const bool lower = batch.Option("uplo", *uplo, "LU") == 'L';
  const char op = batch.Option("trans_x", *trans, "NTC");
  const bool unit = batch.Option("diag", *diag, "NU") == 'U';
  const lapack_int order = left ? m : n;
  const Items a = batch.Operand("a", a_in, {order, order});
  const InPlace x = batch.Update("b", b_in, x_out, {m, n});
  const TrsmCall call = {.side = left ? CblasLeft : CblasRight,
                         .uplo = lower ? CblasLower : CblasUpper,
                         .trans = op == 'N'   ? CblasNoTrans
                                  : op == 'T' ? CblasTrans
                                              : CblasConjTrans,
                         .diag = unit ? CblasUnit : CblasNonUnit,
                         .m = m,
                         .n = n,
                         .lda = LeadingDim(order),
                         .ldb = LeadingDim(m)};
  return batch.Run([&](int64_t i) {
    CallTrsm(call, a[i], x.Load(i));
    return lapack_int{0};
  });
}

}  // namespace

std::vector<FfiKernel> TriangularKernels() {
  return {
      {"lapack_strsm_ffi", Handler<Trsm<float>>()},
      {"lapack_dtrsm_ffi", Handler<Trsm<double>>()},
      {"lapack_ctrsm_ffi", Handler<Trsm<std::complex<float>>>()},
      {"lapack_ztrsm_ffi", Handler<Trsm<std::complex<double>>>()},
  };
}

}  // namespace causeway::lapack
