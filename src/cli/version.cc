#include "cli/version.h"

#include "absl/strings/str_format.h"
#include "ifrt/versions.h"
#include "proto/control_version.h"

namespace causeway {

std::string VersionText() {
  return absl::StrFormat(
      "causeway %s\n"
      "control protocol    %d (controller and workers must agree)\n"
      "client protocol     %d to %d (IFRT proxy), SerDes %d to %d; see docs/COMPATIBILITY.md for the jax releases\n",
      CAUSEWAY_VERSION, kControlVersion, kMinProtocolVersion, kMaxProtocolVersion, kMinSerdesVersion,
      kMaxSerdesVersion);
}

}  // namespace causeway
