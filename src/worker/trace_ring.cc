#include "worker/trace_ring.h"

#include <algorithm>
#include <utility>

namespace causeway::worker {

void TraceRing::AddLaunch(uint64_t number, ProgramId program, absl::Span<const int> devices, absl::Time handed_over,
                          absl::Time now, bool failed, int64_t worker_bytes) {
  if (!recording_) return;
  for (int device : devices) {
    proto::TraceEvents::Launch launch;
    launch.set_number(number);
    launch.set_program(Raw(program));
    launch.set_device(device);
    launch.set_start_ns(absl::ToUnixNanos(std::max(handed_over, free_at_[device])));
    launch.set_end_ns(absl::ToUnixNanos(now));
    launch.set_failed(failed);
    launch.set_worker_bytes(worker_bytes);
    free_at_[device] = now;
    Add(std::move(launch));
  }
}

void TraceRing::AddTransfer(PeerId peer, bool received, int64_t bytes, SessionId session, absl::Time start,
                            absl::Time now, bool failed) {
  if (!recording_) return;
  proto::TraceEvents::Transfer transfer;
  transfer.set_peer(static_cast<int32_t>(peer));
  transfer.set_received(received);
  transfer.set_bytes(bytes);
  transfer.set_session(Raw(session));
  transfer.set_start_ns(absl::ToUnixNanos(start));
  transfer.set_end_ns(absl::ToUnixNanos(now));
  transfer.set_failed(failed);
  Add(std::move(transfer));
}

void TraceRing::Add(Event event) {
  if (events_.size() >= max_events_) {
    events_.pop_front();
    ++dropped_;
  }
  events_.push_back(std::move(event));
}

std::optional<proto::TraceEvents> TraceRing::OnControl(const proto::TraceControl& control, absl::Time now) {
  if (control.discard()) {
    if (control.trace() == trace_) Drop();
    return std::nullopt;
  }
  if (control.trace() != trace_) {
    Drop();
    trace_ = control.trace();
  }
  if (control.record() && !recording_) std::fill(free_at_.begin(), free_at_.end(), now);
  recording_ = control.record();
  proto::TraceEvents answer;
  answer.set_trace(trace_);
  answer.set_now_ns(absl::ToUnixNanos(now));
  answer.set_dropped(dropped_);
  for (size_t n = std::min(events_.size(), max_frame_events_); n > 0; --n) {
    if (auto* launch = std::get_if<proto::TraceEvents::Launch>(&events_.front())) {
      *answer.add_launches() = std::move(*launch);
    } else {
      *answer.add_transfers() = std::move(std::get<proto::TraceEvents::Transfer>(events_.front()));
    }
    events_.pop_front();
  }
  answer.set_more(!events_.empty());
  return answer;
}

void TraceRing::Drop() {
  recording_ = false;
  trace_ = 0;
  dropped_ = 0;
  events_ = {};
}

}  // namespace causeway::worker
