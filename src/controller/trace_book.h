// The trace that a tool has asked for: what the controller itself records, and what it fetches from the workers and
// passes on.
//
//   TraceBook book;
//   book.Begin(link, "peer", absl::Seconds(5), cluster, now, out);       // out: frames to the workers and the tool
//   if (book.on()) book.Accepted(mark, program, producers, now);         // one branch where nothing is recorded
//   book.OnEvents(cluster, worker, events, now, out);  book.OnTick(cluster, now, out);   // until its end has been sent
//
// One trace at a time. Each worker has one question to answer at a time, and is asked the next one when the tool has
// taken what was sent to it, so that a tool that does not read costs nothing but what it does not get; what is recorded
// here meanwhile is bounded, and what found no room is counted. Every question also tells how far the worker's clock is
// from ours (clock_offset.h). Whatever the tool and the workers do, a trace is over some seconds after its time.
//
// Threading: none of its own; lives in the controller core. Cost: O(1) a launch and event; O(workers) ten times a
// second.
#ifndef CAUSEWAY_CONTROLLER_TRACE_BOOK_H_
#define CAUSEWAY_CONTROLLER_TRACE_BOOK_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "base/limits.h"
#include "controller/clock_offset.h"
#include "controller/cluster.h"
#include "controller/events.h"

namespace causeway {

class TraceBook {
 public:
  // Of one launch, that are told.
  static constexpr size_t kMaxProducers = 8;

  struct Limits {
    int64_t events = kMaxTraceEvents;             // that wait for the tool
    int64_t frame_events = kMaxTraceFrameEvents;  // in one frame to it
    size_t programs = 65536;                      // that have names in a trace
  };

  TraceBook() = default;
  explicit TraceBook(const Limits& limits) : limits_(limits) {}

  // Whether the controller is to record.
  bool on() const { return recording_; }

  // Whether there is a trace, recorded or being sent.
  bool busy() const { return tool_.has_value(); }
  bool IsTool(LinkId link) const { return tool_ && tool_->link == link; }

  // Begins a trace for the tool at `link`, which is `peer`. ALREADY_EXISTS: there is one; INVALID_ARGUMENT: no time, or
  // too much.
  absl::Status Begin(LinkId link, const std::string& peer, absl::Duration time, const Cluster& cluster, absl::Time now,
                     ControllerActions& out);

  // Ends the recording early; what was recorded is still sent.
  void Stop(absl::Time now, ControllerActions& out);

  // What happens meanwhile. All are ignored where it is not about the trace at hand.
  void OnEvents(const Cluster& cluster, WorkerId worker, proto::TraceEvents events, absl::Time now,
                ControllerActions& out);
  void OnTick(const Cluster& cluster, absl::Time now, ControllerActions& out);
  void OnFull(LinkId link, bool full, absl::Time now, ControllerActions& out);
  void OnClosed(LinkId link, ControllerActions& out);
  void OnWorkerUp(const WorkerSlot& slot, absl::Time now, ControllerActions& out);
  void OnWorkerLost(WorkerId worker, const absl::Status& why);

  // The following while on() only.
  void Name(ProgramId program, const std::string& name, SessionId session, const std::string& session_name);

  // A launch was asked for: `mark` names it, and it takes outputs of those with the marks `producers`.
  void Accepted(uint64_t mark, ProgramId program, absl::Span<const uint64_t> producers, absl::Time at);
  void HandedOver(uint64_t mark, LaunchNumber number, absl::Time at);

  // The core has handled an event of this kind (event_kind.h).
  void Handled(int kind, absl::Time start, absl::Time end);

 private:
  struct Tool {
    LinkId link;
    std::string peer;
    absl::Time until;     // when recording ends
    absl::Time deadline;  // when all of it does
    bool full = false;
    std::string why;  // it ended otherwise than after its time
  };
  struct Worker {
    LinkId link;
    std::optional<absl::Time> asked;  // and has not answered yet
    bool asked_last = false;          // it was told to stop
    bool done = false;
    ClockOffset clock;
    int64_t dropped = 0;
    std::string missing;
  };
  struct Time {
    int64_t count = 0;
    absl::Duration total;
  };

  static void Describe(const WorkerSlot& slot, proto::TraceReport::Worker& out);

  // Where the next event goes; null where there is no room.
  proto::TraceReport* Room();
  void CloseSlot();
  void Flush(ControllerActions& out);
  void Ask(Worker& worker, absl::Time now, ControllerActions& out);
  void AskAll(absl::Time now, ControllerActions& out);
  void StopRecording(absl::Time now);
  void Discard(const Worker& worker, ControllerActions& out) const;
  bool AllDone() const;
  void End(const Cluster& cluster, ControllerActions& out);
  void Reset();

  const Limits limits_ = {};
  bool recording_ = false;
  uint64_t trace_ = 0;  // number of the latest
  std::optional<Tool> tool_;
  absl::Time stopped_;
  std::map<WorkerId, Worker> workers_;
  absl::flat_hash_set<ProgramId> named_;
  std::deque<proto::TraceReport> waiting_;  // for the tool
  int64_t waiting_events_ = 0;
  int64_t last_events_ = 0;  // of them, in the last report
  int64_t dropped_ = 0;
  int64_t slot_ = 0;  // of `times_`, since the clock's beginning
  std::map<int, Time> times_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_TRACE_BOOK_H_
