#include <algorithm>
#include <vector>

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
  // Those that have ended are named too, since workers may only now say so.
  for (const auto& [session_id, session] : sessions_) {
    for (const auto& [id, program] : session->programs) {
      if (program.compiled) trace_.Name(id, program.view->info.name(), session_id, session->name);
    }
  }
  // Those that were asked for before and wait for their turn.
  std::vector<const Held*> waiting;
  for (const auto& [id, held] : held_) {
    if (held->launch != nullptr) waiting.push_back(held.get());
  }
  std::sort(waiting.begin(), waiting.end(),
            [](const Held* a, const Held* b) { return a->launch->order < b->launch->order; });
  for (const Held* held : waiting) TraceAccepted(*held->launch, held->producers, held->asked);
}

void ControllerCore::Impl::AddProducer(const Array& argument, Producers& producers) {
  if (argument.made_by == 0 || producers.size() == TraceBook::kMaxProducers) return;
  if (std::find(producers.begin(), producers.end(), argument.made_by) != producers.end()) return;
  producers.push_back(argument.made_by);
}

ControllerCore::Impl::Producers ControllerCore::Impl::ProducersOf(const Session& session,
                                                                  const std::vector<ArrayId>& arguments) {
  Producers producers;
  for (ArrayId id : arguments) {
    if (const auto found = session.arrays.find(id); found != session.arrays.end())
      AddProducer(found->second, producers);
  }
  return producers;
}

void ControllerCore::Impl::TraceAccepted(const PendingLaunch& launch, const Producers& producers, absl::Time asked) {
  const ProgramId program = launch.program->id;
  const Session* session = FindSession(launch.session);
  if (session != nullptr) trace_.Name(program, launch.program->info.name(), session->id, session->name);
  trace_.Accepted(launch.order, program, producers, asked);
}

}  // namespace causeway
