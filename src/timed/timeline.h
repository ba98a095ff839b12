// When the launches of some devices begin and end: arithmetic on times, of which none is measured here.
//
//   Timeline timeline(/*devices=*/2);
//   auto end = std::make_shared<Moment>();
//   timeline.Add({.devices = {0}, .duration = d, .not_before = now, .end = end}, {argument_is_ready});
//   end->at;      // max(now, argument_is_ready->at, end of the launch before) + d, exactly
//
// A device runs its launches one after the other in the order of Add; a launch on several devices begins when all of
// them are free. What is late to look at the result does not move it: a queue of 1,000 launches of 0.3 ms ends 300 ms
// after it began. An end that lies in the future is known all the same, so launches that depend on one another are
// placed at once; only one with an argument of which nobody knows when it will be ready (real data on their way to a
// device) waits with those behind it until Settle.
//
// A launch with a failed argument does not run: it takes its place in the order, but no time.
//
// Threading: none of its own; moments are guarded by what guards the timeline. Lifetime: a Moment is held by whoever
// asks for it and by launches that wait for it.
// Cost: O(devices + arguments) a launch.
#ifndef CAUSEWAY_TIMED_TIMELINE_H_
#define CAUSEWAY_TIMED_TIMELINE_H_

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace causeway {

struct Placement;

// When something is ready, and with what.
struct Moment {
  virtual ~Moment() = default;

  std::optional<absl::Time> at;  // not known yet, or exact
  absl::Status status;           // known with it

  std::vector<std::shared_ptr<Placement>> waiting;  // the timeline's own: launches that need to know it
};

using MomentRef = std::shared_ptr<Moment>;

// A launch that is to find its place.
struct Placement {
  std::vector<int> devices;
  absl::Duration duration;
  absl::Time not_before;  // when it was handed over
  absl::Status outcome;   // if its arguments are well
  MomentRef end;          // not known yet

  // The timeline's own.
  int unknown = 0;      // arguments of which nobody knows when they will be ready
  bool failed = false;  // an argument has
};

class Timeline {
 public:
  explicit Timeline(int devices) : devices_(devices) {}

  // Puts a launch behind all others of its devices. Returns the ends that are known through it, in the order of the
  // placements: none or its own.
  std::vector<MomentRef> Add(Placement launch, absl::Span<const MomentRef> arguments);

  // Says when a moment that nobody knew is. Returns the ends of all launches that are placed through it.
  std::vector<MomentRef> Settle(Moment& moment, absl::Time at, const absl::Status& status);

  // Forgets the launches that have no place yet, and returns their ends, which stay unknown.
  std::vector<MomentRef> Abandon();

 private:
  using PlacementRef = std::shared_ptr<Placement>;

  struct Device {
    absl::Time free_at = absl::InfinitePast();  // the end of its last launch that is placed
    std::deque<PlacementRef> queue;             // those that are not
  };

  static void TakeArgument(Placement& launch, const Moment& argument);
  bool IsNext(const PlacementRef& launch) const;
  std::vector<MomentRef> PlaceAll(std::deque<PlacementRef> candidates);

  std::vector<Device> devices_;
};

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_TIMELINE_H_
