// Zeros in host memory, as many as one likes: reading them takes no memory.
//
//   ASSIGN_OR_RETURN(HostBytes zeros, Zeros(int64_t{1} << 30));
//
// All are of one mapping that nobody ever writes to, in which the system shows the same page of zeros everywhere.
// Threading: thread-safe. Lifetime: valid as long as `owner` is held.
#ifndef CAUSEWAY_TIMED_ZEROS_H_
#define CAUSEWAY_TIMED_ZEROS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/device_runtime.h"

namespace causeway {

// RESOURCE_EXHAUSTED where there are no addresses left for them.
absl::StatusOr<HostBytes> Zeros(int64_t bytes);

// Writes zeros where the elements of a checked shape lie, and leaves what is between them alone. `target` has
// worker::SpanBytes(shape) bytes.
void WriteZeros(const HostShape& shape, absl::Span<char> target);

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_ZEROS_H_
