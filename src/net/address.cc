#include "net/address.h"

#include <sys/un.h>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace causeway {
namespace {

constexpr size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;

absl::Status NoAddress(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no address (", why, "): give HOST:PORT, [IPV6]:PORT or unix:PATH"));
}

absl::StatusOr<uint16_t> ParsePort(absl::string_view text, absl::string_view port) {
  uint32_t number = 0;
  // SimpleAtoi forgives spaces and signs.
  const bool digits_only = !port.empty() && port.find_first_not_of("0123456789") == absl::string_view::npos;
  if (!digits_only || !absl::SimpleAtoi(port, &number) || number > 65535) {
    return NoAddress(text, "the port is a number from 0 to 65535");
  }
  return static_cast<uint16_t>(number);
}

}  // namespace

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  Address address;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty()) return NoAddress(text, "the path is missing");
    if (rest.size() > kMaxPathBytes) {
      return NoAddress(text, absl::StrCat("a unix socket's path has at most ", kMaxPathBytes, " bytes"));
    }
    if (rest.find('\0') != absl::string_view::npos) return NoAddress(text, "the path has a zero byte");
    address.kind = Address::Kind::kUnix;
    address.path = std::string(rest);
    return address;
  }
  absl::string_view host;
  if (absl::StartsWith(rest, "[")) {
    const size_t end = rest.find("]:");
    if (end == absl::string_view::npos) return NoAddress(text, "after [IPV6] comes :PORT");
    host = rest.substr(1, end - 1);
    rest.remove_prefix(end + 2);
    if (!absl::StrContains(host, ":")) return NoAddress(text, "only an IPv6 number stands in brackets");
  } else {
    const size_t colon = rest.rfind(':');
    if (colon == absl::string_view::npos) return NoAddress(text, "there is no port");
    host = rest.substr(0, colon);
    rest.remove_prefix(colon + 1);
    if (host.find(':') != absl::string_view::npos) return NoAddress(text, "an IPv6 number stands in brackets");
  }
  if (host.empty()) return NoAddress(text, "the host is missing");
  if (host.find_first_of("[]") != absl::string_view::npos) return NoAddress(text, "the brackets do not match");
  absl::StatusOr<uint16_t> port = ParsePort(text, rest);
  if (!port.ok()) return port.status();
  address.host = std::string(host);
  address.port = *port;
  return address;
}

std::string ToString(const Address& address) {
  if (address.kind == Address::Kind::kUnix) return absl::StrCat("unix:", address.path);
  const bool is_ipv6 = absl::StrContains(address.host, ":");
  return is_ipv6 ? absl::StrCat("[", address.host, "]:", address.port) : absl::StrCat(address.host, ":", address.port);
}

bool IsLocal(const Address& address) {
  if (address.kind == Address::Kind::kUnix || address.host == "localhost" || address.host == "::1") return true;
  // A name may begin with a number too, and be of any machine.
  const bool is_number = address.host.find_first_not_of("0123456789.") == std::string::npos;
  return is_number && absl::StartsWith(address.host, "127.");
}

}  // namespace causeway
