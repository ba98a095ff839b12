// What `causeway plugin PATH` prints.
#ifndef CAUSEWAY_PJRT_PLUGIN_REPORT_H_
#define CAUSEWAY_PJRT_PLUGIN_REPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

// Loads the plugin (a name or a path, see FindPlugin), makes a client of it and describes both: C API version, the
// plugin's attributes, extensions by name, platform, devices with their memories. Lines of text. A plugin that loads
// but finds no device here is described up to that point, with the client's error in its place.
absl::StatusOr<std::string> DescribePlugin(absl::string_view name_or_path);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PLUGIN_REPORT_H_
