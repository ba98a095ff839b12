// A loaded PJRT plugin: its table of functions, its errors as absl::Status, its extensions.
//
//   ASSIGN_OR_RETURN(const PjrtApi* api, PjrtApi::Load("/path/pjrt_c_api_cpu_plugin.so"));
//   PjrtArgs<PJRT_Client_PlatformName_Args> args;
//   args.client = client;
//   RETURN_IF_ERROR(api->Call(api->table().PJRT_Client_PlatformName, args));
//
// Sizes: the table is a copy, as long as the plugin says its own is, and null behind that; so a function that an older
// plugin lacks is a null pointer, and calling it is UNIMPLEMENTED. Arguments carry our size, so that the plugin touches
// no field past it.
//
// Threading: thread-safe. Lifetime: a plugin is loaded once and stays for the life of the process, since plugins
// start threads that outlive their clients.
#ifndef CAUSEWAY_PJRT_PJRT_API_H_
#define CAUSEWAY_PJRT_PJRT_API_H_

#include <cstring>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pjrt/c_api_newer.h"
#include "worker/device_runtime.h"

namespace causeway {

// Arguments of one call: zeroed, with our size. The room behind them is for plugins that are newer than our header and
// fill their new fields without a look at struct_size (XLA's GetCompiledMemoryStats does).
template <typename T>
struct PjrtArgs : T {
  PjrtArgs() : T{} { this->struct_size = sizeof(T); }

 private:
  [[maybe_unused]] char room_[128] = {};
};

class PjrtApi {
 public:
  // Loads and initialises the plugin at `path`, or gives the one loaded from there before. NOT_FOUND if there is no
  // such file; FAILED_PRECONDITION if it is no PJRT plugin or one of another major version.
  static absl::StatusOr<const PjrtApi*> Load(const std::string& path);

  PjrtApi(const PjrtApi&) = delete;
  PjrtApi& operator=(const PjrtApi&) = delete;

  const std::string& path() const { return path_; }
  int major_version() const { return table_.base.pjrt_api_version.major_version; }
  int minor_version() const { return table_.base.pjrt_api_version.minor_version; }

  const PJRT_Api& table() const { return table_.base; }
  const PJRT_ApiNewer& newer_table() const { return table_; }

  // Calls `function` of the plugin. UNIMPLEMENTED, naming it, if the plugin lacks it (null).
  template <typename T>
  absl::Status Call(PJRT_Error* (*function)(T*), PjrtArgs<T>& args) const {
    if (function == nullptr) return Lacks(typeid(T).name());
    PJRT_Error* error = function(&args);
    return error == nullptr ? absl::OkStatus() : Consume(error);
  }

  // The error as a Status. Takes ownership; null is OK.
  absl::Status Consume(PJRT_Error* error) const;

  // The plugin's extension of this type, null behind the plugin's own size; all null if it has none.
  template <typename T>
  T Extension(int type) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T extension{};
    if (const PJRT_Extension_Base* found = Find(type)) {
      std::memcpy(&extension, found, std::min(sizeof(T), found->struct_size));
    }
    return extension;
  }

  // Types of the plugin's extensions, in the plugin's order.
  std::vector<int> ExtensionTypes() const;

  // What the plugin says of itself: "xla_version", "stablehlo_current_version" and the like. Empty where it does not.
  std::vector<proto::Attribute> Attributes() const;

 private:
  PjrtApi(std::string path, const PJRT_Api* plugin_table);

  static absl::StatusOr<std::unique_ptr<PjrtApi>> Open(const std::string& path);

  absl::Status Lacks(absl::string_view mangled_args) const;
  const PJRT_Extension_Base* Find(int type) const;

  const std::string path_;
  PJRT_ApiNewer table_{};  // null behind the plugin's own size
};

// Owns any of the plugin's objects.
struct PjrtDeleter {
  const PjrtApi* api = nullptr;

  void operator()(PJRT_Client* client) const;
  void operator()(PJRT_Buffer* buffer) const;
  void operator()(PJRT_Event* event) const;
  void operator()(PJRT_Executable* executable) const;
  void operator()(PJRT_LoadedExecutable* executable) const;
};
using PjrtClientHandle = std::unique_ptr<PJRT_Client, PjrtDeleter>;
using PjrtBufferHandle = std::unique_ptr<PJRT_Buffer, PjrtDeleter>;
using PjrtEventHandle = std::unique_ptr<PJRT_Event, PjrtDeleter>;
using PjrtExecutableHandle = std::unique_ptr<PJRT_Executable, PjrtDeleter>;
using PjrtLoadedExecutableHandle = std::unique_ptr<PJRT_LoadedExecutable, PjrtDeleter>;

// Calls `done` once when `event` is ready, with its error if it has one: on a thread of the plugin, or at once on this
// one. A null event is ready.
void CallWhenReady(PjrtEventHandle event, StatusCallback done);

// Whether `event` is ready by now, without an error.
bool IsReady(const PjrtEventHandle& event);

// A text that the plugin gave, as messages can carry it.
std::string PluginText(const char* text, size_t size);

// The plugin's list of named values as ours.
std::vector<proto::Attribute> ToAttributes(const PJRT_NamedValue* values, size_t count);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PJRT_API_H_
