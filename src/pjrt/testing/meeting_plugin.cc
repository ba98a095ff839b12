// A PJRT plugin whose clients are made by several processes together, as those of GPUs are, for key_value_test.cc: each
// puts the number of its node, and waits for that of each other. It has no devices; what a client learnt is its
// platform's version.
#include <cstdlib>
#include <cstring>
#include <string>

#include "pjrt_c_api.h"

struct PJRT_Error {
  PJRT_Error_Code code;
  std::string message;
};
struct PJRT_Client {
  std::string learnt;
};

namespace {

constexpr int kPatienceMs = 500;

PJRT_Error* MakeError(PJRT_Error_Code code, const char* message, size_t size) {
  return new PJRT_Error{code, std::string(message, size)};
}
PJRT_CallbackError make_error = MakeError;

void DestroyError(PJRT_Error_Destroy_Args* args) { delete args->error; }
void ErrorMessage(PJRT_Error_Message_Args* args) {
  args->message = args->error->message.data();
  args->message_size = args->error->message.size();
}
PJRT_Error* ErrorCode(PJRT_Error_GetCode_Args* args) {
  args->code = args->error->code;
  return nullptr;
}
PJRT_Error* Initialize(PJRT_Plugin_Initialize_Args*) { return nullptr; }

int64_t Option(const PJRT_Client_Create_Args& args, const std::string& name) {
  for (size_t i = 0; i < args.num_options; ++i) {
    const PJRT_NamedValue& option = args.create_options[i];
    if (name == std::string(option.name, option.name_size)) return option.int64_value;
  }
  return -1;
}

PJRT_Error* CreateClient(PJRT_Client_Create_Args* args) {
  const int64_t node = Option(*args, "node_id");
  const int64_t nodes = Option(*args, "num_nodes");
  if (node < 0 || args->kv_put_callback == nullptr || args->kv_try_get_callback == nullptr) {
    const std::string text = "this plugin's clients are made by several processes together";
    return MakeError(PJRT_Error_Code_FAILED_PRECONDITION, text.data(), text.size());
  }
  const std::string key = "node/" + std::to_string(node);
  const std::string value("topology of\0", 12);
  PJRT_KeyValueTryGetCallback_Args look{};
  look.key = key.data();
  look.key_size = key.size();
  look.callback_error = &make_error;
  look.user_arg = args->kv_try_get_user_arg;
  PJRT_Error* const absent = args->kv_try_get_callback(&look);
  if (absent == nullptr || absent->code != PJRT_Error_Code_NOT_FOUND) return absent;
  delete absent;
  PJRT_KeyValuePutCallback_Args put{};
  const std::string full = value + std::to_string(node);
  put.key = key.data();
  put.key_size = key.size();
  put.value = full.data();
  put.value_size = full.size();
  put.callback_error = &make_error;
  put.user_arg = args->kv_put_user_arg;
  if (PJRT_Error* error = args->kv_put_callback(&put)) return error;
  auto* client = new PJRT_Client;
  for (int64_t other = 0; other < nodes; ++other) {
    const std::string theirs = "node/" + std::to_string(other);
    PJRT_KeyValueGetCallback_Args get{};
    get.key = theirs.data();
    get.key_size = theirs.size();
    get.timeout_in_ms = kPatienceMs;
    get.callback_error = &make_error;
    get.user_arg = args->kv_get_user_arg;
    if (PJRT_Error* error = args->kv_get_callback(&get)) {
      delete client;
      return error;
    }
    client->learnt += std::string(get.value, get.value_size).substr(value.size()) + ";";
    get.value_deleter_callback(get.value);
  }
  args->client = client;
  return nullptr;
}

PJRT_Error* DestroyClient(PJRT_Client_Destroy_Args* args) {
  delete args->client;
  return nullptr;
}
PJRT_Error* PlatformName(PJRT_Client_PlatformName_Args* args) {
  args->platform_name = "meeting";
  args->platform_name_size = 7;
  return nullptr;
}
// The way to tell a test what the nodes have said: the client goes no further without devices.
PJRT_Error* PlatformVersion(PJRT_Client_PlatformVersion_Args* args) {
  const std::string text = "learnt " + args->client->learnt;
  return MakeError(PJRT_Error_Code_OUT_OF_RANGE, text.data(), text.size());
}

}  // namespace

extern "C" const PJRT_Api* GetPjrtApi() {
  static PJRT_Api api = [] {
    PJRT_Api table{};
    table.struct_size = PJRT_Api_STRUCT_SIZE;
    table.pjrt_api_version = {PJRT_Api_Version_STRUCT_SIZE, nullptr, 0, 81};
    table.PJRT_Error_Destroy = DestroyError;
    table.PJRT_Error_Message = ErrorMessage;
    table.PJRT_Error_GetCode = ErrorCode;
    table.PJRT_Plugin_Initialize = Initialize;
    table.PJRT_Client_Create = CreateClient;
    table.PJRT_Client_Destroy = DestroyClient;
    table.PJRT_Client_PlatformName = PlatformName;
    table.PJRT_Client_PlatformVersion = PlatformVersion;
    return table;
  }();
  return &api;
}
