// Compressed sparse rows times a dense matrix or vector: what `jax.experimental.sparse` lowers BCSR products to.
#include <algorithm>
#include <complex>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/families.h"

namespace causeway::lapack {
namespace {

// Entries of row r are data[row_starts[r]] up to, not including, data[row_starts[r + 1]]; `columns` says where each
// stands. The dense operand and the result are row-major.
template <typename T, typename Index>
struct Product {
  absl::Span<const T> data;
  absl::Span<const Index> columns;
  absl::Span<const Index> row_starts;
  const T* dense;
  int64_t dense_rows;
  int64_t cols;
  T* out;
};

// Integers wrap around, as they do everywhere else in XLA.
template <typename T>
T MultiplyAdd(T sum, T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(sum) + static_cast<U>(a) * static_cast<U>(b));
  } else {
    return sum + a * b;
  }
}

// Row starts and columns are values that the program computes, so none is trusted. JAX pads sparse arrays with columns
// out of range, which stand for nothing.
template <typename T, typename Index>
void Multiply(const Product<T, Index>& p) {
  const int64_t entries = p.data.size();
  for (int64_t row = 0; row + 1 < static_cast<int64_t>(p.row_starts.size()); ++row) {
    T* const out = p.out + row * p.cols;
    std::fill_n(out, p.cols, T{0});
    const int64_t begin = std::clamp<int64_t>(p.row_starts[row], 0, entries);
    const int64_t end = std::clamp<int64_t>(p.row_starts[row + 1], begin, entries);
    for (int64_t e = begin; e < end; ++e) {
      const int64_t column = p.columns[e];
      if (column < 0 || column >= p.dense_rows) continue;
      const T* const dense = p.dense + column * p.cols;
      for (int64_t j = 0; j < p.cols; ++j) out[j] = MultiplyAdd(out[j], p.data[e], dense[j]);
    }
  }
}

ffi::Error Refuse(const char* rule) { return ffi::Error::InvalidArgument(std::string("sparse product: ") + rule); }

template <typename T>
absl::Span<const T> Elements(ffi::AnyBuffer buffer) {
  return {static_cast<const T*>(buffer.untyped_data()), buffer.element_count()};
}

template <typename T, typename Index>
ffi::Error CheckAndMultiply(ffi::AnyBuffer data, ffi::AnyBuffer row_starts, ffi::AnyBuffer columns,
                            ffi::AnyBuffer dense, ffi::AnyBuffer out) {
  const ffi::AnyBuffer::Dimensions dense_dims = dense.dimensions(), out_dims = out.dimensions();
  if (dense_dims.size() < 1 || dense_dims.size() > 2 || out_dims.size() != dense_dims.size()) {
    return Refuse("the dense operand and the result must both be vectors or both be matrices");
  }
  const int64_t cols = dense_dims.size() == 2 ? dense_dims[1] : 1;
  if (out_dims.size() == 2 && out_dims[1] != cols) return Refuse("operand and result differ in columns");
  if (static_cast<int64_t>(row_starts.element_count()) != out_dims[0] + 1) {
    return Refuse("needs one row start for each row of the result, and one more");
  }
  if (data.element_count() != columns.element_count()) return Refuse("needs one column for each entry");
  Multiply<T, Index>({.data = Elements<T>(data),
                      .columns = Elements<Index>(columns),
                      .row_starts = Elements<Index>(row_starts),
                      .dense = Elements<T>(dense).data(),
                      .dense_rows = dense_dims[0],
                      .cols = cols,
                      .out = static_cast<T*>(out.untyped_data())});
  return ffi::Error::Success();
}

template <typename T>
ffi::Error WithIndexType(ffi::AnyBuffer data, ffi::AnyBuffer row_starts, ffi::AnyBuffer columns, ffi::AnyBuffer dense,
                         ffi::AnyBuffer out) {
  switch (columns.element_type()) {
    case ffi::S32:
      return CheckAndMultiply<T, int32_t>(data, row_starts, columns, dense, out);
    case ffi::S64:
      return CheckAndMultiply<T, int64_t>(data, row_starts, columns, dense, out);
    default:
      return Refuse("row starts and columns must be s32 or s64");
  }
}

ffi::Error CsrTimesDense(ffi::AnyBuffer data, ffi::AnyBuffer row_starts, ffi::AnyBuffer columns, ffi::AnyBuffer dense,
                         ffi::Result<ffi::AnyBuffer> out) {
  if (data.element_type() != dense.element_type() || data.element_type() != out->element_type()) {
    return Refuse("operands and result must have the same element type");
  }
  if (row_starts.element_type() != columns.element_type()) return Refuse("row starts and columns differ in type");
  switch (data.element_type()) {
    case ffi::S32:
      return WithIndexType<int32_t>(data, row_starts, columns, dense, *out);
    case ffi::S64:
      return WithIndexType<int64_t>(data, row_starts, columns, dense, *out);
    case ffi::F32:
      return WithIndexType<float>(data, row_starts, columns, dense, *out);
    case ffi::F64:
      return WithIndexType<double>(data, row_starts, columns, dense, *out);
    case ffi::C64:
      return WithIndexType<std::complex<float>>(data, row_starts, columns, dense, *out);
    case ffi::C128:
      return WithIndexType<std::complex<double>>(data, row_starts, columns, dense, *out);
    default:
      return Refuse("takes elements of type s32, s64, f32, f64, c64 and c128 only");
  }
}

}  // namespace

std::vector<FfiKernel> SparseKernels() { return {{"cpu_csr_sparse_dense_ffi", Handler<CsrTimesDense>()}}; }

}  // namespace causeway::lapack
