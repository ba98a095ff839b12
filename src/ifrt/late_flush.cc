#include "ifrt/late_flush.h"

#include <utility>

namespace causeway {

LateFlush::~LateFlush() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void LateFlush::Add(std::weak_ptr<Holder> holder) {
  MutexLock lock(&mutex_);
  holders_.push_back(std::move(holder));
  if (asleep_) changed_.Signal();
}

void LateFlush::Run() {
  while (true) {
    std::vector<std::weak_ptr<Holder>> due;
    {
      MutexLock lock(&mutex_);
      asleep_ = true;
      while (!stop_ && holders_.empty()) changed_.Wait(&mutex_);
      asleep_ = false;
      // Whoever comes meanwhile is flushed with the others, a little early.
      if (!stop_) changed_.WaitWithTimeout(&mutex_, kHold);
      if (stop_) return;
      due.swap(holders_);
    }
    for (const std::weak_ptr<Holder>& weak : due) {
      if (const std::shared_ptr<Holder> holder = weak.lock()) holder->Flush();
    }
  }
}

}  // namespace causeway
