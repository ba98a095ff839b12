// `causeway version`.
#ifndef CAUSEWAY_CLI_VERSION_H_
#define CAUSEWAY_CLI_VERSION_H_

#include <string>

namespace causeway {

// This release, the control protocol, and the window of client protocols that its door speaks.
std::string VersionText();

}  // namespace causeway

#endif  // CAUSEWAY_CLI_VERSION_H_
