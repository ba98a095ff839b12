#include "controller/slices.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway {
namespace {

// What a refusal lists, and a range text: the rest is counted.
constexpr size_t kMaxNamed = 8;
constexpr size_t kMaxRanges = 16;

// A device that may be given.
struct Free {
  DeviceId id;
  int load = 0;    // sessions that have it
  int worker = 0;  // the workers of an island are numbered by their devices
};

using Frees = std::vector<Free>;

struct Choice {
  bool operator<(const Choice& other) const { return Rank() < other.Rank(); }
  std::tuple<int, int, int64_t, int, int, bool, DeviceId> Rank() const {
    return {fullest, workers, load, island_left, worker_left, !consecutive, devices.front()};
  }

  std::vector<DeviceId> devices;  // ascending
  int fullest = 0;                // sessions on the fullest of them
  int workers = 0;                // that they belong to
  int64_t load = 0;               // sessions on them, summed
  int island_left = 0;            // devices of the island that were as good, and are left over
  int worker_left = 0;            // of the workers in question, likewise
  bool consecutive = false;       // their ids
};

// The `count`-th smallest load.
int LevelOf(const Frees& devices, int count) {
  std::vector<int> loads(devices.size());
  std::transform(devices.begin(), devices.end(), loads.begin(), [](const Free& d) { return d.load; });
  std::nth_element(loads.begin(), loads.begin() + count - 1, loads.end());
  return loads[count - 1];
}

Frees UpTo(const Frees& devices, int level) {
  Frees low;
  std::copy_if(devices.begin(), devices.end(), std::back_inserter(low), [&](const Free& d) { return d.load <= level; });
  return low;
}

int64_t LoadOn(const Frees& devices) {
  return std::accumulate(devices.begin(), devices.end(), int64_t{0},
                         [](int64_t sum, const Free& device) { return sum + device.load; });
}

bool Larger(const Frees& a, const Frees& b) {
  return a.size() != b.size() ? a.size() > b.size() : LoadOn(a) < LoadOn(b);
}

std::vector<Frees> ByWorker(const Frees& devices) {
  std::vector<Frees> workers;
  for (const Free& device : devices) {
    if (workers.empty() || workers.back().front().worker != device.worker) workers.emplace_back();
    workers.back().push_back(device);
  }
  return workers;
}

// Of `devices`, ascending.
Choice Of(Frees devices) {
  std::sort(devices.begin(), devices.end(), [](const Free& a, const Free& b) { return a.id < b.id; });
  Choice choice;
  for (const Free& device : devices) {
    choice.fullest = std::max(choice.fullest, device.load);
    choice.load += device.load;
    choice.devices.push_back(device.id);
  }
  choice.workers = static_cast<int>(ByWorker(devices).size());
  choice.consecutive = Raw(devices.back().id) - Raw(devices.front().id) == static_cast<int32_t>(devices.size()) - 1;
  return choice;
}

// `count` consecutive ones on as few as `workers` workers: those with the least load, then that leave least over of
// their workers, then in the shortest run, then the first ones. None: there are no such ones.
std::optional<Choice> Consecutive(const Frees& devices, int count, int workers) {
  const auto total = static_cast<int>(devices.size());
  std::vector<int64_t> load_before(total + 1, 0);
  std::vector<int> workers_before(total + 1, 0);  // that begin before or at the device
  std::vector<int> worker_begin(total, 0);
  std::vector<int> worker_end(total, total);
  std::vector<int> run_end(total, total);
  for (int i = 0; i < total; ++i) {
    const bool begins = i == 0 || devices[i].worker != devices[i - 1].worker;
    load_before[i + 1] = load_before[i] + devices[i].load;
    workers_before[i + 1] = workers_before[i] + (begins ? 1 : 0);
    worker_begin[i] = begins ? i : worker_begin[i - 1];
  }
  for (int i = total - 2; i >= 0; --i) {
    const bool runs_on = Raw(devices[i + 1].id) == Raw(devices[i].id) + 1;
    run_end[i] = runs_on ? run_end[i + 1] : i + 1;
    worker_end[i] = devices[i].worker == devices[i + 1].worker ? worker_end[i + 1] : i + 1;
  }
  std::optional<std::tuple<int64_t, int, int, int>> best;
  int run_begin = 0;
  for (int i = 0; i < total; ++i) {
    if (i > 0 && run_end[i - 1] == i) run_begin = i;
    if (run_end[i] - i < count || workers_before[i + count] - workers_before[i + 1] + 1 > workers) continue;
    const int worker_left = worker_end[i + count - 1] - worker_begin[i] - count;
    const std::tuple candidate(load_before[i + count] - load_before[i], worker_left, run_end[i] - run_begin, i);
    if (!best || candidate < *best) best = candidate;
  }
  if (!best) return std::nullopt;
  const auto first = devices.begin() + std::get<3>(*best);
  Choice choice = Of(Frees(first, first + count));
  choice.worker_left = std::get<1>(*best);
  return choice;
}

// `count` of one worker's devices, which has as many.
Choice InWorker(const Frees& worker, int count) {
  Frees least = worker;
  std::sort(least.begin(), least.end(),
            [](const Free& a, const Free& b) { return std::pair(a.load, a.id) < std::pair(b.load, b.id); });
  least.resize(count);
  Choice choice = Of(std::move(least));
  if (std::optional<Choice> consecutive = Consecutive(worker, count, 1);
      consecutive && consecutive->load == choice.load) {
    choice = *std::move(consecutive);
  }
  choice.worker_left = static_cast<int>(worker.size()) - count;
  return choice;
}

Choice Join(const Choice& a, const Choice& b, const Frees& devices) {
  std::vector<DeviceId> chosen = a.devices;
  chosen.insert(chosen.end(), b.devices.begin(), b.devices.end());
  std::sort(chosen.begin(), chosen.end());
  Frees picked;
  std::copy_if(devices.begin(), devices.end(), std::back_inserter(picked),
               [&](const Free& d) { return std::binary_search(chosen.begin(), chosen.end(), d.id); });
  return Of(std::move(picked));
}

// `count` of the devices of one island, which has as many.
Choice InIsland(const Frees& island, int count) {
  const Frees devices = UpTo(island, LevelOf(island, count));
  std::vector<Frees> workers = ByWorker(devices);
  // The largest first; where the rest fits into one, into the smallest such.
  std::stable_sort(workers.begin(), workers.end(), Larger);
  Frees whole;
  size_t used = 0;
  while (whole.size() + workers[used].size() < static_cast<size_t>(count)) {
    whole.insert(whole.end(), workers[used].begin(), workers[used].end());
    ++used;
  }
  const int rest = count - static_cast<int>(whole.size());
  std::optional<Choice> last;
  for (size_t i = used; i < workers.size() && static_cast<int>(workers[i].size()) >= rest; ++i) {
    Choice choice = InWorker(workers[i], rest);
    if (!last || choice < *last) last = std::move(choice);
  }
  Choice best = *last;
  if (used > 0) {
    best = Join(Of(whole), *last, devices);
    best.worker_left = last->worker_left;
    std::optional<Choice> consecutive = Consecutive(devices, count, best.workers);
    if (consecutive && *consecutive < best) best = *std::move(consecutive);
  }
  best.island_left = static_cast<int>(devices.size()) - count;
  return best;
}

// `count` devices of several islands, of which none has as many and all together have.
std::vector<DeviceId> OverIslands(std::vector<Frees> islands, int count) {
  std::stable_sort(islands.begin(), islands.end(), Larger);
  std::vector<DeviceId> devices;
  size_t used = 0;
  while (devices.size() + islands[used].size() < static_cast<size_t>(count)) {
    for (const Free& device : islands[used]) devices.push_back(device.id);
    ++used;
  }
  const int rest = count - static_cast<int>(devices.size());
  std::optional<Choice> last;
  for (size_t i = used; i < islands.size() && static_cast<int>(islands[i].size()) >= rest; ++i) {
    Choice choice = InIsland(islands[i], rest);
    if (!last || choice < *last) last = std::move(choice);
  }
  devices.insert(devices.end(), last->devices.begin(), last->devices.end());
  std::sort(devices.begin(), devices.end());
  return devices;
}

// All that there is, or all of the island that has most.
std::vector<DeviceId> AllOf(const std::vector<Frees>& islands, bool one_island) {
  std::vector<DeviceId> devices;
  if (one_island) {
    const size_t most = std::max_element(islands.begin(), islands.end(), [](const Frees& a, const Frees& b) {
                          return a.size() < b.size();
                        })->size();
    std::optional<Choice> best;
    for (const Frees& island : islands) {
      if (island.size() != most) continue;
      Choice choice = Of(island);
      if (!best || choice < *best) best = std::move(choice);
    }
    return best->devices;
  }
  for (const Frees& island : islands) {
    for (const Free& device : island) devices.push_back(device.id);
  }
  std::sort(devices.begin(), devices.end());
  return devices;
}

std::optional<std::vector<DeviceId>> Choose(const std::vector<Frees>& islands, const SessionWishes& wishes) {
  if (islands.empty()) return std::nullopt;
  if (wishes.devices == 0) return AllOf(islands, wishes.one_island);
  const auto wanted = static_cast<size_t>(wishes.devices);
  std::optional<Choice> best;
  size_t total = 0;
  for (const Frees& island : islands) {
    total += island.size();
    if (island.size() < wanted) continue;
    Choice choice = InIsland(island, wishes.devices);
    if (!best || choice < *best) best = std::move(choice);
  }
  if (best) return std::move(best->devices);
  if (wishes.one_island || total < wanted) return std::nullopt;
  return OverIslands(islands, wishes.devices);
}

std::string Devices(int64_t count) { return absl::StrCat(count, count == 1 ? " device" : " devices"); }

std::string Listed(std::vector<std::string> items, const char* what) {
  if (items.size() > kMaxNamed) {
    const size_t more = items.size() - kMaxNamed;
    items.resize(kMaxNamed);
    items.push_back(absl::StrCat(more, " more ", what));
  }
  return absl::StrJoin(items, ", ");
}

std::string Describe(const SessionWishes& wishes) {
  std::string text = "this session asks for ";
  if (wishes.devices > 0) {
    absl::StrAppend(&text, Devices(wishes.devices));
  } else {
    absl::StrAppend(&text, "all devices that it can have");
  }
  if (!wishes.platform.empty()) absl::StrAppend(&text, " of platform ", wishes.platform);
  if (wishes.one_island) absl::StrAppend(&text, " in one island");
  if (wishes.exclusive) absl::StrAppend(&text, ", exclusively");
  return text;
}

}  // namespace

Slices::Load Slices::LoadOf(DeviceId device) const {
  const auto index = static_cast<size_t>(Raw(device));
  return index < loads_.size() ? loads_[index] : Load{};
}

int Slices::SessionsOn(DeviceId device) const { return LoadOf(device).sessions; }

bool Slices::MayHave(const SessionWishes& wishes, const SliceWorker& worker, DeviceId device) const {
  if (!worker.alive || (!wishes.platform.empty() && worker.platform != wishes.platform)) return false;
  const Load load = LoadOf(device);
  return wishes.exclusive ? load.sessions == 0 : !load.exclusive;
}

absl::StatusOr<std::vector<DeviceId>> Slices::Take(SessionId session, absl::string_view name,
                                                   const SessionWishes& wishes, absl::Span<const SliceWorker> workers) {
  std::map<absl::string_view, Frees> by_island;
  std::vector<const SliceWorker*> ordered;
  for (const SliceWorker& worker : workers) {
    if (!worker.devices.empty()) ordered.push_back(&worker);
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const SliceWorker* a, const SliceWorker* b) { return a->devices.front() < b->devices.front(); });
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (DeviceId device : ordered[i]->devices) {
      if (!MayHave(wishes, *ordered[i], device)) continue;
      by_island[ordered[i]->island].push_back({device, SessionsOn(device), static_cast<int>(i)});
    }
  }
  std::vector<Frees> islands;
  for (auto& [island, devices] : by_island) islands.push_back(std::move(devices));
  std::optional<std::vector<DeviceId>> chosen = Choose(islands, wishes);
  if (!chosen) return Refusal(wishes, workers);
  for (DeviceId device : *chosen) {
    const auto index = static_cast<size_t>(Raw(device));
    if (index >= loads_.size()) loads_.resize(index + 1);
    ++loads_[index].sessions;
    loads_[index].exclusive = wishes.exclusive;
  }
  holders_[session] = Holder{std::string(name), *chosen, wishes.exclusive};
  return *std::move(chosen);
}

void Slices::Release(SessionId session) {
  const auto found = holders_.find(session);
  if (found == holders_.end()) return;
  for (DeviceId device : found->second.devices) {
    Load& load = loads_[Raw(device)];
    --load.sessions;
    load.exclusive = false;
  }
  holders_.erase(found);
}

absl::Span<const DeviceId> Slices::Of(SessionId session) const {
  const auto found = holders_.find(session);
  if (found == holders_.end()) return {};
  return found->second.devices;
}

bool Slices::Has(SessionId session, DeviceId device) const {
  const absl::Span<const DeviceId> devices = Of(session);
  return std::binary_search(devices.begin(), devices.end(), device);
}

absl::Status Slices::Refusal(const SessionWishes& wishes, absl::Span<const SliceWorker> workers) const {
  struct Count {
    int free = 0;
    int all = 0;
  };
  std::map<absl::string_view, Count> islands;
  std::map<absl::string_view, int> others;  // by platform
  int lost = 0;
  std::vector<DeviceId> taken;
  for (const SliceWorker& worker : workers) {
    Count& island = islands[worker.island];
    island.all += static_cast<int>(worker.devices.size());
    if (!worker.alive) {
      lost += static_cast<int>(worker.devices.size());
    } else if (!wishes.platform.empty() && worker.platform != wishes.platform) {
      others[worker.platform] += static_cast<int>(worker.devices.size());
    } else {
      for (DeviceId device : worker.devices) {
        if (MayHave(wishes, worker, device)) {
          ++island.free;
        } else {
          taken.push_back(device);
        }
      }
    }
  }
  std::sort(taken.begin(), taken.end());
  std::vector<std::string> free;
  for (const auto& [name, count] : islands) {
    free.push_back(absl::StrCat(count.free, " of ", count.all, " in island ", name));
  }
  std::vector<std::pair<int, SessionId>> sessions;  // most first
  for (const auto& [id, holder] : holders_) {
    const auto held = std::count_if(holder.devices.begin(), holder.devices.end(), [&](DeviceId device) {
      return std::binary_search(taken.begin(), taken.end(), device);
    });
    if (held > 0) sessions.emplace_back(-static_cast<int>(held), id);
  }
  std::sort(sessions.begin(), sessions.end());
  std::vector<std::string> held;
  for (const auto& [count, id] : sessions) {
    const Holder& holder = holders_.at(id);
    held.push_back(absl::StrCat(Devices(-count), holder.exclusive ? " exclusively" : "", " by session ", Raw(id), " (",
                                holder.name, ")"));
  }
  std::string text = absl::StrCat(Describe(wishes), ". Free for it: ", Listed(std::move(free), "islands"));
  if (!held.empty()) absl::StrAppend(&text, "; held: ", Listed(std::move(held), "sessions"));
  for (const auto& [platform, count] : others) absl::StrAppend(&text, "; of platform ", platform, ": ", count);
  if (lost > 0) absl::StrAppend(&text, "; lost with their workers: ", lost);
  return absl::ResourceExhaustedError(
      absl::StrCat(text, ". Ask for less, or wait until somebody has ended (`causeway status` shows who is there)"));
}

std::string DescribeDevices(absl::Span<const DeviceId> devices) {
  std::string text;
  size_t ranges = 0;
  for (size_t i = 0; i < devices.size(); ++ranges) {
    size_t last = i;
    while (last + 1 < devices.size() && Raw(devices[last + 1]) == Raw(devices[last]) + 1) ++last;
    if (ranges < kMaxRanges) {
      absl::StrAppend(&text, ranges == 0 ? "" : ", ", Raw(devices[i]));
      if (last > i) absl::StrAppend(&text, "-", Raw(devices[last]));
    }
    i = last + 1;
  }
  if (ranges > kMaxRanges) absl::StrAppend(&text, " and ", ranges - kMaxRanges, " more ranges");
  return text;
}

}  // namespace causeway
