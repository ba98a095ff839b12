// Whether a program may be executed on the thread that brings its launch, instead of being handed to the device's own.
//
// A hand-over costs a wake-up (35 us: NETWORK facts), more than handing a small program to a plugin. But a plugin may
// run a program inside Execute for as long as it takes, and the thread that reads the controller's frames must not
// stand still. So a program has to show first, on the device's thread, that Execute returns at once, and loses the
// right when it once does not.
//
//   Pace pace;
//   if (pace.quick()) { run it here } else { hand it over }
//   pace.Ran(duration_of_execute);
//
// Threading: thread-safe; `quick` may be a little behind.
#ifndef CAUSEWAY_WORKER_PACE_H_
#define CAUSEWAY_WORKER_PACE_H_

#include <atomic>

#include "absl/time/time.h"

namespace causeway::worker {

class Pace {
 public:
  // An Execute of up to this long is quick.
  static constexpr absl::Duration kQuick = absl::Microseconds(200);

  // Quick ones in a row that earn the right, and those that it takes after one was slow.
  static constexpr int kProof = 8;
  static constexpr int kProofAfterSlow = 64;

  bool quick() const { return owed_.load(std::memory_order_relaxed) <= 0; }

  void Ran(absl::Duration duration) {
    if (duration > kQuick) {
      owed_.store(kProofAfterSlow, std::memory_order_relaxed);
    } else if (!quick()) {
      owed_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

 private:
  std::atomic<int> owed_ = kProof;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_PACE_H_
