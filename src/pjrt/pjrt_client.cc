#include "pjrt/pjrt_client.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "pjrt/key_value_callbacks.h"

namespace causeway {
namespace {

PJRT_NamedValue NamedValue(const std::string& name, const CreateOptions::mapped_type& value) {
  PJRT_NamedValue named{};
  named.struct_size = PJRT_NamedValue_STRUCT_SIZE;
  named.name = name.data();
  named.name_size = name.size();
  named.value_size = 1;
  if (const auto* text = std::get_if<std::string>(&value)) {
    named.type = PJRT_NamedValue_kString;
    named.string_value = text->data();
    named.value_size = text->size();
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    named.type = PJRT_NamedValue_kInt64;
    named.int64_value = *number;
  } else if (const auto* real = std::get_if<float>(&value)) {
    named.type = PJRT_NamedValue_kFloat;
    named.float_value = *real;
  } else {
    named.type = PJRT_NamedValue_kBool;
    named.bool_value = std::get<bool>(value);
  }
  return named;
}

// Tells builds of one plugin apart: part of the key under which compiled programs are kept.
std::string PluginVersion(const PjrtApi& api) {
  std::error_code ignored;
  return absl::StrCat(std::filesystem::path(api.path()).filename().string(), " C API ", api.major_version(), ".",
                      api.minor_version(), ", ", std::filesystem::file_size(api.path(), ignored), " bytes");
}

}  // namespace

absl::StatusOr<std::unique_ptr<PjrtClient>> PjrtClient::Create(const PjrtApi* api, const CreateOptions& options,
                                                               KeyValueStore* store) {
  std::vector<PJRT_NamedValue> values;
  for (const auto& [name, value] : options) values.push_back(NamedValue(name, value));
  PjrtArgs<PJRT_Client_Create_Args> args;
  args.create_options = values.data();
  args.num_options = values.size();
  if (store != nullptr) SetKeyValueCallbacks(store, args);
  RETURN_IF_ERROR(api->Call(api->table().PJRT_Client_Create, args));
  std::unique_ptr<PjrtClient> client(new PjrtClient(api, PjrtClientHandle(args.client, {api})));
  RETURN_IF_ERROR(client->Describe());
  return client;
}

absl::Status PjrtClient::Describe() {
  PjrtArgs<PJRT_Client_PlatformName_Args> platform;
  platform.client = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Client_PlatformName, platform));
  description_.set_platform(PluginText(platform.platform_name, platform.platform_name_size));

  PjrtArgs<PJRT_Client_PlatformVersion_Args> version;
  version.client = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Client_PlatformVersion, version));
  description_.set_platform_version(PluginText(version.platform_version, version.platform_version_size));

  description_.set_plugin(PluginVersion(api()));
  for (const proto::Attribute& attribute : api().Attributes()) {
    if (attribute.name() == "stablehlo_current_version") {
      *description_.mutable_stablehlo_version() = attribute.ints().values();
    }
  }

  PjrtArgs<PJRT_Client_AddressableDevices_Args> devices;
  devices.client = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Client_AddressableDevices, devices));
  if (devices.num_addressable_devices == 0) {
    return absl::FailedPreconditionError(absl::StrCat("the plugin ", api().path(), " has no devices here"));
  }
  if (devices.num_addressable_devices > kMaxDevicesPerWorker) {
    return absl::InvalidArgumentError(absl::StrCat("the plugin ", api().path(), " has ",
                                                   devices.num_addressable_devices,
                                                   " devices; a worker drives at most ", kMaxDevicesPerWorker));
  }
  for (size_t i = 0; i < devices.num_addressable_devices; ++i) {
    RETURN_IF_ERROR(DescribeDevice(devices.addressable_devices[i]));
  }
  return absl::OkStatus();
}

absl::Status PjrtClient::DescribeDevice(PJRT_Device* device) {
  Device& ours = devices_.emplace_back();
  ours.device = device;
  proto::Device& described = *description_.add_devices();

  PjrtArgs<PJRT_Device_GetDescription_Args> description;
  description.device = device;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Device_GetDescription, description));

  PjrtArgs<PJRT_DeviceDescription_Id_Args> id;
  id.device_description = description.device_description;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_DeviceDescription_Id, id));
  ours.id = id.id;
  described.set_global_id(id.id);

  PjrtArgs<PJRT_DeviceDescription_Kind_Args> kind;
  kind.device_description = description.device_description;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_DeviceDescription_Kind, kind));
  described.set_kind(PluginText(kind.device_kind, kind.device_kind_size));

  PjrtArgs<PJRT_DeviceDescription_DebugString_Args> debug;
  debug.device_description = description.device_description;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_DeviceDescription_DebugString, debug));
  described.set_debug_string(PluginText(debug.debug_string, debug.debug_string_size));

  PjrtArgs<PJRT_DeviceDescription_Attributes_Args> attributes;
  attributes.device_description = description.device_description;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_DeviceDescription_Attributes, attributes));
  for (proto::Attribute& attribute : ToAttributes(attributes.attributes, attributes.num_attributes)) {
    *described.add_attributes() = std::move(attribute);
  }

  PjrtArgs<PJRT_Device_LocalHardwareId_Args> hardware;
  hardware.device = device;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Device_LocalHardwareId, hardware));
  described.set_local_hardware_id(hardware.local_hardware_id);

  // Not every plugin knows, nor knows a limit.
  PjrtArgs<PJRT_Device_MemoryStats_Args> stats;
  stats.device = device;
  if (api().Call(api().table().PJRT_Device_MemoryStats, stats).ok() && stats.bytes_limit_is_set) {
    described.set_memory_bytes(std::max<int64_t>(0, stats.bytes_limit));
  }
  return DescribeMemories(device, ours, described);
}

absl::Status PjrtClient::DescribeMemories(PJRT_Device* device, Device& ours, proto::Device& described) {
  PjrtArgs<PJRT_Device_AddressableMemories_Args> memories;
  memories.device = device;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Device_AddressableMemories, memories));
  PjrtArgs<PJRT_Device_DefaultMemory_Args> standard;
  standard.device = device;
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Device_DefaultMemory, standard));

  if (memories.num_memories == 0) {
    return absl::InternalError(absl::StrCat("device ", ours.id, " of the plugin addresses no memory"));
  }
  for (size_t i = 0; i < memories.num_memories; ++i) {
    PJRT_Memory* memory = memories.memories[i];
    if (memory == standard.memory) described.set_default_memory(static_cast<int>(i));
    proto::Memory& description = *described.add_memories();

    PjrtArgs<PJRT_Memory_Kind_Args> kind;
    kind.memory = memory;
    RETURN_IF_ERROR(api().Call(api().table().PJRT_Memory_Kind, kind));
    description.set_kind(PluginText(kind.kind, kind.kind_size));
    ours.memories.push_back({description.kind(), memory});

    PjrtArgs<PJRT_Memory_Kind_Id_Args> kind_id;
    kind_id.memory = memory;
    RETURN_IF_ERROR(api().Call(api().table().PJRT_Memory_Kind_Id, kind_id));
    description.set_kind_id(kind_id.kind_id);

    PjrtArgs<PJRT_Memory_DebugString_Args> debug;
    debug.memory = memory;
    RETURN_IF_ERROR(api().Call(api().table().PJRT_Memory_DebugString, debug));
    description.set_debug_string(PluginText(debug.debug_string, debug.debug_string_size));
  }
  return absl::OkStatus();
}

absl::Status PjrtClient::CheckDevice(int local) const {
  if (local >= 0 && local < num_devices()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("no local device ", local, "; there are ", num_devices()));
}

absl::StatusOr<PJRT_Memory*> PjrtClient::FindMemory(int local, const std::string& kind) const {
  RETURN_IF_ERROR(CheckDevice(local));
  if (kind.empty()) return nullptr;
  const std::vector<Memory>& memories = device(local).memories;
  for (const Memory& memory : memories) {
    if (memory.kind == kind) return memory.memory;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "device ", local, " has no memory of kind '", kind, "', only ",
      absl::StrJoin(memories, ", ", [](std::string* out, const Memory& m) { absl::StrAppend(out, m.kind); })));
}

}  // namespace causeway
