#include "pjrt/key_value_callbacks.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace causeway {
namespace {

KeyValueStore& StoreOf(void* user_arg) { return *static_cast<KeyValueStore*>(user_arg); }

// PJRT_Error_Code has the canonical numbers.
PJRT_Error* ErrorOf(const absl::Status& status, PJRT_CallbackError* make) {
  const std::string text(status.message());
  return (*make)(static_cast<PJRT_Error_Code>(status.code()), text.data(), text.size());
}

void DeleteValue(char* value) { delete[] value; }

template <typename Args>
PJRT_Error* Answer(Args* args, absl::Duration patience) {
  const absl::StatusOr<std::string> value =
      StoreOf(args->user_arg).Get(std::string(args->key, args->key_size), patience);
  if (!value.ok()) return ErrorOf(value.status(), args->callback_error);
  args->value = new char[std::max<size_t>(value->size(), 1)];
  std::memcpy(args->value, value->data(), value->size());
  args->value_size = value->size();
  args->value_deleter_callback = DeleteValue;
  return nullptr;
}

PJRT_Error* Get(PJRT_KeyValueGetCallback_Args* args) {
  return Answer(args, absl::Milliseconds(std::max(args->timeout_in_ms, 0)));
}

PJRT_Error* TryGet(PJRT_KeyValueTryGetCallback_Args* args) { return Answer(args, absl::ZeroDuration()); }

PJRT_Error* Put(PJRT_KeyValuePutCallback_Args* args) {
  const absl::Status put =
      StoreOf(args->user_arg).Put(std::string(args->key, args->key_size), std::string(args->value, args->value_size));
  return put.ok() ? nullptr : ErrorOf(put, args->callback_error);
}

}  // namespace

void SetKeyValueCallbacks(KeyValueStore* store, PJRT_Client_Create_Args& args) {
  args.kv_get_callback = Get;
  args.kv_get_user_arg = store;
  args.kv_put_callback = Put;
  args.kv_put_user_arg = store;
  args.kv_try_get_callback = TryGet;
  args.kv_try_get_user_arg = store;
}

}  // namespace causeway
