#include "cli/version.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "ifrt/versions.h"
#include "proto/control_version.h"

namespace causeway {

std::string VersionText() {
  const std::vector<std::string> jax = TestedJax();
  return absl::StrFormat(
      "causeway %s\n"
      "control protocol  %d (controller and workers must agree)\n"
      "IFRT proxy        %s; built against jaxlib %s\n"
      "clients           jax %s to %s; tried: %s (docs/COMPATIBILITY.md has what each can do)\n",
      CAUSEWAY_VERSION, kControlVersion, DescribeWindow(), JaxlibBuiltAgainst(), jax.front(), jax.back(),
      absl::StrJoin(jax, ", "));
}

}  // namespace causeway
