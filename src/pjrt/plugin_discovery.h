// Where a PJRT plugin lies.
//
//   ASSIGN_OR_RETURN(std::string path, FindPlugin("cpu"));
//
// Plugins come as Python wheels, so they are looked for where wheels are unpacked, without running a Python:
//   1. $CAUSEWAY_PLUGIN_DIR      folders, separated by ':', each with site-packages or with the file itself in it
//   2. $VIRTUAL_ENV              the active environment
//   3. beside this binary        site-packages it was installed into, or the .venv of a tree that it was built in
//   4. ~/.local, /usr/local, /usr  the user's and the system's packages
//
// Threading: reads the environment and the file system; thread-safe as long as nobody changes the environment.
#ifndef CAUSEWAY_PJRT_PLUGIN_DISCOVERY_H_
#define CAUSEWAY_PJRT_PLUGIN_DISCOVERY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

// The existing folders of the list above, in its order.
std::vector<std::string> PluginDirectories();

// The plugin's file: `name` is "cpu", "cuda", "tpu", or a path (anything with a '/' or ending in ".so"). NOT_FOUND
// names the folders that were searched and the package to install; INVALID_ARGUMENT for other names.
absl::StatusOr<std::string> FindPlugin(absl::string_view name, absl::Span<const std::string> directories);

// The same in PluginDirectories(). Those are looked for only where `name` is no path.
absl::StatusOr<std::string> FindPlugin(absl::string_view name);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PLUGIN_DISCOVERY_H_
