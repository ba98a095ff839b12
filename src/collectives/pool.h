// Threads for what is too long for whoever brings the last bytes: a plane's thread would keep its peers waiting.
//
// Threads start with the first task. Threading: Add may be called from any thread.
// Lifetime: Stop waits for what runs and runs what has not begun; what is added later runs at once.
#ifndef CAUSEWAY_COLLECTIVES_POOL_H_
#define CAUSEWAY_COLLECTIVES_POOL_H_

#include <pthread.h>

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace causeway::collectives {

class Pool {
 public:
  using Task = absl::AnyInvocable<void()>;

  explicit Pool(int threads) : max_threads_(threads) {}
  ~Pool() { Stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // First come, first served.
  void Add(Task task) {
    {
      MutexLock lock(&mu_);
      if (!stopping_) {
        tasks_.push_back(std::move(task));
        if (idle_ > 0) {
          changed_.Signal();
        } else if (static_cast<int>(threads_.size()) < max_threads_) {
          threads_.emplace_back([this] { Work(); });
          pthread_setname_np(threads_.back().native_handle(), "cw-collect");
        }
        return;
      }
    }
    task();
  }

  // Not on a thread of the pool.
  void Stop() {
    std::vector<std::thread> threads;
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      changed_.SignalAll();
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  void Work() {
    while (true) {
      Task task;
      {
        MutexLock lock(&mu_);
        ++idle_;
        while (tasks_.empty() && !stopping_) changed_.Wait(&mu_);
        --idle_;
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  const int max_threads_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  int idle_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_POOL_H_
