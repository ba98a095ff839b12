#include "controller/clock_offset.h"

#include <algorithm>

#include "base/saturate.h"

namespace causeway {
namespace {

// Two ordinary quartz clocks, 50 millionths apart.
constexpr int64_t kDriftDivisor = 20'000;

}  // namespace

void ClockOffset::Add(int64_t asked_ns, int64_t said_ns, int64_t answered_ns) {
  const int64_t least = SaturatingSubtract(said_ns, answered_ns);
  const int64_t most = SaturatingSubtract(said_ns, asked_ns);
  may_be_same_ = may_be_same_ && least <= 0 && most >= 0;
  if (!known_) first_ns_ = asked_ns;
  last_ns_ = answered_ns;
  if (known_ && SaturatingSubtract(most, least) >= SaturatingSubtract(most_ns_, least_ns_)) return;
  known_ = true;
  least_ns_ = least;
  most_ns_ = most;
  best_at_ns_ = answered_ns;
}

int64_t ClockOffset::offset_ns() const {
  return may_be_same_ ? 0 : least_ns_ + SaturatingSubtract(most_ns_, least_ns_) / 2;
}

int64_t ClockOffset::error_ns() const {
  if (!known_) return -1;
  if (may_be_same_) return std::max(SaturatingSubtract(0, least_ns_), most_ns_);
  const int64_t apart = std::max(SaturatingSubtract(best_at_ns_, first_ns_), SaturatingSubtract(last_ns_, best_at_ns_));
  return SaturatingAdd(SaturatingSubtract(most_ns_, least_ns_) / 2 + 1, apart / kDriftDivisor);
}

}  // namespace causeway
