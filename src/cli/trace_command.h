// `causeway trace`: records for a while what a cluster does, and writes it for ui.perfetto.dev.
#ifndef CAUSEWAY_CLI_TRACE_COMMAND_H_
#define CAUSEWAY_CLI_TRACE_COMMAND_H_

#include "absl/status/status.h"
#include "cli/options.h"

namespace causeway {

// Records until the time is over, or SIGINT or SIGTERM comes, and writes the file then; a second signal does not wait
// for the cluster any more. INVALID_ARGUMENT, PERMISSION_DENIED: the file cannot be written, which is found out before
// anything is recorded; UNAVAILABLE: no controller there; ALREADY_EXISTS: somebody else records. Where the controller
// goes away meanwhile, what has come is written, and UNAVAILABLE returned.
absl::Status RunTrace(const TraceFlags& flags);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_TRACE_COMMAND_H_
