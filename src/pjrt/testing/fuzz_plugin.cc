// A PJRT plugin for plugin_fuzz.cc, whose answers are the bytes of a fuzzing input: counts that contradict each other,
// numbers that are no enum, texts in no encoding, errors at any moment, events that are ready early, late or null.
// Pointers are always good for as much as is said of them: that much no caller can check.
//
// Objects are on the heap, so that what is forgotten or freed twice is found.
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/input.h"
#include "pjrt/c_api_newer.h"

struct PJRT_Error {
  int code;
  std::string message;
};
struct PJRT_Event {
  bool fails;
};
struct PJRT_Memory {
  int kind;
};
struct PJRT_Device {
  int id;
};
struct PJRT_DeviceDescription {};
struct PJRT_Client {};
struct PJRT_LoadedExecutable {
  size_t outputs;  // as many as were claimed
};
struct PJRT_Executable {
  PJRT_LoadedExecutable* loaded;
};
struct PJRT_Buffer {
  std::string bytes;
};
struct PJRT_Layouts_MemoryLayout {};
struct PJRT_Layouts_SerializedLayout {};

namespace {

using causeway::FuzzInput;

constexpr int kMostDevices = 3;

FuzzInput script(nullptr, 0);
std::deque<std::function<void()>>& Later() {
  static auto& later = *new std::deque<std::function<void()>>;
  return later;
}

PJRT_Device devices[kMostDevices] = {{10}, {11}, {12}};
PJRT_Memory memories[2] = {{0}, {1}};
PJRT_DeviceDescription description;

// What answers point to; kept until the next input.
std::deque<std::string>& Texts() {
  static auto& texts = *new std::deque<std::string>;
  return texts;
}
std::deque<std::vector<int64_t>>& Numbers() {
  static auto& numbers = *new std::deque<std::vector<int64_t>>;
  return numbers;
}

void Text(const char** text, size_t* size) {
  Texts().push_back(script.Bytes(12));
  *text = Texts().back().data();
  *size = Texts().back().size();
}

int64_t* ListOf(size_t count, const std::function<int64_t()>& next) {
  Numbers().emplace_back();
  for (size_t i = 0; i < count; ++i) Numbers().back().push_back(next());
  return Numbers().back().data();
}

PJRT_Error* Fault() {
  if (!script.OneIn(24)) return nullptr;
  return new PJRT_Error{script.Below(20), script.Bytes(12)};
}

PJRT_Event* NewEvent() {
  if (script.OneIn(8)) return nullptr;
  return new PJRT_Event{script.OneIn(8)};
}

PJRT_Error* FaultOf(const PJRT_Event& event) { return event.fails ? new PJRT_Error{13, "it failed"} : nullptr; }

// Few values mostly, so that what contradicts itself and what does not both come.
size_t Count() { return static_cast<size_t>(script.Byte() < 224 ? script.Below(3) : script.Number()); }
size_t SmallCount() { return static_cast<size_t>(script.Below(4)); }

template <typename Args, typename Answer>
auto Function(Answer) {
  return [](Args* args) -> PJRT_Error* {
    if (PJRT_Error* fault = Fault()) return fault;
    Answer{}(args);
    return nullptr;
  };
}

template <typename Args>
PJRT_Error* Attributes(Args* args, PJRT_NamedValue const** values, size_t* count) {
  static auto& list = *new std::vector<PJRT_NamedValue>;
  list.clear();
  *count = SmallCount();
  for (size_t i = 0; i < *count; ++i) {
    PJRT_NamedValue value{};
    Text(&value.name, &value.name_size);
    const int type = script.Below(7);
    std::memcpy(&value.type, &type, sizeof(type));
    if (type == PJRT_NamedValue_kString) {
      Text(&value.string_value, &value.value_size);
    } else if (type == PJRT_NamedValue_kInt64List) {
      value.value_size = SmallCount();
      value.int64_array_value = ListOf(value.value_size, [] { return script.Number(); });
    } else {
      value.int64_value = type == PJRT_NamedValue_kBool ? script.Below(2) : script.Number();
    }
    list.push_back(value);
  }
  *values = list.data();
  return args == nullptr ? nullptr : Fault();
}

PJRT_Buffer* NewBuffer() { return new PJRT_Buffer{}; }

PJRT_Api MakeTable() {
  PJRT_Api t{};
  t.struct_size = sizeof(t);
  t.pjrt_api_version = {PJRT_Api_Version_STRUCT_SIZE, nullptr, PJRT_API_MAJOR, 100};
  t.PJRT_Plugin_Initialize = [](PJRT_Plugin_Initialize_Args*) -> PJRT_Error* { return nullptr; };
  t.PJRT_Plugin_Attributes = [](PJRT_Plugin_Attributes_Args* a) {
    return Attributes(a, &a->attributes, &a->num_attributes);
  };
  t.PJRT_Error_Destroy = [](PJRT_Error_Destroy_Args* a) { delete a->error; };
  t.PJRT_Error_Message = [](PJRT_Error_Message_Args* a) {
    a->message = a->error->message.data();
    a->message_size = a->error->message.size();
  };
  t.PJRT_Error_GetCode = [](PJRT_Error_GetCode_Args* a) -> PJRT_Error* {
    std::memcpy(&a->code, &a->error->code, sizeof(int));
    return Fault();
  };

  // ---- events
  t.PJRT_Event_Destroy = [](PJRT_Event_Destroy_Args* a) -> PJRT_Error* {
    delete a->event;
    return nullptr;
  };
  t.PJRT_Event_IsReady = [](PJRT_Event_IsReady_Args* a) -> PJRT_Error* {
    a->is_ready = script.Flag();
    return Fault();
  };
  t.PJRT_Event_Error = [](PJRT_Event_Error_Args* a) -> PJRT_Error* { return FaultOf(*a->event); };
  t.PJRT_Event_OnReady = [](PJRT_Event_OnReady_Args* a) -> PJRT_Error* {
    if (PJRT_Error* fault = Fault()) return fault;
    const auto call = [callback = a->callback, argument = a->user_arg, event = a->event] {
      callback(FaultOf(*event), argument);
    };
    if (script.Flag()) {
      Later().emplace_back(call);
    } else {
      call();
    }
    return nullptr;
  };

  // ---- client, devices, memories
  t.PJRT_Client_Create = Function<PJRT_Client_Create_Args>([](auto* a) { a->client = new PJRT_Client; });
  t.PJRT_Client_Destroy = [](PJRT_Client_Destroy_Args* a) -> PJRT_Error* {
    delete a->client;
    return nullptr;
  };
  t.PJRT_Client_PlatformName = Function<PJRT_Client_PlatformName_Args>([](auto* a) {
    if (script.Flag()) return Text(&a->platform_name, &a->platform_name_size);
    a->platform_name = "cpu";
    a->platform_name_size = 3;
  });
  t.PJRT_Client_PlatformVersion = Function<PJRT_Client_PlatformVersion_Args>(
      [](auto* a) { Text(&a->platform_version, &a->platform_version_size); });
  t.PJRT_Client_AddressableDevices = Function<PJRT_Client_AddressableDevices_Args>([](auto* a) {
    static PJRT_Device* all[kMostDevices] = {&devices[0], &devices[1], &devices[2]};
    a->addressable_devices = all;
    a->num_addressable_devices = script.Byte() % (kMostDevices + 1);
  });
  t.PJRT_Device_GetDescription =
      Function<PJRT_Device_GetDescription_Args>([](auto* a) { a->device_description = &description; });
  t.PJRT_Device_LocalHardwareId = Function<PJRT_Device_LocalHardwareId_Args>(
      [](auto* a) { a->local_hardware_id = static_cast<int>(script.Number()); });
  t.PJRT_Device_AddressableMemories = Function<PJRT_Device_AddressableMemories_Args>([](auto* a) {
    static PJRT_Memory* all[2] = {&memories[0], &memories[1]};
    a->memories = all;
    a->num_memories = script.Byte() % 3;
  });
  t.PJRT_Device_DefaultMemory =
      Function<PJRT_Device_DefaultMemory_Args>([](auto* a) { a->memory = &memories[script.Below(2)]; });
  t.PJRT_DeviceDescription_Id =
      Function<PJRT_DeviceDescription_Id_Args>([](auto* a) { a->id = static_cast<int>(script.Number()); });
  t.PJRT_DeviceDescription_Kind =
      Function<PJRT_DeviceDescription_Kind_Args>([](auto* a) { Text(&a->device_kind, &a->device_kind_size); });
  t.PJRT_DeviceDescription_DebugString =
      Function<PJRT_DeviceDescription_DebugString_Args>([](auto* a) { Text(&a->debug_string, &a->debug_string_size); });
  t.PJRT_DeviceDescription_Attributes = [](PJRT_DeviceDescription_Attributes_Args* a) {
    return Attributes(a, &a->attributes, &a->num_attributes);
  };
  t.PJRT_Memory_Kind = Function<PJRT_Memory_Kind_Args>([](auto* a) { Text(&a->kind, &a->kind_size); });
  t.PJRT_Memory_Kind_Id =
      Function<PJRT_Memory_Kind_Id_Args>([](auto* a) { a->kind_id = static_cast<int>(script.Number()); });
  t.PJRT_Memory_DebugString =
      Function<PJRT_Memory_DebugString_Args>([](auto* a) { Text(&a->debug_string, &a->debug_string_size); });

  // ---- programs
  t.PJRT_Client_Compile =
      Function<PJRT_Client_Compile_Args>([](auto* a) { a->executable = new PJRT_LoadedExecutable{0}; });
  t.PJRT_LoadedExecutable_Destroy = [](PJRT_LoadedExecutable_Destroy_Args* a) -> PJRT_Error* {
    delete a->executable;
    return nullptr;
  };
  t.PJRT_Executable_Destroy = [](PJRT_Executable_Destroy_Args* a) -> PJRT_Error* {
    delete a->executable;
    return nullptr;
  };
  t.PJRT_LoadedExecutable_GetExecutable = Function<PJRT_LoadedExecutable_GetExecutable_Args>(
      [](auto* a) { a->executable = new PJRT_Executable{a->loaded_executable}; });
  t.PJRT_LoadedExecutable_AddressableDevices = Function<PJRT_LoadedExecutable_AddressableDevices_Args>([](auto* a) {
    static PJRT_Device* all[kMostDevices] = {&devices[0], &devices[1], &devices[2]};
    a->addressable_devices = all;
    a->num_addressable_devices = script.Byte() < 224 ? 1 : script.Byte() % (kMostDevices + 1);
  });
  t.PJRT_Executable_NumOutputs = Function<PJRT_Executable_NumOutputs_Args>(
      [](auto* a) { a->num_outputs = a->executable->loaded->outputs = Count(); });
  t.PJRT_Executable_OutputElementTypes = Function<PJRT_Executable_OutputElementTypes_Args>([](auto* a) {
    static auto& types = *new std::vector<int>;
    types.clear();
    a->num_output_types = SmallCount() % 3;
    for (size_t i = 0; i < a->num_output_types; ++i) {
      types.push_back(script.Byte() < 224 ? PJRT_Buffer_Type_F32 : static_cast<int>(script.Number()));
    }
    a->output_types = reinterpret_cast<PJRT_Buffer_Type*>(types.data());
  });
  t.PJRT_Executable_OutputDimensions = Function<PJRT_Executable_OutputDimensions_Args>([](auto* a) {
    static auto& ranks = *new std::vector<size_t>;
    ranks.clear();
    a->num_outputs = SmallCount() % 3;
    size_t total = 0;
    for (size_t i = 0; i < a->num_outputs; ++i) {
      ranks.push_back(script.Byte() < 250 ? SmallCount() : 70);
      total += ranks.back();
    }
    a->dims = ListOf(total, [] { return script.Number(); });
    a->dim_sizes = ranks.data();
  });
  t.PJRT_Executable_OutputMemoryKinds = Function<PJRT_Executable_OutputMemoryKinds_Args>([](auto* a) {
    static auto& kinds = *new std::vector<const char*>;
    static auto& sizes = *new std::vector<size_t>;
    a->num_outputs = SmallCount();
    kinds.assign(a->num_outputs, nullptr);
    sizes.assign(a->num_outputs, 0);
    for (size_t i = 0; i < a->num_outputs; ++i) Text(&kinds[i], &sizes[i]);
    a->memory_kinds = kinds.data();
    a->memory_kind_sizes = sizes.data();
  });
  t.PJRT_Executable_Fingerprint = Function<PJRT_Executable_Fingerprint_Args>(
      [](auto* a) { Text(&a->executable_fingerprint, &a->executable_fingerprint_size); });
  t.PJRT_Executable_SizeOfGeneratedCodeInBytes =
      Function<PJRT_Executable_SizeOfGeneratedCodeInBytes_Args>([](auto* a) { a->size_in_bytes = script.Number(); });
  t.PJRT_Executable_GetCompiledMemoryStats =
      Function<PJRT_Executable_GetCompiledMemoryStats_Args>([](auto* a) { a->temp_size_in_bytes = script.Number(); });
  t.PJRT_Executable_OptimizedProgram = Function<PJRT_Executable_OptimizedProgram_Args>([](auto* a) {
    static auto& code = *new std::string;
    PJRT_Program& program = *a->program;
    program.format = script.OneIn(8) ? "mlir" : "hlo";
    program.format_size = std::strlen(program.format);
    if (program.code == nullptr) {
      code = script.Bytes(48);
      program.code_size = script.Byte() < 240 ? code.size() : static_cast<size_t>(script.Number());
      return;
    }
    std::memcpy(program.code, code.data(), std::min(code.size(), program.code_size));
  });
  t.PJRT_Executable_GetCostAnalysis = [](PJRT_Executable_GetCostAnalysis_Args* a) {
    return Attributes(a, &a->properties, &a->num_properties);
  };
  t.PJRT_LoadedExecutable_Execute = Function<PJRT_LoadedExecutable_Execute_Args>([](auto* a) {
    for (size_t d = 0; d < a->num_devices; ++d) {
      for (size_t o = 0; o < a->executable->outputs; ++o) a->output_lists[d][o] = NewBuffer();
      a->device_complete_events[d] = NewEvent();
    }
  });

  // ---- buffers
  t.PJRT_Client_BufferFromHostBuffer = Function<PJRT_Client_BufferFromHostBuffer_Args>([](auto* a) {
    a->buffer = NewBuffer();
    a->done_with_host_buffer = NewEvent();
  });
  t.PJRT_Buffer_Destroy = [](PJRT_Buffer_Destroy_Args* a) -> PJRT_Error* {
    delete a->buffer;
    return nullptr;
  };
  t.PJRT_Buffer_ReadyEvent = Function<PJRT_Buffer_ReadyEvent_Args>([](auto* a) { a->event = NewEvent(); });
  t.PJRT_Buffer_OnDeviceSizeInBytes = Function<PJRT_Buffer_OnDeviceSizeInBytes_Args>(
      [](auto* a) { a->on_device_size_in_bytes = static_cast<size_t>(script.Number()); });
  t.PJRT_Buffer_ToHostBuffer = Function<PJRT_Buffer_ToHostBuffer_Args>([](auto* a) {
    std::memset(a->dst, 'p', a->dst_size);
    a->event = NewEvent();
  });
  t.PJRT_Buffer_IsOnCpu = Function<PJRT_Buffer_IsOnCpu_Args>([](auto* a) { a->is_on_cpu = script.Flag(); });
  t.PJRT_Buffer_GetMemoryLayout = Function<PJRT_Buffer_GetMemoryLayout_Args>([](auto* a) {
    const int type = script.Below(3);
    std::memcpy(&a->layout.type, &type, sizeof(type));
    PJRT_Buffer_MemoryLayout_Tiled& tiled = a->layout.tiled;
    tiled.minor_to_major_size = SmallCount();
    const bool row_major = script.Flag();
    int64_t next = static_cast<int64_t>(tiled.minor_to_major_size);
    tiled.minor_to_major = ListOf(tiled.minor_to_major_size, [&] { return row_major ? --next : script.Number(); });
    tiled.num_tiles = script.OneIn(8) ? 1 : 0;
  });
  t.PJRT_Buffer_OpaqueDeviceMemoryDataPointer = Function<PJRT_Buffer_OpaqueDeviceMemoryDataPointer_Args>([](auto* a) {
    // As large as any that the target makes.
    a->buffer->bytes.resize(4096);
    a->device_memory_ptr = script.OneIn(8) ? nullptr : a->buffer->bytes.data();
  });
  t.PJRT_Buffer_CopyToMemory = Function<PJRT_Buffer_CopyToMemory_Args>([](auto* a) { a->dst_buffer = NewBuffer(); });
  return t;
}

PJRT_Layouts_Extension MakeLayouts() {
  PJRT_Layouts_Extension e{};
  e.base.struct_size = sizeof(e);
  e.base.type = PJRT_Extension_Type_Layouts;
  e.PJRT_Layouts_MemoryLayout_Destroy = [](PJRT_Layouts_MemoryLayout_Destroy_Args* a) -> PJRT_Error* {
    delete a->layout;
    return Fault();
  };
  e.PJRT_Layouts_MemoryLayout_Serialize = Function<PJRT_Layouts_MemoryLayout_Serialize_Args>([](auto* a) {
    Text(&a->serialized_bytes, &a->serialized_bytes_size);
    a->serialized_layout = new PJRT_Layouts_SerializedLayout;
    a->serialized_layout_deleter = [](PJRT_Layouts_SerializedLayout* layout) { delete layout; };
  });
  e.PJRT_Layouts_PJRT_Client_GetDefaultLayout = Function<PJRT_Layouts_PJRT_Client_GetDefaultLayout_Args>(
      [](auto* a) { a->layout = new PJRT_Layouts_MemoryLayout; });
  return e;
}

PJRT_FFI_Extension MakeFfi() {
  PJRT_FFI_Extension e{};
  e.base.struct_size = sizeof(e);
  e.base.type = PJRT_Extension_Type_FFI;
  e.PJRT_FFI_Register_Handler = [](PJRT_FFI_Register_Handler_Args*) -> PJRT_Error* { return nullptr; };
  return e;
}

}  // namespace

extern "C" const PJRT_Api* GetPjrtApi() {
  static PJRT_Api table = MakeTable();
  static PJRT_Layouts_Extension layouts = MakeLayouts();
  static PJRT_FFI_Extension ffi = MakeFfi();
  table.extension_start = &layouts.base;
  layouts.base.next = &ffi.base;
  return &table;
}

// The answers from now on.
extern "C" void FuzzPluginScript(const uint8_t* data, size_t size) {
  script = FuzzInput(data, size);
  Texts().clear();
  Numbers().clear();
}

// Calls what waits for an event; false where nothing does.
extern "C" bool FuzzPluginCallOne() {
  if (Later().empty()) return false;
  const auto call = std::move(Later().front());
  Later().pop_front();
  call();
  return true;
}
