#include "controller/memory_queue.h"

#include <algorithm>

#include "base/saturate.h"

namespace causeway {
namespace {

// Whoever waits has a turn so often, of so long.
constexpr absl::Duration kTurnEvery = absl::Milliseconds(1250);
constexpr absl::Duration kTurn = absl::Milliseconds(250);

bool HasTurn(absl::Time since, absl::Time now) {
  absl::Duration rest;
  absl::IDivDuration(now - since, kTurnEvery, &rest);
  return rest >= kTurnEvery - kTurn;
}

// Calls visit(first, last) for each range of devices that both have, until one returns true.
template <typename Visit>
bool AnyShared(const Placement& a, const Placement& b, Visit visit) {
  auto x = a.ranges.begin();
  auto y = b.ranges.begin();
  while (x != a.ranges.end() && y != b.ranges.end()) {
    const int32_t first = std::max(x->first, y->first);
    const int32_t last = std::min(x->second, y->second);
    if (first < last && visit(first, last)) return true;
    (x->second < y->second ? x : y)++;
  }
  return false;
}

bool Meet(const Placement& a, const Placement& b) {
  return &a == &b || AnyShared(a, b, [](int32_t, int32_t) { return true; });
}

bool IsNothing(const DeviceMemory::Need& need) { return need.arrays <= 0 && need.temp <= 0; }

}  // namespace

bool MemoryQueue::Admits(const Ask& ask, absl::Time now) {
  if (IsNothing(ask.need) || !memory_.IsLimited(*ask.account)) {
    Forget(ask.order);
    return true;
  }
  const auto mine = waiting_.find(ask.order);
  const absl::Time since = mine == waiting_.end() ? now : mine->second.since;
  bool planned = false;
  const bool fits =
      ask.leaves_room ? FitsBesidePlanned(ask, planned) : memory_.Fits(*ask.account, *ask.placement, ask.need);
  if (fits && !IsBehindOthers(ask, since, now)) {
    Forget(ask.order);
    return true;
  }
  if (mine == waiting_.end()) {
    waiting_.emplace(ask.order, Waiting{ask, now, now});
    changed_.push_back(ask.account->id());
  } else if (planned) {
    mine->second.stuck_since = now;
  }
  return false;
}

bool MemoryQueue::FitsBesidePlanned(const Ask& ask, bool& any) const {
  std::vector<std::pair<const Placement*, int64_t>> before;
  for (const auto& [order, planned] : planned_) {
    if (order >= ask.order) break;
    if (planned.account != ask.account || !Meet(*planned.placement, *ask.placement)) continue;
    before.emplace_back(planned.placement.get(), SaturatingAdd(planned.need.arrays, planned.need.temp));
  }
  any = !before.empty();
  for (const auto& [placement, bytes] : before) memory_.Reserve(*placement, bytes);
  const bool fits = memory_.Fits(*ask.account, *ask.placement, ask.need);
  for (const auto& [placement, bytes] : before) memory_.Reserve(*placement, -bytes);
  return fits;
}

bool MemoryQueue::IsBehindOthers(const Ask& ask, absl::Time since, absl::Time now) const {
  return std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& entry) {
    const auto& [order, other] = entry;
    if (order == ask.order || std::pair(other.since, order) > std::pair(since, ask.order)) return false;
    if (!Meet(*other.ask.placement, *ask.placement)) return false;
    if (other.ask.account == ask.account) return order < ask.order;
    return HasTurn(other.since, now) || IsNew(ask, *other.ask.placement);
  });
}

bool MemoryQueue::IsNew(const Ask& ask, const Placement& where) {
  return AnyShared(*ask.placement, where, [&](int32_t first, int32_t last) {
    for (int32_t device = first; device < last; ++device) {
      if (ask.account->On(DeviceId{device}) > 0) continue;
      if (ask.account->PeakOn(DeviceId{device}) < ask.need.arrays) return true;
    }
    return false;
  });
}

void MemoryQueue::Plan(const Ask& ask) {
  if (!IsNothing(ask.need) && memory_.IsLimited(*ask.account)) planned_.emplace(ask.order, ask);
}

void MemoryQueue::Forget(uint64_t order) {
  planned_.erase(order);
  const auto found = waiting_.find(order);
  if (found == waiting_.end()) return;
  changed_.push_back(found->second.ask.account->id());
  waiting_.erase(found);
}

void MemoryQueue::CloseSession(SessionId session) {
  std::erase_if(planned_, [&](const auto& entry) { return entry.second.account->id() == session; });
  std::erase_if(waiting_, [&](const auto& entry) { return entry.second.ask.account->id() == session; });
}

std::vector<uint64_t> MemoryQueue::Stuck(absl::Time now, absl::Duration limit) const {
  std::vector<uint64_t> stuck;
  for (const auto& [order, waiting] : waiting_) {
    const Ask& ask = waiting.ask;
    if (now - waiting.stuck_since < limit / 4) continue;
    // What its own session holds is in its way whoever else lets go.
    int64_t held = 0;
    for (DeviceId device : ask.placement->devices) held = std::max(held, ask.account->On(device));
    const bool own = !memory_.NeverFits(*ask.account, *ask.placement, ask.need, held, "").ok();
    if (own || now - waiting.stuck_since >= limit) stuck.push_back(order);
  }
  return stuck;
}

std::vector<uint64_t> MemoryQueue::orders() const {
  std::vector<uint64_t> orders;
  for (const auto& [order, waiting] : waiting_) orders.push_back(order);
  return orders;
}

uint64_t MemoryQueue::FirstOf(SessionId session) const {
  for (const auto& [order, waiting] : waiting_) {
    if (waiting.ask.account->id() == session) return order;
  }
  return 0;
}

std::string MemoryQueue::WhyNot(uint64_t order, absl::string_view what) const {
  const Ask& ask = waiting_.at(order).ask;
  return memory_.WhyNot(*ask.account, *ask.placement, ask.need, what);
}

}  // namespace causeway
