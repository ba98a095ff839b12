#include "timed/schedule.h"

#include <utility>

namespace causeway {
namespace {

absl::Status Stopped() { return absl::CancelledError("the devices are gone"); }

}  // namespace

ReadyRef Schedule::Launch(std::vector<int> devices, absl::Duration duration, std::vector<MomentRef> arguments,
                          absl::Status outcome, StatusCallback done) {
  auto end = std::make_shared<Ready>();
  end->done = std::move(done);
  MutexLock lock(&mutex_);
  Arrange(timeline_.Add({std::move(devices), duration, clock_.Now(), std::move(outcome), end}, arguments));
  return end;
}

void Schedule::Arrange(const std::vector<MomentRef>& ends) {
  for (const MomentRef& end : ends) {
    run_at_(*end->at, [self = shared_from_this(), ready = std::static_pointer_cast<Ready>(end)] { self->End(*ready); });
  }
}

void Schedule::End(Ready& ready) {
  std::vector<StatusCallback> callbacks;
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    if (ready.over) return;
    if (stopped_ && (!ready.at.has_value() || *ready.at > clock_.Now())) ready.status = Stopped();
    ready.over = true;
    callbacks.swap(ready.callbacks);
    if (ready.done) callbacks.push_back(std::move(ready.done));
    status = ready.status;
  }
  for (const StatusCallback& callback : callbacks) callback(status);
}

ReadyRef Schedule::Follow(DeviceBuffer& buffer) {
  auto ready = std::make_shared<Ready>();
  buffer.OnReady([self = shared_from_this(), ready](const absl::Status& status) { self->Settle(*ready, status); });
  return ready;
}

void Schedule::Settle(Ready& ready, const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    Arrange(timeline_.Settle(ready, clock_.Now(), status));
  }
  End(ready);
}

void Schedule::OnReady(Ready& ready, StatusCallback done) {
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    if (!ready.over) {
      ready.callbacks.push_back(std::move(done));
      return;
    }
    status = ready.status;
  }
  done(status);
}

std::optional<absl::Status> Schedule::Now(const Ready& ready) {
  MutexLock lock(&mutex_);
  if (!ready.over) return std::nullopt;
  return ready.status;
}

void Schedule::Stop() {
  std::vector<MomentRef> ends;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    ends = timeline_.Abandon();
  }
  for (const MomentRef& end : ends) End(static_cast<Ready&>(*end));
}

}  // namespace causeway
