// Where a process listens, as people write it: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH".
//
//   ASSIGN_OR_RETURN(Address address, ParseAddress("127.0.0.1:4711"));
//
// Threading: values; no state.
#ifndef CAUSEWAY_NET_ADDRESS_H_
#define CAUSEWAY_NET_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

struct Address {
  enum class Kind { kTcp, kUnix };

  Kind kind = Kind::kTcp;
  std::string host;   // of kTcp: a name or a number, an IPv6 number without its brackets
  uint16_t port = 0;  // of kTcp: 0 lets the system choose when listening
  std::string path;   // of kUnix
};

// INVALID_ARGUMENT, with the three forms in its text, for anything else, for a port above 65535 and for a path that is
// too long for a unix socket (107 bytes).
absl::StatusOr<Address> ParseAddress(absl::string_view text);

// Only processes of this machine can reach it: a unix socket, or a loopback address by number or as "localhost".
bool IsLocal(const Address& address);

// What ParseAddress reads back as the same address.
std::string ToString(const Address& address);

}  // namespace causeway

#endif  // CAUSEWAY_NET_ADDRESS_H_
