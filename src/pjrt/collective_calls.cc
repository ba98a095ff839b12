#include "pjrt/collective_calls.h"

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pjrt/ffi.h"
#include "xla/ffi/api/ffi.h"

namespace causeway {
namespace {

namespace ffi = xla::ffi;

// What XLA's user data must be: a type with the plugin's number of it.
struct Tagged : DeviceLaunch {
  static ffi::TypeId id;
};
ffi::TypeId Tagged::id = XLA_FFI_UNKNOWN_TYPE_ID;

// XLA's codes are those of absl.
ffi::Error ToFfi(const absl::Status& status) {
  return ffi::Error(static_cast<ffi::ErrorCode>(status.code()), std::string(status.message()));
}

collectives::Buffer ToBuffer(ffi::AnyBuffer buffer) {
  const auto dims = buffer.dimensions();
  return {.data = static_cast<char*>(buffer.untyped_data()),
          .dtype = static_cast<DType>(buffer.element_type()),  // both have XLA's numbers
          .dims = {dims.begin(), dims.end()}};
}

ffi::Future Failed(const absl::Status& status) {
  ffi::Promise promise;
  promise.SetError(ToFfi(status));
  return ffi::Future(promise);
}

ffi::Future Collective(Tagged* launch, ffi::RemainingArgs operands, ffi::RemainingRets results, int64_t collective) {
  if (launch == nullptr) return Failed(absl::InternalError("a collective outside a launch"));
  if (collective < 0 || collective >= launch->table->collectives_size()) {
    return Failed(absl::InternalError(absl::StrCat("the program has no collective ", collective)));
  }
  collectives::Arrival arrival;
  arrival.launch = launch->launch;
  arrival.device = launch->device;
  arrival.table = launch->table;
  arrival.collective = static_cast<int>(collective);
  arrival.occurrence = launch->occurrences[collective].fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < operands.size(); ++i) {
    const auto operand = operands.get<ffi::AnyBuffer>(i);
    if (!operand.has_value()) return Failed(absl::InternalError("an operand of a collective that is no buffer"));
    arrival.operands.push_back(ToBuffer(*operand));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto result = results.get<ffi::AnyBuffer>(i);
    if (!result.has_value()) return Failed(absl::InternalError("a result of a collective that is no buffer"));
    arrival.results.push_back(ToBuffer(**result));
  }
  ffi::Promise promise;
  ffi::Future future(promise);
  arrival.done = [promise](const absl::Status& status) mutable {
    if (status.ok()) {
      promise.SetAvailable();
    } else {
      promise.SetError(ToFfi(status));
    }
  };
  launch->engine->Arrive(std::move(arrival));
  return future;
}

ffi::Error PartitionId(Tagged* launch, ffi::ResultBufferR0<ffi::U32> result) {
  if (launch == nullptr) return ToFfi(absl::InternalError("partition-id outside a launch"));
  *result->typed_data() = launch->device % std::max(launch->table->partitions(), 1);
  return ffi::Error::Success();
}

ffi::Error ReplicaId(Tagged* launch, ffi::ResultBufferR0<ffi::U32> result) {
  if (launch == nullptr) return ToFfi(absl::InternalError("replica-id outside a launch"));
  *result->typed_data() = launch->device / std::max(launch->table->partitions(), 1);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER(
    kCollective, Collective,
    ffi::Ffi::Bind().Ctx<ffi::UserData<Tagged>>().RemainingArgs().RemainingRets().Attr<int64_t>("collective"));
XLA_FFI_DEFINE_HANDLER(kPartitionId, PartitionId,
                       ffi::Ffi::Bind().Ctx<ffi::UserData<Tagged>>().Ret<ffi::BufferR0<ffi::U32>>());
XLA_FFI_DEFINE_HANDLER(kReplicaId, ReplicaId,
                       ffi::Ffi::Bind().Ctx<ffi::UserData<Tagged>>().Ret<ffi::BufferR0<ffi::U32>>());

}  // namespace

absl::Status RegisterCollectiveCalls(const PjrtApi& api) {
  static Mutex mutex;
  static const PjrtApi* registered = nullptr;
  MutexLock lock(&mutex);
  if (registered == &api) return absl::OkStatus();
  if (registered != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("the collectives of this process serve ", registered->path(), " already"));
  }
  const auto extension = api.Extension<PJRT_FFI_Extension>(PJRT_Extension_Type_FFI);
  static constexpr char kTypeName[] = "causeway.DeviceLaunch";
  PJRT_FFI_Type_Info info{};
  PjrtArgs<PJRT_FFI_Type_Register_Args> type;
  type.type_name = kTypeName;
  type.type_name_size = sizeof(kTypeName) - 1;
  type.type_info = &info;
  RETURN_IF_ERROR(api.Call(extension.PJRT_FFI_Type_Register, type));
  Tagged::id.type_id = type.type_id;
  RETURN_IF_ERROR(
      RegisterFfiHandler(api, "causeway_collective", kFfiHostPlatform, reinterpret_cast<void*>(kCollective)));
  RETURN_IF_ERROR(
      RegisterFfiHandler(api, "causeway_partition_id", kFfiHostPlatform, reinterpret_cast<void*>(kPartitionId)));
  RETURN_IF_ERROR(
      RegisterFfiHandler(api, "causeway_replica_id", kFfiHostPlatform, reinterpret_cast<void*>(kReplicaId)));
  registered = &api;
  return absl::OkStatus();
}

absl::StatusOr<LaunchContext> LaunchContext::Make(const PjrtApi& api, DeviceLaunch* launch) {
  PjrtArgs<PJRT_ExecuteContext_Create_Args> create;
  RETURN_IF_ERROR(api.Call(api.table().PJRT_ExecuteContext_Create, create));
  LaunchContext context(Handle(create.context, {&api}));
  const auto extension = api.Extension<PJRT_FFI_Extension>(PJRT_Extension_Type_FFI);
  PjrtArgs<PJRT_FFI_UserData_Add_Args> add;
  add.context = context.get();
  add.user_data.type_id = Tagged::id.type_id;
  add.user_data.data = launch;
  RETURN_IF_ERROR(api.Call(extension.PJRT_FFI_UserData_Add, add));
  return context;
}

void LaunchContext::Deleter::operator()(PJRT_ExecuteContext* context) const {
  PjrtArgs<PJRT_ExecuteContext_Destroy_Args> destroy;
  destroy.context = context;
  (void)api->Call(api->table().PJRT_ExecuteContext_Destroy, destroy);
}

}  // namespace causeway
