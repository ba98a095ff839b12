// A few threads that run what may block: one thread for each device's launches, some for compiles and large copies.
//
// Threads start with the first task. Threading: Add may be called from any thread.
// Lifetime: the destructor waits for what runs and drops what has not begun.
#ifndef CAUSEWAY_BASE_TASK_POOL_H_
#define CAUSEWAY_BASE_TASK_POOL_H_

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace causeway {

class TaskPool {
 public:
  using Task = absl::AnyInvocable<void()>;

  // `name` is what debuggers and top show of its threads; of at most 15 characters.
  TaskPool(std::string name, int threads) : name_(std::move(name)), max_threads_(threads) {}
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // First come, first served.
  void Add(Task task);

 private:
  void Work();

  const std::string name_;
  const int max_threads_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  int idle_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_BASE_TASK_POOL_H_
