// Which bytes of a stream have come, where its chunks overtake one another: all up to a point, and ranges behind it.
//
//   ArrivedBytes arrived;
//   arrived.Add(100, 200);                     // true
//   arrived.Add(150, 160);                     // false: they had come
//   arrived.Add(0, 100);
//   arrived.prefix();                          // 200
//
// Threading: none of its own. Cost: nothing but an addition for what comes in order.
#ifndef CAUSEWAY_NET_ARRIVED_BYTES_H_
#define CAUSEWAY_NET_ARRIVED_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

namespace causeway {

class ArrivedBytes {
 public:
  // Adds [begin, end), where 0 <= begin < end. False: some of it had come, and nothing is added.
  bool Add(int64_t begin, int64_t end) {
    if (begin < prefix_) return false;
    auto next = beyond_.lower_bound(begin);
    if (next != beyond_.end() && next->first < end) return false;
    const auto before = next == beyond_.begin() ? beyond_.end() : std::prev(next);
    if (before != beyond_.end() && before->second > begin) return false;
    bytes_ += end - begin;
    if (next != beyond_.end() && next->first == end) {
      end = next->second;
      beyond_.erase(next);
    }
    if (begin == prefix_) {
      prefix_ = end;
    } else if (before != beyond_.end() && before->second == begin) {
      before->second = end;
    } else {
      beyond_.emplace(begin, end);
    }
    return true;
  }

  // All before this has come.
  int64_t prefix() const { return prefix_; }
  int64_t bytes() const { return bytes_; }
  // Ranges behind what is missing first.
  size_t islands() const { return beyond_.size(); }

 private:
  int64_t prefix_ = 0;
  int64_t bytes_ = 0;
  std::map<int64_t, int64_t> beyond_;  // begin to end; neither overlap nor touch one another or the prefix
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_ARRIVED_BYTES_H_
