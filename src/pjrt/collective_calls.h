// The custom calls that take the place of a program's collectives (src/hlo/collectives.h): handlers of XLA's typed FFI
// that bring a device's operands to the collectives engine, and never block the plugin's thread.
//
//   RETURN_IF_ERROR(RegisterCollectiveCalls(api));               // once for each plugin, before programs are loaded
//   auto on_device = std::make_shared<DeviceLaunch>(...);         // lives until the device has finished
//   ASSIGN_OR_RETURN(LaunchContext context, LaunchContext::Make(api, on_device.get()));
//   options.context = context.get();
//
// Threading: thread-safe. The handlers run on the plugin's threads, or on the one that calls Execute.
#ifndef CAUSEWAY_PJRT_COLLECTIVE_CALLS_H_
#define CAUSEWAY_PJRT_COLLECTIVE_CALLS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "collectives/engine.h"
#include "pjrt/pjrt_api.h"
#include "proto/collectives.pb.h"

namespace causeway {

// One launch on one device, as its custom calls find it.
struct DeviceLaunch {
  DeviceLaunch(collectives::Engine* engine, uint64_t launch, int device,
               std::shared_ptr<const proto::Collectives> collectives)
      : engine(engine),
        launch(launch),
        device(device),
        table(std::move(collectives)),
        occurrences(table->collectives_size()) {}

  collectives::Engine* const engine;
  const uint64_t launch;
  const int device;  // logical
  const std::shared_ptr<const proto::Collectives> table;
  std::vector<std::atomic<uint32_t>> occurrences;  // of each collective, so far
};

// Tells the handlers' names to the plugin. FAILED_PRECONDITION for a second plugin in one process; UNIMPLEMENTED where
// it has no typed FFI.
absl::Status RegisterCollectiveCalls(const PjrtApi& api);

// The plugin's context of one execution, by which handlers find a DeviceLaunch. To be kept until the device has
// finished.
class LaunchContext {
 public:
  static absl::StatusOr<LaunchContext> Make(const PjrtApi& api, DeviceLaunch* launch);

  PJRT_ExecuteContext* get() const { return context_.get(); }

 private:
  struct Deleter {
    const PjrtApi* api;
    void operator()(PJRT_ExecuteContext* context) const;
  };
  using Handle = std::unique_ptr<PJRT_ExecuteContext, Deleter>;
  explicit LaunchContext(Handle context) : context_(std::move(context)) {}

  Handle context_;
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_COLLECTIVE_CALLS_H_
