// Counts what was started and has not come back, so that its owner can wait for it before going.
//
//   runtime.ToHost(..., in_flight.Track([block](absl::Status status) {...}));     // counted until that function is
//   destroyed in_flight.WaitForNone();
//
// Threading: thread-safe.
#ifndef CAUSEWAY_WORKER_IN_FLIGHT_H_
#define CAUSEWAY_WORKER_IN_FLIGHT_H_

#include <utility>

#include "base/mutex.h"

namespace causeway::worker {

class InFlight {
 public:
  // One thing in flight for as long as a copy of it lives.
  class Hold {
   public:
    explicit Hold(InFlight& owner) : owner_(&owner) { owner_->Add(1); }
    Hold(const Hold& other) : owner_(other.owner_) { owner_->Add(1); }
    Hold& operator=(const Hold&) = delete;
    ~Hold() { owner_->Add(-1); }

   private:
    InFlight* const owner_;
  };

  // `function`, counted. What it captured is gone before the count falls.
  template <typename Function>
  auto Track(Function function) {
    return Tracked<Function>{Hold(*this), std::move(function)};
  }

  bool none() {
    MutexLock lock(&mu_);
    return count_ == 0;
  }

  void WaitForNone() {
    MutexLock lock(&mu_);
    while (count_ > 0) none_.Wait(&mu_);
  }

 private:
  template <typename Function>
  struct Tracked {
    Hold hold;
    Function function;

    template <typename... Args>
    auto operator()(Args&&... args) {
      return function(std::forward<Args>(args)...);
    }
  };

  void Add(int n) {
    MutexLock lock(&mu_);
    count_ += n;
    if (count_ == 0) none_.SignalAll();
  }

  Mutex mu_;
  CondVar none_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_IN_FLIGHT_H_
