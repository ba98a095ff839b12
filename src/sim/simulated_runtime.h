// Devices that are not there: a DeviceRuntime whose launches take a fixed time and whose buffers have sizes, but data
// only where `contents` asks for them.
//
//   SimulatedRuntimeOptions options;
//   options.devices = 8;
//   options.launch_time = absl::Microseconds(50);
//   std::unique_ptr<DeviceRuntime> runtime = MakeSimulatedRuntime(options);
//   auto program = runtime->Compile(SimulatedProgram(info, {0, 1}));
//
// A device runs its launches one after the other, in the order in which they were given to it; a launch on several
// devices starts when it is the next on all of them and its arguments are ready, and leaves them together.
//
// Threading: thread-safe. Callbacks come where `run_after` calls, or on the calling thread, never under a lock.
// Lifetime: as DeviceRuntime; what `run_after` holds may outlive the runtime.
#ifndef CAUSEWAY_SIM_SIMULATED_RUNTIME_H_
#define CAUSEWAY_SIM_SIMULATED_RUNTIME_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/device_runtime.h"

namespace causeway {

struct SimulatedRuntimeOptions {
  int devices = 1;
  int64_t memory_bytes = 0;  // of each, as it says; 0: no limit
  std::string platform = "sim";
  absl::Duration launch_time = absl::ZeroDuration();

  // Calls the function once, `delay` from now, on any thread but not within this call. Empty: the runtime has a timer
  // thread of its own, which ends with it and calls what is left at once.
  std::function<void(absl::Duration delay, std::function<void()> call)> run_after;

  // What becomes of a launch of this program. Empty: all succeed.
  std::function<absl::Status(const proto::ProgramInfo& program)> outcome;

  // What becomes of a buffer made from these bytes. Empty: it is ready.
  std::function<absl::Status(absl::string_view host)> host_outcome;

  // Buffers hold bytes: those of the host, and what contents.h says that launches make. Otherwise they read as zeros
  // and take no memory.
  bool contents = false;

  // The host can look at buffers that hold bytes (HostView), as it can at those of CPU devices.
  bool host_view = false;
};

std::unique_ptr<DeviceRuntime> MakeSimulatedRuntime(SimulatedRuntimeOptions options);

// The only programs that simulated devices take: their code is what there is to know of them. Outputs' shapes, the
// number of parameters and donation are honoured.
CompileRequest SimulatedProgram(const proto::ProgramInfo& info, std::vector<int> devices);

// The part of a gang's program, one of `gang_devices` in all, for those devices that are here: `logical` says which
// they are. What it makes does not depend on its arguments, of which it knows these devices' only.
CompileRequest SimulatedGangPart(const proto::ProgramInfo& info, std::vector<int> devices,
                                 const std::vector<int>& logical, int gang_devices);

}  // namespace causeway

#endif  // CAUSEWAY_SIM_SIMULATED_RUNTIME_H_
