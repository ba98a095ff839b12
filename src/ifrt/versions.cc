#include "ifrt/versions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace causeway {
namespace {

struct Range {
  int min = 0;
  int max = 0;
};

constexpr Range kProtocol{kMinProtocolVersion, kMaxProtocolVersion};
constexpr Range kSerdes{kMinSerdesVersion, kMaxSerdesVersion};

std::string Describe(Range range) {
  return range.min == range.max ? absl::StrCat(range.min) : absl::StrCat(range.min, " to ", range.max);
}

std::string Describe(Range protocol, Range serdes) {
  return absl::StrCat("protocol ", Describe(protocol), ", SerDes ", Describe(serdes));
}

Range ProtocolOf(const xla::ifrt::proxy::GrpcGetVersionRequest& r) {
  return {r.min_version().protocol_version(), r.max_version().protocol_version()};
}

Range SerdesOf(const xla::ifrt::proxy::GrpcGetVersionRequest& r) {
  return {r.min_version().ifrt_serdes_version_number(), r.max_version().ifrt_serdes_version_number()};
}

bool IsBelow(Range a, Range b) { return a.max < b.min; }

absl::Status Mismatch(Range protocol, Range serdes) {
  const std::vector<std::string> tested = TestedJax();
  const bool too_old = IsBelow(protocol, kProtocol) || IsBelow(serdes, kSerdes);
  const bool too_new = IsBelow(kProtocol, protocol) || IsBelow(kSerdes, serdes);
  return absl::FailedPreconditionError(absl::StrCat(
      "this client's jaxlib is ", too_old ? "too old" : (too_new ? "too new" : "of no known version"), ": it speaks ",
      Describe(protocol, serdes), " of the IFRT proxy, this Causeway ", DescribeWindow(), "; install jax ",
      tested.front(), " to ", tested.back(), " for the client (pip install jax==", tested.back(),
      " jaxlib==", tested.back(), ")", too_old ? "" : " or a newer Causeway for the cluster"));
}

}  // namespace

absl::StatusOr<xla::ifrt::proxy::IfrtProxyVersion> ChooseVersion(
    const xla::ifrt::proxy::GrpcGetVersionRequest& request) {
  const Range protocol = ProtocolOf(request);
  const Range serdes = SerdesOf(request);
  xla::ifrt::proxy::IfrtProxyVersion chosen;
  chosen.set_protocol_version(std::min(kProtocol.max, protocol.max));
  chosen.set_ifrt_serdes_version_number(std::min(kSerdes.max, serdes.max));
  if (chosen.protocol_version() < std::max(kProtocol.min, protocol.min) ||
      chosen.ifrt_serdes_version_number() < std::max(kSerdes.min, serdes.min)) {
    return Mismatch(protocol, serdes);
  }
  return chosen;
}

absl::Status CheckVersion(const xla::ifrt::proxy::IfrtProxyVersion& version) {
  const int protocol = version.protocol_version();
  const int serdes = version.ifrt_serdes_version_number();
  if (protocol >= kProtocol.min && protocol <= kProtocol.max && serdes >= kSerdes.min && serdes <= kSerdes.max) {
    return absl::OkStatus();
  }
  return Mismatch({protocol, protocol}, {serdes, serdes});
}

std::string DescribeOffer(const xla::ifrt::proxy::GrpcGetVersionRequest& request) {
  return Describe(ProtocolOf(request), SerdesOf(request));
}

std::string DescribeWindow() { return Describe(kProtocol, kSerdes); }

std::string JaxlibBuiltAgainst() { return CAUSEWAY_JAXLIB_VERSION; }

std::vector<std::string> TestedJax() { return absl::StrSplit(CAUSEWAY_CLIENT_VERSIONS, ' '); }

}  // namespace causeway
