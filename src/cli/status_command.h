// `causeway status`: asks a controller what its cluster looks like.
#ifndef CAUSEWAY_CLI_STATUS_COMMAND_H_
#define CAUSEWAY_CLI_STATUS_COMMAND_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/options.h"
#include "proto/control.pb.h"

namespace causeway {

// Asks the controller whose control link listens at `control_address`. Blocks for at most `timeout`. UNAVAILABLE:
// nobody answers there; UNAUTHENTICATED, FAILED_PRECONDITION: it says why it does not.
absl::StatusOr<proto::ClusterStatus> QueryStatus(const std::string& control_address, const std::string& token,
                                                 absl::Duration timeout);

// The status as a table for people, and as JSON for programs (field names as in control.proto).
std::string StatusTable(const proto::ClusterStatus& status);
std::string ProgramTable(const proto::ClusterStatus& status);  // of each session's programs
std::string StatusJson(const proto::ClusterStatus& status);

// The subcommand: prints to stdout.
absl::Status RunStatus(const StatusFlags& flags);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_STATUS_COMMAND_H_
