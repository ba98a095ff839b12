// absl::Status to and from what the IFRT protocol and gRPC say.
//
//   *metadata.mutable_status() = StatusToWire(absl::NotFoundError("no array 7"));
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_STATUSES_H_
#define CAUSEWAY_IFRT_STATUSES_H_

#include <grpcpp/support/status.h>

#include <cstdint>

#include "absl/status/status.h"
#include "xla/tsl/protobuf/status.pb.h"

namespace causeway {

// Leaves payloads out.
tensorflow::StatusProto StatusToWire(const absl::Status& status);

// Makes the client append the traceback of this user context to the error's text, where it still has it.
void AttachUserContext(uint64_t id, tensorflow::StatusProto& status);

// Codes that are none become UNKNOWN. Payloads are left out.
absl::Status StatusFromWire(const tensorflow::StatusProto& status);

// As an error that ends an RPC.
grpc::Status StatusToGrpc(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_STATUSES_H_
