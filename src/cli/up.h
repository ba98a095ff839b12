// `causeway up`: a whole cluster on this machine, controller and workers as child processes over unix sockets in a
// private folder.
#ifndef CAUSEWAY_CLI_UP_H_
#define CAUSEWAY_CLI_UP_H_

#include "absl/status/status.h"
#include "cli/options.h"

namespace causeway {

// Starts the cluster, says when it is ready (for people on stdout; for a parent as one JSON line on `ready_fd`), and
// runs until SIGINT, SIGTERM, or the end of stdin if so asked. A worker or controller that dies is started
// again; if told not to, a controller that dies ends it all with an error. All children have ended when it returns.
absl::Status RunUp(const UpFlags& flags);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_UP_H_
