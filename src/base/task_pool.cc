#include "base/task_pool.h"

#include <pthread.h>

#include <utility>

namespace causeway {

TaskPool::~TaskPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void TaskPool::Add(Task task) {
  bool wake = false;
  {
    MutexLock lock(&mu_);
    tasks_.push_back(std::move(task));
    wake = idle_ > 0;
    if (!wake && static_cast<int>(threads_.size()) < max_threads_) {
      threads_.emplace_back([this] { Work(); });
      pthread_setname_np(threads_.back().native_handle(), name_.c_str());
    }
  }
  // Without the lock, which the woken thread would only run into.
  if (wake) changed_.Signal();
}

void TaskPool::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mu_);
      ++idle_;
      while (tasks_.empty() && !stopping_) changed_.Wait(&mu_);
      --idle_;
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace causeway
