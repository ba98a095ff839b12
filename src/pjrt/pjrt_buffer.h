// One buffer of a plugin, as the worker sees it.
//
// A donation and a view of the host on the buffer's memory must not meet: the launch would write what the view reads.
// So each says what it does before it does it (TryDonate, TryView), and the later one is refused: a launch then runs
// without that donation, a reader takes a copy.
//
// Threading: thread-safe. Lifetime: destroyed before its runtime.
#ifndef CAUSEWAY_PJRT_PJRT_BUFFER_H_
#define CAUSEWAY_PJRT_PJRT_BUFFER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "pjrt/pjrt_api.h"
#include "worker/device_runtime.h"

namespace causeway {

// What is the same for every buffer that one program makes at one place.
struct BufferType {
  DType dtype;
  std::vector<int64_t> dims;
};

// Bytes of the buffer on its device.
absl::StatusOr<int64_t> OnDeviceBytes(const PjrtBufferHandle& buffer);

class PjrtBuffer final : public DeviceBuffer {
 public:
  PjrtBuffer(PjrtBufferHandle buffer, std::shared_ptr<const BufferType> type, int64_t size_bytes)
      : type_(std::move(type)), size_bytes_(size_bytes), buffer_(std::move(buffer)) {}

  int64_t size_bytes() const override { return size_bytes_; }
  DType dtype() const override { return type_->dtype; }
  const std::vector<int64_t>& dims() const override { return type_->dims; }
  void OnReady(StatusCallback done) override;

  const std::shared_ptr<const BufferType>& type() const { return type_; }
  PJRT_Buffer* get() const { return buffer_.get(); }

  // Claims the memory for a launch; false while a view is on it or once it is claimed. UndoDonate() if the launch did
  // not start.
  bool TryDonate();
  void UndoDonate();

  // Copies the data, when they are there, to `target`, whose size is that of the array in host memory, dense or as
  // `byte_strides` say; see DeviceRuntime::ToHost. `self` is this.
  static void CopyToHost(const std::shared_ptr<PjrtBuffer>& self, absl::Span<const int64_t> byte_strides,
                         absl::Span<char> target, StatusCallback done);

  // See DeviceRuntime::HostView. `self` is this.
  static absl::StatusOr<HostBytes> View(std::shared_ptr<PjrtBuffer> self);

 private:
  static constexpr int kDonated = -1;

  const PjrtApi& api() const { return *buffer_.get_deleter().api; }
  absl::StatusOr<PjrtEventHandle> ReadyEvent() const;
  absl::StatusOr<bool> ReadableInPlace() const;

  const std::shared_ptr<const BufferType> type_;
  const int64_t size_bytes_;
  const PjrtBufferHandle buffer_;
  std::atomic<int> views_{0};  // views on the memory, or kDonated
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PJRT_BUFFER_H_
