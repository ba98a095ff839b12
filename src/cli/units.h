// Numbers as people read them.
//
//   Bytes(1536)   // "1.5 KiB"
//
// Threading: pure functions.
#ifndef CAUSEWAY_CLI_UNITS_H_
#define CAUSEWAY_CLI_UNITS_H_

#include <cstdint>
#include <string>

namespace causeway {

std::string Bytes(int64_t bytes);

// "1.5 ms", "12 us"; of what is not positive: "0".
std::string Microseconds(double us);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_UNITS_H_
