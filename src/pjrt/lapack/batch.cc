#include "pjrt/lapack/batch.h"

#include <functional>
#include <limits>
#include <numeric>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace causeway::lapack {

Batch::Batch(std::string_view routine, ffi::AnyBuffer::Dimensions dims) : routine_(routine) {
  constexpr int64_t kMaxDim = std::numeric_limits<lapack_int>::max();
  Require(dims.size() >= 2, "the operand must be a matrix or a batch of matrices");
  if (error_.failure()) return;
  const int64_t rows = dims[dims.size() - 2], cols = dims[dims.size() - 1];
  Require(rows <= kMaxDim && cols <= kMaxDim, "a matrix must have fewer than 2^31 rows and columns");
  if (error_.failure()) return;
  rows_ = static_cast<lapack_int>(rows);
  cols_ = static_cast<lapack_int>(cols);
  batch_dims_.assign(dims.begin(), dims.end() - 2);
  count_ = std::accumulate(batch_dims_.begin(), batch_dims_.end(), int64_t{1}, std::multiplies<>());
}

char Batch::Option(std::string_view name, uint8_t value, std::string_view allowed) {
  const char letter = static_cast<char>(value);
  if (allowed.find(letter) == std::string_view::npos) {
    Require(false, absl::StrFormat("option %s must be one of the letters %s, not character %d", name, allowed, value));
  }
  return letter;
}

void Batch::Require(bool holds, std::string_view rule) {
  if (holds || error_.failure()) return;
  error_ = ffi::Error::InvalidArgument(absl::StrFormat("LAPACK %s: %s", routine_, rule));
}

void Batch::RequireWorkSpace(int64_t elements) {
  Require(elements <= std::numeric_limits<lapack_int>::max(),
          absl::StrFormat("a %d x %d matrix needs more work space than LAPACK can count", rows_, cols_));
}

int64_t Batch::CheckShape(std::string_view name, ffi::AnyBuffer::Dimensions dims, std::initializer_list<int64_t> item) {
  std::vector<int64_t> expected = batch_dims_;
  expected.insert(expected.end(), item.begin(), item.end());
  if (!std::equal(dims.begin(), dims.end(), expected.begin(), expected.end())) {
    const absl::Span<const int64_t> got(dims.begin(), dims.size());
    Require(false, absl::StrFormat("%s must have the shape [%s], not [%s]", name, absl::StrJoin(expected, ","),
                                   absl::StrJoin(got, ",")));
  }
  return std::accumulate(item.begin(), item.end(), int64_t{1}, std::multiplies<>());
}

ffi::Error Batch::Failure(lapack_int info) const {
  if (info == LAPACK_WORK_MEMORY_ERROR) {
    return ffi::Error(
        ffi::ErrorCode::kResourceExhausted,
        absl::StrFormat("LAPACK %s: no memory for the work space of a %d x %d matrix", routine_, rows_, cols_));
  }
  return ffi::Error::Internal(absl::StrFormat("LAPACK %s failed with info %d", routine_, info));
}

}  // namespace causeway::lapack
