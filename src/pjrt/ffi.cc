#include "pjrt/ffi.h"

#include <map>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace causeway {

absl::Status RegisterFfiHandler(const PjrtApi& api, absl::string_view name, absl::string_view platform, void* handler) {
  // A plugin's registry is the process's, and refuses a name's second registration even of the same handler; but every
  // runtime registers the same kernels.
  static Mutex mutex;
  static auto& registered = *new std::map<std::tuple<const PjrtApi*, std::string, std::string>, void*>;

  const auto extension = api.Extension<PJRT_FFI_Extension>(PJRT_Extension_Type_FFI);
  if (extension.PJRT_FFI_Register_Handler == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("the plugin ", api.path(), " takes no custom calls: no FFI extension"));
  }
  MutexLock lock(&mutex);
  const std::tuple<const PjrtApi*, std::string, std::string> key(&api, platform, name);
  if (const auto it = registered.find(key); it != registered.end()) {
    if (it->second == handler) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat("custom call ", name, " has another handler already"));
  }
  PjrtArgs<PJRT_FFI_Register_Handler_Args> args;
  args.target_name = name.data();
  args.target_name_size = name.size();
  args.handler = handler;
  args.platform_name = platform.data();
  args.platform_name_size = platform.size();
  RETURN_IF_ERROR(api.Call(extension.PJRT_FFI_Register_Handler, args));
  registered.emplace(key, handler);
  return absl::OkStatus();
}

absl::Status RegisterFfiKernels(const PjrtApi& api, absl::string_view platform, absl::Span<const FfiKernel> kernels) {
  for (const FfiKernel& kernel : kernels) {
    RETURN_IF_ERROR(RegisterFfiHandler(api, {kernel.name.data(), kernel.name.size()}, platform, kernel.handler));
  }
  return absl::OkStatus();
}

}  // namespace causeway
