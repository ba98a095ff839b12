#include "ifrt/versions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

absl::Status Mismatch(int client_min_protocol, int client_max_protocol, int client_min_serdes, int client_max_serdes) {
  const bool client_too_old = client_max_protocol < kMinProtocolVersion || client_max_serdes < kMinSerdesVersion;
  return absl::FailedPreconditionError(absl::StrCat(
      "this jaxlib speaks IFRT proxy protocol ", client_min_protocol, " to ", client_max_protocol, " (serdes ",
      client_min_serdes, " to ", client_max_serdes, "), this Causeway speaks ", kMinProtocolVersion, " to ",
      kMaxProtocolVersion, " (serdes ", kMinSerdesVersion, " to ", kMaxSerdesVersion, "): install a ",
      client_too_old ? "newer jax" : "newer Causeway or an older jax", "; docs/COMPATIBILITY.md lists what fits"));
}

}  // namespace

absl::StatusOr<xla::ifrt::proxy::IfrtProxyVersion> ChooseVersion(
    const xla::ifrt::proxy::GrpcGetVersionRequest& request) {
  const auto& low = request.min_version();
  const auto& high = request.max_version();
  const int protocol = std::min(kMaxProtocolVersion, high.protocol_version());
  const int serdes = std::min(kMaxSerdesVersion, high.ifrt_serdes_version_number());
  if (protocol < std::max(kMinProtocolVersion, low.protocol_version()) ||
      serdes < std::max(kMinSerdesVersion, low.ifrt_serdes_version_number())) {
    return Mismatch(low.protocol_version(), high.protocol_version(), low.ifrt_serdes_version_number(),
                    high.ifrt_serdes_version_number());
  }
  xla::ifrt::proxy::IfrtProxyVersion chosen;
  chosen.set_protocol_version(protocol);
  chosen.set_ifrt_serdes_version_number(serdes);
  return chosen;
}

absl::Status CheckVersion(const xla::ifrt::proxy::IfrtProxyVersion& version) {
  const int protocol = version.protocol_version();
  const int serdes = version.ifrt_serdes_version_number();
  if (protocol >= kMinProtocolVersion && protocol <= kMaxProtocolVersion && serdes >= kMinSerdesVersion &&
      serdes <= kMaxSerdesVersion) {
    return absl::OkStatus();
  }
  return Mismatch(protocol, protocol, serdes, serdes);
}

}  // namespace causeway
