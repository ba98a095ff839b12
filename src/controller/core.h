// The controller core: everything the controller decides, as one deterministic state machine.
//
//   ControllerCore core(options);
//   core.Handle(LaunchProgram{...}, clock.Now(), actions);     // replies and frames come out through `actions`
//
// It holds the cluster, sessions, programs, the arrays' metadata and the order of launches. It never holds array data.
//
// Threading: none of its own; one call at a time (the shell's lock). No clocks, no I/O: the same code runs live and
// under the simulator. Cost: a launch costs O(arguments + outputs + devices of its gang) with small constants and no
// I/O.
#ifndef CAUSEWAY_CONTROLLER_CORE_H_
#define CAUSEWAY_CONTROLLER_CORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/device_memory.h"
#include "controller/device_view.h"
#include "controller/events.h"
#include "controller/load.h"
#include "controller/scheduler.h"

namespace causeway {

// Who carries out a program's collectives. kAuto: the plugin, where all of the program's devices belong to one worker
// or to one process group, else the workers. kHost: the workers. kPlugin: the plugin, or the program is refused.
enum class Collectives { kAuto, kHost, kPlugin };

struct ControllerOptions {
  std::string token;  // workers and tools must show it; empty: none needed
  absl::Duration heartbeat = absl::Seconds(1);
  absl::Duration heartbeat_timeout = absl::Seconds(10);
  std::string data_address;  // where the controller's data plane listens, for workers
  uint64_t key_seed = 0;     // of the data plane's keys: random when live
  LoadLimits limits;

  Scheduler::Options scheduling;
  Collectives collectives = Collectives::kAuto;
  absl::Duration memory_wait = absl::Seconds(60);    // for device memory, before RESOURCE_EXHAUSTED
  int64_t program_cache_bytes = int64_t{256} << 20;  // of compiled programs in memory
  bool program_store = false;                        // LookUpProgram and KeepProgram reach further ones

  // Clients wait until so many workers have joined, for at most `workers_patience` after the start: whoever connects
  // gets the devices that are there, and for good.
  int expected_workers = 1;
  absl::Duration workers_patience = absl::Seconds(60);
};

// What a core holds, for simulations and tests. Where no session is open and nothing is under way all of it is 0.
struct ControllerCounts {
  int64_t sessions = 0;
  int64_t arrays = 0;
  int64_t programs = 0;
  int64_t named_bytes = 0;  // on all devices
  // Answers that are awaited from workers, or host data from the door.
  int64_t launches = 0;
  int64_t makes = 0;
  int64_t compiles = 0;
  int64_t fetches = 0;
  int64_t queries = 0;
  int64_t host_data = 0;
  int64_t traces = 0;
  // Accepted, and told to no worker yet: launches that wait for their turn, and whatever names their outputs.
  int64_t held = 0;
  int64_t credits = 0;       // given out
  int64_t memory_waits = 0;  // of the held ones, those that wait for device memory
};

class ControllerCore {
 public:
  explicit ControllerCore(ControllerOptions options);
  ~ControllerCore();
  ControllerCore(const ControllerCore&) = delete;
  ControllerCore& operator=(const ControllerCore&) = delete;

  // Handles one event. `now` never goes back.
  void Handle(Event event, absl::Time now, ControllerActions& out);

  // OK when clients may connect; UNAVAILABLE, with what is waited for, while they had better wait.
  absl::Status Ready() const;

  // All devices ever seen, by id.
  std::vector<DeviceView> Devices() const;

  // Those of a session's slice; empty where it is not open.
  std::vector<DeviceView> DevicesOf(SessionId session) const;

  // Platform of the cluster ("" before the first worker), its version, and the newest StableHLO that all plugins take.
  std::string Platform() const;
  std::string PlatformVersion() const;
  std::vector<int64_t> StablehloVersion() const;

  // What is known of an array; null when the id is not (or no longer) known.
  std::shared_ptr<const ArraySpec> FindArray(ArrayId array) const;

  // Deleted or donated. False for unknown ids.
  bool IsDeleted(ArrayId array) const;

  // Its data are known to be there: computed or arrived, without an error, and not deleted.
  bool IsReady(ArrayId array) const;

  std::shared_ptr<const ProgramView> FindProgram(ProgramId program) const;

  // What tools are shown; `address` is where clients connect, once that is known.
  proto::ClusterStatus Status(absl::Time now) const;
  void SetClientAddress(std::string address);

  // Who has how much of a device's memory. Valid until the next event.
  DeviceMemory::Use MemoryOf(DeviceId device) const;

  ControllerCounts Counts() const;

  // While a trace is recorded, the shell is to say after each Handle how long it took, and what for (event_kind.h).
  bool traced() const;
  void Handled(int kind, absl::Time start, absl::Time end);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_CORE_H_
