// What was accepted and waits to be told to the workers. A launch waits for its turn (scheduler.h); what names its
// outputs waits for it, since a name must be known to a worker before it is used there; and names that a held operation
// still needs go after it. All else goes out at once, whatever waits.
#include <algorithm>
#include <deque>
#include <utility>

#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {

int ControllerCore::Impl::ComesAfter(uint64_t id, absl::Span<const uint64_t> before) {
  int count = 0;
  for (uint64_t one : before) {
    const auto found = held_.find(one);
    if (found == held_.end()) continue;
    found->second->next.push_back(id);
    ++count;
  }
  return count;
}

int ControllerCore::Impl::ComesAfter(uint64_t id, const Array& array, bool takes) {
  const int made = ComesAfter(id, {&array.maker, 1});
  return takes ? made + ComesAfter(id, array.users) : made;
}

void ControllerCore::Impl::AddUser(absl::InlinedVector<uint64_t, 1>& users, uint64_t id) {
  if (users.size() == users.capacity()) {
    users.erase(std::remove_if(users.begin(), users.end(), [this](uint64_t user) { return !held_.contains(user); }),
                users.end());
  }
  users.push_back(id);
}

uint64_t ControllerCore::Impl::BeginHold(Session& session, const std::vector<ArrayId>& reads,
                                         std::optional<Room> room) {
  const bool sequential = options_.scheduling.sequential;
  if (held_.empty() && !sequential && !room) return 0;
  const uint64_t id = ++last_held_;
  auto held = std::make_unique<Held>();
  held->session = session.id;
  for (ArrayId array : reads) {
    const auto found = session.arrays.find(array);
    if (found == session.arrays.end()) continue;
    held->missing += ComesAfter(id, found->second, /*takes=*/false);
    if (!sequential) continue;
    for (const std::shared_ptr<Future>& input : found->second.futures) {
      if (!input->done()) held->inputs.push_back(input);
    }
  }
  if (!held->inputs.empty()) {
    ++held->missing;
    sequential_.push_back(id);
  }
  if (held->missing == 0 && (!room || memory_queue_.Admits(AskOf(session, id, *room), now_))) return 0;
  held->room = std::move(room);
  for (ArrayId array : reads) {
    const auto found = session.arrays.find(array);
    if (found == session.arrays.end()) continue;
    AddUser(found->second.users, id);
    held->reads.push_back(found->second.memory);
  }
  held_.emplace(id, std::move(held));
  return holding_ = id;
}

void ControllerCore::Impl::EndHold() { holding_ = 0; }

void ControllerCore::Impl::Schedule() {
  do {
    if (memory_.TakeFreed() && !memory_queue_.empty()) LookForRoom();
    scheduler_.Run(now_, [this](Scheduler::Item& item) { HandOver(static_cast<PendingLaunch&>(item)); });
  } while (memory_.has_freed() && !memory_queue_.empty());
  for (SessionId id : memory_queue_.TakeChanged()) {
    if (Session* session = FindSession(id)) TellThrottled(*session);
  }
  if (!dropped_.empty()) DropNames(std::exchange(dropped_, {}));
}

void ControllerCore::Impl::LookAgain() {
  scheduler_.LookAgain();
  if (!sequential_.empty()) ReleaseSequential();
  if (!memory_queue_.empty()) LookForRoom();
}

void ControllerCore::Impl::HandOver(PendingLaunch& launch) {
  const LaunchNumber number{++last_launch_};
  launch.number = number;
  if (trace_.on()) trace_.HandedOver(launch.order, number, now_);
  TakeMemory(launch);
  const bool fresh = fresh_.get() == &launch;
  Held* const held = fresh ? nullptr : held_.find(launch.order)->second.get();
  proto::ToWorker& frame = fresh ? launch_frame_ : held->launch_frame;
  frame.mutable_launch()->set_number(Raw(number));
  const SessionId acting = std::exchange(acting_, launch.session);
  for (size_t place = 0; place < launch.told.size(); ++place) {
    const WorkerId worker = launch.placement->workers[place];
    if (cluster_.slot(worker).incarnation == launch.told[place]) Send(worker, frame);
  }
  acting_ = acting;
  launches_.emplace(number, fresh ? std::move(fresh_) : std::move(held->launch));
  if (!fresh) Release(launch.order);
}

void ControllerCore::Impl::Release(uint64_t id) {
  std::deque<uint64_t> told = {id};
  while (!told.empty()) {
    const std::unique_ptr<Held> held = std::move(held_.extract(told.front()).mapped());
    told.pop_front();
    SendHeld(*held);
    for (uint64_t next : held->next) {
      const auto found = held_.find(next);
      if (found == held_.end() || --found->second->missing > 0) continue;
      if (PendingLaunch* launch = found->second->launch.get()) {
        launch->missing = 0;
        scheduler_.Release(*launch);
      } else if (HasRoom(next, *found->second)) {
        told.push_back(next);
      }
    }
  }
}

void ControllerCore::Impl::SendHeld(Held& held) {
  const SessionId acting = std::exchange(acting_, held.session);
  const uint64_t holding = std::exchange(holding_, 0);
  for (const Held::Frame& frame : held.frames) {
    if (cluster_.slot(frame.worker).incarnation == frame.incarnation) Send(frame.worker, frame.message);
  }
  memory_.Commit({held.memory});
  for (const Want& want : held.wants) AskFor(held.session, want);
  for (ArrayId array : held.makes) ExpectMake(array);
  dropped_.insert(dropped_.end(), held.names.begin(), held.names.end());
  acting_ = acting;
  holding_ = holding;
}

void ControllerCore::Impl::ExpectMake(ArrayId id) {
  const auto found = makes_.find(id);
  if (found == makes_.end()) return;
  PendingMake& make = found->second;
  make.held = 0;
  absl::Time sources = now_;
  for (const std::shared_ptr<Future>& source : make.sources) {
    if (!source->done()) sources = std::max(sources, source->expected());
  }
  make.began = now_;
  make.future->Expect(sources + transfer_times_.Expect(make.bytes));
}

void ControllerCore::Impl::LoseHeld(const WorkerSlot& slot, const absl::Status& lost) {
  std::vector<uint64_t> ids;
  for (const auto& [id, held] : held_) {
    // What it reads may have no other name any more.
    for (const DeviceMemory::Claim& claim : held->reads) Evict(claim, slot.id);
    if (held->launch == nullptr) continue;
    for (const DeviceMemory::Claim& claim : held->launch->arguments) Evict(claim, slot.id);
    if (held->launch->WaitsFor(slot.id)) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  for (uint64_t id : ids) {
    Held& held = *held_.find(id)->second;
    memory_queue_.Forget(id);
    RefuseLaunch(held, lost);
    if (held.missing == 0) Release(id);
  }
}

void ControllerCore::Impl::ReleaseSequential() {
  const auto is_there = [](const std::shared_ptr<Future>& input) { return input->done(); };
  std::vector<uint64_t> waiting = std::exchange(sequential_, {});
  for (uint64_t id : waiting) {
    const auto found = held_.find(id);
    if (found == held_.end()) continue;
    Held& held = *found->second;
    if (!std::all_of(held.inputs.begin(), held.inputs.end(), is_there)) {
      sequential_.push_back(id);
    } else if (--held.missing == 0 && HasRoom(id, held)) {
      Release(id);
    }
  }
}

}  // namespace causeway
