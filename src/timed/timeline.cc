#include "timed/timeline.h"

#include <algorithm>
#include <set>
#include <utility>

namespace causeway {

void Timeline::TakeArgument(Placement& launch, const Moment& argument) {
  launch.not_before = std::max(launch.not_before, *argument.at);
  if (argument.status.ok() || launch.failed) return;
  launch.failed = true;
  launch.outcome = argument.status;
  launch.duration = absl::ZeroDuration();
}

bool Timeline::IsNext(const PlacementRef& launch) const {
  return launch->unknown == 0 && std::all_of(launch->devices.begin(), launch->devices.end(), [&](int device) {
           const std::deque<PlacementRef>& queue = devices_[device].queue;
           return !queue.empty() && queue.front() == launch;
         });
}

std::vector<MomentRef> Timeline::Add(Placement launch, absl::Span<const MomentRef> arguments) {
  const auto added = std::make_shared<Placement>(std::move(launch));
  for (const MomentRef& argument : arguments) {
    if (argument->at.has_value()) {
      TakeArgument(*added, *argument);
    } else {
      ++added->unknown;
      argument->waiting.push_back(added);
    }
  }
  for (int device : added->devices) devices_[device].queue.push_back(added);
  return PlaceAll({added});
}

std::vector<MomentRef> Timeline::Settle(Moment& moment, absl::Time at, const absl::Status& status) {
  moment.at = at;
  moment.status = status;
  std::deque<PlacementRef> candidates;
  for (const PlacementRef& launch : std::exchange(moment.waiting, {})) {
    TakeArgument(*launch, moment);
    if (--launch->unknown == 0) candidates.push_back(launch);
  }
  return PlaceAll(std::move(candidates));
}

std::vector<MomentRef> Timeline::PlaceAll(std::deque<PlacementRef> candidates) {
  std::vector<MomentRef> ends;
  while (!candidates.empty()) {
    const PlacementRef launch = std::move(candidates.front());
    candidates.pop_front();
    if (!IsNext(launch)) continue;
    absl::Time start = launch->not_before;
    for (int device : launch->devices) start = std::max(start, devices_[device].free_at);
    Moment& end = *launch->end;
    end.at = start + launch->duration;
    end.status = launch->outcome;
    for (int device : launch->devices) {
      devices_[device].free_at = *end.at;
      devices_[device].queue.pop_front();
      if (!devices_[device].queue.empty()) candidates.push_back(devices_[device].queue.front());
    }
    for (const PlacementRef& waiting : std::exchange(end.waiting, {})) {
      TakeArgument(*waiting, end);
      if (--waiting->unknown == 0) candidates.push_back(waiting);
    }
    ends.push_back(launch->end);
  }
  return ends;
}

std::vector<MomentRef> Timeline::Abandon() {
  std::vector<MomentRef> ends;
  std::set<const Placement*> seen;
  for (Device& device : devices_) {
    for (const PlacementRef& launch : std::exchange(device.queue, {})) {
      if (seen.insert(launch.get()).second) ends.push_back(launch->end);
    }
  }
  return ends;
}

}  // namespace causeway
