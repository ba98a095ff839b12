// Where callbacks run: one at a time, in the order in which they were posted.
//
// Live code posts to an I/O thread (io_thread.h). Tests and simulations pump the in-process link and data plane by
// hand:
//
//   ManualExecutor executor;
//   auto [a, b] = MakeLocalLinkPair(executor);
//   b->Start(&handler);
//   a->Send("hello");
//   executor.RunUntilIdle();      // b's handler has it
#ifndef CAUSEWAY_NET_EXECUTOR_H_
#define CAUSEWAY_NET_EXECUTOR_H_

#include <deque>
#include <functional>
#include <utility>

#include "base/mutex.h"

namespace causeway {

// Thread-safe.
class Executor {
 public:
  virtual ~Executor() = default;

  // Runs `task` later, never inside this call.
  virtual void Post(std::function<void()> task) = 0;

  // Runs `task`, never while another one runs, and returns when it has run. May be called inside a task.
  virtual void RunAndWait(const std::function<void()>& task) = 0;
};

// Runs posted tasks when told to. Posting is thread-safe; one thread pumps, and that one alone destroys what was made
// on it.
class ManualExecutor final : public Executor {
 public:
  void Post(std::function<void()> task) override {
    MutexLock lock(&mu_);
    tasks_.push_back(std::move(task));
  }

  void RunAndWait(const std::function<void()>& task) override { task(); }

  // Runs the oldest task. False: there was none.
  bool RunOne() {
    std::function<void()> task;
    {
      MutexLock lock(&mu_);
      if (tasks_.empty()) return false;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
    return true;
  }

  void RunUntilIdle() {
    while (RunOne()) {
    }
  }

 private:
  Mutex mu_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_EXECUTOR_H_
