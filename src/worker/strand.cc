#include "worker/strand.h"

#include <utility>

namespace causeway::worker {

void Strand::Run(Task task) {
  {
    MutexLock lock(&mu_);
    if (closed_) return;
    if (busy_) {
      waiting_.push_back(std::move(task));
      return;
    }
    busy_ = true;
  }
  task();
  task = nullptr;
  std::vector<Task> tasks;
  while (true) {
    tasks.clear();
    {
      MutexLock lock(&mu_);
      if (waiting_.empty()) {
        busy_ = false;
        left_.SignalAll();
        return;
      }
      tasks.swap(waiting_);
    }
    for (Task& next : tasks) {
      next();
      next = nullptr;
    }
  }
}

void Strand::Close() {
  MutexLock lock(&mu_);
  closed_ = true;
  while (busy_) left_.Wait(&mu_);
}

}  // namespace causeway::worker
