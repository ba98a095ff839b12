// `causeway version`.
#ifndef CAUSEWAY_CLI_VERSION_H_
#define CAUSEWAY_CLI_VERSION_H_

#include <string>

namespace causeway {

// This release, the control protocol, and the window of clients that its door serves: the ranges of their protocol, and
// the releases of jax that have been tried.
std::string VersionText();

}  // namespace causeway

#endif  // CAUSEWAY_CLI_VERSION_H_
