// The resource manager: which physical devices a session's virtual slice is, and who has which.
//
//   Slices slices;
//   ASSIGN_OR_RETURN(std::vector<DeviceId> devices, slices.Take(session, "train.py", wishes, workers));
//   slices.Of(session);        // the same, until
//   slices.Release(session);
//
// Several slices may have a device in common: sharing is what the system is for. An exclusive one has none in common
// with another. What a wish gets, in the order of what counts:
//
//   1. one island, where any has so many devices; else as few as possible
//   2. devices on which few sessions are: the fullest one counts, since a gang is as fast as its slowest device
//   3. as few workers as possible
//   4. few sessions on all of them together
//   5. what leaves the least over, of the island and of the worker: larger wishes find more in one piece later
//   6. consecutive ids
//
// So a worker is split for the sake of idle devices elsewhere in its island; an island is not.
//
// Threading: none of its own; lives in the controller core. Deterministic: equal calls have equal results.
#ifndef CAUSEWAY_CONTROLLER_SLICES_H_
#define CAUSEWAY_CONTROLLER_SLICES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "controller/wishes.h"

namespace causeway {

// A worker and what may be given of it, for the time of a call.
struct SliceWorker {
  absl::string_view island;
  absl::string_view platform;
  bool alive = false;
  absl::Span<const DeviceId> devices;  // ascending, and of no other worker
};

class Slices {
 public:
  // Gives `session`, which has no slice, what it wishes (CheckWishes: OK); ascending. Without a number of devices it
  // gets all that it can have, those of one island if it wishes that. RESOURCE_EXHAUSTED, with what is free and who
  // holds the rest, where that is too little, or nothing.
  absl::StatusOr<std::vector<DeviceId>> Take(SessionId session, absl::string_view name, const SessionWishes& wishes,
                                             absl::Span<const SliceWorker> workers);

  // The session has ended. Does nothing where it has no slice.
  void Release(SessionId session);

  // The session's devices, ascending; empty where it has none.
  absl::Span<const DeviceId> Of(SessionId session) const;
  bool Has(SessionId session, DeviceId device) const;

  // How many sessions have the device in their slices.
  int SessionsOn(DeviceId device) const;

 private:
  struct Holder {
    std::string name;
    std::vector<DeviceId> devices;
    bool exclusive = false;
  };
  struct Load {
    int sessions = 0;
    bool exclusive = false;  // of the one session
  };

  Load LoadOf(DeviceId device) const;
  bool MayHave(const SessionWishes& wishes, const SliceWorker& worker, DeviceId device) const;
  absl::Status Refusal(const SessionWishes& wishes, absl::Span<const SliceWorker> workers) const;

  std::map<SessionId, Holder> holders_;
  std::vector<Load> loads_;  // by device
};

// "0-3, 6": for people. `devices` are ascending; of many ranges the first are shown, and how many there are.
std::string DescribeDevices(absl::Span<const DeviceId> devices);

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_SLICES_H_
