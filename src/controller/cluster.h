// The cluster as the controller knows it: slots for workers, and the devices they bring.
//
// A slot is made when a worker registers under a new name and is never given up: a worker that returns under its name
// gets the same slot and the same device ids, with the next incarnation. Device ids are given island by island, and
// within an island by the workers' names, when the first session opens (so that workers may register in any order);
// workers that come later get the next ids.
//
// Threading: none of its own; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_CLUSTER_H_
#define CAUSEWAY_CONTROLLER_CLUSTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "controller/device_view.h"
#include "controller/events.h"
#include "proto/control_version.h"

namespace causeway {

struct WorkerSlot {
  WorkerId id;
  proto::Hello hello;
  bool alive = false;
  LinkId link{0};            // while alive
  bool full = false;         // more waits to be sent to it than is good
  uint64_t incarnation = 0;  // counts this slot's lives
  absl::Time last_heard;
  absl::Status lost_because;
  proto::Pong accounts;           // the last one heard
  std::vector<DeviceId> devices;  // by local index; empty until ids were given

  // "worker island0-host1 (devices 4-7)", for messages.
  std::string Describe() const;
};

// Device numbers, [first, last).
using DeviceRanges = absl::InlinedVector<std::pair<int32_t, int32_t>, 1>;

// Distinct devices as the fewest ranges, ascending.
DeviceRanges RangesOf(std::vector<DeviceId> devices);

// Devices in some order, with the workers that own them. Equal ones are the same object, so that a launch compares
// pointers where its arguments' devices are to be its own, and nothing walks over devices to find their workers.
struct Placement {
  // The place of `worker` in `workers`, or -1. O(log workers).
  int IndexOf(WorkerId worker) const;

  std::vector<DeviceId> devices;
  absl::InlinedVector<WorkerId, 2> workers;  // each once, in the order of their first devices
  absl::InlinedVector<int, 2> by_id;         // places in `workers`, by ascending WorkerId
  DeviceRanges ranges;                       // the same devices
};

class Cluster {
 public:
  explicit Cluster(uint64_t key_seed) : random_(key_seed) {}

  // Takes a worker in. Refusals: FAILED_PRECONDITION (version, platform, number of devices), INVALID_ARGUMENT (no name,
  // no devices or too many), ALREADY_EXISTS (a live worker has the name).
  absl::StatusOr<WorkerSlot*> Join(const proto::Hello& hello, LinkId link, absl::Time now);

  // The worker is gone; its slot stays.
  void Leave(WorkerSlot& slot, absl::Status why);

  WorkerSlot* OnLink(LinkId link);            // null: none
  WorkerSlot* Find(const std::string& name);  // null: none of this name was ever here
  WorkerSlot& slot(WorkerId id) { return slots_[Raw(id)]; }
  const WorkerSlot& slot(WorkerId id) const { return slots_[Raw(id)]; }
  std::vector<WorkerSlot>& slots() { return slots_; }
  const std::vector<WorkerSlot>& slots() const { return slots_; }

  // Gives ids to the devices that have none.
  void AssignDeviceIds();

  // The worker and local index of a device; null where no such device is known.
  struct Place {
    WorkerId worker;
    int local_index;
  };
  const Place* Find(DeviceId device) const;

  // The one for `devices`, which are all known. Costs a walk over them: once for an array that is made, not for each
  // that a program makes.
  std::shared_ptr<const Placement> PlacementOf(const std::vector<DeviceId>& devices);

  // Those that are remembered, whether or not in use.
  size_t placement_count() const { return placements_.size(); }

  // Distinct workers of devices that all are known.
  absl::InlinedVector<WorkerId, 2> WorkersOf(const std::vector<DeviceId>& devices) const;

  // All devices, in the order of their ids; those without ids yet follow as they would get them.
  std::vector<DeviceView> Views() const;

  // Islands by name, in order, with their slots by name.
  std::map<std::string, std::vector<const WorkerSlot*>> Islands() const;

  uint64_t NewKey() { return random_(); }

  // The key of the data connection between two live workers; the same for both orders.
  uint64_t PairKey(WorkerId a, WorkerId b);

 private:
  std::vector<const WorkerSlot*> IslandMajor() const;

  std::vector<WorkerSlot> slots_;  // by WorkerId
  std::vector<Place> places_;      // by DeviceId
  absl::flat_hash_map<std::vector<DeviceId>, std::weak_ptr<const Placement>> placements_;
  size_t sweep_placements_at_ = 64;  // how many there may be before those that nobody uses go
  absl::flat_hash_map<std::string, WorkerId> by_name_;
  absl::flat_hash_map<LinkId, WorkerId> by_link_;
  absl::flat_hash_map<std::pair<WorkerId, WorkerId>, uint64_t> pair_keys_;
  std::mt19937_64 random_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_CLUSTER_H_
