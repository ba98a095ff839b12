#include "base/timer_thread.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace causeway {
namespace {

// Waits are cut to this: the sum of now and "for ever" would overflow in the library.
constexpr absl::Duration kLongestWait = absl::Hours(1);

// Unasked, Linux lets a sleeping thread lie for another 50 us, to wake several at once.
constexpr unsigned long kSlackNs = 1;

}  // namespace

TimerThread::TimerThread() : thread_([this] { Loop(); }) {}

TimerThread::~TimerThread() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void TimerThread::RunAfter(absl::Duration delay, std::function<void()> call) {
  RunAt(SteadyNow() + delay, std::move(call));
}

void TimerThread::RunAt(absl::Time at, std::function<void()> call) {
  MutexLock lock(&mutex_);
  const auto added = calls_.emplace(at, std::move(call));
  // Behind another one it makes no difference to when the thread has to wake.
  if (added == calls_.begin()) changed_.Signal();
}

void TimerThread::Loop() {
  pthread_setname_np(pthread_self(), "cw-timer");
  prctl(PR_SET_TIMERSLACK, kSlackNs, 0, 0, 0);
  while (true) {
    std::function<void()> call;
    {
      MutexLock lock(&mutex_);
      while (!stopping_) {
        if (calls_.empty()) {
          changed_.Wait(&mutex_);
        } else if (const absl::Duration left = calls_.begin()->first - SteadyNow(); left > absl::ZeroDuration()) {
          changed_.WaitWithTimeout(&mutex_, std::min(left, kLongestWait));
        } else {
          break;
        }
      }
      if (calls_.empty()) return;
      call = std::move(calls_.begin()->second);
      calls_.erase(calls_.begin());
    }
    call();
  }
}

}  // namespace causeway
