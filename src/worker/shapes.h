// Shapes as the control protocol says them, checked before anything is allocated or read by them.
#ifndef CAUSEWAY_WORKER_SHAPES_H_
#define CAUSEWAY_WORKER_SHAPES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "proto/control.pb.h"
#include "worker/device_runtime.h"

namespace causeway::worker {

// INVALID_ARGUMENT for a type that has no host representation, negative or overflowing dimensions, or too many of them.
absl::Status CheckShape(DType dtype, absl::Span<const int64_t> dims);

// The shape of a shard as a message gives it, checked.
absl::StatusOr<HostShape> ShapeFrom(int32_t dtype, absl::Span<const int64_t> dims,
                                    absl::Span<const int64_t> byte_strides);

// Bytes of host memory, dense and row-major. The shape must be a checked one.
int64_t DenseBytes(DType dtype, absl::Span<const int64_t> dims);

// Bytes from the first to the last byte that `shape` touches. The same as DenseBytes where it has no strides.
// INVALID_ARGUMENT for strides that are negative, overflow, or are not one a dimension.
absl::StatusOr<int64_t> SpanBytes(const HostShape& shape);

// Whether the shape's strides, if it has any, only say that it is dense and row-major.
bool IsDense(const HostShape& shape);

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_SHAPES_H_
