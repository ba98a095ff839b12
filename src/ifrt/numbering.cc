#include "ifrt/numbering.h"

#include "ifrt/statuses.h"

namespace causeway {

using xla::ifrt::proxy::IfrtRequest;

void ResponseNumbering::Stamp(const IfrtCall& call, xla::ifrt::proxy::IfrtResponse& response) {
  auto& metadata = *response.mutable_response_metadata();
  metadata.set_op_id(call.op_id);
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
  for (uint64_t context : forgettable_) metadata.add_destroyed_user_context_ids(context);
  forgettable_.clear();
  if (call.user_context != 0) metadata.add_destroyed_user_context_ids(call.user_context);
}

void ResponseNumbering::StampError(const IfrtCall& call, const absl::Status& status,
                                   xla::ifrt::proxy::IfrtResponse& response) {
  response.clear_response();
  auto& metadata = *response.mutable_response_metadata();
  metadata.set_op_id(call.op_id);
  *metadata.mutable_status() = StatusToWire(status);
  if (call.user_context != 0) forgettable_.push_back(call.user_context);
}

}  // namespace causeway
