// `causeway controller`: the controller's process.
#ifndef CAUSEWAY_CLI_CONTROLLER_MAIN_H_
#define CAUSEWAY_CLI_CONTROLLER_MAIN_H_

#include "absl/status/status.h"
#include "cli/options.h"

namespace causeway {

// Runs a controller until SIGINT or SIGTERM. INVALID_ARGUMENT or FAILED_PRECONDITION: flags that do not go together
// (a remote address without --allow-remote or a token); UNAVAILABLE: an address that cannot be bound.
absl::Status RunController(const ControllerFlags& flags);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_CONTROLLER_MAIN_H_
