#include "ifrt/numbering.h"

#include "base/origin.h"
#include "ifrt/statuses.h"

namespace causeway {

using xla::ifrt::proxy::IfrtRequest;

void ResponseNumbering::Stamp(const IfrtCall& call, xla::ifrt::proxy::IfrtResponse& response) {
  auto& metadata = *response.mutable_response_metadata();
  metadata.set_op_id(call.op_id);
  if (call.user_context != 0) contexts_.Answered(call.user_context);
  switch (call.kind) {
    case IfrtRequest::kInitRequest:
      metadata.set_seq_num(-1);
      return;
    case IfrtRequest::kDeleteArrayRequest:
    case IfrtRequest::kDestructArrayRequest:
      return;
    default:
      break;
  }
  if (call.of_deletion) return;
  metadata.set_seq_num(next_++);
  contexts_.TakeForgettable(*metadata.mutable_destroyed_user_context_ids());
}

void ResponseNumbering::StampError(const IfrtCall& call, const absl::Status& status,
                                   xla::ifrt::proxy::IfrtResponse& response) {
  response.clear_response();
  auto& metadata = *response.mutable_response_metadata();
  metadata.set_op_id(call.op_id);
  *metadata.mutable_status() = StatusToWire(status);
  const uint64_t origin = OriginOf(status);
  if (origin != call.user_context && contexts_.IsKept(origin)) AttachUserContext(origin, *metadata.mutable_status());
  if (call.user_context != 0) contexts_.Answered(call.user_context);
}

}  // namespace causeway
