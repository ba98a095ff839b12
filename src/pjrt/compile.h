// The plugin's compiler.
//
//   RETURN_IF_ERROR(AssignDevices(client, {2, 3}, options));
//   ASSIGN_OR_RETURN(PjrtLoadedExecutableHandle loaded, CompileCode(client, "mlir", code, options));
//
// Threading: pure functions.
#ifndef CAUSEWAY_PJRT_COMPILE_H_
#define CAUSEWAY_PJRT_COMPILE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pjrt/pjrt_client.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {

// The same, with the plugin's own numbers of devices, of which not all need be here.
absl::Status AssignGlobalDevices(const std::vector<int>& ids, xla::CompileOptionsProto& options);

// Gives the options our devices in place of the client's. `devices` is replica-major. INVALID_ARGUMENT where they do
// not fit the options' replicas and partitions.
absl::Status AssignDevices(const PjrtClient& client, const std::vector<int>& devices,
                           xla::CompileOptionsProto& options);

// Compiles `code` ("mlir" or "hlo"), and loads it. The plugin's errors.
absl::StatusOr<PjrtLoadedExecutableHandle> CompileCode(const PjrtClient& client, const std::string& format,
                                                       const std::string& code,
                                                       const xla::CompileOptionsProto& options);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_COMPILE_H_
