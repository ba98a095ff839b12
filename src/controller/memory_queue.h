// Who waits for device memory, and who may not pass them.
//
//   if (queue.Admits({.order = 7, .account = &account, .placement = placement, .need = need}, now)) ...   // take it
//   now
//   // else it waits from now on: ask again when DeviceMemory::TakeFreed, and every while, or give up:
//   for (uint64_t order : queue.Stuck(now, limit)) ...
//   queue.Forget(7);                                          // it has gone, or never will
//
// Memory is taken when a launch is handed over, or the frames of a put or a copy go out; so what waits here holds
// nothing but what it reads. Rules, for what wants memory on a device where somebody has waited for longer:
// - Of the same session: it waits behind, as its program has it. In particular a put does not take what launches need
//   that were asked for before it and have yet to get their turn: they may be what lets go of the put's predecessors.
// - Of another session that holds nothing there, nor has ever had so much: it waits behind. Newcomers do not starve who
//   waits.
// - Of another session that holds some, or has had as much: it passes, for whoever waits may be waiting for it to get
//   on and let go. So that many of those do not starve who waits either, they stop for a quarter of every second and a
//   quarter: if what they hold between two steps leaves room, whoever waits has it then.
// What takes nothing (it puts its outputs where its arguments were) passes always.
//
// Threading: none of its own; lives in the controller core. Deterministic. Cost: Admits O(what waits) and that of
// DeviceMemory::Fits.
#ifndef CAUSEWAY_CONTROLLER_MEMORY_QUEUE_H_
#define CAUSEWAY_CONTROLLER_MEMORY_QUEUE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/ids.h"
#include "controller/cluster.h"
#include "controller/device_memory.h"

namespace causeway {

class MemoryQueue {
 public:
  struct Ask {
    uint64_t order = 0;  // of arrival; names it
    const DeviceMemory::Account* account = nullptr;
    std::shared_ptr<const Placement> placement;
    DeviceMemory::Need need;
    bool leaves_room = false;  // for what the same session has planned before it
  };

  explicit MemoryQueue(DeviceMemory& memory) : memory_(memory) {}

  // Whether it may take its memory now. If not, it waits.
  bool Admits(const Ask& ask, absl::Time now);

  // It will take so much when it is its turn, which has not come for other reasons.
  void Plan(const Ask& ask);

  void Forget(uint64_t order);
  void CloseSession(SessionId session);

  // Those that have waited for `limit`, by order; for a quarter of that where it is for nobody else to free the memory.
  std::vector<uint64_t> Stuck(absl::Time now, absl::Duration limit) const;

  bool empty() const { return waiting_.empty(); }
  bool is_waiting(uint64_t order) const { return waiting_.contains(order); }
  // All that wait, in the order of arrival.
  std::vector<uint64_t> orders() const;
  // The first of this session; 0: none waits.
  uint64_t FirstOf(SessionId session) const;
  // Sessions of which something has begun or ceased to wait, since this was last asked.
  std::vector<SessionId> TakeChanged() { return std::exchange(changed_, {}); }

  // What it waits for. `order` is waiting.
  std::string WhyNot(uint64_t order, absl::string_view what) const;

 private:
  struct Waiting {
    Ask ask;
    absl::Time since;
    absl::Time stuck_since;  // the same, unless it waits for its own session's turn
  };

  // The sum of what its session has planned before it on its devices.
  bool FitsBesidePlanned(const Ask& ask, bool& any) const;
  bool IsBehindOthers(const Ask& ask, absl::Time since, absl::Time now) const;
  static bool IsNew(const Ask& ask, const Placement& where);

  DeviceMemory& memory_;
  std::map<uint64_t, Waiting> waiting_;
  std::map<uint64_t, Ask> planned_;
  std::vector<SessionId> changed_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_MEMORY_QUEUE_H_
