// The gang scheduler: which of the launches that sessions have asked for is handed to the workers next.
//
//   scheduler.Add(item, now);                                   // accepted
//   scheduler.Run(now, [&](Scheduler::Item& item) { Send(item); });   // all that may go now
//   scheduler.End(item, busy, now);                             // its devices have done it: the credit comes back
//
// Every device has a few credits: so many launches may be handed over and not ended. All else waits here, so that a
// newcomer waits for no more than those. A launch is a gang: it goes when there is a credit on every one of its
// devices, and is handed over on all of them in one step, so that two gangs have the same order wherever they meet.
//
// *Order.* On a device, a session's launches go in the order in which it asked for them. Between sessions the policy
// picks. kFirstCome: the one that was asked for first. kFair: start-time fair queueing (Goyal, Vin, Cheng 1996) of
// measured device time: each session has, on each device, a virtual time that grows by (time of its launches) / weight;
// the session furthest behind goes first. A session that comes anew begins where the device is, so idling saves nothing
// up. A launch over several devices counts with the one on which its session is furthest ahead, which makes one order
// of all launches: the first in it waits for nothing but credits, so nobody starves and no two gangs wait for each
// other. For one that lacks a credit somewhere, one is kept on each of its other devices; who is behind it in order may
// have the rest.
//
// *When.* A launch may be handed over before its inputs are computed, or even begun; but never before what makes them
// has been handed over (`missing`), nor while what it takes is still with its client, who may stand still: so the
// oldest launch that has been handed over can always run, and credits come back. Where another session wants a device
// too, a launch is not handed over until its inputs are expected to be there about when the device gets to it, by the
// measured times of what makes them: it would hold a credit and do nothing.
//
// *Lanes.* Devices that all launches so far have used together are one lane, with one set of counters, so that a launch
// costs O(lanes of its gang), not O(devices). Lanes are split when a launch uses a part of one; they are never joined.
//
// Threading: none of its own; lives in the controller core. Deterministic. Cost: Add, Run and End cost O(lanes of the
// gang x sessions on them).
#ifndef CAUSEWAY_CONTROLLER_SCHEDULER_H_
#define CAUSEWAY_CONTROLLER_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "controller/cluster.h"
#include "controller/future.h"

namespace causeway {

class Scheduler {
 public:
  enum class Policy { kFair, kFirstCome };

  struct Options {
    Policy policy = Policy::kFair;
    int credits = 4;  // of each device; at least 1
    // Further launches may be handed over as long as what a device has takes no longer than this, by measured times: a
    // round trip to the controller is longer than a few tiny launches.
    absl::Duration ahead = absl::Milliseconds(1);
    bool sequential = false;  // nothing is handed over before its inputs are there
  };

  // How long a program's launches take, as measured. Zero: not known yet.
  struct Measured {
    absl::Duration time;
    void Add(absl::Duration busy) { time = time == absl::ZeroDuration() ? busy : time * 0.75 + busy * 0.25; }
  };

  // One launch, from when it is accepted until it has ended. The caller keeps it where it is, from Add to End or Drop.
  struct Item {
    SessionId session{0};
    uint64_t order = 0;  // of arrival
    std::shared_ptr<const Placement> placement;
    std::shared_ptr<Measured> measured;
    std::shared_ptr<Future> future;                          // gets to know when it is expected
    absl::InlinedVector<std::shared_ptr<Future>, 2> inputs;  // those that were not there when it was asked for
    int missing = 0;                                         // of what it takes, so much has not been handed over

   private:
    friend class Scheduler;
    absl::InlinedVector<int, 2> lanes;
    int first_on = 0;  // on how many of them it is the first of its session
    bool handed_over = false;
    absl::Duration expected;  // as taken from `measured` when it was handed over
  };

  // What a session has used, and has waiting, on one device.
  struct Use {
    SessionId session{0};
    absl::Duration busy;
  };
  struct DeviceUse {
    absl::Duration busy;
    int in_flight = 0;
    std::vector<Use> sessions;  // that are open, by number
  };
  struct SessionUse {
    double weight = 1;
    absl::Duration busy;  // of all devices, together
    int64_t queued = 0;
    int place = 0;                 // launches of others that go before its next one
    absl::Duration expected_wait;  // until that one starts
  };

  explicit Scheduler(const Options& options) : options_(options) {}

  // Sessions are served alike unless told: weight > 0; 0 < cap <= 1 is the most of a device's time that it gets.
  void OpenSession(SessionId session, double weight, double cap);

  // Drops what it has waiting. What was handed over is still to End.
  void CloseSession(SessionId session);

  void Add(Item& item);

  // `item.missing` has become 0.
  void Release(Item& item);

  // It will never be handed over, or was and is not waited for any more.
  void Drop(Item& item, absl::Time now);

  // It has ended, having kept its devices busy for so long. What its program takes is for the caller to measure.
  void End(Item& item, absl::Duration busy, absl::Time now);

  // Launches that only wait for inputs, or for a cap, are looked at again: an input may have come, and time has passed.
  void LookAgain();

  // What else a launch waits for when it may go: asked each time, and again after LookAgain.
  void SetGate(std::function<bool(Item&)> gate) { gate_ = std::move(gate); }

  // Hands over all that may go now. `hand_over` may call Release.
  void Run(absl::Time now, const std::function<void(Item&)>& hand_over);

  int64_t queued() const { return queued_; }
  int64_t in_flight() const { return in_flight_; }
  int credits() const { return options_.credits; }
  DeviceUse OfDevice(DeviceId device) const;
  SessionUse OfSession(SessionId session, absl::Time now) const;

 private:
  // A session on a lane.
  struct Share {
    SessionId session{0};
    std::deque<Item*> queue;
    double served = 0;  // virtual time: seconds / weight
    int in_flight = 0;
    absl::Duration busy;
    absl::Time last_used = absl::InfinitePast();
    absl::Time allowed_at = absl::InfinitePast();  // by its cap
  };
  struct Lane {
    int devices = 0;
    std::vector<Share> shares;  // by session
    double clock = 0;           // virtual time of the last launch that was handed over
    int in_flight = 0;
    int unknown = 0;         // of those, so many of programs that have not been measured
    absl::Duration backlog;  // what the others of those are expected to take
    absl::Time free_at = absl::InfinitePast();
    absl::Duration busy;
    bool dirty = false;    // something may be able to go
    bool stalled = false;  // some launch waits for nothing but its inputs, or its session's cap
  };
  struct SessionInfo {
    double weight = 1;
    double cap = 1;
    bool closed = false;
    int in_flight = 0;
    int64_t queued = 0;
    absl::Duration busy;
  };
  using Lanes = absl::InlinedVector<int, 2>;

  const Lanes& LanesOf(const std::shared_ptr<const Placement>& placement);
  int Split(int lane, const std::vector<DeviceId>& devices);
  static Share* Find(Lane& lane, SessionId session);
  static const Share* Find(const Lane& lane, SessionId session);
  Share& ShareOf(Lane& lane, SessionId session);
  void Touch(int lane);
  void Touch(const Item& item) {
    for (int lane : item.lanes) Touch(lane);
  }
  bool HasRoom(const Lane& lane, int kept) const;
  bool IsContended(const Lane& lane, SessionId session, absl::Time now) const;
  bool IsDue(const Item& item, absl::Time now) const;
  static bool IsFirst(const Item& item) {
    return item.missing == 0 && item.first_on == static_cast<int>(item.lanes.size());
  }
  bool MayGo(const Item& item, absl::Time now) const;
  double Lag(const Item& item) const;
  bool Before(const Item& a, const Item& b) const;
  // The lane's launches that only credits keep back, best first.
  absl::InlinedVector<Item*, 8> Candidates(Lane& lane, absl::Time now);
  Item* Choose(int lane, absl::Time now);
  void Start(Item& item, absl::Time now);
  void LeaveQueues(Item& item);
  void GiveBack(Item& item, absl::Duration busy, absl::Time now);
  void Forget(SessionId session);

  const Options options_;
  std::function<bool(Item&)> gate_;
  std::vector<Lane> lanes_;
  std::vector<int> lane_of_;  // by device; -1: never used
  absl::flat_hash_map<const Placement*, std::pair<std::weak_ptr<const Placement>, Lanes>> lanes_by_placement_;
  size_t sweep_at_ = 64;
  std::map<SessionId, SessionInfo> sessions_;
  absl::flat_hash_set<Item*> items_;  // from Add to End or Drop
  std::deque<int> dirty_;
  std::vector<int> stalled_;
  int64_t queued_ = 0;
  int64_t in_flight_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_SCHEDULER_H_
