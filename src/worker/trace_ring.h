// What a worker records while somebody traces the cluster: launches and transfers that have ended, until the controller
// fetches them.
//
//   if (ring.on()) ring.AddLaunch(number, program, devices, handed_over, now, /*failed=*/false, /*worker_bytes=*/0);
//   if (auto events = ring.OnControl(message, now)) Report(*events);       // a part of them, the oldest first
//
// It is off until the controller turns it on, and costs one branch then. It keeps a bounded number of events: where the
// controller is slow the oldest go, and are counted.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_TRACE_RING_H_
#define CAUSEWAY_WORKER_TRACE_RING_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "base/limits.h"
#include "net/data_plane.h"
#include "proto/control.pb.h"

namespace causeway::worker {

class TraceRing {
 public:
  explicit TraceRing(int devices, size_t max_events = kMaxTraceEvents, size_t max_frame_events = kMaxTraceFrameEvents)
      : max_events_(max_events), max_frame_events_(max_frame_events), free_at_(devices) {}

  bool on() const { return recording_; }

  // A launch on `devices` ends now. A device begins with it when it was handed over, or when the launch before it has
  // ended there.
  void AddLaunch(uint64_t number, ProgramId program, absl::Span<const int> devices, absl::Time handed_over,
                 absl::Time now, bool failed, int64_t worker_bytes);

  // Data have been exchanged with `peer`, from `start` until now.
  void AddTransfer(PeerId peer, bool received, int64_t bytes, SessionId session, absl::Time start, absl::Time now,
                   bool failed);

  // What the controller is to be answered; nothing where it wants no answer.
  std::optional<proto::TraceEvents> OnControl(const proto::TraceControl& control, absl::Time now);

  // Nobody wants any of it any more.
  void Drop();

  size_t size() const { return events_.size(); }

 private:
  using Event = std::variant<proto::TraceEvents::Launch, proto::TraceEvents::Transfer>;

  void Add(Event event);

  const size_t max_events_;
  const size_t max_frame_events_;
  bool recording_ = false;
  uint64_t trace_ = 0;
  int64_t dropped_ = 0;
  std::vector<absl::Time> free_at_;  // by device: when its last launch ended, or recording began
  std::deque<Event> events_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_TRACE_RING_H_
