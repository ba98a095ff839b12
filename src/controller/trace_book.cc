#include "controller/trace_book.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/saturate.h"
#include "base/utf8.h"
#include "controller/event_kind.h"

namespace causeway {
namespace {

// How long the end may take after the recording's: for workers to say what they have, and for the tool to read it.
constexpr absl::Duration kPatience = absl::Seconds(15);

// What the controller does is added up over so long.
constexpr absl::Duration kSlot = absl::Milliseconds(10);

constexpr size_t kMaxNameBytes = 256;

}  // namespace

absl::Status TraceBook::Begin(LinkId link, const std::string& peer, absl::Duration time, const Cluster& cluster,
                              absl::Time now, ControllerActions& out) {
  if (tool_) {
    return absl::AlreadyExistsError(absl::StrCat(
        "a trace is being recorded for ", PrintableUtf8(tool_->peer), " already, until ",
        absl::FormatDuration(std::max(absl::ZeroDuration(), absl::Trunc(tool_->until - now, absl::Milliseconds(1)))),
        " from now: wait for its end, or end that one"));
  }
  if (time <= absl::ZeroDuration() || time > absl::Milliseconds(kMaxTraceMs)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a trace takes more than no time and at most ", kMaxTraceMs / 1000, " s"));
  }
  ++trace_;
  recording_ = true;
  tool_ = Tool{.link = link, .peer = peer, .until = now + time, .deadline = now + time + kPatience};
  proto::TraceReport report;
  report.mutable_begin()->set_start_ns(absl::ToUnixNanos(now));
  report.mutable_begin()->set_duration_ms(absl::ToInt64Milliseconds(time));
  for (const WorkerSlot& slot : cluster.slots()) {
    if (!slot.alive) continue;
    Describe(slot, *report.add_workers());
    workers_[slot.id].link = slot.link;
  }
  proto::ToWorker message;
  *message.mutable_trace_report() = std::move(report);
  out.Send(link, message);
  AskAll(now, out);
  return absl::OkStatus();
}

void TraceBook::Describe(const WorkerSlot& slot, proto::TraceReport::Worker& out) {
  out.set_worker(Raw(slot.id));
  out.set_name(ValidUtf8(slot.hello.name(), kMaxNameBytes));
  out.set_island(ValidUtf8(slot.hello.island(), kMaxNameBytes));
  out.set_pid(slot.hello.pid());
  for (int i = 0; i < slot.hello.devices_size(); ++i) {
    proto::TraceReport::Device& device = *out.add_devices();
    device.set_device(i < static_cast<int>(slot.devices.size()) ? Raw(slot.devices[i]) : -1);
    device.set_kind(ValidUtf8(slot.hello.devices(i).kind(), kMaxNameBytes));
  }
}

// ---------------------------------------------------------------- the workers

void TraceBook::Ask(Worker& worker, absl::Time now, ControllerActions& out) {
  worker.asked = now;
  worker.asked_last = !recording_;
  proto::ToWorker message;
  message.mutable_trace_control()->set_trace(trace_);
  message.mutable_trace_control()->set_record(recording_);
  out.Send(worker.link, message);
}

void TraceBook::AskAll(absl::Time now, ControllerActions& out) {
  for (auto& [id, worker] : workers_) {
    // Whether or not the tool reads, nobody is to record longer than he must.
    const bool stops = !recording_ && !worker.asked_last;
    if (!worker.done && !worker.asked && (stops || !tool_->full)) Ask(worker, now, out);
  }
}

void TraceBook::Discard(const Worker& worker, ControllerActions& out) const {
  if (worker.done) return;
  proto::ToWorker message;
  message.mutable_trace_control()->set_trace(trace_);
  message.mutable_trace_control()->set_discard(true);
  out.Send(worker.link, message);
}

void TraceBook::OnEvents(const Cluster& cluster, WorkerId id, proto::TraceEvents events, absl::Time now,
                         ControllerActions& out) {
  const auto found = workers_.find(id);
  if (found == workers_.end() || events.trace() != trace_ || !found->second.asked) return;
  Worker& worker = found->second;
  worker.clock.Add(absl::ToUnixNanos(*worker.asked), events.now_ns(), absl::ToUnixNanos(now));
  worker.asked.reset();
  worker.dropped = std::max<int64_t>(0, events.dropped());
  worker.done = worker.asked_last && !events.more();
  // A frame to the tool is no larger than we say, whatever a worker says.
  const int64_t too_many = events.launches_size() + events.transfers_size() - limits_.frame_events;
  if (too_many > 0) {
    worker.dropped = SaturatingAdd(worker.dropped, too_many);
    const int launches = static_cast<int>(std::min<int64_t>(events.launches_size(), limits_.frame_events));
    events.mutable_launches()->DeleteSubrange(launches, events.launches_size() - launches);
    const int transfers = static_cast<int>(limits_.frame_events) - launches;
    if (events.transfers_size() > transfers) {
      events.mutable_transfers()->DeleteSubrange(transfers, events.transfers_size() - transfers);
    }
  }
  const bool any = events.launches_size() + events.transfers_size() > 0;
  const bool more = any && events.more();
  if (any) {
    // What names its launches goes first.
    Flush(out);
    proto::ToWorker message;
    message.mutable_trace_report()->set_worker(Raw(id));
    *message.mutable_trace_report()->mutable_events() = std::move(events);
    out.Send(tool_->link, message);
  }
  if (more && !tool_->full) Ask(worker, now, out);
  if (AllDone()) End(cluster, out);
}

void TraceBook::OnWorkerUp(const WorkerSlot& slot, absl::Time now, ControllerActions& out) {
  if (!recording_) return;
  // One that returns has perhaps another clock.
  const auto [entry, fresh] = workers_.try_emplace(slot.id);
  if (!fresh) return;
  entry->second.link = slot.link;
  if (proto::TraceReport* report = Room()) Describe(slot, *report->add_workers());
  Ask(entry->second, now, out);
}

void TraceBook::OnWorkerLost(WorkerId worker, const absl::Status& why) {
  const auto found = workers_.find(worker);
  if (found == workers_.end() || found->second.done) return;
  found->second.done = true;
  found->second.missing = absl::StrCat("it is lost: ", ValidUtf8(why.message(), kMaxNameBytes));
}

// ---------------------------------------------------------------- time and the tool

void TraceBook::StopRecording(absl::Time now) {
  if (!recording_) return;
  CloseSlot();
  recording_ = false;
  stopped_ = now;
  tool_->deadline = now + kPatience;
}

void TraceBook::Stop(absl::Time now, ControllerActions& out) {
  if (!recording_) return;
  StopRecording(now);
  tool_->why = "it was ended early";
  AskAll(now, out);
}

void TraceBook::OnTick(const Cluster& cluster, absl::Time now, ControllerActions& out) {
  if (!tool_) return;
  if (now >= tool_->until) StopRecording(now);
  if (AllDone() || now >= tool_->deadline) {
    if (!tool_->full) return End(cluster, out);
    const LinkId link = tool_->link;
    OnClosed(link, out);
    return out.CloseLink(link, absl::DeadlineExceededError("the tool does not read the trace that it asked for"));
  }
  if (!tool_->full) Flush(out);
  AskAll(now, out);
}

void TraceBook::OnFull(LinkId link, bool full, absl::Time now, ControllerActions& out) {
  if (!IsTool(link)) return;
  tool_->full = full;
  if (full) return;
  Flush(out);
  AskAll(now, out);
}

void TraceBook::OnClosed(LinkId link, ControllerActions& out) {
  if (!IsTool(link)) return;
  for (const auto& [id, worker] : workers_) Discard(worker, out);
  Reset();
}

bool TraceBook::AllDone() const {
  return !recording_ &&
         std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker.second.done; });
}

void TraceBook::End(const Cluster& cluster, ControllerActions& out) {
  Flush(out);
  proto::ToWorker message;
  proto::TraceReport& report = *message.mutable_trace_report();
  proto::TraceReport::End& end = *report.mutable_end();
  end.set_stop_ns(absl::ToUnixNanos(stopped_));
  end.set_slot_ns(absl::ToInt64Nanoseconds(kSlot));
  end.set_dropped(dropped_);
  end.set_why(tool_->why);
  for (auto& [id, worker] : workers_) {
    if (!worker.done) worker.missing = "it did not say in time what it had recorded";
    Discard(worker, out);
    proto::TraceReport::Clock& clock = *end.add_clocks();
    clock.set_worker(Raw(id));
    clock.set_offset_ns(worker.clock.offset_ns());
    clock.set_error_ns(worker.clock.error_ns());
    clock.set_dropped(worker.dropped);
    clock.set_missing(worker.missing);
    // Their devices may have got numbers meanwhile.
    Describe(cluster.slot(id), *report.add_workers());
  }
  const LinkId link = tool_->link;
  Reset();
  out.Send(link, message);
  out.CloseLink(link, absl::OkStatus());
}

void TraceBook::Reset() {
  recording_ = false;
  tool_.reset();
  workers_.clear();
  named_ = {};
  waiting_ = {};
  waiting_events_ = 0;
  last_events_ = 0;
  dropped_ = 0;
  times_.clear();
}

// ---------------------------------------------------------------- what the controller does

proto::TraceReport* TraceBook::Room() {
  if (waiting_events_ >= limits_.events) {
    ++dropped_;
    return nullptr;
  }
  if (waiting_.empty() || last_events_ >= limits_.frame_events) {
    waiting_.emplace_back();
    last_events_ = 0;
  }
  ++last_events_;
  ++waiting_events_;
  return &waiting_.back();
}

void TraceBook::Flush(ControllerActions& out) {
  for (proto::TraceReport& report : std::exchange(waiting_, {})) {
    proto::ToWorker message;
    *message.mutable_trace_report() = std::move(report);
    out.Send(tool_->link, message);
  }
  waiting_events_ = 0;
}

void TraceBook::Name(ProgramId program, const std::string& name, SessionId session, const std::string& session_name) {
  if (named_.size() >= limits_.programs || named_.contains(program)) return;
  proto::TraceReport* report = Room();
  if (report == nullptr) return;
  named_.insert(program);
  proto::TraceReport::Program& out = *report->add_programs();
  out.set_program(Raw(program));
  out.set_name(ValidUtf8(name, kMaxNameBytes));
  out.set_session(Raw(session));
  out.set_session_name(ValidUtf8(session_name, kMaxNameBytes));
}

void TraceBook::Accepted(uint64_t mark, ProgramId program, absl::Span<const uint64_t> producers, absl::Time at) {
  proto::TraceReport* report = Room();
  if (report == nullptr) return;
  proto::TraceReport::Accepted& out = *report->add_accepted();
  out.set_mark(mark);
  out.set_program(Raw(program));
  out.set_at_ns(absl::ToUnixNanos(at));
  for (uint64_t producer : producers.subspan(0, kMaxProducers)) out.add_producers(producer);
}

void TraceBook::HandedOver(uint64_t mark, LaunchNumber number, absl::Time at) {
  proto::TraceReport* report = Room();
  if (report == nullptr) return;
  proto::TraceReport::HandedOver& out = *report->add_handed_over();
  out.set_mark(mark);
  out.set_number(Raw(number));
  out.set_at_ns(absl::ToUnixNanos(at));
}

void TraceBook::Handled(int kind, absl::Time start, absl::Time end) {
  if (!recording_) return;
  const int64_t slot = absl::ToUnixNanos(start) / absl::ToInt64Nanoseconds(kSlot);
  if (slot != slot_) CloseSlot();
  slot_ = slot;
  Time& time = times_[kind];
  ++time.count;
  time.total += end - start;
}

void TraceBook::CloseSlot() {
  for (const auto& [kind, time] : std::exchange(times_, {})) {
    proto::TraceReport* report = Room();
    if (report == nullptr) continue;
    proto::TraceReport::Handled& out = *report->add_handled();
    out.set_start_ns(slot_ * absl::ToInt64Nanoseconds(kSlot));
    out.set_kind(EventKindName(kind));
    out.set_count(time.count);
    out.set_total_ns(absl::ToInt64Nanoseconds(time.total));
  }
}

}  // namespace causeway
