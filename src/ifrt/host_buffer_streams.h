// The RPCs that carry host data: HostBufferStore (client to us) and HostBufferLookup (us to client).
//
// Nothing is copied on the way: what gRPC received goes to the workers from where it lies, and what a worker sends is
// received into the message that gRPC writes.
//
// Threading: gRPC and the data plane call these. Lifetime: reactors belong to gRPC and destroy themselves.
#ifndef CAUSEWAY_IFRT_HOST_BUFFER_STREAMS_H_
#define CAUSEWAY_IFRT_HOST_BUFFER_STREAMS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "ifrt/door.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {

// A reactor for one store; `response` is gRPC's.
grpc::ServerReadReactor<grpc::ByteBuffer>* NewStoreStream(IfrtDoor& door, grpc::CallbackServerContext* context,
                                                          grpc::ByteBuffer* response);

// A reactor for one lookup.
grpc::ServerWriteReactor<grpc::ByteBuffer>* NewLookupStream(IfrtDoor& door, const grpc::ByteBuffer& request);

// What the header of a store says, and what is asked in a lookup. INVALID_ARGUMENT where it cannot be parsed.
absl::StatusOr<xla::ifrt::proxy::GrpcHostBufferStoreMetadata> ParseStoreHeader(absl::string_view header);
absl::StatusOr<xla::ifrt::proxy::GrpcHostBufferLookupRequest> ParseLookup(const grpc::ByteBuffer& message);

// The data in a serialised GrpcHostBufferStoreRequest, sharing its memory. INVALID_ARGUMENT where it is none.
absl::StatusOr<absl::Cord> StoreChunk(const grpc::ByteBuffer& message);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_HOST_BUFFER_STREAMS_H_
