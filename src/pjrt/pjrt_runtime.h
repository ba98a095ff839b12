// The devices behind a PJRT plugin.
//
//   PjrtRuntimeOptions options;
//   options.plugin = "cpu";
//   options.device_count = 4;
//   ASSIGN_OR_RETURN(std::unique_ptr<DeviceRuntime> runtime, CreatePjrtRuntime(options));
//
// Threading and lifetime: see DeviceRuntime. Callbacks come on the plugin's threads.
#ifndef CAUSEWAY_PJRT_PJRT_RUNTIME_H_
#define CAUSEWAY_PJRT_PJRT_RUNTIME_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pjrt/pjrt_client.h"
#include "worker/device_runtime.h"

namespace causeway {

struct PjrtRuntimeOptions {
  std::string plugin = "cpu";  // "cpu", "cuda", "tpu", or the plugin's path: see FindPlugin
  int device_count = 0;  // 0: all that the plugin finds. Others make so many CPU devices; no other platform takes them
  CreateOptions create_options;  // further options for the plugin's client

  // Where the plugin makes one client of several processes: this one's number among them, and where they meet. `store`
  // outlives the runtime.
  int node_id = 0;
  int nodes = 1;
  KeyValueStore* store = nullptr;
};

// Loads the plugin and makes its client; for CPU devices, also registers the kernels of lapack/. Takes a second or so.
absl::StatusOr<std::unique_ptr<DeviceRuntime>> CreatePjrtRuntime(const PjrtRuntimeOptions& options);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PJRT_RUNTIME_H_
