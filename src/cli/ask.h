// One question to a controller, one answer: what tools do.
#ifndef CAUSEWAY_CLI_ASK_H_
#define CAUSEWAY_CLI_ASK_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/control.pb.h"

namespace causeway {

// Connects to `control_address`, sends `question` and returns the first message that comes back. Blocks for at most
// `timeout`. UNAVAILABLE: nobody listens there, or it closed without an answer; DEADLINE_EXCEEDED: no answer in time.
absl::StatusOr<proto::ToWorker> Ask(const std::string& control_address, const proto::ToController& question,
                                    absl::Duration timeout);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_ASK_H_
