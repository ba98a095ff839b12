#include "worker/launch_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/origin.h"
#include "base/saturate.h"

namespace causeway::worker {
namespace {

constexpr size_t kMaxFailures = 1024;

}  // namespace

void LaunchQueue::Launch(const proto::Launch& message) {
  absl::StatusOr<ProgramRef> program = programs_.Find(ProgramId{message.program()});
  if (!program.ok()) {
    return ReportDone(message.number(), context_.life, program.status(), absl::ZeroDuration(), /*output_bytes=*/0, {},
                      {});
  }
  auto owned = std::make_unique<Entry>();
  Entry& launch = *owned;
  launch.key = LaunchKey{++last_key_};
  launch.number = message.number();
  launch.origin = message.origin();
  launch.life = context_.life;
  launch.program = *std::move(program);
  launch.options.launch_id = message.launch_id();
  launch.options.launch = message.number();
  launch.options.non_donatable.assign(message.non_donatable().begin(), message.non_donatable().end());
  launches_.emplace(launch.key, std::move(owned));

  if (launch.program->gang != nullptr) context_.out->AnnounceGang(launch.number, launch.program->gang);
  Capture(launch, message);
  if (launch.program->state == Program::State::kCompiled) Claim(launch);
  for (int device : launch.program->devices) {
    queues_[device].push_back(&launch);
    ++queued_[device][launch.session()];
  }
  dirty_.push_back(launch.program->devices.front());
}

void LaunchQueue::Capture(Entry& launch, const proto::Launch& message) {
  const std::vector<int>& devices = launch.program->devices;
  launch.parameters = message.arguments_size();
  for (uint64_t array : message.arguments()) launch.names.push_back(ArrayId{array});
  launch.arguments.reserve(devices.size() * message.arguments_size());
  launch.outputs.reserve(devices.size() * message.outputs_size());
  const std::vector<int>& shards = launch.program->shards;
  for (size_t i = 0; i < devices.size(); ++i) {
    for (uint64_t array : message.arguments()) {
      absl::StatusOr<BufferRef> found = context_.store.Find(ArrayId{array}, shards[i]);
      if (!found.ok()) {
        launch.refused.Update(found.status());
        launch.arguments.push_back(context_.store.Failed(found.status(), message.origin()));
        continue;
      }
      if (!(*found)->failed() && (*found)->device() != devices[i]) {
        launch.refused.Update(
            absl::InvalidArgumentError(absl::StrCat("an argument's shard ", shards[i], " lies on device ",
                                                    (*found)->device(), ", the program wants it on ", devices[i])));
      }
      launch.arguments.push_back(*std::move(found));
      Wait(launch, &Store::WhenPlaced, launch.arguments.back());
    }
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    for (uint64_t array : message.outputs()) {
      launch.outputs.push_back(context_.store.Promise(devices[i], message.origin()));
      launch.refused.Update(context_.store.Bind(ArrayId{array}, shards[i], launch.outputs.back()));
    }
  }
}

void LaunchQueue::Claim(Entry& launch) {
  launch.claimed = true;
  const auto& kept = launch.options.non_donatable;
  for (int parameter : launch.program->donated) {
    if (parameter < 0 || parameter >= launch.parameters) continue;
    if (std::find(kept.begin(), kept.end(), parameter) != kept.end()) continue;
    for (size_t device = 0; device < launch.program->devices.size(); ++device) {
      launch.donated.push_back(launch.arguments[device * launch.parameters + parameter]);
      launch.donated_names.push_back(launch.names[parameter]);
      context_.store.Donate(launch.donated.back());
    }
  }
}

void LaunchQueue::Wait(Entry& launch, void (Store::*when)(const BufferRef&, Continuation), const BufferRef& buffer) {
  if (buffer->failed()) {
    launch.poisoned = true;
    return;
  }
  if (when == &Store::WhenPlaced && !buffer->promised()) return;
  ++launch.waiting_for;
  (context_.store.*when)(buffer, [this, key = launch.key](bool ok) { OnWaited(key, ok); });
}

void LaunchQueue::OnWaited(LaunchKey key, bool ok) {
  const auto found = launches_.find(key);
  if (found == launches_.end()) return;
  Entry& launch = *found->second;
  --launch.waiting_for;
  if (!ok) launch.poisoned = true;
  if (launch.waiting_for == 0 || launch.poisoned) dirty_.push_back(launch.program->devices.front());
}

void LaunchQueue::OnCompiled(const Program& program) {
  dirty_.insert(dirty_.end(), program.devices.begin(), program.devices.end());
}

bool LaunchQueue::Settle() {
  bool any = false;
  while (!dirty_.empty()) {
    const int device = dirty_.front();
    dirty_.pop_front();
    // If it is taken, it is looked at again when what takes it has returned.
    if (executing_[device] || gangs_executing_[device] >= gangs_ahead_) continue;
    for (Entry* launch : Candidates(device)) {
      const bool waited = launch->waits();
      if (TryStart(*launch)) {
        any = true;
        break;
      }
      // What it holds up may pass it now, on whatever device.
      if (launch->waits() && !waited) {
        for (int other = 0; other < context_.devices; ++other) dirty_.push_back(other);
      }
    }
  }
  return any;
}

absl::InlinedVector<LaunchQueue::Entry*, 4> LaunchQueue::Candidates(int device) const {
  absl::InlinedVector<Entry*, 4> candidates;
  // KeepsBack, of all ahead at once.
  absl::InlinedVector<SessionId, 4> sessions;
  bool gang_ahead = false;
  for (Entry* launch : queues_[device]) {
    if (launch->state == Entry::State::kExecuting) continue;  // a gang's: the device's thread has it
    const bool of_them = std::find(sessions.begin(), sessions.end(), launch->session()) != sessions.end();
    const bool is_kept = of_them || (gang_ahead && launch->is_gang());
    if (!of_them) sessions.push_back(launch->session());
    gang_ahead = gang_ahead || launch->is_gang();
    if (!is_kept) {
      candidates.push_back(launch);
      if (!IsStuck(*launch)) break;
    }
    if (sessions.size() == queued_[device].size()) break;  // all further ones are kept back by their sessions
  }
  return candidates;
}

bool LaunchQueue::KeepsBack(const Entry& ahead, const Entry& launch) {
  return ahead.session() == launch.session() || (ahead.is_gang() && launch.is_gang());
}

bool LaunchQueue::IsStuck(const Entry& launch) const {
  if (launch.waits()) return true;
  if (launch.state != Entry::State::kQueued || launch.program->devices.size() == 1) return false;
  return std::any_of(launch.program->devices.begin(), launch.program->devices.end(), [&](int device) {
    for (const Entry* ahead : queues_[device]) {
      if (ahead == &launch) return false;
      if (KeepsBack(*ahead, launch) && ahead->waits()) return true;
    }
    return false;
  });
}

bool LaunchQueue::TryStart(Entry& launch) {
  if (launch.state != Entry::State::kQueued) return false;
  const Program& program = *launch.program;
  if (!IsNext(launch) || program.state == Program::State::kCompiling) return false;
  if (absl::Status error = ErrorOf(launch); !error.ok()) {
    Leave(launch);
    End(launch, error);
    return true;
  }
  const int handed_over = HandedOver(launch);
  if (launch.waiting_for > handed_over) return false;
  if (!launch.claimed) Claim(launch);
  for (const BufferRef& buffer : launch.donated) {
    if (!Store::unread(buffer)) Wait(launch, &Store::WhenUnread, buffer);
  }
  if (launch.waiting_for > handed_over) return false;
  if (program.has_collectives && collective_running_) {
    held_back_.push_back(program.devices.front());
    return false;
  }
  Start(launch);
  return true;
}

bool LaunchQueue::IsNext(const Entry& launch) const {
  return std::all_of(launch.program->devices.begin(), launch.program->devices.end(), [&](int device) {
    if (executing_[device] || gangs_executing_[device] >= (launch.by_device() ? gangs_ahead_ : 1)) return false;
    if (queues_[device].front() == &launch) return true;
    const auto candidates = Candidates(device);
    return std::find(candidates.begin(), candidates.end(), &launch) != candidates.end();
  });
}

int LaunchQueue::HandedOver(const Entry& launch) {
  if (!launch.by_device() || launch.waiting_for == 0) return 0;
  return static_cast<int>(
      std::count_if(launch.arguments.begin(), launch.arguments.end(),
                    [](const BufferRef& argument) { return argument->promised() && argument->handed_over(); }));
}

absl::Status LaunchQueue::ErrorOf(const Entry& launch) const {
  if (launch.program->state == Program::State::kFailed) return launch.program->error;
  if (!launch.refused.ok()) return launch.refused;
  if (launch.waiting_for > 0 && !launch.poisoned) return absl::OkStatus();
  for (const BufferRef& argument : launch.arguments) {
    if (argument->failed()) return argument->error();
  }
  return absl::OkStatus();
}

void LaunchQueue::Start(Entry& launch) {
  launch.state = Entry::State::kExecuting;
  launch.started = context_.now;
  if (launch.program->has_collectives) collective_running_ = true;
  for (int device : launch.program->devices) {
    if (!launch.by_device()) {
      executing_[device] = true;
      continue;
    }
    ++gangs_executing_[device];
    dirty_.push_back(device);  // the next one may follow at once
  }
  ExecuteRequest request;
  request.launch = launch.key;
  request.program = launch.program->key;
  request.thread_device = launch.program->devices.front();
  request.arguments.reserve(launch.arguments.size());
  for (const BufferRef& argument : launch.arguments) {
    request.arguments.push_back(argument->key());
    if (argument->ready()) continue;
    if (argument->origin() != 0) launch.awaited.push_back(argument->origin());
    context_.store.WhenSettled(argument, [this, key = launch.key](bool) {
      if (const auto found = launches_.find(key); found != launches_.end()) found->second->inputs_there = context_.now;
    });
  }
  request.outputs.reserve(launch.outputs.size());
  for (const BufferRef& output : launch.outputs) {
    request.outputs.push_back(output->key());
    if (launch.by_device()) context_.store.HandOver(output);
  }
  request.options = std::move(launch.options);
  context_.out->Execute(std::move(request));
}

void LaunchQueue::OnReturned(ExecuteReturned event) {
  const auto found = launches_.find(event.launch);
  if (found == launches_.end()) return;
  Entry& launch = *found->second;
  Leave(launch);
  if (!event.output_bytes.ok()) return End(launch, event.output_bytes.status());

  for (size_t i = 0; i < launch.outputs.size(); ++i) {
    const int64_t bytes = (*event.output_bytes)[i];
    launch.output_bytes += bytes;
    context_.store.Place(launch.outputs[i], bytes);
  }
  const auto devices = static_cast<int64_t>(launch.program->devices.size());
  if (launch.output_bytes != SaturatingMultiply(launch.program->output_bytes, devices)) {
    launch.output_sizes.assign(event.output_bytes->begin(),
                               event.output_bytes->begin() + static_cast<int64_t>(launch.outputs.size()) / devices);
  }
  for (const BufferRef& buffer : launch.donated) context_.store.Consume(buffer);
  launch.donated.clear();
  launch.arguments.clear();
  launch.state = Entry::State::kRunning;
  if (event.finished) launch.finished = std::move(event.finished);
  if (launch.finished) End(launch, *launch.finished);
}

void LaunchQueue::OnFinished(const LaunchFinished& event) {
  const auto found = launches_.find(event.launch);
  if (found == launches_.end()) return;
  Entry& launch = *found->second;
  if (launch.state == Entry::State::kExecuting) {
    launch.finished = event.status;
    return;
  }
  End(launch, event.status);
}

void LaunchQueue::Leave(Entry& launch) {
  for (int device : launch.program->devices) {
    std::deque<Entry*>& queue = queues_[device];
    queue.erase(std::find(queue.begin(), queue.end(), &launch));
    const auto queued = queued_[device].find(launch.session());
    if (--queued->second == 0) queued_[device].erase(queued);
    if (launch.state == Entry::State::kExecuting) {
      if (launch.by_device()) {
        --gangs_executing_[device];
      } else {
        executing_[device] = false;
      }
    }
    dirty_.push_back(device);
  }
}

absl::Status LaunchQueue::WithFirstOrigin(const Entry& launch, const absl::Status& error) {
  uint64_t origin = launch.origin;
  for (uint64_t awaited : launch.awaited) {
    const auto found = failures_.find(awaited);
    if (found == failures_.end()) continue;
    origin = found->second;
    break;
  }
  absl::Status known = WithOrigin(error, origin);
  if (launch.origin != 0 && failures_.emplace(launch.origin, OriginOf(known)).second) {
    failed_.push_back(launch.origin);
    if (failed_.size() > kMaxFailures) {
      failures_.erase(failed_.front());
      failed_.pop_front();
    }
  }
  return known;
}

void LaunchQueue::End(Entry& launch, const absl::Status& end) {
  const absl::Status status = end.ok() ? end : WithFirstOrigin(launch, end);
  for (const BufferRef& output : launch.outputs) {
    if (status.ok()) {
      context_.store.SetReady(output);
    } else {
      context_.store.Fail(output, status);
    }
  }
  if (!status.ok()) {
    if (!launch.claimed && launch.program->state == Program::State::kCompiled) Claim(launch);
    for (size_t i = 0; i < launch.donated.size(); ++i) {
      context_.store.Forsake(launch.donated_names[i], launch.donated[i]);
    }
  }
  const bool ran = launch.state != Entry::State::kQueued;
  if (ran && launch.program->has_collectives) {
    collective_running_ = false;
    dirty_.insert(dirty_.end(), held_back_.begin(), held_back_.end());
    held_back_.clear();
  }
  collectives::Traffic traffic;
  if (launch.is_gang()) {
    if (!status.ok()) context_.out->AbortGang(launch.number, status);
    traffic = context_.out->EndGang(launch.number);
  }
  if (ran && context_.trace.on()) {
    context_.trace.AddLaunch(launch.number, launch.program->id, launch.program->devices,
                             std::max(launch.started, launch.inputs_there), context_.now, !status.ok(),
                             traffic.worker_bytes);
  }
  ReportDone(launch.number, launch.life, status, ran ? BusyTime(launch) : absl::ZeroDuration(), launch.output_bytes,
             traffic, launch.output_sizes);
  launches_.erase(launch.key);
}

absl::Duration LaunchQueue::BusyTime(const Entry& launch) {
  absl::Time began = std::max(launch.started, launch.inputs_there);
  for (int device : launch.program->devices) {
    began = std::max(began, last_end_[device]);
    last_end_[device] = std::max(last_end_[device], context_.now);
  }
  return std::max(absl::ZeroDuration(), context_.now - began);
}

void LaunchQueue::DropSession(SessionId session, const absl::Status& why) {
  DropIf([session](const Entry& launch) { return SessionOf(launch.program->id) == session; }, why);
}

void LaunchQueue::DropAll(const absl::Status& why) {
  DropIf([](const Entry&) { return true; }, why);
}

void LaunchQueue::DropIf(const std::function<bool(const Entry&)>& condition, const absl::Status& why) {
  std::vector<Entry*> dropped;
  for (const auto& [key, launch] : launches_) {
    if (launch->state == Entry::State::kQueued && condition(*launch)) dropped.push_back(launch.get());
  }
  std::sort(dropped.begin(), dropped.end(), [](const Entry* a, const Entry* b) { return a->key < b->key; });
  for (Entry* launch : dropped) {
    Leave(*launch);
    End(*launch, why);
  }
}

void LaunchQueue::ReportDone(uint64_t number, Life life, const absl::Status& status, absl::Duration run,
                             int64_t output_bytes, const collectives::Traffic& traffic,
                             absl::Span<const int64_t> output_sizes) {
  if (life != done_life_) Flush();
  done_life_ = life;
  proto::LaunchDone& done = *done_.mutable_launches_done()->add_done();
  done.set_number(number);
  if (!status.ok()) *done.mutable_status() = ToProto(status);
  done.set_run_us(absl::ToInt64Microseconds(run));
  done.set_output_bytes(output_bytes);
  done.mutable_output_sizes()->Add(output_sizes.begin(), output_sizes.end());
  done.set_worker_bytes(traffic.worker_bytes);
  done.set_island_bytes(traffic.island_bytes);
}

void LaunchQueue::Flush() {
  if (done_.launches_done().done().empty()) return;
  context_.Report(done_life_, done_);
  done_.mutable_launches_done()->clear_done();
}

}  // namespace causeway::worker
