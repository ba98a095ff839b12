#include "worker/shapes.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/status_macros.h"

namespace causeway::worker {
namespace {

// No host has more memory; leaves room for sums of several.
constexpr int64_t kMaxShardBytes = int64_t{1} << 56;

}  // namespace

absl::Status CheckShape(DType dtype, absl::Span<const int64_t> dims) {
  int64_t bytes = HostByteWidth(dtype);
  if (bytes == 0 && dtype != DType::kToken) {
    return absl::InvalidArgumentError(absl::StrCat("element type ", static_cast<int>(dtype), " has no form in memory"));
  }
  if (dims.size() > kMaxArrayRank) {
    return absl::InvalidArgumentError(absl::StrCat("a shard of rank ", dims.size(), "; at most ", kMaxArrayRank));
  }
  // Empty dimensions count as one, so that the product of any subset of them stays in range as well.
  for (int64_t d : dims) {
    if (d < 0 || (d > 0 && bytes > kMaxShardBytes / d)) {
      return absl::InvalidArgumentError(absl::StrCat("no shard has shape [", absl::StrJoin(dims, ","), "]"));
    }
    bytes *= std::max<int64_t>(d, 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<HostShape> ShapeFrom(int32_t dtype, absl::Span<const int64_t> dims,
                                    absl::Span<const int64_t> byte_strides) {
  HostShape shape{static_cast<DType>(dtype), {dims.begin(), dims.end()}, {byte_strides.begin(), byte_strides.end()}};
  RETURN_IF_ERROR(CheckShape(shape.dtype, shape.dims));
  RETURN_IF_ERROR(SpanBytes(shape).status());
  return shape;
}

int64_t DenseBytes(DType dtype, absl::Span<const int64_t> dims) {
  int64_t bytes = HostByteWidth(dtype);
  for (int64_t d : dims) bytes *= d;
  return bytes;
}

absl::StatusOr<int64_t> SpanBytes(const HostShape& shape) {
  const int64_t dense = DenseBytes(shape.dtype, shape.dims);
  if (shape.byte_strides.empty()) return dense;
  const auto refuse = [&] {
    return absl::InvalidArgumentError(absl::StrCat("byte strides [", absl::StrJoin(shape.byte_strides, ","),
                                                   "] do not fit a shard of shape [", absl::StrJoin(shape.dims, ","),
                                                   "]"));
  };
  if (shape.byte_strides.size() != shape.dims.size()) return refuse();
  int64_t span = HostByteWidth(shape.dtype);
  for (size_t i = 0; i < shape.dims.size(); ++i) {
    const int64_t stride = shape.byte_strides[i];
    const int64_t steps = shape.dims[i] - 1;
    if (stride < 0) return refuse();
    if (steps <= 0) continue;
    if (stride > (kMaxShardBytes - span) / steps) return refuse();
    span += stride * steps;
  }
  return dense == 0 ? 0 : span;
}

bool IsDense(const HostShape& shape) {
  if (shape.byte_strides.empty()) return true;
  int64_t stride = HostByteWidth(shape.dtype);
  for (int i = static_cast<int>(shape.dims.size()) - 1; i >= 0; --i) {
    if (shape.dims[i] != 1 && shape.byte_strides[i] != stride) return false;
    stride *= shape.dims[i];
  }
  return true;
}

}  // namespace causeway::worker
