#include "ifrt/devices.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using xla::ifrt::AttributeMapProto;

// Memory ids are device id * 16 + position: unique, and stable as device ids are.
constexpr int kMaxMemories = 16;

// As jax's own devices are shown: CpuDevice(id=0).
std::string Repr(const DeviceView& device) {
  std::string name = device.platform;
  if (!name.empty()) name[0] = absl::ascii_toupper(name[0]);
  return absl::StrCat(name, "Device(id=", Raw(device.id), ")");
}

void Set(AttributeMapProto& map, const std::string& name, int64_t value) {
  (*map.mutable_attributes())[name].set_int64_value(value);
}

void SetAttribute(AttributeMapProto& map, const proto::Attribute& attribute) {
  // Island and worker are ours to say, and a slice_index changes how jax makes meshes.
  if (attribute.name() == "slice_index" || attribute.name().empty()) return;
  AttributeMapProto::Value& value = (*map.mutable_attributes())[attribute.name()];
  switch (attribute.value_case()) {
    case proto::Attribute::kStringValue:
      value.set_string_value(attribute.string_value());
      break;
    case proto::Attribute::kIntValue:
      value.set_int64_value(attribute.int_value());
      break;
    case proto::Attribute::kBoolValue:
      value.set_bool_value(attribute.bool_value());
      break;
    case proto::Attribute::kDoubleValue:
      value.set_float_value(static_cast<float>(attribute.double_value()));
      break;
    case proto::Attribute::kInts:
      for (int64_t i : attribute.ints().values()) value.mutable_int64_list_value()->add_elements(i);
      break;
    case proto::Attribute::VALUE_NOT_SET:
      map.mutable_attributes()->erase(attribute.name());
      break;
  }
}

}  // namespace

xla::ifrt::proxy::InitResponse InitResponseFor(const ClusterView& cluster, uint64_t session_key, bool slices) {
  xla::ifrt::proxy::InitResponse init;
  init.set_session_id(session_key);
  init.set_platform_name(cluster.platform);
  init.set_platform_version(cluster.platform_version);
  init.set_platform_id(1);
  init.set_process_index(0);
  init.set_runtime_type("causeway");
  for (const DeviceView& view : cluster.devices) {
    if (!view.alive || Raw(view.id) < 0) continue;
    const proto::Device& device = view.device;
    auto& out = *init.add_all_devices();
    out.set_id(Raw(view.id));
    out.set_local_device_id(Raw(view.id));
    out.set_local_hardware_id(device.local_hardware_id());
    out.set_platform_name(view.platform);
    out.set_device_kind(device.kind());
    out.set_debug_string(
        absl::StrCat(Repr(view), " on ", view.worker_name, " of ", view.island_name, ": ", device.debug_string()));
    out.set_to_string(Repr(view));
    const int memories = std::min(device.memories_size(), kMaxMemories);
    for (int i = 0; i < memories; ++i) {
      const int32_t id = Raw(view.id) * kMaxMemories + i;
      out.add_memory_ids(id);
      if (i == device.default_memory()) out.set_default_memory_id(id);
      auto& memory = *init.add_memories();
      memory.set_id(id);
      memory.set_memory_space_kind(device.memories(i).kind());
      memory.set_kind_id(device.memories(i).kind_id());
      memory.add_device_ids(Raw(view.id));
      memory.set_debug_string(device.memories(i).debug_string());
      memory.set_to_string(absl::StrCat(device.memories(i).kind(), " of ", Repr(view)));
    }
    AttributeMapProto& attributes = *out.mutable_attributes();
    for (const proto::Attribute& attribute : device.attributes()) SetAttribute(attributes, attribute);
    Set(attributes, "island", Raw(view.island));
    Set(attributes, "virtual_task_index", Raw(view.worker));
    if (slices) Set(attributes, "slice_index", Raw(view.island));
    init.add_primary_device_ids(Raw(view.id));
    init.add_addressable_device_ids(Raw(view.id));
  }
  auto& client = *init.mutable_client_attributes()->mutable_attributes();
  client["serialize_with_sdy"].set_bool_value(true);
  client["supports_executable_serialization"].set_bool_value(false);
  auto& stablehlo = *client["stablehlo_current_version"].mutable_int64_list_value();
  for (int64_t part : cluster.stablehlo_version) stablehlo.add_elements(part);
  return init;
}

}  // namespace causeway
