// Runs tasks one at a time, in the order in which they came, on the threads that bring them.
//
//   strand.Run([this] { core_.Handle(...); });
//
// A task runs on the thread that brings it when nobody is inside; otherwise whoever is inside runs it before leaving.
// So no event is handed to another thread for nothing (which costs 35 us here: NETWORK facts), nobody waits for a lock
// while others work, and a task may bring further ones, directly or by a call that comes back at once: they run after
// it.
//
// Threading: Run may be called from any thread, also from inside a task.
#ifndef CAUSEWAY_WORKER_STRAND_H_
#define CAUSEWAY_WORKER_STRAND_H_

#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace causeway::worker {

class Strand {
 public:
  using Task = absl::AnyInvocable<void()>;

  // After Close: drops `task`.
  void Run(Task task);

  // Returns when no task is running and none will. Not from inside a task.
  void Close();

 private:
  Mutex mu_;
  CondVar left_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // a thread is inside
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Task> waiting_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_STRAND_H_
