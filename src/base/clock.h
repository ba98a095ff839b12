// The seam to time: the live clock, or the simulator's.
#ifndef CAUSEWAY_BASE_CLOCK_H_
#define CAUSEWAY_BASE_CLOCK_H_

#include <chrono>

#include "absl/time/time.h"

namespace causeway {

// Time by which silence is measured. Only differences mean anything: setting the system's clock does not move it, and
// it stands still while the machine sleeps, or whoever closes a laptop would find all workers lost.
inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// Thread-safe. Never goes back within one process. Says nothing about the time of day.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return SteadyNow(); }
};

}  // namespace causeway

#endif  // CAUSEWAY_BASE_CLOCK_H_
