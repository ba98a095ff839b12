#include "pjrt/plugin_report.h"

#include <array>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "pjrt/pjrt_api.h"
#include "pjrt/pjrt_client.h"
#include "pjrt/plugin_discovery.h"

namespace causeway {
namespace {

// By number; the pinned header ends at HostAllocator.
constexpr std::array<absl::string_view, 25> kExtensionNames = {"GpuCustomCall",
                                                               "Profiler",
                                                               "CustomPartitioner",
                                                               "Stream",
                                                               "Layouts",
                                                               "FFI",
                                                               "MemoryDescriptions",
                                                               "Triton",
                                                               "RawBuffer",
                                                               "PhaseCompile",
                                                               "Example",
                                                               "Unknown",
                                                               "CrossHostTransfers",
                                                               "ExecutableMetadata",
                                                               "Callback",
                                                               "HostAllocator",
                                                               "TpuTopology",
                                                               "TpuExecutable",
                                                               "Megascale",
                                                               "Shardings",
                                                               "AbiVersion",
                                                               "Collectives",
                                                               "MultiSlice",
                                                               "HostMemoryAllocator",
                                                               "XlaTransform"};

std::string ExtensionText(int type) {
  if (type >= 0 && type < static_cast<int>(kExtensionNames.size())) {
    return absl::StrCat(kExtensionNames[type], " (", type, ")");
  }
  return absl::StrCat("extension ", type);
}

std::string AttributeText(const proto::Attribute& attribute) {
  switch (attribute.value_case()) {
    case proto::Attribute::kStringValue:
      return attribute.string_value();
    case proto::Attribute::kIntValue:
      return absl::StrCat(attribute.int_value());
    case proto::Attribute::kBoolValue:
      return attribute.bool_value() ? "true" : "false";
    case proto::Attribute::kDoubleValue:
      return absl::StrCat(attribute.double_value());
    case proto::Attribute::kInts:
      return absl::StrCat("[", absl::StrJoin(attribute.ints().values(), ", "), "]");
    case proto::Attribute::VALUE_NOT_SET:
      break;
  }
  return "";
}

void AppendDevices(const proto::Hello& description, std::string& out) {
  absl::StrAppend(&out, "platform       ", description.platform(), "\n");
  absl::StrAppend(&out, "version        ", description.platform_version(), "\n");
  absl::StrAppend(&out, "devices        ", description.devices_size(), "\n");
  for (int i = 0; i < description.devices_size(); ++i) {
    const proto::Device& device = description.devices(i);
    absl::StrAppend(&out, "  ", i, "  ", device.debug_string(), ", kind ", device.kind(), ", hardware id ",
                    device.local_hardware_id(), "\n");
    for (int m = 0; m < device.memories_size(); ++m) {
      absl::StrAppend(&out, "     memory ", device.memories(m).kind(), m == device.default_memory() ? " (default)" : "",
                      "\n");
    }
    for (const proto::Attribute& attribute : device.attributes()) {
      absl::StrAppend(&out, "     ", attribute.name(), " = ", AttributeText(attribute), "\n");
    }
  }
}

}  // namespace

absl::StatusOr<std::string> DescribePlugin(absl::string_view name_or_path) {
  ASSIGN_OR_RETURN(const std::string path, FindPlugin(name_or_path));
  ASSIGN_OR_RETURN(const PjrtApi* const api, PjrtApi::Load(path));
  std::string out = absl::StrCat("plugin         ", api->path(), "\n");
  absl::StrAppend(&out, "PJRT C API     ", api->major_version(), ".", api->minor_version(), " (built against ",
                  PJRT_API_MAJOR, ".", PJRT_API_MINOR, ")\n");
  std::vector<std::string> extensions;
  for (int type : api->ExtensionTypes()) extensions.push_back(ExtensionText(type));
  absl::StrAppend(&out, "extensions     ", extensions.empty() ? "none" : absl::StrJoin(extensions, ", "), "\n");
  for (const proto::Attribute& attribute : api->Attributes()) {
    absl::StrAppend(&out, "  ", attribute.name(), " = ", AttributeText(attribute), "\n");
  }
  absl::StatusOr<std::unique_ptr<PjrtClient>> client = PjrtClient::Create(api, {});
  if (client.ok()) {
    AppendDevices((*client)->description(), out);
  } else {
    absl::StrAppend(&out, "devices        none: ", client.status().ToString(), "\n");
  }
  return out;
}

}  // namespace causeway
