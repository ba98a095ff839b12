// Devices on which launches take a set time and no core, and yield zeros: to time schedules with, where there are more
// devices than cores.
//
//   ASSIGN_OR_RETURN(auto pjrt, CreatePjrtRuntime(...));
//   TimedRuntimeOptions options;
//   ASSIGN_OR_RETURN(options.times, LaunchTimes::Parse("*=5ms"));
//   std::unique_ptr<DeviceRuntime> runtime = MakeTimedRuntime(std::move(pjrt), std::move(options));
//
// Programs are compiled, and buffers of host data made, by the runtime inside: shapes, shardings, sizes, layouts and
// donation are the plugin's, and data that a client puts come back unchanged. Execute never reaches it. What a launch
// makes takes no memory.
//
// Launches follow timeline.h, in real time: callbacks come from one timer thread, at the computed time or a little
// after it, never before.
//
// Threading and lifetime: as DeviceRuntime. Launches that run when the runtime is destroyed end with CANCELLED.
#ifndef CAUSEWAY_TIMED_TIMED_RUNTIME_H_
#define CAUSEWAY_TIMED_TIMED_RUNTIME_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "base/clock.h"
#include "timed/launch_times.h"
#include "timed/schedule.h"
#include "worker/device_runtime.h"

namespace causeway {

// What the plugin's name ends in, so that programs compiled for real and for timed devices are not mixed up, and people
// see which they have.
inline constexpr char kTimedMark[] = " (timed)";

struct TimedRuntimeOptions {
  LaunchTimes times;

  // For tests. Both or none: another clock than the live one, and who waits on it.
  const Clock* clock = nullptr;
  Schedule::RunAt run_at;

  // For tests: what becomes of a launch of this program. Empty: all succeed.
  std::function<absl::Status(const proto::ProgramInfo& program)> outcome;
};

std::unique_ptr<DeviceRuntime> MakeTimedRuntime(std::unique_ptr<DeviceRuntime> inside, TimedRuntimeOptions options);

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_TIMED_RUNTIME_H_
