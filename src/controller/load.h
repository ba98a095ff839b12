// The load of one session: its work that was accepted and has not ended, and whether that is as much as it may have.
//
//   load.Add({.device = first, .bytes = 120});   // a launch was sent
//   if (load.is_over()) ...                      // its client is to send no more for now
//   load.Remove({.device = first, .bytes = 120});
//
// Requests are answered when they are accepted, long before their work is done, so a client could otherwise have any
// amount of it under way. Each limit has hysteresis: it holds from when it is reached until half of it is left, so that
// a client is stopped and started once for many launches. Work is accepted however much there is (the limit is for the
// client, which is told by ClientActions::Throttle), so the load may pass a limit by what was on its way.
//
// Launches are counted by device since they wait in order there: the limit is how far another session's launch may have
// to wait behind this one's. They are counted on the first device of their gang alone; to count them on all would make
// a launch cost more the more devices it has.
//
// Threading: none of its own; lives in the controller core. Cost: O(1).
#ifndef CAUSEWAY_CONTROLLER_LOAD_H_
#define CAUSEWAY_CONTROLLER_LOAD_H_

#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/ids.h"

namespace causeway {

struct LoadLimits {
  int64_t launches_per_device = 128;      // of one session
  int64_t items = 4096;                   // launches and arrays in the making, of one session
  int64_t bytes = 16 << 20;               // of what they need in control frames, of one session
  int64_t host_bytes = int64_t{1} << 30;  // of larger host data on their way from a client to workers, of one session
};

class Load {
 public:
  // One launch, or one array in the making.
  struct Item {
    std::optional<DeviceId> device;  // a launch: the first device of its gang
    int64_t bytes = 0;
    int64_t host_bytes = 0;
  };

  explicit Load(const LoadLimits& limits) : limits_(limits) {}

  void Add(const Item& item);

  // An item that was added has ended.
  void Remove(const Item& item);

  // A worker takes no frames for now; what this session sends to it would only pile up. Until it is told otherwise.
  void AddSlowWorker(WorkerId worker) { slow_workers_.insert(worker); }
  void RemoveSlowWorker(WorkerId worker) { slow_workers_.erase(worker); }

  // Some limit was reached, and not yet left well behind.
  bool is_over() const {
    return items_over_ || bytes_over_ || host_bytes_over_ || devices_over_ > 0 || !slow_workers_.empty();
  }

  // The same, however many launches wait on one device.
  bool is_far_over() const { return items_over_ || bytes_over_ || host_bytes_over_ || !slow_workers_.empty(); }

  int64_t items() const { return items_; }
  int64_t bytes() const { return bytes_; }

 private:
  struct Device {
    int64_t launches = 0;
    bool over = false;
  };

  const LoadLimits limits_;
  int64_t items_ = 0;
  int64_t bytes_ = 0;
  int64_t host_bytes_ = 0;
  bool items_over_ = false;
  bool bytes_over_ = false;
  bool host_bytes_over_ = false;
  int devices_over_ = 0;                           // how many of devices_ are over
  absl::flat_hash_map<DeviceId, Device> devices_;  // those that it has ever used
  absl::flat_hash_set<WorkerId> slow_workers_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_LOAD_H_
