// Requests about arrays.
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "ifrt/session.h"
#include "ifrt/statuses.h"
#include "ifrt/types.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;
using wire::IfrtResponse;

bool Donates(xla::ifrt::proto::ArrayCopySemantics semantics) {
  return semantics == xla::ifrt::proto::ARRAY_COPY_SEMANTICS_DONATE_INPUT;
}

// The array that is shard `shard` of an array of type `spec`.
std::shared_ptr<const ArraySpec> ShardSpec(const ArraySpec& spec, int shard) {
  auto out = std::make_shared<ArraySpec>();
  out->dtype = spec.dtype;
  out->dims = spec.sharding->ShardBox(spec.dims, shard).size;
  out->sharding = std::make_shared<const Sharding>(
      Sharding::SingleDevice(spec.sharding->devices()[shard], spec.sharding->memory_kind()));
  out->layout = spec.layout;
  return out;
}

// All shards are alike in shape, wherever they lie.
bool HasEqualShards(const ArraySpec& spec) {
  for (int i = 1; i < spec.sharding->num_shards(); ++i) {
    if (spec.sharding->ShardBox(spec.dims, i).size != spec.sharding->ShardBox(spec.dims, 0).size) return false;
  }
  return true;
}

// One target's shards while a remap plan fills them in.
struct RemapTarget {
  std::vector<AliasShards::From> sources;
  std::vector<bool> filled;

  absl::Status Fill(int64_t shard, ArrayId array, int64_t source_shard) {
    if (shard < 0 || shard >= static_cast<int64_t>(sources.size()) || filled[shard]) {
      return absl::InvalidArgumentError(absl::StrCat("a remap plan that fills shard ", shard, " twice or outside"));
    }
    if (source_shard < 0 || source_shard > std::numeric_limits<int>::max()) {
      return absl::InvalidArgumentError("a remap plan that takes a shard that does not exist");
    }
    sources[shard] = {array, static_cast<int>(source_shard)};
    filled[shard] = true;
    return absl::OkStatus();
  }
};

absl::Status FillFromMapping(const xla::ifrt::RemapPlanProto::MappingProto& m, absl::Span<const ArrayId> inputs,
                             std::vector<RemapTarget>& targets) {
  const int n = m.from_start_size();
  if (m.in_array() < 0 || m.in_array() >= static_cast<int>(inputs.size()) || m.out_array() < 0 ||
      m.out_array() >= static_cast<int>(targets.size()) || m.from_end_size() != n || m.from_step_size() != n ||
      m.to_start_size() != n || m.to_end_size() != n || m.to_step_size() != n) {
    return absl::InvalidArgumentError("a remap plan whose mapping names arrays or intervals that do not exist");
  }
  for (int i = 0; i < n; ++i) {
    if (m.from_step(i) < 1 || m.to_step(i) < 1) return absl::InvalidArgumentError("a remap plan with steps below 1");
    // Fill refuses to go twice over a shard, so this ends after as many steps as there are shards.
    int64_t from = m.from_start(i);
    int64_t to = m.to_start(i);
    while (from < m.from_end(i) && to < m.to_end(i)) {
      RETURN_IF_ERROR(targets[m.out_array()].Fill(to, inputs[m.in_array()], from));
      if (__builtin_add_overflow(from, m.from_step(i), &from) || __builtin_add_overflow(to, m.to_step(i), &to)) break;
    }
  }
  return absl::OkStatus();
}

absl::flat_hash_map<DeviceId, int> PositionOfDevices(const Sharding& sharding) {
  absl::flat_hash_map<DeviceId, int> position;
  for (int i = 0; i < sharding.num_shards(); ++i) position.emplace(sharding.devices()[i], i);
  return position;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ArraySpec>> IfrtSession::ParseSpec(const xla::ifrt::ArraySpecProto& wire) {
  auto spec = std::make_shared<ArraySpec>();
  ASSIGN_OR_RETURN(spec->dtype, ParseDType(wire.dtype()));
  ASSIGN_OR_RETURN(spec->dims, ParseDims(wire.shape()));
  ASSIGN_OR_RETURN(spec->sharding, shardings_.Get(wire.sharding()));
  RETURN_IF_ERROR(spec->sharding->CheckRank(spec->dims));
  if (wire.has_layout()) {
    ASSIGN_OR_RETURN(spec->layout, ParseLayoutBytes(wire.layout()));
  }
  return spec;
}

// ---------------------------------------------------------------- from host data

absl::Status IfrtSession::ClaimPieces(std::vector<HostPiece>& pieces) {
  absl::Status status;
  size_t claimed = 0;
  for (; claimed < pieces.size() && status.ok(); ++claimed) {
    auto data = uploads_->Claim(pieces[claimed].buffer, pieces[claimed].total_bytes);
    status = data.status();
    if (data.ok()) pieces[claimed].data = *std::move(data);
  }
  if (status.ok()) return status;
  // The one that failed belongs to another request, or is gone already.
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i + 1 != claimed && !pieces[i].data) uploads_->Discard(pieces[i].buffer);
  }
  return status;
}

void IfrtSession::SubmitPut(PutArray put, const std::shared_ptr<Joint>& joint) {
  std::vector<HostBufferId> open;
  for (const HostPiece& piece : put.pieces) {
    if (!piece.data) open.push_back(piece.buffer);
  }
  auto answer = [this, joint, open = std::move(open)](const absl::Status& status) {
    if (!status.ok()) {
      for (HostBufferId buffer : open) uploads_->Discard(buffer);
    }
    AnswerPart(*joint, status);
  };
  put.request = Expect(OnDone(std::move(answer)), joint->call.user_context);
  Submit(std::move(put));
}

absl::StatusOr<PutArray> IfrtSession::ParseMake(const wire::MakeArrayFromHostBufferRequest& r) {
  PutArray put;
  auto spec = std::make_shared<ArraySpec>();
  ASSIGN_OR_RETURN(spec->dtype, ParseDType(r.dtype()));
  ASSIGN_OR_RETURN(spec->dims, ParseDims(r.shape()));
  ASSIGN_OR_RETURN(spec->sharding, shardings_.Get(r.sharding()));
  ASSIGN_OR_RETURN(spec->layout, ParseLayout(r.layout()));
  if (!spec->sharding->fully_replicated()) {
    return absl::UnimplementedError(
        "one host buffer for an array whose shards differ; send one buffer a shard (jax.device_put does)");
  }
  HostPiece piece;
  piece.buffer = HostBufferId{r.host_buffer_handle()};
  piece.shards.resize(spec->sharding->num_shards());
  std::iota(piece.shards.begin(), piece.shards.end(), 0);
  if (r.has_byte_strides()) {
    ASSIGN_OR_RETURN(piece.byte_strides, ParseStrides(r.byte_strides(), spec->dims));
  }
  ASSIGN_OR_RETURN(piece.total_bytes, HostSpanBytes(spec->dtype, spec->dims, piece.byte_strides));
  put.spec = std::move(spec);
  put.pieces.push_back(std::move(piece));
  return put;
}

absl::Status IfrtSession::OnMakeArray(const IfrtCall& call, const wire::MakeArrayFromHostBufferRequest& r) {
  auto joint = std::make_shared<Joint>(Joint{call, {}, 1, {}});
  const auto prepare = [&]() -> absl::StatusOr<PutArray> {
    ASSIGN_OR_RETURN(const uint64_t handle, ResultHandle(r.array_handle()));
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(handle));
    ASSIGN_OR_RETURN(PutArray put, ParseMake(r));
    put.array = array;
    joint->response.mutable_make_array_from_host_buffer_response()->set_array_handle(handle);
    return put;
  };
  absl::StatusOr<PutArray> put = prepare();
  if (!put.ok()) {
    uploads_->Discard(HostBufferId{r.host_buffer_handle()});
    return put.status();
  }
  RETURN_IF_ERROR(ClaimPieces(put->pieces));
  SubmitPut(*std::move(put), joint);
  return absl::OkStatus();
}

absl::StatusOr<PutArray> IfrtSession::ParseMakeShards(
    const wire::MakeArraysFromHostBufferShardsRequest::MakeArraysFromHostBufferShardsSpec& wire) {
  PutArray put;
  ASSIGN_OR_RETURN(put.spec, ParseSpec(wire.array_spec()));
  if (wire.addressable_shard_indices_size() != wire.host_buffers_size()) {
    return absl::InvalidArgumentError("as many lists of shards as host buffers are needed");
  }
  for (int i = 0; i < wire.host_buffers_size(); ++i) {
    const auto& buffer = wire.host_buffers(i);
    HostPiece piece;
    piece.buffer = HostBufferId{buffer.host_buffer_handle()};
    ASSIGN_OR_RETURN(const DType dtype, ParseDType(buffer.dtype()));
    ASSIGN_OR_RETURN(const std::vector<int64_t> dims, ParseDims(buffer.shape()));
    if (buffer.has_byte_strides()) {
      ASSIGN_OR_RETURN(piece.byte_strides, ParseStrides(buffer.byte_strides(), dims));
    }
    ASSIGN_OR_RETURN(piece.total_bytes, HostSpanBytes(dtype, dims, piece.byte_strides));
    for (int64_t shard : wire.addressable_shard_indices(i).indices()) {
      if (shard < 0 || shard >= put.spec->sharding->num_shards()) {
        return absl::InvalidArgumentError(
            absl::StrCat("shard ", shard, " of an array of ", put.spec->sharding->num_shards(), " shards"));
      }
      const Box box = put.spec->sharding->ShardBox(put.spec->dims, static_cast<int>(shard));
      if (dtype != put.spec->dtype || dims != box.size) {
        return absl::InvalidArgumentError(absl::StrCat("host data of type ", Name(dtype), "[", absl::StrJoin(dims, ","),
                                                       "] for shard ", shard, " of type ", Name(put.spec->dtype), "[",
                                                       absl::StrJoin(box.size, ","), "]"));
      }
      piece.shards.push_back(static_cast<int>(shard));
    }
    put.pieces.push_back(std::move(piece));
  }
  return put;
}

absl::Status IfrtSession::OnMakeArrays(const IfrtCall& call, const wire::MakeArraysFromHostBufferShardsRequest& r) {
  auto joint = std::make_shared<Joint>(Joint{call, {}, r.specs_size(), {}});
  auto& response = *joint->response.mutable_make_arrays_from_host_buffer_shards_response();
  std::vector<PutArray> puts;
  const auto prepare = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.array_handles(), r.specs_size()));
    for (int i = 0; i < r.specs_size(); ++i) {
      ASSIGN_OR_RETURN(const ArrayId array, ToArray(handles[i]));
      ASSIGN_OR_RETURN(PutArray put, ParseMakeShards(r.specs(i)));
      put.array = array;
      puts.push_back(std::move(put));
      response.add_array_handles(handles[i]);
    }
    return absl::OkStatus();
  };
  if (absl::Status status = prepare(); !status.ok()) {
    for (const auto& spec : r.specs()) {
      for (const auto& buffer : spec.host_buffers()) uploads_->Discard(HostBufferId{buffer.host_buffer_handle()});
    }
    return status;
  }
  if (puts.empty()) Answer(call, joint->response);
  for (PutArray& put : puts) {
    if (absl::Status claimed = ClaimPieces(put.pieces); claimed.ok()) {
      SubmitPut(std::move(put), joint);
    } else {
      joint->status.Update(claimed);
      Submit(MakeErrorArrays{ExpectPart(joint), {put.array}, put.spec, claimed});
    }
  }
  return absl::OkStatus();
}

absl::Status IfrtSession::OnMakeErrorArrays(const IfrtCall& call, const wire::MakeErrorArraysRequest& r) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.array_handles(), r.array_specs_size()));
  const absl::Status error = StatusFromWire(r.error());
  if (error.ok()) return absl::InvalidArgumentError("an array that holds an error must hold one, not OK");
  auto joint = std::make_shared<Joint>(Joint{call, {}, r.array_specs_size(), {}});
  auto& response = *joint->response.mutable_make_error_arrays_response();
  std::vector<MakeErrorArrays> events;
  for (int i = 0; i < r.array_specs_size(); ++i) {
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(handles[i]));
    ASSIGN_OR_RETURN(const auto spec, ParseSpec(r.array_specs(i)));
    events.push_back(MakeErrorArrays{{}, {array}, spec, error});
    response.add_array_handles(handles[i]);
  }
  if (events.empty()) Answer(call, joint->response);
  for (MakeErrorArrays& event : events) {
    event.request = ExpectPart(joint);
    Submit(std::move(event));
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- new names for shards

absl::Status IfrtSession::PassErrorOn(const IfrtCall& call, ArrayId source, const std::vector<ArrayId>& results) {
  // Its error is known by now, so the reply comes at once, and before any later request.
  WaitReady event{{}, {source}};
  event.request = Expect(OnDone([this, call, results](const absl::Status& status) {
    const absl::Status error = status.ok() ? absl::InvalidArgumentError("the end of a launch is not an array") : status;
    after_->Do([self = shared_from_this(), results, error] {
      self->Submit(MakeErrorArrays{self->Unanswered(), results, nullptr, error});
    });
    AnswerError(call, error);
  }));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnAssemble(const IfrtCall& call, const wire::AssembleArrayFromSingleDeviceArraysRequest& r) {
  ASSIGN_OR_RETURN(const uint64_t handle, ResultHandle(r.result_handle()));
  ASSIGN_OR_RETURN(const std::vector<ArrayId> sources, ToArrays(r.single_device_array_handles()));
  AliasShards::Target target;
  ASSIGN_OR_RETURN(target.array, ToArray(handle));
  auto spec = std::make_shared<ArraySpec>();
  ASSIGN_OR_RETURN(spec->dims, ParseDims(r.shape()));
  ASSIGN_OR_RETURN(spec->sharding, shardings_.Get(r.sharding()));
  RETURN_IF_ERROR(spec->sharding->CheckRank(spec->dims));
  if (r.has_dtype()) {
    ASSIGN_OR_RETURN(spec->dtype, ParseDType(r.dtype()));
  } else {
    // Older clients leave it to the first array to say.
    if (sources.empty()) return absl::InvalidArgumentError("an array of no shards and no type");
    const auto first = FindSpec(sources[0]);
    if (first == nullptr) return PassErrorOn(call, sources[0], {target.array});
    spec->dtype = first->dtype;
  }
  target.spec = std::move(spec);
  for (ArrayId source : sources) target.sources.push_back({source, 0});
  IfrtResponse response;
  response.mutable_assemble_array_from_single_device_arrays_response()->set_array_handle(handle);
  AliasShards event{ExpectDone(call, std::move(response)), {std::move(target)}, {}};
  if (Donates(r.copy_semantics())) event.donated = sources;
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnDisassemble(const IfrtCall& call, const wire::DisassembleIntoSingleDeviceArraysRequest& r) {
  ASSIGN_OR_RETURN(const ArrayId source, ToArray(r.array_handle()));
  const auto spec = FindSpec(source);
  if (spec == nullptr) {
    ASSIGN_OR_RETURN(const std::vector<ArrayId> results, ToArrays(r.result_handles()));
    return PassErrorOn(call, source, results);
  }
  const int shards = spec->sharding->num_shards();
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.result_handles(), shards));
  AliasShards event;
  IfrtResponse response;
  auto& answer = *response.mutable_disassemble_into_single_device_arrays_response();
  for (int i = 0; i < shards; ++i) {
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(handles[i]));
    event.targets.push_back({array, ShardSpec(*spec, i), {{source, i}}});
    answer.add_array_handles(handles[i]);
  }
  if (Donates(r.copy_semantics())) event.donated = {source};
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnFullyReplicatedShard(const IfrtCall& call, const wire::FullyReplicatedShardRequest& r) {
  ASSIGN_OR_RETURN(const uint64_t handle, ResultHandle(r.result_handle()));
  ASSIGN_OR_RETURN(const ArrayId source, ToArray(r.array_handle()));
  ASSIGN_OR_RETURN(const ArrayId array, ToArray(handle));
  const auto spec = FindSpec(source);
  if (spec == nullptr) return PassErrorOn(call, source, {array});
  if (!spec->sharding->fully_replicated()) {
    return absl::InvalidArgumentError("the array is not fully replicated: no shard of it holds everything");
  }
  IfrtResponse response;
  response.mutable_fully_replicated_shard_response()->set_array_handle(handle);
  AliasShards event{ExpectDone(call, std::move(response)), {{array, ShardSpec(*spec, 0), {{source, 0}}}}, {}};
  if (Donates(r.copy_semantics())) event.donated = {source};
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnRemapArrays(const IfrtCall& call, const wire::RemapArraysRequest& r) {
  const xla::ifrt::RemapPlanProto& plan = r.plan();
  ASSIGN_OR_RETURN(const std::vector<ArrayId> inputs, ToArrays(r.array_handles()));
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.result_handles(), plan.output_specs_size()));
  AliasShards event;
  IfrtResponse response;
  std::vector<RemapTarget> filling;
  for (int i = 0; i < plan.output_specs_size(); ++i) {
    AliasShards::Target target;
    ASSIGN_OR_RETURN(target.array, ToArray(handles[i]));
    ASSIGN_OR_RETURN(target.spec, ParseSpec(plan.output_specs(i)));
    const size_t shards = target.spec->sharding->num_shards();
    filling.push_back({std::vector<AliasShards::From>(shards), std::vector<bool>(shards, false)});
    event.targets.push_back(std::move(target));
    response.mutable_remap_arrays_response()->add_array_handles(handles[i]);
  }
  for (const auto& mapping : plan.mappings()) RETURN_IF_ERROR(FillFromMapping(mapping, inputs, filling));
  for (const auto& output : plan.input_devices_for_output()) {
    if (output.out_array() < 0 || output.out_array() >= static_cast<int>(filling.size())) {
      return absl::InvalidArgumentError("a remap plan that names an output that does not exist");
    }
    const auto to = PositionOfDevices(*event.targets[output.out_array()].spec->sharding);
    for (const auto& input : output.input_devices()) {
      if (input.in_array() < 0 || input.in_array() >= static_cast<int>(inputs.size()) ||
          input.in_array() >= plan.input_specs_size()) {
        return absl::InvalidArgumentError("a remap plan that names an input that does not exist");
      }
      ASSIGN_OR_RETURN(const auto sharding, shardings_.Get(plan.input_specs(input.in_array()).sharding()));
      const auto from = PositionOfDevices(*sharding);
      for (int32_t id : input.device_list().device_ids()) {
        const auto source = from.find(DeviceId{id});
        const auto target = to.find(DeviceId{id});
        if (source == from.end() || target == to.end()) {
          return absl::InvalidArgumentError(absl::StrCat("a remap plan with device ", id, " that an array lacks"));
        }
        RETURN_IF_ERROR(filling[output.out_array()].Fill(target->second, inputs[input.in_array()], source->second));
      }
    }
  }
  for (size_t i = 0; i < filling.size(); ++i) {
    if (std::find(filling[i].filled.begin(), filling[i].filled.end(), false) != filling[i].filled.end()) {
      return absl::InvalidArgumentError("a remap plan that leaves shards of an output empty");
    }
    event.targets[i].sources = std::move(filling[i].sources);
  }
  if (Donates(r.copy_semantics())) event.donated = inputs;
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnBitcastArrays(const IfrtCall& call, const wire::BitcastArraysRequest& r) {
  ASSIGN_OR_RETURN(const std::vector<ArrayId> sources, ToArrays(r.array_handles()));
  if (sources.size() != static_cast<size_t>(r.array_specs_size())) {
    return absl::InvalidArgumentError("as many types as arrays are needed");
  }
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.result_handles(), r.array_specs_size()));
  AliasShards event;
  IfrtResponse response;
  for (int i = 0; i < r.array_specs_size(); ++i) {
    AliasShards::Target target;
    ASSIGN_OR_RETURN(target.array, ToArray(handles[i]));
    ASSIGN_OR_RETURN(target.spec, ParseSpec(r.array_specs(i)));
    const auto source = FindSpec(sources[i]);
    const int shards = target.spec->sharding->num_shards();
    // An unknown type is an error, which the core finds and passes on.
    const bool same =
        source == nullptr || (source->dtype == target.spec->dtype && source->sharding->num_shards() == shards &&
                              HasEqualShards(*source) && HasEqualShards(*target.spec) &&
                              source->sharding->ShardBox(source->dims, 0).size ==
                                  target.spec->sharding->ShardBox(target.spec->dims, 0).size);
    if (!same) return absl::UnimplementedError("bitcasts to another type or shard shape: plugins have no such call");
    for (int shard = 0; shard < shards; ++shard) target.sources.push_back({sources[i], shard});
    event.targets.push_back(std::move(target));
    response.mutable_bitcast_arrays_response()->add_array_handles(handles[i]);
  }
  if (Donates(r.copy_semantics())) event.donated = sources;
  response.mutable_bitcast_arrays_response();
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

// ---------------------------------------------------------------- copies

absl::Status IfrtSession::OnCopyArrays(const IfrtCall& call, const wire::CopyArraysRequest& r) {
  CopyArrays event;
  ASSIGN_OR_RETURN(event.sources, ToArrays(r.array_handles()));
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.result_handles(), r.array_handles_size()));
  IfrtResponse response;
  auto& answer = *response.mutable_copy_arrays_response();
  for (uint64_t handle : handles) {
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(handle));
    event.targets.push_back(array);
    answer.add_array_handles(handle);
  }
  for (int32_t id : r.device_ids()) event.devices.push_back(DeviceId{id});
  if (r.has_memory_kind()) event.memory_kind = r.memory_kind();
  event.donate = Donates(r.copy_semantics());
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnReshardArrays(const IfrtCall& call, const wire::ReshardArraysRequest& r) {
  ReshardArrays event;
  ASSIGN_OR_RETURN(event.sources, ToArrays(r.array_handles()));
  if (event.sources.size() != static_cast<size_t>(r.array_specs_size())) {
    return absl::InvalidArgumentError("as many types as arrays are needed");
  }
  ASSIGN_OR_RETURN(const std::vector<uint64_t> handles, ResultHandles(r.result_handles(), r.array_specs_size()));
  IfrtResponse response;
  auto& answer = *response.mutable_reshard_arrays_response();
  for (int i = 0; i < r.array_specs_size(); ++i) {
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(handles[i]));
    ASSIGN_OR_RETURN(const auto spec, ParseSpec(r.array_specs(i)));
    event.targets.push_back(array);
    event.shardings.push_back(spec->sharding);
    answer.add_array_handles(handles[i]);
  }
  event.donate = Donates(r.copy_semantics());
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnCopyToHostBuffer(const IfrtCall& call, const wire::CopyToHostBufferRequest& r) {
  FetchShard event;
  ASSIGN_OR_RETURN(event.array, ToArray(r.array_handle()));
  int64_t bytes = 0;
  std::shared_ptr<const ArraySpec> spec;
  bool ready = false;
  gate_->Read([&](const ControllerCore& core) {
    spec = core.FindArray(event.array);
    ready = core.IsReady(event.array);
  });
  // A type that is not known belongs to an array that holds an error, or to none: the core says which.
  if (spec != nullptr) {
    if (!spec->sharding->fully_replicated()) {
      return absl::UnimplementedError(
          "an array of several different shards is read shard by shard (disassemble it first)");
    }
    if (r.has_byte_strides()) {
      ASSIGN_OR_RETURN(event.byte_strides, ParseStrides(r.byte_strides(), spec->dims));
    }
    ASSIGN_OR_RETURN(bytes, HostSpanBytes(spec->dtype, spec->dims, event.byte_strides));
  }
  HostCharge charge(memory_, HostPool::kFetched, id_, HostDownloads::Cost(bytes));
  WeighFetched();
  const HostBufferId buffer{r.host_buffer_handle()};
  IfrtResponse response;
  response.mutable_copy_to_host_buffer_response();
  if (ready) {
    // Nothing is left to find out: the client may look the data up while they come. What goes wrong now is said there.
    RETURN_IF_ERROR(downloads_.Expect(buffer, std::move(charge)));
    event.request = Expect(OnFetched([this, buffer](absl::StatusOr<Fetched> fetched) {
      downloads_.Arrived(buffer, std::move(fetched));
      WeighFetched();
    }));
    Submit(std::move(event));
    Answer(call, response);
    return absl::OkStatus();
  }
  event.request = Expect(OnFetched([this, call, buffer, charge = std::move(charge),
                                    response = std::move(response)](absl::StatusOr<Fetched> fetched) mutable {
    absl::Status status = fetched.status();
    if (status.ok()) status = downloads_.Put(buffer, *std::move(fetched), std::move(charge));
    charge.Resize(0);
    WeighFetched();
    if (!status.ok()) return AnswerError(call, status);
    Answer(call, response);
  }));
  Submit(std::move(event));
  return absl::OkStatus();
}

// ---------------------------------------------------------------- ends, and questions

absl::Status IfrtSession::OnDeleteArray(const IfrtCall& call, const wire::DeleteArrayRequest& r) {
  DeleteArrays event;
  ASSIGN_OR_RETURN(event.arrays, ToArrays(r.array_handle()));
  ASSIGN_OR_RETURN(const uint64_t future, handles_.Mint(HandleKind::kDeletion));
  IfrtResponse response;
  response.mutable_delete_array_response()->set_deletion_future_handle(future);
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnDestructArray(const IfrtCall& call, const wire::DestructArrayRequest& r) {
  DestructArrays event;
  ASSIGN_OR_RETURN(event.arrays, ToArrays(r.array_handle()));
  IfrtResponse response;
  response.mutable_destruct_array_response();
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

absl::Status IfrtSession::OnIsArrayDeleted(const IfrtCall& call, const wire::IsArrayDeletedRequest& r) {
  ASSIGN_OR_RETURN(const ArrayId array, ToArray(r.array_handle()));
  IfrtResponse response;
  auto& answer = *response.mutable_is_array_deleted_response();
  gate_->Read([&](const ControllerCore& core) { answer.set_deleted(core.IsDeleted(array)); });
  Answer(call, response);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnCheckValueReady(const IfrtCall& call, const wire::CheckValueReadyRequest& r) {
  WaitReady event;
  ASSIGN_OR_RETURN(event.arrays, ToArrays(r.value_handles()));
  IfrtResponse response;
  response.mutable_check_value_ready_response();
  event.request = ExpectDone(call, std::move(response));
  Submit(std::move(event));
  return absl::OkStatus();
}

}  // namespace causeway
