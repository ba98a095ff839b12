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

// With `user_context` not 0 the client appends the Python traceback of that context to the error. The client must know
// the context still, or it ends its process.
tensorflow::StatusProto StatusToWire(const absl::Status& status, uint64_t user_context = 0);

// Codes that are none become UNKNOWN. Payloads are left out.
absl::Status StatusFromWire(const tensorflow::StatusProto& status);

// As an error that ends an RPC.
grpc::Status StatusToGrpc(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_STATUSES_H_
