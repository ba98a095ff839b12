// A way out of the core's lock: what a reply wants done, but must not do while the core is being run.
//
//   after.Enter(*gate, LaunchProgram{...});          // runs the event, then what the replies postponed, on this thread
//   after.Do([=] { gate->Handle(...); });            // from a reply: after the Enter that this thread is in
//
// Do on a thread that is in no Enter (a worker's frame brought the reply) hands over to a thread of this class. That
// costs tens of microseconds, so the launch path never needs it.
//
// Threading: all calls are thread-safe. Lifetime: the destructor runs what is still postponed, and joins.
#ifndef CAUSEWAY_IFRT_AFTER_CORE_H_
#define CAUSEWAY_IFRT_AFTER_CORE_H_

#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "controller/gate.h"

namespace causeway {

class AfterCore {
 public:
  // `every_second` is called about that often, on the thread of this class.
  explicit AfterCore(std::function<void()> every_second);
  ~AfterCore();
  AfterCore(const AfterCore&) = delete;
  AfterCore& operator=(const AfterCore&) = delete;

  void Enter(CoreGate& gate, Event event);

  void Do(std::function<void()> task);

  // As Do, but always on the thread of this class: for callers that may stand in locks of others.
  void DoElsewhere(std::function<void()> task);

  // Whether this thread is in an Enter, so that Do will be soon.
  static bool Inside();

 private:
  void Run();

  const std::function<void()> every_second_;
  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_AFTER_CORE_H_
