#include "controller/scheduler.h"

#include <algorithm>
#include <utility>

namespace causeway {
namespace {

// However little time launches take: what a worker may have waiting on one device.
constexpr int kMaxInFlight = 64;

// A launch may be handed over so long before its inputs are expected: about a round trip to the worker, and what
// expectations are wrong by.
constexpr absl::Duration kEarly = absl::Milliseconds(1);

// Who has used a device so lately is taken to want it again.
constexpr absl::Duration kPresent = absl::Milliseconds(100);

// How much of its cap a session may use at once after having used less.
constexpr absl::Duration kCapBurst = absl::Milliseconds(100);

}  // namespace

// ---------------------------------------------------------------- lanes

const Scheduler::Lanes& Scheduler::LanesOf(const std::shared_ptr<const Placement>& placement) {
  const auto found = lanes_by_placement_.find(placement.get());
  if (found != lanes_by_placement_.end() && !found->second.first.expired()) return found->second.second;
  std::map<int, std::vector<DeviceId>> parts;  // by lane
  for (DeviceId device : placement->devices) {
    const auto index = static_cast<size_t>(Raw(device));
    if (index >= lane_of_.size()) lane_of_.resize(index + 1, -1);
    parts[lane_of_[index]].push_back(device);
  }
  Lanes lanes;
  for (const auto& [lane, devices] : parts) lanes.push_back(Split(lane, devices));
  if (lanes_by_placement_.size() >= sweep_at_) {
    absl::erase_if(lanes_by_placement_, [](const auto& entry) { return entry.second.first.expired(); });
    sweep_at_ = std::max<size_t>(64, 2 * lanes_by_placement_.size());
  }
  return lanes_by_placement_.insert_or_assign(placement.get(), std::pair(std::weak_ptr(placement), std::move(lanes)))
      .first->second.second;
}

int Scheduler::Split(int lane, const std::vector<DeviceId>& devices) {
  const int count = static_cast<int>(devices.size());
  if (lane >= 0 && lanes_[lane].devices == count) return lane;
  const int fresh = static_cast<int>(lanes_.size());
  lanes_.push_back(lane < 0 ? Lane{} : lanes_[lane]);
  lanes_[fresh].devices = count;
  lanes_[fresh].dirty = false;
  lanes_[fresh].stalled = false;
  for (DeviceId device : devices) lane_of_[Raw(device)] = fresh;
  if (lane < 0) return fresh;
  // Both parts are as the whole was: so many launches in flight, so many waiting.
  lanes_[lane].devices -= count;
  for (Item* item : items_) {
    if (std::find(item->lanes.begin(), item->lanes.end(), lane) == item->lanes.end()) continue;
    item->lanes.push_back(fresh);
    if (!item->handed_over && Find(lanes_[lane], item->session)->queue.front() == item) ++item->first_on;
  }
  lanes_by_placement_.clear();
  Touch(fresh);
  return fresh;
}

const Scheduler::Share* Scheduler::Find(const Lane& lane, SessionId session) {
  const auto at = std::lower_bound(lane.shares.begin(), lane.shares.end(), session,
                                   [](const Share& share, SessionId id) { return share.session < id; });
  return at == lane.shares.end() || at->session != session ? nullptr : &*at;
}

Scheduler::Share* Scheduler::Find(Lane& lane, SessionId session) {
  const Share* found = Find(std::as_const(lane), session);
  return found == nullptr ? nullptr : &lane.shares[found - lane.shares.data()];
}

Scheduler::Share& Scheduler::ShareOf(Lane& lane, SessionId session) {
  if (Share* share = Find(lane, session)) return *share;
  Share share;
  share.session = session;
  const auto after = std::upper_bound(lane.shares.begin(), lane.shares.end(), session,
                                      [](SessionId id, const Share& other) { return id < other.session; });
  return *lane.shares.insert(after, std::move(share));
}

void Scheduler::Touch(int lane) {
  if (std::exchange(lanes_[lane].dirty, true)) return;
  dirty_.push_back(lane);
}

// ---------------------------------------------------------------- sessions

void Scheduler::OpenSession(SessionId session, double weight, double cap) {
  SessionInfo& info = sessions_[session];
  info.weight = weight;
  info.cap = cap;
  info.closed = false;  // its number may have been used before, and not all of that have ended
}

void Scheduler::CloseSession(SessionId session) {
  const auto info = sessions_.find(session);
  if (info == sessions_.end()) return;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    Share* share = Find(lanes_[lane], session);
    if (share == nullptr || share->queue.empty()) continue;
    for (Item* item : share->queue) queued_ -= static_cast<int64_t>(items_.erase(item));
    share->queue.clear();
    Touch(static_cast<int>(lane));
  }
  info->second.queued = 0;
  info->second.closed = true;
  if (info->second.in_flight == 0) Forget(session);
}

void Scheduler::Forget(SessionId session) {
  for (Lane& lane : lanes_) {
    std::erase_if(lane.shares, [session](const Share& share) { return share.session == session; });
  }
  sessions_.erase(session);
}

// ---------------------------------------------------------------- a launch's life

void Scheduler::Add(Item& item) {
  item.lanes = LanesOf(item.placement);
  items_.insert(&item);
  for (int index : item.lanes) {
    Lane& lane = lanes_[index];
    Share& share = ShareOf(lane, item.session);
    if (share.queue.empty()) {
      if (share.in_flight == 0) share.served = std::max(share.served, lane.clock);
      ++item.first_on;
    }
    share.queue.push_back(&item);
  }
  ++queued_;
  ++sessions_[item.session].queued;
  if (item.missing == 0) Touch(item.lanes.front());
}

void Scheduler::Release(Item& item) { Touch(item.lanes.front()); }

void Scheduler::LeaveQueues(Item& item) {
  for (int index : item.lanes) {
    Share& share = *Find(lanes_[index], item.session);
    if (share.queue.front() != &item) {
      share.queue.erase(std::find(share.queue.begin(), share.queue.end(), &item));
      continue;
    }
    share.queue.pop_front();
    if (share.queue.empty()) continue;
    ++share.queue.front()->first_on;
    Touch(index);
  }
  --queued_;
  --sessions_[item.session].queued;
}

void Scheduler::Drop(Item& item, absl::Time now) {
  if (item.handed_over) return GiveBack(item, absl::ZeroDuration(), now);
  LeaveQueues(item);
  Touch(item);
  items_.erase(&item);
}

void Scheduler::End(Item& item, absl::Duration busy, absl::Time now) {
  item.future->Expect(now);
  GiveBack(item, busy, now);
}

void Scheduler::GiveBack(Item& item, absl::Duration busy, absl::Time now) {
  SessionInfo& info = sessions_[item.session];
  for (int index : item.lanes) {
    Lane& lane = lanes_[index];
    --lane.in_flight;
    if (item.expected == absl::ZeroDuration()) --lane.unknown;
    lane.backlog -= item.expected;
    lane.free_at = now + lane.backlog;
    lane.busy += busy;
    Share& share = *Find(lane, item.session);
    --share.in_flight;
    share.served += absl::ToDoubleSeconds(busy - item.expected) / info.weight;
    share.busy += busy;
    share.last_used = now;
    share.allowed_at = std::max(share.allowed_at, now - kCapBurst) + busy / info.cap;
    info.busy += busy * lane.devices;
    Touch(index);
  }
  items_.erase(&item);
  --in_flight_;
  if (--info.in_flight == 0 && info.closed) Forget(item.session);
}

void Scheduler::LookAgain() {
  for (int lane : std::exchange(stalled_, {})) {
    lanes_[lane].stalled = false;
    Touch(lane);
  }
}

// ---------------------------------------------------------------- choosing

bool Scheduler::HasRoom(const Lane& lane, int kept) const {
  if (lane.in_flight + kept < options_.credits) return true;
  return kept == 0 && lane.unknown == 0 && lane.backlog < options_.ahead && lane.in_flight < kMaxInFlight;
}

bool Scheduler::IsContended(const Lane& lane, SessionId session, absl::Time now) const {
  return std::any_of(lane.shares.begin(), lane.shares.end(), [&](const Share& other) {
    return other.session != session &&
           (!other.queue.empty() || other.in_flight > 0 || now - other.last_used < kPresent);
  });
}

bool Scheduler::IsDue(const Item& item, absl::Time now) const {
  const auto done = [](const std::shared_ptr<Future>& input) { return input->done(); };
  if (std::all_of(item.inputs.begin(), item.inputs.end(), done)) return true;
  if (options_.sequential) return false;
  const auto awaits_client = [](const std::shared_ptr<Future>& input) { return input->AwaitsClient(); };
  if (std::any_of(item.inputs.begin(), item.inputs.end(), awaits_client)) return false;
  absl::Time free_at = now;
  bool contended = false;
  for (int lane : item.lanes) {
    free_at = std::max(free_at, lanes_[lane].free_at);
    contended = contended || IsContended(lanes_[lane], item.session, now);
  }
  if (!contended) return true;
  return std::all_of(item.inputs.begin(), item.inputs.end(), [&](const std::shared_ptr<Future>& input) {
    return input->done() || input->expected() <= free_at + kEarly;
  });
}

bool Scheduler::MayGo(const Item& item, absl::Time now) const {
  if (!IsFirst(item)) return false;
  const auto allowed = [&](int lane) { return Find(lanes_[lane], item.session)->allowed_at <= now; };
  const SessionInfo& info = sessions_.at(item.session);
  if (info.cap < 1 && !std::all_of(item.lanes.begin(), item.lanes.end(), allowed)) return false;
  return IsDue(item, now);
}

double Scheduler::Lag(const Item& item) const {
  double lag = 0;
  for (int index : item.lanes) {
    const Lane& lane = lanes_[index];
    const double here = Find(lane, item.session)->served - lane.clock;
    lag = index == item.lanes.front() ? here : std::max(lag, here);
  }
  return lag;
}

bool Scheduler::Before(const Item& a, const Item& b) const {
  if (options_.policy == Policy::kFair) {
    const double lag_a = Lag(a);
    const double lag_b = Lag(b);
    if (lag_a != lag_b) return lag_a < lag_b;
  }
  return a.order < b.order;
}

absl::InlinedVector<Scheduler::Item*, 8> Scheduler::Candidates(Lane& lane, absl::Time now) {
  absl::InlinedVector<Item*, 8> candidates;
  for (Share& share : lane.shares) {
    if (share.queue.empty()) continue;
    if (MayGo(*share.queue.front(), now) && (gate_ == nullptr || gate_(*share.queue.front()))) {
      candidates.push_back(share.queue.front());
    } else if (IsFirst(*share.queue.front()) && !std::exchange(lane.stalled, true)) {
      stalled_.push_back(static_cast<int>(&lane - lanes_.data()));
    }
  }
  if (candidates.size() > 1) {
    std::sort(candidates.begin(), candidates.end(), [this](Item* a, Item* b) { return Before(*a, *b); });
  }
  return candidates;
}

Scheduler::Item* Scheduler::Choose(int lane, absl::Time now) {
  if (!HasRoom(lanes_[lane], 0)) return nullptr;
  int kept = 0;  // credits for better ones that lack one elsewhere
  for (Item* item : Candidates(lanes_[lane], now)) {
    if (!HasRoom(lanes_[lane], kept)) return nullptr;
    const bool room = std::all_of(item->lanes.begin(), item->lanes.end(), [&](int other) {
      if (other == lane) return true;
      const auto there = Candidates(lanes_[other], now);
      const auto better = static_cast<int>(std::find(there.begin(), there.end(), item) - there.begin());
      if (HasRoom(lanes_[other], better)) return true;
      // The order moves with what others use, elsewhere too: one that has become better there may go now.
      if (kept == 0 && better > 0) Touch(other);
      return false;
    });
    if (room) return item;
    ++kept;
  }
  return nullptr;
}

void Scheduler::Start(Item& item, absl::Time now) {
  LeaveQueues(item);
  SessionInfo& info = sessions_[item.session];
  item.handed_over = true;
  item.expected = item.measured->time;
  absl::Time start = now;
  for (int lane : item.lanes) start = std::max(start, lanes_[lane].free_at);
  for (const std::shared_ptr<Future>& input : item.inputs) {
    if (!input->done()) start = std::max(start, input->expected());
  }
  for (int index : item.lanes) {
    Lane& lane = lanes_[index];
    Share& share = *Find(lane, item.session);
    lane.clock = std::max(lane.clock, share.served);
    share.served += absl::ToDoubleSeconds(item.expected) / info.weight;
    share.last_used = now;
    ++share.in_flight;
    ++lane.in_flight;
    if (item.expected == absl::ZeroDuration()) ++lane.unknown;
    lane.backlog += item.expected;
    lane.free_at = start + item.expected;
    Touch(index);
  }
  item.inputs.clear();
  item.future->Expect(start + item.expected);
  ++in_flight_;
  ++info.in_flight;
}

void Scheduler::Run(absl::Time now, const std::function<void(Item&)>& hand_over) {
  while (!dirty_.empty()) {
    const int lane = dirty_.front();
    dirty_.pop_front();
    lanes_[lane].dirty = false;
    Item* item = Choose(lane, now);
    if (item == nullptr) continue;
    Start(*item, now);
    hand_over(*item);
  }
}

// ---------------------------------------------------------------- for people

Scheduler::DeviceUse Scheduler::OfDevice(DeviceId device) const {
  DeviceUse use;
  const auto index = static_cast<size_t>(Raw(device));
  if (Raw(device) < 0 || index >= lane_of_.size() || lane_of_[index] < 0) return use;
  const Lane& lane = lanes_[lane_of_[index]];
  use.busy = lane.busy;
  use.in_flight = lane.in_flight;
  for (const Share& share : lane.shares) use.sessions.push_back({share.session, share.busy});
  return use;
}

Scheduler::SessionUse Scheduler::OfSession(SessionId session, absl::Time now) const {
  SessionUse use;
  const auto info = sessions_.find(session);
  if (info == sessions_.end()) return use;
  use.weight = info->second.weight;
  use.busy = info->second.busy;
  use.queued = info->second.queued;
  const Item* next = nullptr;
  for (const Lane& lane : lanes_) {
    const Share* share = Find(lane, session);
    if (share == nullptr || share->queue.empty()) continue;
    if (next == nullptr || share->queue.front()->order < next->order) next = share->queue.front();
  }
  if (next == nullptr) return use;
  for (int index : next->lanes) {
    const Lane& lane = lanes_[index];
    absl::Duration wait = std::max(absl::ZeroDuration(), lane.free_at - now);
    int place = 0;
    for (const Share& other : lane.shares) {
      if (other.session == session || other.queue.empty() || !Before(*other.queue.front(), *next)) continue;
      ++place;
      wait += other.queue.front()->measured->time;
    }
    use.place = std::max(use.place, place);
    use.expected_wait = std::max(use.expected_wait, wait);
  }
  return use;
}

}  // namespace causeway
