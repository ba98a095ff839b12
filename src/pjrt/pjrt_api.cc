#include "pjrt/pjrt_api.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace causeway {
namespace {

// A function's name from the mangled name of its arguments' struct, which is a global one:
// "24PJRT_Buffer_Destroy_Args".
std::string FunctionName(absl::string_view mangled_args) {
  const size_t start = std::min(mangled_args.find_first_not_of("0123456789"), mangled_args.size());
  mangled_args.remove_prefix(start);
  constexpr absl::string_view kSuffix = "_Args";
  if (mangled_args.size() > kSuffix.size()) mangled_args.remove_suffix(kSuffix.size());
  return std::string(mangled_args);
}

}  // namespace

PjrtApi::PjrtApi(std::string path, const PJRT_Api* plugin_table) : path_(std::move(path)) {
  std::memcpy(&table_, plugin_table, std::min(sizeof(table_), plugin_table->struct_size));
}

absl::StatusOr<const PjrtApi*> PjrtApi::Load(const std::string& path) {
  static Mutex mutex;
  static auto& loaded = *new std::map<std::string, std::unique_ptr<PjrtApi>>;  // by real path; for the process's life

  std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
  if (real == nullptr) return absl::NotFoundError(absl::StrCat("no PJRT plugin at ", path, ": ", strerror(errno)));

  MutexLock lock(&mutex);
  std::unique_ptr<PjrtApi>& api = loaded[real.get()];
  if (api == nullptr) {
    ASSIGN_OR_RETURN(api, Open(real.get()));
  }
  return api.get();
}

absl::StatusOr<std::unique_ptr<PjrtApi>> PjrtApi::Open(const std::string& path) {
  // NODELETE: the plugin's threads and static objects would not survive an unload.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("the PJRT plugin cannot be loaded: ", dlerror()));
  }
  auto get_api = reinterpret_cast<const PJRT_Api* (*)()>(dlsym(library, "GetPjrtApi"));
  if (get_api == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is no PJRT plugin: it has no symbol GetPjrtApi"));
  }
  const PJRT_Api* table = get_api();
  constexpr size_t kHead = offsetof(PJRT_Api, pjrt_api_version) + sizeof(PJRT_Api_Version);
  if (table == nullptr || table->struct_size < kHead) {
    return absl::FailedPreconditionError(absl::StrCat(path, " gives no PJRT function table"));
  }
  if (table->pjrt_api_version.major_version != PJRT_API_MAJOR) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " speaks PJRT C API ", table->pjrt_api_version.major_version, ".",
                     table->pjrt_api_version.minor_version, "; this build speaks major version ", PJRT_API_MAJOR));
  }
  std::unique_ptr<PjrtApi> api(new PjrtApi(path, table));
  PjrtArgs<PJRT_Plugin_Initialize_Args> args;
  RETURN_IF_ERROR(api->Call(api->table().PJRT_Plugin_Initialize, args));
  return api;
}

absl::Status PjrtApi::Consume(PJRT_Error* error) const {
  if (error == nullptr) return absl::OkStatus();
  PjrtArgs<PJRT_Error_Message_Args> message;
  message.error = error;
  table().PJRT_Error_Message(&message);
  PjrtArgs<PJRT_Error_GetCode_Args> code;
  code.error = error;
  PJRT_Error* nested = table().PJRT_Error_GetCode(&code);

  const bool has_code = nested == nullptr && code.code != PJRT_Error_Code_OK;
  absl::Status status(has_code ? static_cast<absl::StatusCode>(code.code) : absl::StatusCode::kUnknown,
                      PluginText(message.message, message.message_size));
  for (PJRT_Error* e : {error, nested}) {
    if (e == nullptr) continue;
    PjrtArgs<PJRT_Error_Destroy_Args> destroy;
    destroy.error = e;
    table().PJRT_Error_Destroy(&destroy);
  }
  return status;
}

absl::Status PjrtApi::Lacks(absl::string_view mangled_args) const {
  return absl::UnimplementedError(absl::StrCat("the plugin ", path_, " (PJRT C API ", major_version(), ".",
                                               minor_version(), ") lacks ", FunctionName(mangled_args)));
}

const PJRT_Extension_Base* PjrtApi::Find(int type) const {
  for (const PJRT_Extension_Base* e = table().extension_start; e != nullptr; e = e->next) {
    if (RawEnum(&e->type) == type) return e;
  }
  return nullptr;
}

std::vector<int> PjrtApi::ExtensionTypes() const {
  std::vector<int> types;
  for (const PJRT_Extension_Base* e = table().extension_start; e != nullptr; e = e->next) {
    types.push_back(RawEnum(&e->type));
  }
  return types;
}

std::vector<proto::Attribute> PjrtApi::Attributes() const {
  PjrtArgs<PJRT_Plugin_Attributes_Args> args;
  if (!Call(table().PJRT_Plugin_Attributes, args).ok()) return {};
  return ToAttributes(args.attributes, args.num_attributes);
}

void PjrtDeleter::operator()(PJRT_Client* client) const {
  PjrtArgs<PJRT_Client_Destroy_Args> args;
  args.client = client;
  api->Call(api->table().PJRT_Client_Destroy, args).IgnoreError();
}

void PjrtDeleter::operator()(PJRT_Buffer* buffer) const {
  PjrtArgs<PJRT_Buffer_Destroy_Args> args;
  args.buffer = buffer;
  api->Call(api->table().PJRT_Buffer_Destroy, args).IgnoreError();
}

void PjrtDeleter::operator()(PJRT_Event* event) const {
  PjrtArgs<PJRT_Event_Destroy_Args> args;
  args.event = event;
  api->Call(api->table().PJRT_Event_Destroy, args).IgnoreError();
}

void PjrtDeleter::operator()(PJRT_Executable* executable) const {
  PjrtArgs<PJRT_Executable_Destroy_Args> args;
  args.executable = executable;
  api->Call(api->table().PJRT_Executable_Destroy, args).IgnoreError();
}

void PjrtDeleter::operator()(PJRT_LoadedExecutable* executable) const {
  PjrtArgs<PJRT_LoadedExecutable_Destroy_Args> args;
  args.executable = executable;
  api->Call(api->table().PJRT_LoadedExecutable_Destroy, args).IgnoreError();
}

void CallWhenReady(PjrtEventHandle event, StatusCallback done) {
  if (event == nullptr) return done(absl::OkStatus());
  struct Waiting {
    PjrtEventHandle event;
    StatusCallback done;
  };
  const PjrtApi* api = event.get_deleter().api;
  auto* waiting = new Waiting{std::move(event), std::move(done)};
  PjrtArgs<PJRT_Event_OnReady_Args> args;
  args.event = waiting->event.get();
  args.user_arg = waiting;
  args.callback = [](PJRT_Error* error, void* arg) {
    std::unique_ptr<Waiting> self(static_cast<Waiting*>(arg));
    self->done(self->event.get_deleter().api->Consume(error));
  };
  if (absl::Status status = api->Call(api->table().PJRT_Event_OnReady, args); !status.ok()) {
    std::unique_ptr<Waiting> self(waiting);
    self->done(status);
  }
}

bool IsReady(const PjrtEventHandle& event) {
  if (event == nullptr) return true;
  const PjrtApi* api = event.get_deleter().api;
  PjrtArgs<PJRT_Event_IsReady_Args> ready;
  ready.event = event.get();
  if (!api->Call(api->table().PJRT_Event_IsReady, ready).ok() || !ready.is_ready) return false;
  PjrtArgs<PJRT_Event_Error_Args> error;
  error.event = event.get();
  return api->Call(api->table().PJRT_Event_Error, error).ok();
}

std::string PluginText(const char* text, size_t size) {
  return text == nullptr ? "" : ValidUtf8(absl::string_view(text, size));
}

std::vector<proto::Attribute> ToAttributes(const PJRT_NamedValue* values, size_t count) {
  std::vector<proto::Attribute> attributes;
  for (size_t i = 0; i < count; ++i) {
    const PJRT_NamedValue& value = values[i];
    proto::Attribute attribute;
    attribute.set_name(PluginText(value.name, value.name_size));
    switch (RawEnum(&value.type)) {
      case PJRT_NamedValue_kString:
        attribute.set_string_value(PluginText(value.string_value, value.value_size));
        break;
      case PJRT_NamedValue_kInt64:
        attribute.set_int_value(value.int64_value);
        break;
      case PJRT_NamedValue_kInt64List:
        attribute.mutable_ints()->mutable_values()->Add(value.int64_array_value,
                                                        value.int64_array_value + value.value_size);
        break;
      case PJRT_NamedValue_kFloat:
        attribute.set_double_value(value.float_value);
        break;
      case PJRT_NamedValue_kBool:
        attribute.set_bool_value(value.bool_value);
        break;
    }
    attributes.push_back(std::move(attribute));
  }
  return attributes;
}

}  // namespace causeway
