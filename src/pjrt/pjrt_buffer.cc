#include "pjrt/pjrt_buffer.h"

#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "pjrt/memory_layout.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

// No device has more memory; leaves room for sums of many.
constexpr size_t kMaxBufferBytes = size_t{1} << 50;

// Elements of less than a byte are packed on the device.
bool IsPacked(DType dtype) {
  switch (dtype) {
    case DType::kS1:
    case DType::kS2:
    case DType::kS4:
    case DType::kU1:
    case DType::kU2:
    case DType::kU4:
    case DType::kF4E2M1FN:
      return true;
    default:
      return false;
  }
}

// Spreads dense, row-major data over strides. Recursion is as deep as the rank.
void Scatter(const char*& source, int width, absl::Span<const int64_t> dims, absl::Span<const int64_t> strides,
             char* target) {
  if (dims.empty()) {
    std::memcpy(target, source, width);
    source += width;
    return;
  }
  for (int64_t i = 0; i < dims[0]; ++i) {
    Scatter(source, width, dims.subspan(1), strides.subspan(1), target + i * strides[0]);
  }
}

}  // namespace

absl::StatusOr<int64_t> OnDeviceBytes(const PjrtBufferHandle& buffer) {
  const PjrtApi& api = *buffer.get_deleter().api;
  PjrtArgs<PJRT_Buffer_OnDeviceSizeInBytes_Args> args;
  args.buffer = buffer.get();
  RETURN_IF_ERROR(api.Call(api.table().PJRT_Buffer_OnDeviceSizeInBytes, args));
  if (args.on_device_size_in_bytes > kMaxBufferBytes) {
    return absl::InternalError(
        absl::StrCat("the plugin ", api.path(), " claims that a buffer has ", args.on_device_size_in_bytes, " bytes"));
  }
  return static_cast<int64_t>(args.on_device_size_in_bytes);
}

absl::StatusOr<PjrtEventHandle> PjrtBuffer::ReadyEvent() const {
  PjrtArgs<PJRT_Buffer_ReadyEvent_Args> args;
  args.buffer = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Buffer_ReadyEvent, args));
  return PjrtEventHandle(args.event, {&api()});
}

void PjrtBuffer::OnReady(StatusCallback done) {
  absl::StatusOr<PjrtEventHandle> event = ReadyEvent();
  if (!event.ok()) return done(event.status());
  CallWhenReady(*std::move(event), std::move(done));
}

bool PjrtBuffer::TryDonate() {
  int no_views = 0;
  return views_.compare_exchange_strong(no_views, kDonated);
}

void PjrtBuffer::UndoDonate() { views_.store(0); }

void PjrtBuffer::CopyToHost(const std::shared_ptr<PjrtBuffer>& self, absl::Span<const int64_t> byte_strides,
                            absl::Span<char> target, StatusCallback done) {
  const HostShape shape{self->dtype(), self->dims(), {byte_strides.begin(), byte_strides.end()}};
  absl::Status valid = worker::CheckShape(shape.dtype, shape.dims);
  const absl::StatusOr<int64_t> span = worker::SpanBytes(shape);
  if (valid.ok() && shape.dtype == DType::kToken) valid = absl::InvalidArgumentError("a token has no data");
  if (valid.ok()) valid = span.status();
  if (valid.ok() && *span != static_cast<int64_t>(target.size())) {
    valid = absl::InvalidArgumentError(
        absl::StrCat("room for ", target.size(), " bytes where the array takes ", *span, " in host memory"));
  }
  if (!valid.ok()) return done(valid);
  if (target.empty()) return self->OnReady(std::move(done));

  std::optional<MemoryLayout> layout = MemoryLayout::FromStrides(shape.dtype, shape.dims, shape.byte_strides);
  std::shared_ptr<std::vector<char>> staging;
  char* destination = target.data();
  int64_t size = *span;
  if (!layout.has_value()) {
    layout = MemoryLayout::RowMajor(static_cast<int>(shape.dims.size()));
    size = worker::DenseBytes(shape.dtype, shape.dims);
    staging = std::make_shared<std::vector<char>>(size);
    destination = staging->data();
  }

  PjrtArgs<PJRT_Buffer_ToHostBuffer_Args> args;
  args.src = self->get();
  args.host_layout = layout->Get();
  args.dst = destination;
  args.dst_size = size;
  if (absl::Status status = self->api().Call(self->api().table().PJRT_Buffer_ToHostBuffer, args); !status.ok()) {
    return done(status);
  }
  PjrtEventHandle event(args.event, {&self->api()});
  if (staging == nullptr) return CallWhenReady(std::move(event), std::move(done));
  CallWhenReady(std::move(event), [shape, staging, target, done = std::move(done)](const absl::Status& status) {
    const char* source = staging->data();
    if (status.ok()) Scatter(source, HostByteWidth(shape.dtype), shape.dims, shape.byte_strides, target.data());
    done(status);
  });
}

absl::StatusOr<bool> PjrtBuffer::ReadableInPlace() const {
  if (IsPacked(dtype()) || dtype() == DType::kToken) return false;
  PjrtArgs<PJRT_Buffer_IsOnCpu_Args> on_cpu;
  on_cpu.buffer = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Buffer_IsOnCpu, on_cpu));
  if (!on_cpu.is_on_cpu) return false;
  ASSIGN_OR_RETURN(PjrtEventHandle event, ReadyEvent());
  if (!IsReady(event)) return false;
  PjrtArgs<PJRT_Buffer_GetMemoryLayout_Args> layout;
  layout.buffer = get();
  RETURN_IF_ERROR(api().Call(api().table().PJRT_Buffer_GetMemoryLayout, layout));
  if (RawEnum(&layout.layout.type) != PJRT_Buffer_MemoryLayout_Type_Tiled || layout.layout.tiled.num_tiles > 0)
    return false;
  const PJRT_Buffer_MemoryLayout_Tiled& tiled = layout.layout.tiled;
  for (size_t i = 0; i < tiled.minor_to_major_size; ++i) {
    if (tiled.minor_to_major[i] != static_cast<int64_t>(tiled.minor_to_major_size - 1 - i)) return false;
  }
  return true;
}

absl::StatusOr<HostBytes> PjrtBuffer::View(std::shared_ptr<PjrtBuffer> self) {
  constexpr absl::string_view kUseCopy = "the buffer's memory cannot be read in place now; copy it with ToHost";
  int views = self->views_.load();
  do {
    if (views == kDonated) return absl::FailedPreconditionError("the buffer was donated to a launch");
  } while (!self->views_.compare_exchange_weak(views, views + 1));
  std::shared_ptr<const void> owner(self.get(), [self](const void*) mutable {
    self->views_.fetch_sub(1);
    self.reset();
  });

  ASSIGN_OR_RETURN(const bool readable, self->ReadableInPlace());
  if (!readable) return absl::FailedPreconditionError(kUseCopy);
  const int64_t size = worker::DenseBytes(self->dtype(), self->dims());
  if (size == 0) return HostBytes{owner, {}};
  PjrtArgs<PJRT_Buffer_OpaqueDeviceMemoryDataPointer_Args> pointer;
  pointer.buffer = self->get();
  RETURN_IF_ERROR(self->api().Call(self->api().table().PJRT_Buffer_OpaqueDeviceMemoryDataPointer, pointer));
  if (pointer.device_memory_ptr == nullptr) return absl::FailedPreconditionError(kUseCopy);
  return HostBytes{owner, {static_cast<const char*>(pointer.device_memory_ptr), static_cast<size_t>(size)}};
}

}  // namespace causeway
