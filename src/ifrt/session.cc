#include "ifrt/session.h"

#include <grpcpp/support/slice.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "ifrt/devices.h"
#include "ifrt/request_table.h"
#include "ifrt/types.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;
using wire::IfrtRequest;
using wire::IfrtResponse;

// Answers that one client may wait for. Past that its requests are left unread, until half of them were given.
constexpr size_t kMaxPending = 4096;

grpc::ByteBuffer Serialize(const IfrtResponse& response) {
  grpc::Slice slice(response.ByteSizeLong());
  response.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

// Names that the client has given to results of `request`, which it uses whether or not the request succeeds.
std::vector<uint64_t> NamesOfResults(const IfrtRequest& request) {
  const auto all = [](const google::protobuf::RepeatedField<uint64_t>& handles) {
    return std::vector<uint64_t>(handles.begin(), handles.end());
  };
  switch (request.request_case()) {
    case IfrtRequest::kMakeArrayFromHostBufferRequest:
      return {request.make_array_from_host_buffer_request().array_handle()};
    case IfrtRequest::kMakeArraysFromHostBufferShardsRequest:
      return all(request.make_arrays_from_host_buffer_shards_request().array_handles());
    case IfrtRequest::kMakeErrorArraysRequest:
      return all(request.make_error_arrays_request().array_handles());
    case IfrtRequest::kAssembleArrayFromSingleDeviceArraysRequest:
      return {request.assemble_array_from_single_device_arrays_request().result_handle()};
    case IfrtRequest::kRemapArraysRequest:
      return all(request.remap_arrays_request().result_handles());
    case IfrtRequest::kBitcastArraysRequest:
      return all(request.bitcast_arrays_request().result_handles());
    case IfrtRequest::kReshardArraysRequest:
      return all(request.reshard_arrays_request().result_handles());
    case IfrtRequest::kDisassembleIntoSingleDeviceArraysRequest:
      return all(request.disassemble_into_single_device_arrays_request().result_handles());
    case IfrtRequest::kCopyArraysRequest:
      return all(request.copy_arrays_request().result_handles());
    case IfrtRequest::kFullyReplicatedShardRequest:
      return {request.fully_replicated_shard_request().result_handle()};
    case IfrtRequest::kLoadedExecutableExecuteRequest: {
      std::vector<uint64_t> names = all(request.loaded_executable_execute_request().result_array_handle());
      names.push_back(request.loaded_executable_execute_request().result_status_handle());
      return names;
    }
    default:
      return {};
  }
}

// Whether the client needs the response to go on. It does not where it has named all the results, or wants something
// gone.
bool IsWaitedFor(const IfrtRequest& request) {
  switch (request.request_case()) {
    case IfrtRequest::kDeleteArrayRequest:
    case IfrtRequest::kDestructArrayRequest:
    case IfrtRequest::kLoadedExecutableDestructRequest:
      return false;
    case IfrtRequest::kLoadedExecutableExecuteRequest:
      return request.loaded_executable_execute_request().result_array_handle().empty();
    default:
      break;
  }
  const std::vector<uint64_t> names = NamesOfResults(request);
  return names.empty() || std::find(names.begin(), names.end(), 0) != names.end();
}

}  // namespace

IfrtSession::IfrtSession(SessionId id, uint64_t key, Introduction client, std::string peer, const Parts& parts,
                         std::shared_ptr<SessionPeer> stream)
    : id_(id),
      key_(key),
      client_(std::move(client)),
      peer_(std::move(peer)),
      gate_(parts.gate),
      after_(parts.after),
      slices_(parts.slices),
      stream_(std::move(stream)),
      memory_(parts.memory),
      uploads_(std::make_shared<HostUploads>(
          id, parts.memory, parts.plane,
          [gate = parts.gate, after = parts.after](HostDataArrived data) { after->Enter(*gate, std::move(data)); },
          [after = parts.after](std::function<void()> task) { after->Do(std::move(task)); }, parts.uploads)),
      downloads_(parts.plane) {}

std::string IfrtSession::Describe() const {
  return absl::StrCat("session ", Raw(id_), " (", absl::CHexEscape(client_.name), ", ", peer_, ")");
}

void IfrtSession::OnRequest(const IfrtRequest& request) {
  const IfrtCall call{.op_id = request.request_metadata().op_id(),
                      .user_context = request.request_metadata().user_context_id(),
                      .kind = request.request_case(),
                      .waited_for = IsWaitedFor(request)};
  const bool opens = call.kind == IfrtRequest::kInitRequest;
  if (opens == open_.load(std::memory_order_acquire)) {
    AnswerError(call, absl::FailedPreconditionError(opens ? "this session has been opened already"
                                                          : "the first request of a session must be Init"));
    return;
  }
  ForgetNow();
  if (absl::Status status = Dispatch(call, request); !status.ok()) {
    PoisonResults(request, status);
    AnswerError(call, status);
  }
}

absl::Status IfrtSession::Dispatch(const IfrtCall& call, const IfrtRequest& request) {
  switch (request.request_case()) {
    case IfrtRequest::kInitRequest:
      return OnInit(call);
    case IfrtRequest::kCheckFutureRequest:
      return OnCheckFuture(call, request.check_future_request());
    case IfrtRequest::kCheckValueReadyRequest:
      return OnCheckValueReady(call, request.check_value_ready_request());
    case IfrtRequest::kMakeArrayFromHostBufferRequest:
      return OnMakeArray(call, request.make_array_from_host_buffer_request());
    case IfrtRequest::kMakeArraysFromHostBufferShardsRequest:
      return OnMakeArrays(call, request.make_arrays_from_host_buffer_shards_request());
    case IfrtRequest::kMakeErrorArraysRequest:
      return OnMakeErrorArrays(call, request.make_error_arrays_request());
    case IfrtRequest::kAssembleArrayFromSingleDeviceArraysRequest:
      return OnAssemble(call, request.assemble_array_from_single_device_arrays_request());
    case IfrtRequest::kRemapArraysRequest:
      return OnRemapArrays(call, request.remap_arrays_request());
    case IfrtRequest::kBitcastArraysRequest:
      return OnBitcastArrays(call, request.bitcast_arrays_request());
    case IfrtRequest::kReshardArraysRequest:
      return OnReshardArrays(call, request.reshard_arrays_request());
    case IfrtRequest::kCopyToHostBufferRequest:
      return OnCopyToHostBuffer(call, request.copy_to_host_buffer_request());
    case IfrtRequest::kDisassembleIntoSingleDeviceArraysRequest:
      return OnDisassemble(call, request.disassemble_into_single_device_arrays_request());
    case IfrtRequest::kDeleteArrayRequest:
      return OnDeleteArray(call, request.delete_array_request());
    case IfrtRequest::kCopyArraysRequest:
      return OnCopyArrays(call, request.copy_arrays_request());
    case IfrtRequest::kFullyReplicatedShardRequest:
      return OnFullyReplicatedShard(call, request.fully_replicated_shard_request());
    case IfrtRequest::kIsArrayDeletedRequest:
      return OnIsArrayDeleted(call, request.is_array_deleted_request());
    case IfrtRequest::kDestructArrayRequest:
      return OnDestructArray(call, request.destruct_array_request());
    case IfrtRequest::kCompileRequest:
      return OnCompile(call, request.compile_request());
    case IfrtRequest::kLoadedExecutableMetadataRequest:
      return OnMetadata(call, request.loaded_executable_metadata_request());
    case IfrtRequest::kLoadedExecutableExecuteRequest:
      return OnExecute(call, request.loaded_executable_execute_request());
    case IfrtRequest::kLoadedExecutableFetchExecuteResultRequest:
      return OnFetchResult(call, request.loaded_executable_fetch_execute_result_request());
    case IfrtRequest::kLoadedExecutableCostAnalysisRequest:
      return OnCostAnalysis(call, request.loaded_executable_cost_analysis_request());
    case IfrtRequest::kLoadedExecutableHumanReadableProgramTextRequest:
      return OnProgramText(call, request.loaded_executable_human_readable_program_text_request());
// Newer clients only destruct programs; older ones still send these two.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    case IfrtRequest::kLoadedExecutableDeleteRequest:
      return OnDeleteProgram(call, request.loaded_executable_delete_request());
    case IfrtRequest::kLoadedExecutableIsDeletedRequest:
      return OnIsProgramDeleted(call, request.loaded_executable_is_deleted_request());
#pragma GCC diagnostic pop
    case IfrtRequest::kLoadedExecutableDestructRequest:
      return OnDestructProgram(call, request.loaded_executable_destruct_request());
    case IfrtRequest::kGetDefaultDeviceAssignmentRequest:
      return OnDefaultDeviceAssignment(call, request.get_default_device_assignment_request());
    case IfrtRequest::kGetDefaultLayoutRequest:
      return OnDefaultLayout(call, request.get_default_layout_request());
    case IfrtRequest::kLoadedExecutableMpmdMetadataRequest:
    case IfrtRequest::kLoadedExecutableMpmdCostAnalysisRequest:
    case IfrtRequest::kLoadedHostCallbackPollRequest:
    case IfrtRequest::kLoadedHostCallbackReturnRequest:
      return WhyRefused(request.request_case());
    case IfrtRequest::REQUEST_NOT_SET:
      break;
  }
  return absl::UnimplementedError("a request of a kind that this server does not know");
}

// ---------------------------------------------------------------- the session itself

absl::Status IfrtSession::OnInit(const IfrtCall& call) {
  RETURN_IF_ERROR(client_.mistake);
  OpenSession event{{}, client_.name, peer_, client_.wishes};
  event.request = Expect(OnDone([this, call](const absl::Status& status) {
    if (!status.ok()) return AnswerError(call, status);
    after_->Do([self = shared_from_this(), call] { self->AnswerInit(call); });
  }));
  Submit(std::move(event));
  // A client that has left meanwhile was closed before it was open.
  if (closed_.load()) Submit(CloseSession{id_});
  return absl::OkStatus();
}

void IfrtSession::AnswerInit(const IfrtCall& call) {
  ClusterView cluster;
  gate_->Read([this, &cluster](const ControllerCore& core) {
    cluster = {core.DevicesOf(id_), core.Platform(), core.PlatformVersion(), core.StablehloVersion()};
  });
  IfrtResponse response;
  *response.mutable_init_response() = InitResponseFor(cluster, key_, slices_);
  open_.store(true, std::memory_order_release);
  Answer(call, response);
}

void IfrtSession::Close() {
  if (closed_.exchange(true)) return;
  Submit(CloseSession{id_});
  uploads_->Close();
  downloads_.Close();
  absl::flat_hash_map<Ticket, Pending> pending;
  MutexLock lock(&mutex_);
  pending.swap(pending_);
  programs_.clear();
}

absl::Status IfrtSession::OnDefaultDeviceAssignment(const IfrtCall& call,
                                                    const wire::GetDefaultDeviceAssignmentRequest& r) {
  std::vector<DeviceView> devices;
  gate_->Read([this, &devices](const ControllerCore& core) { devices = core.DevicesOf(id_); });
  std::vector<int32_t> ids;
  for (const DeviceView& device : devices) {
    if (device.alive) ids.push_back(Raw(device.id));
  }
  const uint64_t replicas = r.num_replicas();
  const uint64_t partitions = r.num_partitions();
  if (replicas == 0 || partitions == 0 || replicas > ids.size() || partitions > ids.size() / replicas) {
    return absl::InvalidArgumentError(absl::StrCat(replicas, " replicas of ", partitions,
                                                   " partitions do not fit this session's ", ids.size(), " devices"));
  }
  IfrtResponse response;
  auto& assignment = *response.mutable_get_default_device_assignment_response()->mutable_device_assignment();
  assignment.set_replica_count(static_cast<int32_t>(replicas));
  assignment.set_computation_count(static_cast<int32_t>(partitions));
  for (uint64_t p = 0; p < partitions; ++p) {
    auto& column = *assignment.add_computation_devices();
    for (uint64_t q = 0; q < replicas; ++q) column.add_replica_device_ids(ids[q * partitions + p]);
  }
  Answer(call, response);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnDefaultLayout(const IfrtCall& call, const wire::GetDefaultLayoutRequest& r) {
  QueryDefaultLayout event;
  ASSIGN_OR_RETURN(event.dtype, ParseDType(r.dtype()));
  xla::ifrt::ShapeProto shape;
  *shape.mutable_dims() = r.dims();
  ASSIGN_OR_RETURN(event.dims, ParseDims(shape));
  event.device = DeviceId{r.device_id()};
  event.memory_kind = r.memory_kind();
  event.request = Expect(OnQueried([this, call](absl::StatusOr<proto::QueryDone> answer) {
    if (!answer.ok()) return AnswerError(call, answer.status());
    IfrtResponse response;
    response.mutable_get_default_layout_response()->set_serialized_pjrt_layout(answer->layout());
    Answer(call, response);
  }));
  Submit(std::move(event));
  return absl::OkStatus();
}

// ---------------------------------------------------------------- futures

absl::Status IfrtSession::OnCheckFuture(const IfrtCall& call, const wire::CheckFutureRequest& r) {
  IfrtResponse response;
  response.mutable_check_future_response();
  IfrtCall known = call;
  switch (KindOfHandle(r.future_handle())) {
    case HandleKind::kDeletion:
      known.of_deletion = true;
      [[fallthrough]];
    case HandleKind::kReady:
      Answer(known, response);
      return absl::OkStatus();
    case HandleKind::kObject:
    case HandleKind::kLaunchStatus:
      break;
  }
  return WaitForLaunch(call, r.future_handle(), std::move(response));
}

absl::Status IfrtSession::OnFetchResult(const IfrtCall& call,
                                        const wire::LoadedExecutableFetchExecuteResultRequest& r) {
  IfrtResponse response;
  response.mutable_loaded_executable_fetch_execute_result_response();
  return WaitForLaunch(call, r.result_status_handle(), std::move(response));
}

absl::Status IfrtSession::WaitForLaunch(IfrtCall call, uint64_t handle, IfrtResponse response) {
  ASSIGN_OR_RETURN(const ArrayId status, ToArray(handle));
  WaitReady event{{}, {status}};
  event.request = Expect(OnDone([this, call, status, response = std::move(response)](const absl::Status& s) mutable {
    ForgetLater(status);
    if (s.ok()) {
      Answer(call, response);
    } else {
      AnswerError(call, s);
    }
  }));
  Submit(std::move(event));
  return absl::OkStatus();
}

// ---------------------------------------------------------------- tickets

RequestHeader IfrtSession::Expect(Pending pending, uint64_t user_context) {
  MutexLock lock(&mutex_);
  const Ticket ticket{++last_ticket_};
  pending_.emplace(ticket, std::move(pending));
  if (!too_many_pending_ && pending_.size() >= kMaxPending) {
    too_many_pending_ = true;
    Hold(HoldReason::kOpenRequests, true);
  }
  return RequestHeader{id_, ticket, user_context};
}

RequestHeader IfrtSession::ExpectDone(const IfrtCall& call, IfrtResponse response) {
  auto answer = [this, call, response = std::move(response)](const absl::Status& status) mutable {
    if (status.ok()) {
      Answer(call, response);
    } else {
      AnswerError(call, status);
    }
  };
  return Expect(OnDone(std::move(answer)), call.user_context);
}

RequestHeader IfrtSession::ExpectPart(const std::shared_ptr<Joint>& joint) {
  return Expect(OnDone([this, joint](const absl::Status& status) { AnswerPart(*joint, status); }),
                joint->call.user_context);
}

void IfrtSession::AnswerPart(Joint& joint, const absl::Status& status) {
  joint.status.Update(status);
  if (--joint.remaining > 0) return;
  if (joint.status.ok()) {
    Answer(joint.call, joint.response);
  } else {
    AnswerError(joint.call, joint.status);
  }
}

IfrtSession::Pending IfrtSession::TakePending(Ticket ticket) {
  MutexLock lock(&mutex_);
  const auto it = pending_.find(ticket);
  if (it == pending_.end()) return OnDone();
  Pending pending = std::move(it->second);
  pending_.erase(it);
  if (too_many_pending_ && pending_.size() <= kMaxPending / 2) {
    too_many_pending_ = false;
    Hold(HoldReason::kOpenRequests, false);
  }
  return pending;
}

void IfrtSession::DeleteHostBuffer(HostBufferId buffer) {
  downloads_.Delete(buffer);
  WeighFetched();
}

void IfrtSession::WeighFetched() {
  MutexLock lock(&fetched_mutex_);
  const bool too_much = memory_->IsOver(HostPool::kFetched, id_);
  if (std::exchange(too_much_fetched_, too_much) != too_much) Hold(HoldReason::kFetchedData, too_much);
}

void IfrtSession::Hold(HoldReason reason, bool hold) {
  // In the order of the core's calls; only the reading itself is for later.
  if (stream_->Hold(reason, hold)) after_->Do([stream = stream_] { stream->GoOn(); });
}

void IfrtSession::Done(Ticket ticket, const absl::Status& status) {
  Pending pending = TakePending(ticket);
  if (auto* done = std::get_if<OnDone>(&pending)) {
    if (*done) (*done)(status);
    return;
  }
  // The core answers so where the session is not open, whatever was asked.
  const absl::Status error = status.ok() ? absl::InternalError("the core answered without an answer") : status;
  if (auto* compiled = std::get_if<OnCompiled>(&pending)) (*compiled)(error);
  if (auto* fetched = std::get_if<OnFetched>(&pending)) (*fetched)(error);
  if (auto* queried = std::get_if<OnQueried>(&pending)) (*queried)(error);
}

void IfrtSession::Compiled(Ticket ticket, absl::StatusOr<std::shared_ptr<const ProgramView>> program) {
  Pending pending = TakePending(ticket);
  if (auto* compiled = std::get_if<OnCompiled>(&pending)) (*compiled)(std::move(program));
}

void IfrtSession::FetchDone(Ticket ticket, absl::StatusOr<Fetched> fetched) {
  Pending pending = TakePending(ticket);
  if (auto* done = std::get_if<OnFetched>(&pending)) (*done)(std::move(fetched));
}

void IfrtSession::Queried(Ticket ticket, absl::StatusOr<proto::QueryDone> answer) {
  Pending pending = TakePending(ticket);
  if (auto* queried = std::get_if<OnQueried>(&pending)) (*queried)(std::move(answer));
}

void IfrtSession::OriginOpened(uint64_t user_context) {
  MutexLock lock(&output_mutex_);
  numbering_.contexts().Opened(user_context);
}

void IfrtSession::OriginClosed(uint64_t user_context, bool failed) {
  MutexLock lock(&output_mutex_);
  numbering_.contexts().Closed(user_context, failed);
}

void IfrtSession::WantHostData(HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                               bool in_frame, bool last) {
  uploads_->Want(buffer, worker, stream, total_bytes, in_frame, last);
}

// ---------------------------------------------------------------- answers

void IfrtSession::Answer(const IfrtCall& call, IfrtResponse& response) {
  MutexLock lock(&output_mutex_);
  numbering_.Stamp(call, response);
  stream_->Send(Serialize(response), call.waited_for);
}

void IfrtSession::AnswerError(const IfrtCall& call, const absl::Status& status) {
  IfrtResponse response;
  MutexLock lock(&output_mutex_);
  numbering_.StampError(call, status, response);
  stream_->Send(Serialize(response), call.waited_for);
}

void IfrtSession::PoisonResults(const IfrtRequest& request, const absl::Status& error) {
  MakeErrorArrays event{Unanswered(), {}, nullptr, error};
  event.request.origin = request.request_metadata().user_context_id();
  for (uint64_t handle : NamesOfResults(request)) {
    // 0: the client left the name to us. Names that are none cannot be used later either.
    if (const auto id = ToArray(handle); id.ok()) event.arrays.push_back(*id);
  }
  if (!event.arrays.empty()) Submit(std::move(event));
}

void IfrtSession::ForgetLater(ArrayId array) {
  MutexLock lock(&mutex_);
  forget_.push_back(array);
}

void IfrtSession::ForgetNow() {
  DestructArrays event{Unanswered(), {}};
  {
    MutexLock lock(&mutex_);
    if (forget_.empty()) return;
    event.arrays.swap(forget_);
  }
  Submit(std::move(event));
}

absl::StatusOr<uint64_t> IfrtSession::ResultHandle(uint64_t handle) {
  if (handle != 0) return handle;
  return handles_.Mint(HandleKind::kObject);
}

absl::StatusOr<std::vector<ArrayId>> IfrtSession::ToArrays(
    const google::protobuf::RepeatedField<uint64_t>& handles) const {
  std::vector<ArrayId> ids;
  ids.reserve(handles.size());
  for (uint64_t handle : handles) {
    ASSIGN_OR_RETURN(const ArrayId id, ToArray(handle));
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<std::vector<uint64_t>> IfrtSession::ResultHandles(
    const google::protobuf::RepeatedField<uint64_t>& handles, int count) {
  if (!handles.empty()) {
    if (handles.size() != count) {
      return absl::InvalidArgumentError(absl::StrCat(handles.size(), " names are given for ", count, " results"));
    }
    return std::vector<uint64_t>(handles.begin(), handles.end());
  }
  std::vector<uint64_t> minted;
  for (int i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const uint64_t handle, handles_.Mint(HandleKind::kObject));
    minted.push_back(handle);
  }
  return minted;
}

std::shared_ptr<const ArraySpec> IfrtSession::FindSpec(ArrayId array) const {
  std::shared_ptr<const ArraySpec> spec;
  gate_->Read([&](const ControllerCore& core) { spec = core.FindArray(array); });
  return spec;
}

}  // namespace causeway
