// A PJRT plugin of another time, for pjrt_api_test.cc: its table is cut off behind the first functions, or it is of
// another major version (FAKE_MAJOR). What lies behind the cut must never be looked at: it is filled with addresses
// that crash.
#include <cstring>

#include "pjrt_c_api.h"

namespace {

PJRT_Error* Initialize(PJRT_Plugin_Initialize_Args*) { return nullptr; }

PJRT_Error* DestroyEvent(PJRT_Event_Destroy_Args*) { return nullptr; }

}  // namespace

extern "C" const PJRT_Api* GetPjrtApi() {
  static PJRT_Api api;
  std::memset(&api, 0x5a, sizeof(api));
  api.struct_size = offsetof(PJRT_Api, PJRT_Event_IsReady);
  api.extension_start = nullptr;
  api.pjrt_api_version = {PJRT_Api_Version_STRUCT_SIZE, nullptr, FAKE_MAJOR, 1};
  api.PJRT_Plugin_Initialize = Initialize;
  api.PJRT_Plugin_Attributes = nullptr;
  api.PJRT_Event_Destroy = DestroyEvent;
  return &api;
}
