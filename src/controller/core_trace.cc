#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {

void ControllerCore::Impl::OnTraceRequest(const WorkerFrame& e) {
  const proto::TraceRequest& request = e.message.trace_request();
  if (trace_.IsTool(e.link)) {
    // All else that it may say is none of its business.
    if (request.stop()) trace_.Stop(now_, *out_);
    return;
  }
  absl::Status ok = CheckTool(request.version(), request.token());
  // The longest there is, and one more: what is longer is as wrong, and does not overflow.
  const int64_t ms = std::clamp<int64_t>(request.duration_ms(), 0, kMaxTraceMs + 1);
  if (ok.ok()) ok = trace_.Begin(e.link, e.peer, absl::Milliseconds(ms), cluster_, now_, *out_);
  if (!ok.ok()) {
    proto::ToWorker message;
    *message.mutable_goodbye()->mutable_status() = ToProto(ok);
    out_->Send(e.link, message);
    return out_->CloseLink(e.link, absl::OkStatus());
  }
  // Those that were launched before, and run now.
  for (const auto& [session_id, session] : sessions_) {
    for (const auto& [id, program] : session->programs) {
      if (program.compiled) trace_.Name(id, program.view->info.name(), session_id, session->name);
    }
  }
}

uint64_t ControllerCore::Impl::TraceAccepted(Session& session, const LaunchProgram& e, const ProgramView& view) {
  absl::InlinedVector<uint64_t, 4> producers;
  for (ArrayId id : e.arguments) {
    const uint64_t mark = session.arrays.at(id).made_by;
    if (mark != 0 && std::find(producers.begin(), producers.end(), mark) == producers.end()) producers.push_back(mark);
  }
  trace_.Name(e.program, view.info.name(), session.id, session.name);
  const uint64_t mark = trace_.Accepted(e.program, producers, now_);
  for (ArrayId id : e.outputs) session.arrays.at(id).made_by = mark;
  return mark;
}

}  // namespace causeway
