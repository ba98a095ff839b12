// Who meets whom: the groups of a table's collectives, seen from one worker of a gang. Computed once and kept, as most
// launches are of the same few programs and gangs.
//
//   ASSIGN_OR_RETURN(const Place place, layouts->Find(collective, device));
//   for (const GroupWorker& worker : place.group->workers) ...
//
// Threading: thread-safe; what is found does not change.
// Lifetime: a Place is valid as long as its TableLayouts.
#ifndef CAUSEWAY_COLLECTIVES_LAYOUT_H_
#define CAUSEWAY_COLLECTIVES_LAYOUT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "collectives/engine.h"
#include "proto/collectives.pb.h"

namespace causeway::collectives {

struct GroupWorker {
  WorkerId id{-1};
  int cell = 0;
  int position = 0;        // in its cell
  std::vector<int> ranks;  // ascending
};

// A group, or all devices for COLLECTIVE_PERMUTE.
struct Group {
  uint32_t index = 0;
  int size = 0;                           // ranks
  std::vector<GroupWorker> workers;       // in the order of their first ranks
  int self = 0;                           // in `workers`
  absl::flat_hash_map<int, int> sources;  // of COLLECTIVE_PERMUTE: by target
  absl::flat_hash_map<int, int> targets;  // and by source
  // Workers that share a fast network, in the order of their first workers: the islands where that saves bytes between
  // them, else every worker is a cell of its own.
  std::vector<std::vector<int>> cells;
  // Every group of the collective has its ranks on workers and islands in the same way, as this one has. If not, a sum
  // of each worker's sum would be rounded differently in different groups, though their members hold the same numbers:
  // and what a program takes for copies of one array may come from different groups.
  bool alike = true;

  const GroupWorker& me() const { return workers[self]; }
  int locals() const { return static_cast<int>(me().ranks.size()); }
};

struct Place {
  const Group* group = nullptr;
  int slot = 0;  // among the worker's own ranks
};

// A gang, and what is asked about it all the time.
class GangInfo {
 public:
  // INVALID_ARGUMENT: numbers that do not fit.
  static absl::StatusOr<std::shared_ptr<const GangInfo>> Make(std::shared_ptr<const Gang> gang);

  const Gang& gang() const { return *gang_; }
  const std::shared_ptr<const Gang>& shared() const { return gang_; }
  WorkerId self() const { return gang_->self; }
  // All but this one, ascending.
  const std::vector<WorkerId>& others() const { return others_; }
  bool Has(WorkerId worker) const { return islands_.contains(worker); }
  // Of a worker of the gang.
  int IslandOf(WorkerId worker) const { return islands_.at(worker); }
  // It is another worker of this machine.
  bool IsNear(WorkerId worker) const { return near_.contains(worker); }

 private:
  explicit GangInfo(std::shared_ptr<const Gang> gang) : gang_(std::move(gang)) {}

  const std::shared_ptr<const Gang> gang_;
  std::vector<WorkerId> others_;
  absl::flat_hash_map<WorkerId, int> islands_;
  absl::flat_hash_set<WorkerId> near_;
};

class TableLayouts {
 public:
  TableLayouts(std::shared_ptr<const proto::Collectives> table, std::shared_ptr<const GangInfo> gang);
  ~TableLayouts();

  // INVALID_ARGUMENT: the table has no such collective, or it says nothing sensible about the device.
  absl::StatusOr<Place> Find(int collective, int device) const;

  const proto::Collectives& table() const { return *table_; }

 private:
  struct Layout;
  const Layout& Of(int collective) const;
  absl::Status Build(const proto::Collective& collective, Layout& layout) const;
  absl::Status AddGroup(uint32_t index, absl::Span<const int32_t> devices, Layout& layout) const;

  const std::shared_ptr<const proto::Collectives> table_;
  const std::shared_ptr<const GangInfo> gang_;
  mutable Mutex mu_;                                               // held while one is built
  mutable std::vector<std::atomic<const Layout*>> by_collective_;  // null: not built yet; owned
};

// The layouts of the gangs and tables that were used last.
class LayoutCache {
 public:
  absl::StatusOr<std::shared_ptr<const GangInfo>> Find(std::shared_ptr<const Gang> gang);
  std::shared_ptr<const TableLayouts> Find(const std::shared_ptr<const GangInfo>& gang,
                                           const std::shared_ptr<const proto::Collectives>& table);

 private:
  using Key = std::pair<const GangInfo*, const proto::Collectives*>;

  Mutex mu_;
  std::vector<std::shared_ptr<const GangInfo>> gangs_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Key, std::shared_ptr<const TableLayouts>> layouts_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_LAYOUT_H_
