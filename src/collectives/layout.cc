#include "collectives/layout.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace causeway::collectives {
namespace {

// Beyond these, all is forgotten and computed anew: a cluster runs a few programs on a few gangs.
constexpr size_t kMaxGangs = 64;
constexpr size_t kMaxTables = 256;

void MakeCellOfEach(Group& group) {
  group.cells.clear();
  for (int i = 0; i < static_cast<int>(group.workers.size()); ++i) {
    group.workers[i].cell = i;
    group.workers[i].position = 0;
    group.cells.push_back({i});
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const GangInfo>> GangInfo::Make(std::shared_ptr<const Gang> gang) {
  if (gang == nullptr || gang->workers.empty() || gang->workers.size() != gang->islands.size()) {
    return absl::InvalidArgumentError("a gang needs a worker and an island for each of its devices");
  }
  if (!gang->machines.empty() && gang->machines.size() != gang->workers.size()) {
    return absl::InvalidArgumentError("a gang needs a machine for each of its devices, or for none");
  }
  auto info = std::shared_ptr<GangInfo>(new GangInfo(std::move(gang)));
  for (size_t i = 0; i < info->gang().workers.size(); ++i) {
    const WorkerId worker = info->gang().workers[i];
    if (!info->islands_.emplace(worker, info->gang().islands[i]).second) continue;
    if (worker != info->self()) info->others_.push_back(worker);
  }
  if (!info->Has(info->self())) return absl::InvalidArgumentError("this worker is not in the gang");
  std::sort(info->others_.begin(), info->others_.end());
  const std::vector<int32_t>& machines = info->gang().machines;
  const auto& workers = info->gang().workers;
  const size_t mine = std::find(workers.begin(), workers.end(), info->self()) - workers.begin();
  for (size_t i = 0; i < machines.size(); ++i) {
    if (workers[i] != info->self() && machines[i] == machines[mine]) info->near_.insert(workers[i]);
  }
  return info;
}

struct TableLayouts::Layout {
  absl::Status status;
  std::vector<std::unique_ptr<Group>> groups;  // those with devices of this worker
  std::vector<int> pattern;                    // of the first group: by rank, its worker and island
  bool alike = true;                           // all have that
  absl::flat_hash_map<int, Place> places;      // of this worker's devices
};

TableLayouts::TableLayouts(std::shared_ptr<const proto::Collectives> table, std::shared_ptr<const GangInfo> gang)
    : table_(std::move(table)), gang_(std::move(gang)), by_collective_(table_->collectives_size()) {}

TableLayouts::~TableLayouts() {
  for (const std::atomic<const Layout*>& layout : by_collective_) delete layout.load();
}

absl::StatusOr<Place> TableLayouts::Find(int collective, int device) const {
  if (collective < 0 || collective >= table_->collectives_size()) {
    return absl::InvalidArgumentError(absl::StrCat("the program has no collective ", collective));
  }
  const Layout& layout = Of(collective);
  if (!layout.status.ok()) return layout.status;
  const auto place = layout.places.find(device);
  if (place == layout.places.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, " of this worker is in no group of ", table_->collectives(collective).name()));
  }
  return place->second;
}

const TableLayouts::Layout& TableLayouts::Of(int collective) const {
  std::atomic<const Layout*>& entry = by_collective_[collective];
  if (const Layout* layout = entry.load(std::memory_order_acquire)) return *layout;
  MutexLock lock(&mu_);
  if (const Layout* layout = entry.load(std::memory_order_acquire)) return *layout;
  auto built = std::make_unique<Layout>();
  built->status = Build(table_->collectives(collective), *built);
  const Layout* layout = built.release();
  entry.store(layout, std::memory_order_release);
  return *layout;
}

absl::Status TableLayouts::Build(const proto::Collective& collective, Layout& layout) const {
  const int devices = static_cast<int>(gang_->gang().workers.size());
  if (collective.kind() != proto::Collective::COLLECTIVE_PERMUTE) {
    for (int i = 0; i < collective.groups_size(); ++i) {
      const auto& group = collective.groups(i).devices();
      if (absl::Status status = AddGroup(i, {group.data(), static_cast<size_t>(group.size())}, layout); !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(collective.name(), ": ", status.message()));
      }
    }
    const bool reduces =
        collective.kind() == proto::Collective::ALL_REDUCE || collective.kind() == proto::Collective::REDUCE_SCATTER;
    for (const auto& group : layout.groups) {
      if (!reduces || layout.alike) break;
      group->alike = false;
      MakeCellOfEach(*group);
    }
    return absl::OkStatus();
  }
  std::vector<int32_t> all(devices);
  std::iota(all.begin(), all.end(), 0);
  RETURN_IF_ERROR(AddGroup(0, all, layout));
  if (layout.groups.empty()) return absl::OkStatus();
  auto group = std::make_unique<Group>(*layout.groups[0]);
  for (const proto::Collective::Pair& pair : collective.pairs()) {
    const auto known = [&](int device) { return device >= 0 && device < devices; };
    if (!known(pair.source()) || !known(pair.target()) ||
        !group->sources.emplace(pair.target(), pair.source()).second ||
        !group->targets.emplace(pair.source(), pair.target()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(collective.name(), ": the pair ", pair.source(), " to ", pair.target(), " cannot be"));
    }
  }
  for (auto& [device, place] : layout.places) place.group = group.get();
  layout.groups[0] = std::move(group);
  return absl::OkStatus();
}

absl::Status TableLayouts::AddGroup(uint32_t index, absl::Span<const int32_t> devices, Layout& layout) const {
  const Gang& gang = gang_->gang();
  auto group = std::make_unique<Group>();
  group->index = index;
  group->size = static_cast<int>(devices.size());
  absl::flat_hash_map<WorkerId, int> known;
  absl::flat_hash_map<int, int> cells;  // by island
  std::vector<std::vector<int>> islands;
  for (int rank = 0; rank < group->size; ++rank) {
    const int device = devices[rank];
    if (device < 0 || device >= static_cast<int>(gang.workers.size())) {
      return absl::InvalidArgumentError(absl::StrCat("the gang has no device ", device));
    }
    const WorkerId worker = gang.workers[device];
    const auto [it, is_new] = known.emplace(worker, static_cast<int>(group->workers.size()));
    if (is_new) {
      const int cell = cells.emplace(gang_->IslandOf(worker), static_cast<int>(islands.size())).first->second;
      islands.resize(cells.size());
      group->workers.push_back({.id = worker, .cell = cell, .position = static_cast<int>(islands[cell].size())});
      islands[cell].push_back(it->second);
    }
    GroupWorker& its = group->workers[it->second];
    if (worker == gang.self) {
      const Place place{group.get(), static_cast<int>(its.ranks.size())};
      if (!layout.places.emplace(device, place).second) {
        return absl::InvalidArgumentError(absl::StrCat("device ", device, " is in two groups, or twice in one"));
      }
    }
    its.ranks.push_back(rank);
  }
  std::vector<int> pattern;
  for (int32_t device : devices) {
    const int worker = known.at(gang.workers[device]);
    pattern.push_back(worker);
    pattern.push_back(group->workers[worker].cell);
  }
  if (index == 0) layout.pattern = pattern;
  layout.alike = layout.alike && layout.pattern == pattern;
  const auto self = known.find(gang.self);
  if (self == known.end()) return absl::OkStatus();
  group->self = self->second;
  const bool by_islands = islands.size() > 1 && islands.size() < group->workers.size();
  if (by_islands) {
    group->cells = std::move(islands);
  } else {
    MakeCellOfEach(*group);
  }
  layout.groups.push_back(std::move(group));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const GangInfo>> LayoutCache::Find(std::shared_ptr<const Gang> gang) {
  MutexLock lock(&mu_);
  for (const auto& known : gangs_) {
    if (known->shared() == gang) return known;
  }
  for (const auto& known : gangs_) {
    const Gang& its = known->gang();
    if (gang != nullptr && its.self == gang->self && its.workers == gang->workers && its.islands == gang->islands &&
        its.machines == gang->machines) {
      return known;
    }
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const GangInfo> info, GangInfo::Make(std::move(gang)));
  if (gangs_.size() == kMaxGangs) {
    gangs_.clear();
    layouts_.clear();
  }
  gangs_.push_back(info);
  return info;
}

std::shared_ptr<const TableLayouts> LayoutCache::Find(const std::shared_ptr<const GangInfo>& gang,
                                                      const std::shared_ptr<const proto::Collectives>& table) {
  MutexLock lock(&mu_);
  if (layouts_.size() == kMaxTables && !layouts_.contains({gang.get(), table.get()})) layouts_.clear();
  std::shared_ptr<const TableLayouts>& layouts = layouts_[{gang.get(), table.get()}];
  if (layouts == nullptr) layouts = std::make_shared<TableLayouts>(table, gang);
  return layouts;
}

}  // namespace causeway::collectives
