#include "sim/timer_thread.h"

#include <utility>

#include "absl/time/clock.h"

namespace causeway {

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
  MutexLock lock(&mutex_);
  calls_.emplace(absl::Now() + delay, std::move(call));
  changed_.Signal();
}

void TimerThread::Loop() {
  while (true) {
    std::function<void()> call;
    {
      MutexLock lock(&mutex_);
      while (!stopping_) {
        if (calls_.empty()) {
          changed_.Wait(&mutex_);
        } else if (const absl::Duration left = calls_.begin()->first - absl::Now(); left > absl::ZeroDuration()) {
          changed_.WaitWithTimeout(&mutex_, left);
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
