#include "ifrt/types.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "xla/python/ifrt/layout_serdes.pb.h"
#include "xla/python/pjrt_ifrt/pjrt_layout_serdes.pb.h"

namespace causeway {
namespace {

// Leaves room to multiply by the width of any type.
constexpr int64_t kMaxElements = int64_t{1} << 56;

// IFRT numbers its types as XLA does, but for these four.
struct Renumbered {
  xla::ifrt::DTypeProto::Kind kind;
  DType type;
};
constexpr Renumbered kRenumbered[] = {
    {xla::ifrt::DTypeProto::KIND_S1, DType::kS1},
    {xla::ifrt::DTypeProto::KIND_U1, DType::kU1},
    {xla::ifrt::DTypeProto::KIND_F4E2M1FN, DType::kF4E2M1FN},
    {xla::ifrt::DTypeProto::KIND_F8E8M0FNU, DType::kF8E8M0FNU},
};

DType FromKind(xla::ifrt::DTypeProto::Kind kind) {
  for (const Renumbered& r : kRenumbered) {
    if (r.kind == kind) return r.type;
  }
  return static_cast<DType>(kind);
}

xla::ifrt::DTypeProto::Kind ToKind(DType type) {
  for (const Renumbered& r : kRenumbered) {
    if (r.type == type) return r.kind;
  }
  return static_cast<xla::ifrt::DTypeProto::Kind>(type);
}

}  // namespace

absl::StatusOr<DType> ParseDType(const xla::ifrt::DTypeProto& dtype) {
  const DType type = FromKind(dtype.kind());
  if (type == DType::kString) {
    return absl::UnimplementedError("arrays of strings are not held by this server: they live on no device");
  }
  if (type == DType::kToken || HostByteWidth(type) > 0) return type;
  return absl::InvalidArgumentError(absl::StrCat("element type ", static_cast<int>(dtype.kind()), " is not known"));
}

xla::ifrt::DTypeProto DTypeToWire(DType dtype) {
  xla::ifrt::DTypeProto wire;
  wire.set_kind(ToKind(dtype));
  return wire;
}

absl::StatusOr<std::vector<int64_t>> ParseDims(const xla::ifrt::ShapeProto& shape) {
  if (shape.dims_size() > kMaxArrayRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("an array of ", shape.dims_size(), " dimensions; at most ", kMaxArrayRank, " are allowed"));
  }
  // Zeros are left out of the product: [0, 2^62] must be refused too, since parts of it may be multiplied later.
  int64_t elements = 1;
  for (int64_t d : shape.dims()) {
    if (d < 0 || (d > 0 && d > kMaxElements / elements)) {
      return absl::InvalidArgumentError(
          absl::StrCat("no array has the shape [", absl::StrJoin(shape.dims(), ","), "]"));
    }
    if (d > 0) elements *= d;
  }
  return std::vector<int64_t>(shape.dims().begin(), shape.dims().end());
}

xla::ifrt::ShapeProto DimsToWire(absl::Span<const int64_t> dims) {
  xla::ifrt::ShapeProto wire;
  wire.mutable_dims()->Add(dims.begin(), dims.end());
  return wire;
}

absl::StatusOr<std::vector<int64_t>> ParseStrides(const xla::ifrt::proto::ByteStrides& strides,
                                                  absl::Span<const int64_t> dims) {
  if (static_cast<size_t>(strides.strides_size()) != dims.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(strides.strides_size(), " strides for an array of ", dims.size(), " dimensions"));
  }
  // Where there are no elements nothing is stepped along, and numpy leaves anything there.
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return std::vector<int64_t>();
  for (size_t i = 0; i < dims.size(); ++i) {
    // The stride of a dimension of one element is never stepped along; numpy leaves anything there.
    if (dims[i] > 1 && strides.strides(i) <= 0) {
      return absl::UnimplementedError(
          "host data with negative or zero strides; copy them first (numpy.ascontiguousarray)");
    }
  }
  return std::vector<int64_t>(strides.strides().begin(), strides.strides().end());
}

absl::StatusOr<int64_t> HostSpanBytes(DType dtype, absl::Span<const int64_t> dims, absl::Span<const int64_t> strides) {
  const int64_t width = HostByteWidth(dtype);
  int64_t elements = 1;
  for (int64_t d : dims) elements *= d;
  if (elements == 0 || width == 0) return 0;
  if (strides.empty()) return elements * width;
  int64_t span = width;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 1) continue;
    int64_t step = 0;
    if (__builtin_mul_overflow(dims[i] - 1, strides[i], &step) || __builtin_add_overflow(span, step, &span)) {
      return absl::InvalidArgumentError(absl::StrCat("strides [", absl::StrJoin(strides, ","), "] span no memory"));
    }
  }
  return span;
}

absl::StatusOr<std::string> ParseLayoutBytes(const std::string& layout) {
  xla::LayoutProto parsed;
  if (!parsed.ParseFromString(layout)) return absl::InvalidArgumentError("a layout that is no xla.LayoutProto");
  return layout;
}

absl::StatusOr<std::string> ParseLayout(const xla::ifrt::LayoutProto& layout) {
  const auto& serialized = layout.serialized_layout();
  if (serialized.type_name().empty()) return std::string();
  if (absl::EndsWith(serialized.type_name(), "::PjRtLayout")) {
    xla::ifrt::PjRtLayoutProto wrapped;
    if (!wrapped.ParseFromString(serialized.data()))
      return absl::InvalidArgumentError("a layout that cannot be parsed");
    return wrapped.xla_layout().SerializeAsString();
  }
  if (absl::EndsWith(serialized.type_name(), "::CompactLayout")) {
    xla::ifrt::CompactLayoutProto compact;
    if (!compact.ParseFromString(serialized.data()))
      return absl::InvalidArgumentError("a layout that cannot be parsed");
    xla::LayoutProto out;
    for (int i = compact.major_to_minor_size() - 1; i >= 0; --i) out.add_minor_to_major(compact.major_to_minor(i));
    return out.SerializeAsString();
  }
  return absl::UnimplementedError(absl::StrCat("layouts of type ", serialized.type_name(), " are not known"));
}

}  // namespace causeway
