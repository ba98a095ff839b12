// What is remembered of streams that are not, or no longer, known here: a bounded table that forgets its oldest entry.
//
//   RecentStreams<absl::Status> refused;
//   refused.Put(id, status);
//   if (absl::Status* status = refused.Find(id)) {...; refused.Erase(id); }
//
// Threading: none of its own.
#ifndef CAUSEWAY_NET_RECENT_STREAMS_H_
#define CAUSEWAY_NET_RECENT_STREAMS_H_

#include <cstddef>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/ids.h"

namespace causeway {

// Far more than are ever in flight between two processes.
inline constexpr size_t kMaxRecentStreams = 65536;

template <typename Value>
class RecentStreams {
 public:
  // Replaces what is known of `id`.
  void Put(StreamId id, Value value) {
    Erase(id);
    if (entries_.size() == kMaxRecentStreams) Erase(entries_.front().first);
    entries_.emplace_back(id, std::move(value));
    by_id_[id] = std::prev(entries_.end());
  }

  // Null: nothing is known. Valid until the next change.
  Value* Find(StreamId id) {
    const auto it = by_id_.find(id);
    return it == by_id_.end() ? nullptr : &it->second->second;
  }

  // False: nothing was known.
  bool Erase(StreamId id) {
    const auto it = by_id_.find(id);
    if (it == by_id_.end()) return false;
    entries_.erase(it->second);
    by_id_.erase(it);
    return true;
  }

  // Oldest first, as pairs of id and value.
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  void Clear() {
    entries_.clear();
    by_id_.clear();
  }

 private:
  using Entries = std::list<std::pair<StreamId, Value>>;

  Entries entries_;  // oldest first
  absl::flat_hash_map<StreamId, typename Entries::iterator> by_id_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_RECENT_STREAMS_H_
