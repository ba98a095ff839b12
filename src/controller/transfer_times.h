// How long transfers between workers take, as measured: by size, a power of two apart.
//
//   times.Add(1 << 20, absl::Milliseconds(1));
//   times.Expect(1 << 20)           // about a millisecond
//
// Threading: none of its own; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_TRANSFER_TIMES_H_
#define CAUSEWAY_CONTROLLER_TRANSFER_TIMES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "absl/time/time.h"

namespace causeway {

class TransferTimes {
 public:
  void Add(int64_t bytes, absl::Duration time) {
    absl::Duration& known = times_[Class(bytes)];
    known = known == absl::ZeroDuration() ? time : known * 0.75 + time * 0.25;
  }

  // Zero where nothing as small was ever measured.
  absl::Duration Expect(int64_t bytes) const {
    for (size_t i = Class(bytes) + 1; i-- > 0;) {
      if (times_[i] != absl::ZeroDuration()) return times_[i];
    }
    return absl::ZeroDuration();
  }

 private:
  static size_t Class(int64_t bytes) { return std::bit_width(static_cast<uint64_t>(std::max<int64_t>(bytes, 0))); }

  std::array<absl::Duration, 65> times_{};
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_TRANSFER_TIMES_H_
