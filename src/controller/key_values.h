// What processes of a group tell one another while their plugins make one client of many: names and values, and waiting
// for names that are still to come. A plugin with collectives of its own (NCCL) finds its other halves in this way.
//
//   for (const KeyValues::Reply& reply : values.Put(link, number, "job7", "node/0", topology)) Answer(reply);
//
// A group lasts as long as one of the links that used it: a job that is started again finds nothing of the old one.
//
// Threading: none of its own; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_KEY_VALUES_H_
#define CAUSEWAY_CONTROLLER_KEY_VALUES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "controller/events.h"

namespace causeway {

class KeyValues {
 public:
  struct Limits {
    size_t groups = 1024;
    size_t waits = 65536;                     // in all
    int64_t group_bytes = int64_t{64} << 20;  // keys and values
  };
  // The answer to request `number` of `link`.
  struct Reply {
    LinkId link{0};
    uint64_t number = 0;
    absl::Status status;
    std::string value;
  };

  KeyValues() : limits_() {}
  explicit KeyValues(const Limits& limits) : limits_(limits) {}

  // Each answers what can be answered now: a Put, itself and whoever waited for it. ALREADY_EXISTS where the key has a
  // value; RESOURCE_EXHAUSTED beyond the limits.
  std::vector<Reply> Put(LinkId link, uint64_t number, const std::string& group, const std::string& key,
                         const std::string& value);
  std::vector<Reply> Get(LinkId link, uint64_t number, const std::string& group, const std::string& key,
                         absl::Duration patience, absl::Time now);

  // What was waited for long enough.
  std::vector<Reply> Expire(absl::Time now);

  // The link is gone: nobody waits there, and it keeps no group.
  void Close(LinkId link);

  size_t groups() const { return groups_.size(); }

 private:
  struct Wait {
    LinkId link;
    uint64_t number;
    absl::Time until;
  };
  struct Group {
    std::set<LinkId> links;
    std::map<std::string, std::string> values;
    std::map<std::string, std::vector<Wait>> waits;
    int64_t bytes = 0;
  };

  // Null: there are too many.
  Group* Join(LinkId link, const std::string& group);

  const Limits limits_;
  size_t waits_ = 0;
  std::map<std::string, Group> groups_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_KEY_VALUES_H_
