// The user contexts of one client: which of them it may forget, and which it still needs to explain an error.
//
// A user context is a Python traceback that the client keeps while a request that carried its id has not been returned.
// An error that names the id shows the traceback, so the context of what makes arrays is kept until that is done, and
// longer where it failed. One return is held back for that; all others are given at once.
//
//   contexts.Opened(7);                // a launch was accepted
//   contexts.Answered(7);              // its request is answered: held back
//   contexts.Closed(7, false);         // it is done
//   contexts.TakeForgettable(list);    // 7
//
// Every id that Answered names comes out of TakeForgettable as often, once all is closed and no failure keeps it. The
// client aborts on an id that comes too often, so nothing but Answered makes one come out.
//
// Threading: none of its own; the session's output lock.
#ifndef CAUSEWAY_IFRT_USER_CONTEXTS_H_
#define CAUSEWAY_IFRT_USER_CONTEXTS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "google/protobuf/repeated_field.h"

namespace causeway {

class UserContexts {
 public:
  // Of so many failures the contexts are kept; then the oldest goes. Half a kilobyte each in the client.
  static constexpr size_t kMaxFailed = 1024;

  // As ClientActions::OriginOpened and OriginClosed.
  void Opened(uint64_t id);
  void Closed(uint64_t id, bool failed);

  // A request that carried `id`, which is not 0, is answered. `Opened` for what it made has come.
  void Answered(uint64_t id);

  // Whether the client has the context now, and will have it when it reads what is sent now.
  bool IsKept(uint64_t id) const { return kept_.contains(id); }

  // Appends the ids that the client is to forget with the next response, once for each return.
  void TakeForgettable(google::protobuf::RepeatedField<uint64_t>& to);

 private:
  struct Kept {
    int64_t open = 0;
    bool failed = false;    // in failed_
    bool returned = false;  // a request that carried it was answered, and its return is held back
  };
  using KeptById = absl::flat_hash_map<uint64_t, Kept>;

  void DropIfUnneeded(KeptById::iterator kept);

  KeptById kept_;
  std::deque<uint64_t> failed_;  // oldest first
  std::vector<uint64_t> forgettable_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_USER_CONTEXTS_H_
