// Element types, shapes, strides and layouts as the IFRT protocol sends them, checked on the way in.
//
//   ASSIGN_OR_RETURN(const DType dtype, ParseDType(request.dtype()));
//   ASSIGN_OR_RETURN(std::vector<int64_t> dims, ParseDims(request.shape()));
//   ASSIGN_OR_RETURN(const int64_t bytes, HostSpanBytes(dtype, dims, strides));   // what the client stores for it
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_TYPES_H_
#define CAUSEWAY_IFRT_TYPES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "xla/python/ifrt/dtype.pb.h"
#include "xla/python/ifrt/layout.pb.h"
#include "xla/python/ifrt/shape.pb.h"
#include "xla/python/ifrt_proxy/common/types.pb.h"

namespace causeway {

// UNIMPLEMENTED for strings (they live on no device), INVALID_ARGUMENT for numbers that are no type.
absl::StatusOr<DType> ParseDType(const xla::ifrt::DTypeProto& dtype);
xla::ifrt::DTypeProto DTypeToWire(DType dtype);

// INVALID_ARGUMENT for negative dimensions, more than kMaxArrayRank of them, or more elements than any machine has.
absl::StatusOr<std::vector<int64_t>> ParseDims(const xla::ifrt::ShapeProto& shape);
xla::ifrt::ShapeProto DimsToWire(absl::Span<const int64_t> dims);

// One per dimension, or none where the data are dense and row-major. UNIMPLEMENTED for negative and zero strides: the
// stock client refuses them itself.
absl::StatusOr<std::vector<int64_t>> ParseStrides(const xla::ifrt::proto::ByteStrides& strides,
                                                  absl::Span<const int64_t> dims);

// Bytes from the first to the last element of such data; `strides` empty: dense. As ParseDims and ParseStrides made
// them.
absl::StatusOr<int64_t> HostSpanBytes(DType dtype, absl::Span<const int64_t> dims, absl::Span<const int64_t> strides);

// The xla.LayoutProto inside a serialised layout; "" for the default. UNIMPLEMENTED for kinds that are not known.
absl::StatusOr<std::string> ParseLayout(const xla::ifrt::LayoutProto& layout);

// The same for the bytes that array specs carry.
absl::StatusOr<std::string> ParseLayoutBytes(const std::string& layout);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_TYPES_H_
