// A Timeline in real time: says when what it computes has come.
//
//   auto schedule = std::make_shared<Schedule>(devices, clock, run_at);
//   ReadyRef data = schedule->Follow(buffer);                                  // real data: ready when the plugin says
//   so ReadyRef end = schedule->Launch({0}, absl::Milliseconds(5), {data}, absl::OkStatus(), done);
//   schedule->OnReady(*end, [](absl::Status status) { ... });
//   schedule->Stop();
//
// Threading: thread-safe. Callbacks come where `run_at` calls, where a followed buffer reports, from Stop, or on the
// calling thread where the thing is ready already; never under a lock. Each comes once.
// Lifetime: a shared_ptr's, since a plugin may still hold callbacks when the runtime is gone. `clock` and what `run_at`
// needs must stay until Stop.
#ifndef CAUSEWAY_TIMED_SCHEDULE_H_
#define CAUSEWAY_TIMED_SCHEDULE_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "timed/timeline.h"
#include "worker/device_runtime.h"

namespace causeway {

// When a buffer's data are there. Opaque; the schedule's lock guards it.
struct Ready final : Moment {
  bool over = false;  // its time has come
  std::vector<StatusCallback> callbacks;
  StatusCallback done;  // of the launch that makes it; called last, so that its outputs are there before it is over
};

using ReadyRef = std::shared_ptr<Ready>;

class Schedule : public std::enable_shared_from_this<Schedule> {
 public:
  // Calls the function once, not before `at` and not within this call. What is left when the schedule is stopped may be
  // called early.
  using RunAt = std::function<void(absl::Time at, std::function<void()> call)>;

  Schedule(int devices, const Clock& clock, RunAt run_at)
      : clock_(clock), run_at_(std::move(run_at)), timeline_(devices) {}

  // Hands a launch over. `outcome` is what becomes of it if its arguments are well.
  ReadyRef Launch(std::vector<int> devices, absl::Duration duration, std::vector<MomentRef> arguments,
                  absl::Status outcome, StatusCallback done);

  // When `buffer`, one of the plugin's, is ready.
  ReadyRef Follow(DeviceBuffer& buffer);

  void OnReady(Ready& ready, StatusCallback done);

  // Its status, if its time has come.
  std::optional<absl::Status> Now(const Ready& ready);

  // What has not ended ends now, CANCELLED, or when `run_at` calls. No launch may follow.
  void Stop();

 private:
  void Arrange(const std::vector<MomentRef>& ends) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(Ready& ready);
  void Settle(Ready& ready, const absl::Status& status);

  const Clock& clock_;
  const RunAt run_at_;
  Mutex mutex_;
  Timeline timeline_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_SCHEDULE_H_
