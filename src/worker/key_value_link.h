// The controller's key-value service, as this process asks it: before it is a worker, and as long as its plugin may
// have questions.
//
//   ASSIGN_OR_RETURN(auto store, KeyValueLink::Connect({.controller = "head:29001", .group = "job7", ...}));
//   ASSIGN_OR_RETURN(std::string topology, store->Get("node/1", absl::Minutes(5)));
//
// Threading: thread-safe; Put and Get block, each for itself.
// Lifetime: a lost link stays lost: UNAVAILABLE from then on, since what the group said is forgotten with its links.
#ifndef CAUSEWAY_WORKER_KEY_VALUE_LINK_H_
#define CAUSEWAY_WORKER_KEY_VALUE_LINK_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace causeway::worker {

struct KeyValueOptions {
  std::string controller;
  std::string token;
  std::string group;
  absl::Duration dial_timeout = absl::Seconds(60);  // a controller that is not there yet is waited for
};

class KeyValueLink {
 public:
  // UNAVAILABLE: no controller is there in time.
  static absl::StatusOr<std::unique_ptr<KeyValueLink>> Connect(const KeyValueOptions& options);
  ~KeyValueLink();

  // As KeyValueStore says (src/pjrt); also FAILED_PRECONDITION and UNAUTHENTICATED where the controller refuses.
  absl::Status Put(const std::string& key, const std::string& value);
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration patience);

 private:
  class Impl;
  explicit KeyValueLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_KEY_VALUE_LINK_H_
