#include "ifrt/after_core.h"

#include <utility>

#include "absl/time/clock.h"

namespace causeway {
namespace {

// What this thread's Enter has to do when the core is left. Null: in no Enter.
thread_local std::vector<std::function<void()>>* postponed = nullptr;

}  // namespace

AfterCore::AfterCore(std::function<void()> every_second)
    : every_second_(std::move(every_second)), thread_([this] { Run(); }) {}

AfterCore::~AfterCore() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    changed_.Signal();
  }
  thread_.join();
}

bool AfterCore::Inside() { return postponed != nullptr; }

void AfterCore::Enter(CoreGate& gate, Event event) {
  if (postponed != nullptr) {
    // A task of an outer Enter: the core has been left, and the outer loop does what this one postpones.
    gate.Handle(std::move(event));
    return;
  }
  std::vector<std::function<void()>> mine;
  postponed = &mine;
  gate.Handle(std::move(event));
  for (size_t i = 0; i < mine.size(); ++i) {
    // Taken out first: a task may postpone more, which moves the vector.
    const std::function<void()> task = std::move(mine[i]);
    task();
  }
  postponed = nullptr;
}

void AfterCore::Do(std::function<void()> task) {
  if (postponed != nullptr) {
    postponed->push_back(std::move(task));
  } else {
    DoElsewhere(std::move(task));
  }
}

void AfterCore::DoElsewhere(std::function<void()> task) {
  MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
  changed_.Signal();
}

void AfterCore::Run() {
  absl::Time next = absl::Now() + absl::Seconds(1);
  while (true) {
    std::vector<std::function<void()>> tasks;
    bool stop = false;
    {
      MutexLock lock(&mutex_);
      while (!stop_ && tasks_.empty() && !changed_.WaitWithTimeout(&mutex_, next - absl::Now())) {
      }
      tasks.swap(tasks_);
      stop = stop_;
    }
    for (const std::function<void()>& task : tasks) task();
    if (stop && tasks.empty()) return;
    if (absl::Now() >= next) {
      every_second_();
      next = absl::Now() + absl::Seconds(1);
    }
  }
}

}  // namespace causeway
