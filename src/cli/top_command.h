// `causeway top`: who uses how much of a cluster, again and again.
#ifndef CAUSEWAY_CLI_TOP_COMMAND_H_
#define CAUSEWAY_CLI_TOP_COMMAND_H_

#include "absl/status/status.h"
#include "cli/options.h"

namespace causeway {

// On a terminal: shows the page (top_page.h) until q, SIGINT or SIGTERM, and leaves the terminal as it was. Otherwise,
// with `once` or with `json`: asks twice, an interval apart, and prints once. Errors as of `causeway status`; a
// controller that goes away while the page is shown is waited for.
absl::Status RunTop(const TopFlags& flags);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_TOP_COMMAND_H_
