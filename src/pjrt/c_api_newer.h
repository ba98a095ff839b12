// What plugins have and the pinned pjrt_c_api.h (C API 0.81) has not: extensions, whose headers its wheel does not
// carry, and the table's entries after 0.81. Facts: shared/facts/PJRT.md and the _abi module of the wheel pypjrt, which
// states every struct's layout.
//
// Each struct starts with its size. A field of an extension may be touched only if it lies within the plugin's own
// struct_size: PjrtApi::Extension() copies that much and leaves the rest null.
#ifndef CAUSEWAY_PJRT_C_API_NEWER_H_
#define CAUSEWAY_PJRT_C_API_NEWER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pjrt_c_api.h"

namespace causeway {

// The number behind an enum that a plugin wrote, which may be newer than the header's: C++ may not read it as the enum.
template <typename Enum>
int RawEnum(const Enum* value) {
  static_assert(sizeof(Enum) == sizeof(int));
  int raw;
  std::memcpy(&raw, value, sizeof(raw));
  return raw;
}

}  // namespace causeway

// ---------------------------------------------------------------- the table's entries after 0.81

struct PJRT_Executable_ParameterMemoryKinds_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  PJRT_Executable* executable;
  size_t num_parameters;            // out
  const char* const* memory_kinds;  // out; owned by the executable
  const size_t* memory_kind_sizes;  // out
};

// Number of function pointers between LoadedExecutable_GetDeviceAssignment (0.81's last) and
// Executable_ParameterMemoryKinds.
inline constexpr int kEntriesBeforeParameterMemoryKinds = 16;

struct PJRT_ApiNewer {
  PJRT_Api base;
  void* unused[kEntriesBeforeParameterMemoryKinds];
  PJRT_Error* (*PJRT_Executable_ParameterMemoryKinds)(PJRT_Executable_ParameterMemoryKinds_Args* args);
};
static_assert(offsetof(PJRT_ApiNewer, PJRT_Executable_ParameterMemoryKinds) == 40 + 134 * sizeof(void*));

// ---------------------------------------------------------------- layouts, extension 4

struct PJRT_Layouts_MemoryLayout;
struct PJRT_Layouts_SerializedLayout;

struct PJRT_Layouts_MemoryLayout_Destroy_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  PJRT_Layouts_MemoryLayout* layout;
};

struct PJRT_Layouts_MemoryLayout_Serialize_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  PJRT_Layouts_MemoryLayout* layout;
  const char* serialized_bytes;                                       // out; lives as long as serialized_layout
  size_t serialized_bytes_size;                                       // out
  PJRT_Layouts_SerializedLayout* serialized_layout;                   // out
  void (*serialized_layout_deleter)(PJRT_Layouts_SerializedLayout*);  // out; the caller calls it
};

struct PJRT_Layouts_PJRT_Client_GetDefaultLayout_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  PJRT_Client* client;
  PJRT_Buffer_Type type;
  const int64_t* dims;
  size_t num_dims;
  PJRT_Layouts_MemoryLayout* layout;  // out; the caller destroys it
};

struct PJRT_Layouts_Extension {
  PJRT_Extension_Base base;
  PJRT_Error* (*PJRT_Layouts_MemoryLayout_Destroy)(PJRT_Layouts_MemoryLayout_Destroy_Args* args);
  PJRT_Error* (*PJRT_Layouts_MemoryLayout_Serialize)(PJRT_Layouts_MemoryLayout_Serialize_Args* args);
  PJRT_Error* (*PJRT_Layouts_PJRT_Client_GetDefaultLayout)(PJRT_Layouts_PJRT_Client_GetDefaultLayout_Args* args);
};

// ---------------------------------------------------------------- typed FFI, extension 5

// Has no extension_start.
struct PJRT_FFI_Register_Handler_Args {
  size_t struct_size;
  const char* target_name;
  size_t target_name_size;
  void* handler;              // XLA_FFI_Handler*
  const char* platform_name;  // "HOST", "CUDA", ...
  size_t platform_name_size;
  uint32_t traits;
};

struct PJRT_FFI_Type_Info {
  void (*deleter)(void* object);
  void* serialize;
  void* deserialize;
};

struct PJRT_FFI_Type_Register_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  const char* type_name;
  size_t type_name_size;
  int64_t type_id;  // in: 0; out: the plugin's number of it
  PJRT_FFI_Type_Info* type_info;
};

struct PJRT_FFI_UserData {
  int64_t type_id;
  void* data;
};

struct PJRT_FFI_UserData_Add_Args {
  size_t struct_size;
  PJRT_Extension_Base* extension_start;
  PJRT_ExecuteContext* context;
  PJRT_FFI_UserData user_data;
};

struct PJRT_FFI_Extension {
  PJRT_Extension_Base base;
  PJRT_Error* (*PJRT_FFI_Type_Register)(PJRT_FFI_Type_Register_Args* args);
  PJRT_Error* (*PJRT_FFI_UserData_Add)(PJRT_FFI_UserData_Add_Args* args);
  PJRT_Error* (*PJRT_FFI_Register_Handler)(PJRT_FFI_Register_Handler_Args* args);
};

// ---------------------------------------------------------------- transforms of HLO, extension 24

inline constexpr int kXlaTransformExtensionType = 24;

struct PJRT_XlaTransform_Callback_Args {
  size_t struct_size;
  struct {
    int64_t api_version;
    void* data;
    void (*cleanup_fn)(void* data);
    bool has_error;  // out: the compile ends with the error below
    uint32_t code;   // out
    const char* error_message;
    size_t error_message_size;
  } header;
  const char* hlo_module;  // a serialised xla.HloModuleProto
  size_t hlo_module_size;
  const char* transformed_hlo_module;  // out, where `changed`
  size_t transformed_hlo_module_size;
  bool changed;  // out
};
static_assert(offsetof(PJRT_XlaTransform_Callback_Args, hlo_module) == 56);
static_assert(offsetof(PJRT_XlaTransform_Callback_Args, changed) == 88);

struct PJRT_XlaTransform_Callbacks {
  int64_t version;  // 1
  void (*dtor)(PJRT_XlaTransform_Callbacks* callbacks);
  void (*transform_hlo_module)(PJRT_XlaTransform_Callbacks* callbacks, PJRT_XlaTransform_Callback_Args* args);
};

struct PJRT_Register_Xla_Transform_Args {
  size_t struct_size;
  const char* name;
  size_t name_size;
  uint32_t stage;                          // 0: before scheduling
  PJRT_XlaTransform_Callbacks* callbacks;  // kept by the plugin
};
static_assert(sizeof(PJRT_Register_Xla_Transform_Args) == 40);

struct PJRT_XlaTransform_Extension {
  PJRT_Extension_Base base;
  PJRT_Error* (*PJRT_Register_Xla_Transform)(PJRT_Register_Xla_Transform_Args* args);
};

#endif  // CAUSEWAY_PJRT_C_API_NEWER_H_
