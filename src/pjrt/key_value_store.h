// The seam through which the plugins of several processes meet while they make one client together: names and values
// that all of them see. What a plugin puts there is its own affair (the topology of its host, keys of NCCL's rings).
//
// Threading: thread-safe; Get blocks.
#ifndef CAUSEWAY_PJRT_KEY_VALUE_STORE_H_
#define CAUSEWAY_PJRT_KEY_VALUE_STORE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace causeway {

class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;

  // ALREADY_EXISTS where the key has a value.
  virtual absl::Status Put(const std::string& key, const std::string& value) = 0;

  // Waits until somebody has put it. DEADLINE_EXCEEDED: nobody did; NOT_FOUND: with no patience, it is not there.
  virtual absl::StatusOr<std::string> Get(const std::string& key, absl::Duration patience) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_KEY_VALUE_STORE_H_
