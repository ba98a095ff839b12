// absl::Status to and from what the IFRT protocol and gRPC say.
//
//   *metadata.mutable_status() = StatusToWire(absl::NotFoundError("no array 7"));
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_STATUSES_H_
#define CAUSEWAY_IFRT_STATUSES_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "xla/tsl/protobuf/status.pb.h"

namespace causeway {

// Leaves payloads out. One could name a user context, but jaxlib 0.10.2 shows its number instead of the traceback that
// it stands for.
tensorflow::StatusProto StatusToWire(const absl::Status& status);

// Codes that are none become UNKNOWN. Payloads are left out.
absl::Status StatusFromWire(const tensorflow::StatusProto& status);

// As an error that ends an RPC.
grpc::Status StatusToGrpc(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_STATUSES_H_
