#include "controller/cluster.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"

namespace causeway {
namespace {

constexpr int kMaxWorkers = 65536;

absl::Status CheckHello(const proto::Hello& hello) {
  if (hello.version() != kControlVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the worker speaks control protocol ", hello.version(),
                                                      ", the controller ", kControlVersion,
                                                      ": run the same Causeway release on both"));
  }
  if (hello.name().empty()) return absl::InvalidArgumentError("a worker needs a name: give it --name");
  if (hello.devices().empty()) return absl::InvalidArgumentError("a worker without devices cannot join");
  if (hello.devices_size() > kMaxDevicesPerWorker) {
    return absl::InvalidArgumentError(
        absl::StrCat("a worker with ", hello.devices_size(), " devices: at most ", kMaxDevicesPerWorker, " are taken"));
  }
  for (const proto::Device& device : hello.devices()) {
    if (device.default_memory() < 0 || device.default_memory() >= device.memories_size()) {
      return absl::InvalidArgumentError("a device names a default memory that it does not have");
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string WorkerSlot::Describe() const {
  if (devices.empty()) return absl::StrCat("worker ", hello.name());
  return absl::StrCat("worker ", hello.name(), " (", devices.size() == 1 ? "device " : "devices ", Raw(devices.front()),
                      devices.size() == 1 ? "" : absl::StrCat("-", Raw(devices.back())), ")");
}

absl::StatusOr<WorkerSlot*> Cluster::Join(const proto::Hello& hello, LinkId link, absl::Time now) {
  if (absl::Status ok = CheckHello(hello); !ok.ok()) return ok;
  if (!slots_.empty() && slots_.front().hello.platform() != hello.platform()) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", hello.name(), " has platform ", hello.platform(),
                                                      ", this cluster is of platform ", slots_.front().hello.platform(),
                                                      ": start a cluster of its own"));
  }
  const auto found = by_name_.find(hello.name());
  if (found == by_name_.end()) {
    if (slots_.size() >= kMaxWorkers) return absl::ResourceExhaustedError("the cluster has as many workers as it can");
    const WorkerId id{static_cast<int32_t>(slots_.size())};
    slots_.push_back(WorkerSlot{.id = id});
    by_name_[hello.name()] = id;
  }
  WorkerSlot& slot = slots_[Raw(by_name_[hello.name()])];
  if (slot.alive) {
    return absl::AlreadyExistsError(absl::StrCat("a worker named ", hello.name(), " is connected (pid ",
                                                 slot.hello.pid(), " on ", slot.hello.host(),
                                                 "): give each worker its own --name"));
  }
  if (slot.incarnation > 0 && slot.hello.devices_size() != hello.devices_size()) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", hello.name(), " returned with ", hello.devices_size(),
                                                      " devices, it had ", slot.hello.devices_size(),
                                                      ": give it another --name"));
  }
  slot.hello = hello;
  slot.alive = true;
  slot.link = link;
  ++slot.incarnation;
  slot.last_heard = now;
  slot.accounts.Clear();
  by_link_[link] = slot.id;
  return &slot;
}

DeviceRanges RangesOf(std::vector<DeviceId> devices) {
  std::sort(devices.begin(), devices.end());
  DeviceRanges ranges;
  for (DeviceId device : devices) {
    if (ranges.empty() || ranges.back().second != Raw(device)) ranges.emplace_back(Raw(device), Raw(device));
    ranges.back().second = Raw(device) + 1;
  }
  return ranges;
}

int Placement::IndexOf(WorkerId worker) const {
  const auto found = std::lower_bound(by_id.begin(), by_id.end(), worker,
                                      [this](int place, WorkerId wanted) { return workers[place] < wanted; });
  return found != by_id.end() && workers[*found] == worker ? *found : -1;
}

void Cluster::Leave(WorkerSlot& slot, absl::Status why) {
  slot.alive = false;
  slot.full = false;
  slot.lost_because = std::move(why);
  slot.accounts.Clear();
  by_link_.erase(slot.link);
  absl::erase_if(pair_keys_,
                 [&](const auto& entry) { return entry.first.first == slot.id || entry.first.second == slot.id; });
}

WorkerSlot* Cluster::OnLink(LinkId link) {
  const auto found = by_link_.find(link);
  return found == by_link_.end() ? nullptr : &slots_[Raw(found->second)];
}

WorkerSlot* Cluster::Find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &slots_[Raw(found->second)];
}

std::vector<const WorkerSlot*> Cluster::IslandMajor() const {
  std::vector<const WorkerSlot*> order;
  for (const WorkerSlot& slot : slots_) order.push_back(&slot);
  std::sort(order.begin(), order.end(), [](const WorkerSlot* a, const WorkerSlot* b) {
    return std::pair(a->hello.island(), a->hello.name()) < std::pair(b->hello.island(), b->hello.name());
  });
  return order;
}

void Cluster::AssignDeviceIds() {
  for (const WorkerSlot* ordered : IslandMajor()) {
    WorkerSlot& slot = slots_[Raw(ordered->id)];
    if (!slot.devices.empty()) continue;
    for (int i = 0; i < slot.hello.devices_size(); ++i) {
      slot.devices.push_back(DeviceId{static_cast<int32_t>(places_.size())});
      places_.push_back(Place{slot.id, i});
    }
  }
}

const Cluster::Place* Cluster::Find(DeviceId device) const {
  const int32_t index = Raw(device);
  return index < 0 || index >= static_cast<int32_t>(places_.size()) ? nullptr : &places_[index];
}

std::shared_ptr<const Placement> Cluster::PlacementOf(const std::vector<DeviceId>& devices) {
  if (placements_.size() >= sweep_placements_at_) {
    absl::erase_if(placements_, [](const auto& entry) { return entry.second.expired(); });
    sweep_placements_at_ = std::max<size_t>(2 * placements_.size(), 64);
  }
  std::weak_ptr<const Placement>& entry = placements_[devices];
  std::shared_ptr<const Placement> placement = entry.lock();
  if (placement == nullptr) {
    Placement made{devices, WorkersOf(devices), {}, RangesOf(devices)};
    made.by_id.resize(made.workers.size());
    std::iota(made.by_id.begin(), made.by_id.end(), 0);
    std::sort(made.by_id.begin(), made.by_id.end(),
              [&made](int a, int b) { return made.workers[a] < made.workers[b]; });
    placement = std::make_shared<const Placement>(std::move(made));
    entry = placement;
  }
  return placement;
}

absl::InlinedVector<WorkerId, 2> Cluster::WorkersOf(const std::vector<DeviceId>& devices) const {
  absl::InlinedVector<WorkerId, 2> workers;
  for (DeviceId device : devices) {
    const WorkerId worker = Find(device)->worker;
    // Devices are island- and so worker-major: most repeat the last one.
    if (workers.empty() ||
        (workers.back() != worker && std::find(workers.begin(), workers.end(), worker) == workers.end())) {
      workers.push_back(worker);
    }
  }
  return workers;
}

std::vector<DeviceView> Cluster::Views() const {
  std::vector<const WorkerSlot*> order = IslandMajor();
  std::stable_sort(order.begin(), order.end(), [](const WorkerSlot* a, const WorkerSlot* b) {
    if (a->devices.empty() || b->devices.empty()) return !a->devices.empty() && b->devices.empty();
    return a->devices.front() < b->devices.front();
  });
  std::map<std::string, IslandId> islands;
  for (const auto& [name, slots] : Islands()) islands[name] = IslandId{static_cast<int32_t>(islands.size())};
  std::vector<DeviceView> views;
  for (const WorkerSlot* slot : order) {
    for (int i = 0; i < slot->hello.devices_size(); ++i) {
      views.push_back(DeviceView{.id = DeviceId{static_cast<int32_t>(views.size())},
                                 .worker = slot->id,
                                 .island = islands[slot->hello.island()],
                                 .local_index = i,
                                 .alive = slot->alive,
                                 .platform = slot->hello.platform(),
                                 .worker_name = slot->hello.name(),
                                 .island_name = slot->hello.island(),
                                 .device = slot->hello.devices(i)});
    }
  }
  return views;
}

std::map<std::string, std::vector<const WorkerSlot*>> Cluster::Islands() const {
  std::map<std::string, std::vector<const WorkerSlot*>> islands;
  for (const WorkerSlot* slot : IslandMajor()) islands[slot->hello.island()].push_back(slot);
  return islands;
}

uint64_t Cluster::PairKey(WorkerId a, WorkerId b) {
  const auto [entry, fresh] = pair_keys_.try_emplace(std::minmax(a, b), 0);
  if (fresh) entry->second = NewKey();
  return entry->second;
}

}  // namespace causeway
