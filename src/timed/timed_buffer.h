// A buffer of the timed runtime: real data, in a buffer of the runtime inside, or zeros.
//
// Threading: thread-safe. Lifetime: destroyed before its runtime.
#ifndef CAUSEWAY_TIMED_TIMED_BUFFER_H_
#define CAUSEWAY_TIMED_TIMED_BUFFER_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "base/mutex.h"
#include "timed/schedule.h"
#include "worker/device_runtime.h"

namespace causeway {

// What is the same for every buffer that one program makes at one place.
struct TimedBufferType {
  DType dtype;
  std::vector<int64_t> dims;
  int64_t size_bytes;
};

class TimedBuffer final : public DeviceBuffer {
 public:
  // Zeros, from when `ready` is over.
  TimedBuffer(std::shared_ptr<Schedule> schedule, ReadyRef ready, int device,
              std::shared_ptr<const TimedBufferType> type)
      : schedule_(std::move(schedule)), ready_(std::move(ready)), device_(device), type_(std::move(type)) {}

  // What `inside` holds.
  TimedBuffer(std::shared_ptr<Schedule> schedule, int device, std::shared_ptr<DeviceBuffer> inside)
      : schedule_(std::move(schedule)),
        ready_(schedule_->Follow(*inside)),
        device_(device),
        type_(
            std::make_shared<TimedBufferType>(TimedBufferType{inside->dtype(), inside->dims(), inside->size_bytes()})),
        inside_(std::move(inside)) {}

  int64_t size_bytes() const override { return type_->size_bytes; }
  DType dtype() const override { return type_->dtype; }
  const std::vector<int64_t>& dims() const override { return type_->dims; }

  void OnReady(StatusCallback done) override {
    if (absl::StatusOr<std::shared_ptr<DeviceBuffer>> usable = Use(); !usable.ok()) return done(usable.status());
    schedule_->OnReady(*ready_, std::move(done));
  }

  int device() const { return device_; }
  const ReadyRef& ready() const { return ready_; }
  const std::shared_ptr<const TimedBufferType>& type() const { return type_; }

  // The buffer inside, null for zeros; INVALID_ARGUMENT once it was donated.
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> Use() {
    MutexLock lock(&mutex_);
    if (donated_) return absl::InvalidArgumentError("the buffer was donated to a launch");
    return inside_;
  }

  // Claims it for a launch; false if another one has. UndoDonate() if that launch did not start.
  bool TryDonate() {
    MutexLock lock(&mutex_);
    return !std::exchange(donated_, true);
  }
  void UndoDonate() {
    MutexLock lock(&mutex_);
    donated_ = false;
  }

  // The launch has started: its memory is the launch's, which needs none.
  void Release() {
    std::shared_ptr<DeviceBuffer> inside;
    MutexLock lock(&mutex_);
    inside.swap(inside_);
  }

 private:
  const std::shared_ptr<Schedule> schedule_;
  const ReadyRef ready_;
  const int device_;
  const std::shared_ptr<const TimedBufferType> type_;
  Mutex mutex_;
  std::shared_ptr<DeviceBuffer> inside_ ABSL_GUARDED_BY(mutex_);
  bool donated_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_TIMED_BUFFER_H_
