// Sends later what nobody waits for.
//
//   late.Add(outbox);        // within kHold, outbox->Flush() is called, unless it is gone by then
//
// Most responses of a session are read by nobody: the client has named the results itself and goes on. Sending each at
// once wakes the client's threads, for nothing, just when it prepares the request whose answer it does wait for. So
// such a response is held back until one that is waited for takes it along, or for kHold.
//
// Threading: Add may be called from any thread, in any lock that Flush does not take; Flush is called on the thread of
// this class. The thread sleeps while nothing is held, and is woken at most once in kHold.
#ifndef CAUSEWAY_IFRT_LATE_FLUSH_H_
#define CAUSEWAY_IFRT_LATE_FLUSH_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace causeway {

class LateFlush {
 public:
  static constexpr absl::Duration kHold = absl::Milliseconds(2);

  class Holder {
   public:
    virtual ~Holder() = default;
    virtual void Flush() = 0;
  };

  LateFlush() : thread_([this] { Run(); }) {}
  ~LateFlush();
  LateFlush(const LateFlush&) = delete;
  LateFlush& operator=(const LateFlush&) = delete;

  void Add(std::weak_ptr<Holder> holder);

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool asleep_ ABSL_GUARDED_BY(mutex_) = false;  // until somebody signals
  std::vector<std::weak_ptr<Holder>> holders_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_LATE_FLUSH_H_
