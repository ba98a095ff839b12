// A KeyValueStore as the C API's callbacks.
//
// Threading: the callbacks come on the plugin's threads, and block them while the store does.
// Lifetime: the store outlives the client that is made with it: a plugin may ask as long as its client lives.
#ifndef CAUSEWAY_PJRT_KEY_VALUE_CALLBACKS_H_
#define CAUSEWAY_PJRT_KEY_VALUE_CALLBACKS_H_

#include "pjrt/key_value_store.h"
#include "pjrt_c_api.h"

namespace causeway {

void SetKeyValueCallbacks(KeyValueStore* store, PJRT_Client_Create_Args& args);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_KEY_VALUE_CALLBACKS_H_
