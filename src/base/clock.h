// The seam to time: the live clock, or the simulator's.
#ifndef CAUSEWAY_BASE_CLOCK_H_
#define CAUSEWAY_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace causeway {

// Thread-safe. Never goes back within one process.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace causeway

#endif  // CAUSEWAY_BASE_CLOCK_H_
