#include "ifrt/numbering.h"

#include "ifrt/statuses.h"

namespace causeway {
namespace {

using xla::ifrt::proxy::IfrtRequest;

// Requests that wait for work of earlier ones: an error there has its cause elsewhere, and the traceback of the waiting
// line would mislead.
bool WaitsForOthers(IfrtRequest::RequestCase kind) {
  switch (kind) {
    case IfrtRequest::kCheckValueReadyRequest:
    case IfrtRequest::kCheckFutureRequest:
    case IfrtRequest::kCopyToHostBufferRequest:
    case IfrtRequest::kLoadedExecutableFetchExecuteResultRequest:
      return true;
    default:
      return false;
  }
}

}  // namespace

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
  *metadata.mutable_status() = StatusToWire(status, WaitsForOthers(call.kind) ? 0 : call.user_context);
  if (call.user_context != 0) forgettable_.push_back(call.user_context);
}

}  // namespace causeway
