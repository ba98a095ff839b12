// A gang's launch on this worker's devices, while it runs: each device begins and ends it by itself, on its own thread.
//
// Threading: `arguments` belong to the device's threads, a row each; the rest is guarded.
// Lifetime: held by what still has to happen to it, and by launches whose arguments it makes.
#ifndef CAUSEWAY_WORKER_RUNNING_GANG_H_
#define CAUSEWAY_WORKER_RUNNING_GANG_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "worker/device_runtime.h"
#include "worker/events.h"

namespace causeway::worker {

struct RunningGang;

// An argument of a gang's launch: a buffer, or what an earlier launch of a gang will have made on the same device by
// the time it is needed, as the device's thread runs one after the other.
struct GangArgument {
  std::shared_ptr<DeviceBuffer> buffer;
  std::shared_ptr<RunningGang> from;
  size_t place = 0;   // among the devices of `from`
  size_t output = 0;  // of it
};

// The launch itself.
struct RunningGang {
  RunningGang(ExecuteRequest r, std::vector<std::vector<GangArgument>> a)
      : request(std::move(r)), arguments(std::move(a)), executing(arguments.size()), running(arguments.size()) {
    outputs.resize(arguments.size());
  }

  const ExecuteRequest request;
  std::vector<std::vector<GangArgument>> arguments;  // by device; each row of that device's thread
  Mutex mu;
  size_t executing ABSL_GUARDED_BY(mu);  // devices whose Execute has not returned
  size_t running ABSL_GUARDED_BY(mu);    // that have not finished
  bool refused ABSL_GUARDED_BY(mu) = false;
  bool returned ABSL_GUARDED_BY(mu) = false;  // the core knows of the outputs
  absl::Status status ABSL_GUARDED_BY(mu);    // the first error
  std::vector<std::vector<std::shared_ptr<DeviceBuffer>>> outputs ABSL_GUARDED_BY(mu);
};

// The buffers of a device's arguments, which are not held any longer than that. On the device's thread, when all
// earlier launches have run there. Where one that makes an argument has failed: its error.
absl::StatusOr<std::vector<std::shared_ptr<DeviceBuffer>>> Resolve(std::vector<GangArgument> arguments);

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_RUNNING_GANG_H_
