// A thread that calls functions later.
//
//   TimerThread timer;
//   timer.RunAfter(absl::Milliseconds(5), [] { ... });
//   timer.RunAt(SteadyNow() + absl::Microseconds(300), [] { ... });
//
// Functions run one at a time, in the order of their times, and never before these; equal times in the order of the
// calls. How late they are is up to the system and to the functions before them (timer_thread_benchmark.cc shows it).
// Threading: RunAt and RunAfter from any thread, also from within such a function. The destructor calls what is left at
// once, and must not run on the timer's thread.
#ifndef CAUSEWAY_BASE_TIMER_THREAD_H_
#define CAUSEWAY_BASE_TIMER_THREAD_H_

#include <functional>
#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace causeway {

class TimerThread {
 public:
  TimerThread();
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  // `at` is a time of SteadyNow(). One that has passed: as soon as possible, but not within this call.
  void RunAt(absl::Time at, std::function<void()> call);
  void RunAfter(absl::Duration delay, std::function<void()> call);

 private:
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  std::multimap<absl::Time, std::function<void()>> calls_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace causeway

#endif  // CAUSEWAY_BASE_TIMER_THREAD_H_
