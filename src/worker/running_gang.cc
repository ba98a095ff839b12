#include "worker/running_gang.h"

namespace causeway::worker {

absl::StatusOr<std::vector<std::shared_ptr<DeviceBuffer>>> Resolve(std::vector<GangArgument> arguments) {
  std::vector<std::shared_ptr<DeviceBuffer>> buffers;
  buffers.reserve(arguments.size());
  for (GangArgument& argument : arguments) {
    if (argument.from == nullptr) {
      buffers.push_back(std::move(argument.buffer));
      continue;
    }
    RunningGang& from = *argument.from;
    MutexLock lock(&from.mu);
    if (argument.output >= from.outputs[argument.place].size()) {
      return from.status.ok() ? absl::InternalError("a launch comes before the one that makes its arguments")
                              : from.status;
    }
    buffers.push_back(from.outputs[argument.place][argument.output]);
  }
  return buffers;
}

}  // namespace causeway::worker
