#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/origin.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {
namespace {

// Of all arrays of one session, so that a client that never lets go cannot take the controller's memory.
constexpr size_t kMaxArraysPerSession = 16 << 20;

// Clients know arrays by the numbers they gave them.
std::string Describe(ArrayId id) { return absl::StrCat("array ", Raw(id) & kMaxPerSession); }

ArraySpec CopyOf(const ArraySpec& source, const CopyArrays& e) {
  ArraySpec copy = source;
  const Sharding& from = *source.sharding;
  copy.sharding = std::make_shared<const Sharding>(
      from.OnDevices(e.devices.empty() ? from.devices() : e.devices, e.memory_kind.value_or(from.memory_kind())));
  copy.layout.clear();
  return copy;
}

}  // namespace

const Array* ControllerCore::Impl::FindArray(ArrayId id) const {
  const auto session = sessions_.find(SessionOf(id));
  if (session == sessions_.end()) return nullptr;
  const auto found = session->second->arrays.find(id);
  return found == session->second->arrays.end() ? nullptr : &found->second;
}

absl::StatusOr<Array*> ControllerCore::Impl::Usable(Session& session, ArrayId id) {
  const auto found = session.arrays.find(id);
  if (found == session.arrays.end()) return absl::NotFoundError(absl::StrCat("unknown ", Describe(id)));
  if (found->second.deleted)
    return absl::InvalidArgumentError(absl::StrCat("Array has been deleted (", Describe(id), ")"));
  return &found->second;
}

absl::StatusOr<Array*> ControllerCore::Impl::Add(Session& session, ArrayId id, std::shared_ptr<const ArraySpec> spec) {
  if (SessionOf(id) != session.id)
    return absl::InvalidArgumentError(absl::StrCat(Describe(id), " is of another session"));
  if (session.arrays.size() >= kMaxArraysPerSession) {
    return absl::ResourceExhaustedError(absl::StrCat("the session has ", kMaxArraysPerSession, " arrays: delete some"));
  }
  const auto [entry, fresh] = session.arrays.try_emplace(id);
  if (!fresh) return absl::InvalidArgumentError(absl::StrCat("the name of ", Describe(id), " is taken"));
  entry->second.spec = std::move(spec);
  return &entry->second;
}

absl::Status ControllerCore::Impl::ErrorOf(const RequestHeader& request, const absl::Status& error) {
  if (request.origin == 0 || OriginOf(error) != 0) return error;
  out_->OriginOpened(request.session, request.origin);
  out_->OriginClosed(request.session, request.origin, /*failed=*/true);
  return WithOrigin(error, request.origin);
}

absl::Status ControllerCore::Impl::CheckNames(const Session& session, const std::vector<ArrayId>& ids) const {
  if (session.arrays.size() + ids.size() > kMaxArraysPerSession) {
    return absl::ResourceExhaustedError(absl::StrCat("the session has ", kMaxArraysPerSession, " arrays: delete some"));
  }
  absl::flat_hash_set<ArrayId> seen;
  for (ArrayId id : ids) {
    if (SessionOf(id) != session.id)
      return absl::InvalidArgumentError(absl::StrCat(Describe(id), " is of another session"));
    if (session.arrays.contains(id) || !seen.insert(id).second)
      return absl::InvalidArgumentError(absl::StrCat("the name of ", Describe(id), " is taken"));
  }
  return absl::OkStatus();
}

void ControllerCore::Impl::Refuse(Session& session, RequestHeader request, const std::vector<ArrayId>& ids,
                                  const absl::Status& why) {
  const absl::Status error = ErrorOf(request, why);
  for (ArrayId id : ids) {
    if (SessionOf(id) != session.id) continue;
    const auto [entry, fresh] = session.arrays.try_emplace(id);
    if (fresh) entry->second.error = error;
  }
  out_->ReplyDone(request, error);
}

absl::Status ControllerCore::Impl::CheckDevices(const Session& session, const std::vector<DeviceId>& devices) const {
  if (devices.empty()) return absl::InvalidArgumentError("no device is named");
  const absl::Span<const DeviceId> slice = slices_.Of(session.id);
  absl::flat_hash_set<DeviceId> seen;
  for (DeviceId device : devices) {
    const Cluster::Place* place = cluster_.Find(device);
    if (place == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("device ", Raw(device), " is not in this cluster"));
    }
    if (!std::binary_search(slice.begin(), slice.end(), device)) {
      return absl::InvalidArgumentError(
          absl::StrCat("device ", Raw(device), " is not in this session's slice (", DescribeDevices(slice), ")"));
    }
    if (!seen.insert(device).second) {
      return absl::InvalidArgumentError(absl::StrCat("device ", Raw(device), " is named twice"));
    }
    RETURN_IF_ERROR(CheckAlive(place->worker));
  }
  return absl::OkStatus();
}

absl::Status CheckDims(const ArraySpec& spec) {
  if (static_cast<int>(spec.dims.size()) > kMaxArrayRank) {
    return absl::InvalidArgumentError(absl::StrCat("an array of rank ", spec.dims.size(), ": at most ", kMaxArrayRank));
  }
  int64_t elements = 1;
  for (int64_t d : spec.dims) {
    if (d < 0 || (d > 0 && elements > (int64_t{1} << 56) / d)) {
      return absl::InvalidArgumentError(absl::StrCat("no array has shape [", absl::StrJoin(spec.dims, ","), "]"));
    }
    elements *= std::max<int64_t>(d, 1);
  }
  return spec.sharding->CheckRank(spec.dims);
}

absl::Status ControllerCore::Impl::CheckSpec(const Session& session, const ArraySpec& spec) const {
  RETURN_IF_ERROR(CheckDims(spec));
  return CheckDevices(session, spec.sharding->devices());
}

ControllerCore::Impl::PendingMake& ControllerCore::Impl::StartMake(Session& session, const RequestHeader& request,
                                                                   ArrayId id, Array& array,
                                                                   std::map<WorkerId, int> reports,
                                                                   std::vector<WorkerId> senders,
                                                                   const Load::Item& load) {
  int parts = 0;
  for (const auto& [worker, count] : reports) parts += count;
  array.on_workers = true;
  array.placement = cluster_.PlacementOf(array.spec->sharding->devices());
  array.futures = {std::make_shared<Future>(parts, request, *out_)};
  const DeviceMemory::Space space = SpaceOf(*array.spec->sharding);
  if (holding_ == 0) {
    array.memory = memory_.Add(*session.memory, array.placement, ShardBytes(*array.spec), space);
  } else {
    array.memory = memory_.Plan(*session.memory, array.placement, ShardBytes(*array.spec), space);
    array.maker = holding_;
    Held& held = *held_.find(holding_)->second;
    held.memory = array.memory;
    held.spec = array.spec;
  }
  array.futures.front()->SetMake();
  PendingMake& make = makes_[id];
  make = PendingMake{array.futures.front(), std::move(reports), std::move(senders), load, array.memory};
  Began(session, load);
  return make;
}

// ---------------------------------------------------------------- host data

void ControllerCore::Impl::On(PutArray& e) {
  Session& session = *FindSession(e.request.session);
  const auto check = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckSpec(session, *e.spec));
    std::vector<bool> given(e.spec->sharding->num_shards(), false);
    for (const HostPiece& piece : e.pieces) {
      for (int shard : piece.shards) {
        if (shard < 0 || shard >= static_cast<int>(given.size()) || given[shard]) {
          return absl::InvalidArgumentError(absl::StrCat("shard ", shard, " is given twice or does not exist"));
        }
        given[shard] = true;
      }
    }
    if (std::find(given.begin(), given.end(), false) != given.end()) {
      return absl::InvalidArgumentError("the host data do not cover every shard");
    }
    return CheckRoom(session, e.array, *e.spec);
  };
  absl::Status ok = check();
  absl::StatusOr<Array*> array = ok.ok() ? Add(session, e.array, e.spec) : ok;
  if (!array.ok()) return Refuse(session, e.request, {e.array}, array.status());

  std::map<WorkerId, int> reports;
  std::vector<std::pair<StreamId, WantedHostData>> wanted;
  Load::Item load;
  const Sharding& sharding = *e.spec->sharding;
  BeginHold(session, {}, RoomFor(session, e.array, e.spec));
  for (HostPiece& piece : e.pieces) {
    if (piece.shards.empty()) continue;
    proto::Put base;
    base.set_array(Raw(e.array));
    base.mutable_type()->set_dtype(static_cast<int32_t>(e.spec->dtype));
    for (int64_t d : sharding.ShardBox(e.spec->dims, piece.shards.front()).size) base.mutable_type()->add_dims(d);
    base.set_memory_kind(sharding.memory_kind());
    for (int64_t stride : piece.byte_strides) base.add_byte_strides(stride);
    base.set_layout(e.spec->layout);
    base.set_origin(e.request.origin);
    std::vector<DeviceId> devices;
    for (int shard : piece.shards) devices.push_back(sharding.devices()[shard]);
    const auto workers = cluster_.WorkersOf(devices);
    for (WorkerId worker : workers) {
      proto::ToWorker message;
      proto::Put* put = piece.data ? message.mutable_put() : message.mutable_receive_host()->mutable_put();
      *put = base;
      for (int shard : piece.shards) {
        const Cluster::Place& place = *cluster_.Find(sharding.devices()[shard]);
        if (place.worker != worker) continue;
        proto::Shard* made = put->add_shards();
        made->set_index(shard);
        made->set_device(place.local_index);
      }
      ++reports[worker];
      const bool in_frame = piece.total_bytes <= kInlineBytes;
      int64_t& bytes = in_frame ? load.bytes : load.host_bytes;
      bytes = SaturatingAdd(bytes, piece.total_bytes);
      if (piece.data) {
        put->set_data(*piece.data);
        Send(worker, message);
        continue;
      }
      const StreamId stream = NextStream();
      message.mutable_receive_host()->set_stream(Raw(stream));
      message.mutable_receive_host()->set_total_bytes(piece.total_bytes);
      wanted.push_back({stream, {session.id, worker, in_frame, nullptr}});
      Send(worker, message);
      const Want want{piece.buffer, worker, stream, piece.total_bytes, in_frame, worker == workers.back()};
      if (holding_ != 0) {
        held_.find(holding_)->second->wants.push_back(want);
      } else {
        AskFor(session.id, want);
      }
    }
  }
  const PendingMake& make = StartMake(session, e.request, e.array, **array, std::move(reports), {}, load);
  make.future->ExpectFromClient(static_cast<int>(wanted.size()));
  for (auto& [stream, data] : wanted) {
    data.future = make.future;
    host_data_wanted_.emplace(stream, std::move(data));
  }
  EndHold();
  out_->ReplyDone(e.request, absl::OkStatus());
}

void ControllerCore::Impl::On(HostDataArrived& e) {
  const auto found = host_data_wanted_.find(e.stream);
  if (found == host_data_wanted_.end()) return;  // the worker is gone
  const WantedHostData wanted = std::move(found->second);
  host_data_wanted_.erase(found);
  wanted.future->ClientSent();
  scheduler_.LookAgain();
  if (!wanted.in_frame) return;
  proto::ToWorker message;
  proto::HostData& data = *message.mutable_host_data();
  data.set_stream(Raw(e.stream));
  if (e.data.ok()) {
    data.set_data(*std::move(e.data));
  } else {
    *data.mutable_status() = ToProto(e.data.status());
  }
  Send(e.worker, message);
}

void ControllerCore::Impl::OnArrayDone(WorkerId worker, const proto::ArrayDone& done) {
  const ArrayId id{done.array()};
  const auto found = makes_.find(id);
  if (found == makes_.end()) return OnLostMake(worker, done);
  const auto reports = found->second.reports.find(worker);
  if (reports == found->second.reports.end()) return;
  if (--reports->second == 0) found->second.reports.erase(reports);
  const std::shared_ptr<Future> future = found->second.future;
  const absl::Status status = FromProto(done.status());
  EvictFailed(found->second.memory, worker, done);
  future->PartDone(status, *out_);
  if (!future->done()) return;
  future->Expect(now_);
  if (found->second.began != absl::InfiniteFuture() && future->status().ok()) {
    absl::Time began = found->second.began;
    for (const std::shared_ptr<Future>& source : found->second.sources) began = std::max(began, source->expected());
    transfer_times_.Add(found->second.bytes, std::max(absl::Microseconds(1), now_ - began));
  }
  const Load::Item load = found->second.load;
  makes_.erase(found);
  Ended(SessionOf(id), load);
}

// ---------------------------------------------------------------- copies

void ControllerCore::Impl::RunPlan(Session& session, const RequestHeader& request, const Array& source, ArrayId target,
                                   Array& array, CopyPlan plan) {
  std::map<WorkerId, int> reports;
  for (WorkerId worker : plan.makers) reports[worker] = 1;
  int64_t bytes = 0;
  for (auto& [worker, copy] : plan.messages) {
    for (const proto::Copy::Part& part : copy.parts()) {
      if (part.stream() != 0 && part.target_worker() == Raw(worker)) bytes = SaturatingAdd(bytes, part.bytes());
    }
    proto::ToWorker message;
    *message.mutable_copy() = std::move(copy);
    message.mutable_copy()->set_origin(request.origin);
    Send(worker, message);
  }
  PendingMake& make = StartMake(session, request, target, array, std::move(reports), std::move(plan.senders), {});
  make.sources.assign(source.futures.begin(), source.futures.end());
  for (const std::shared_ptr<Future>& future : source.futures) make.future->ComesFrom(future);
  make.bytes = bytes;
  make.held = holding_;
  if (holding_ == 0) return ExpectMake(target);
  held_.find(holding_)->second->makes.push_back(target);
}

void ControllerCore::Impl::On(CopyArrays& e) {
  Session& session = *FindSession(e.request.session);
  const auto check = [&]() -> absl::Status {
    if (e.sources.size() != e.targets.size())
      return absl::InvalidArgumentError("as many targets as sources are needed");
    if (!e.devices.empty()) RETURN_IF_ERROR(CheckDevices(session, e.devices));
    for (size_t i = 0; i < e.sources.size(); ++i) {
      const ArrayId source = e.sources[i];
      ASSIGN_OR_RETURN(const Array* array, Usable(session, source));
      if (array->spec == nullptr) {
        if (!array->KnownError().ok()) continue;
        return absl::InvalidArgumentError("a launch's status cannot be copied");
      }
      // Also of one that holds an error: its copy has a sharding that clients may look at.
      if (!e.devices.empty() && e.devices.size() != array->spec->sharding->devices().size()) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(source), " has ", array->spec->sharding->num_shards(),
                                                       " shards, ", e.devices.size(), " devices are named"));
      }
      if (array->KnownError().ok()) RETURN_IF_ERROR(CheckRoom(session, e.targets[i], CopyOf(*array->spec, e)));
    }
    return CheckNames(session, e.targets);
  };
  if (absl::Status ok = check(); !ok.ok()) return Refuse(session, e.request, e.targets, ok);
  for (size_t i = 0; i < e.sources.size(); ++i) {
    // Copied out: adding the target may move what is in the map.
    const Array source = **Usable(session, e.sources[i]);
    std::shared_ptr<const ArraySpec> spec = source.spec;
    absl::Status error = source.KnownError();
    if (spec != nullptr) {
      spec = std::make_shared<const ArraySpec>(CopyOf(*spec, e));
    }
    absl::StatusOr<Array*> target = Add(session, e.targets[i], spec);
    if (!target.ok()) return Refuse(session, e.request, e.targets, target.status());
    (*target)->made_by = source.made_by;
    if (!error.ok()) {
      (*target)->error = error;
      continue;
    }
    BeginHold(session, {e.sources[i]}, RoomFor(session, e.targets[i], spec));
    RunPlan(
        session, e.request, source, e.targets[i], **target,
        PlanCopy(e.sources[i], *source.spec, e.targets[i], *spec->sharding, cluster_, [this] { return NextStream(); }));
    EndHold();
  }
  if (e.donate) Delete(session, e.sources).IgnoreError();  // all were found above
  out_->ReplyDone(e.request, absl::OkStatus());
}

void ControllerCore::Impl::On(ReshardArrays& e) {
  Session& session = *FindSession(e.request.session);
  const auto check = [&]() -> absl::Status {
    if (e.sources.size() != e.targets.size() || e.sources.size() != e.shardings.size()) {
      return absl::InvalidArgumentError("as many targets and shardings as sources are needed");
    }
    for (size_t i = 0; i < e.sources.size(); ++i) {
      ASSIGN_OR_RETURN(const Array* array, Usable(session, e.sources[i]));
      RETURN_IF_ERROR(CheckDevices(session, e.shardings[i]->devices()));
      if (array->spec == nullptr) {
        if (!array->KnownError().ok()) continue;
        return absl::InvalidArgumentError("a launch's status cannot be resharded");
      }
      RETURN_IF_ERROR(e.shardings[i]->CheckRank(array->spec->dims));
      ArraySpec spec = *array->spec;
      spec.sharding = e.shardings[i];
      if (array->KnownError().ok()) RETURN_IF_ERROR(CheckRoom(session, e.targets[i], spec));
      for (const Sharding* sharding : {array->spec->sharding.get(), e.shardings[i].get()}) {
        if (sharding->placed()) continue;
        return absl::UnimplementedError(
            absl::StrCat("resharding ", Describe(e.sources[i]), " ", sharding == e.shardings[i].get() ? "to" : "from",
                         " a sharding that does not say which part of the array each device holds; use jax.jit with "
                         "out_shardings for it"));
      }
    }
    return CheckNames(session, e.targets);
  };
  if (absl::Status ok = check(); !ok.ok()) return Refuse(session, e.request, e.targets, ok);
  for (size_t i = 0; i < e.sources.size(); ++i) {
    const Array source = **Usable(session, e.sources[i]);
    std::shared_ptr<ArraySpec> spec;
    if (source.spec != nullptr) {
      spec = std::make_shared<ArraySpec>(*source.spec);
      spec->sharding = e.shardings[i];
      spec->layout.clear();
    }
    absl::StatusOr<Array*> target = Add(session, e.targets[i], spec);
    if (!target.ok()) return Refuse(session, e.request, e.targets, target.status());
    (*target)->made_by = source.made_by;
    if (absl::Status error = source.KnownError(); !error.ok()) {
      (*target)->error = error;
      continue;
    }
    BeginHold(session, {e.sources[i]}, RoomFor(session, e.targets[i], spec));
    RunPlan(session, e.request, source, e.targets[i], **target,
            PlanReshard(e.sources[i], *source.spec, e.targets[i], *e.shardings[i], cluster_,
                        [this] { return NextStream(); }));
    EndHold();
  }
  if (e.donate) Delete(session, e.sources).IgnoreError();  // all were found above
  out_->ReplyDone(e.request, absl::OkStatus());
}

// ---------------------------------------------------------------- names

absl::Status ControllerCore::Impl::CheckAlias(Session& session, const AliasShards::Target& target, Array& array) {
  RETURN_IF_ERROR(CheckSpec(session, *target.spec));
  const Sharding& sharding = *target.spec->sharding;
  if (static_cast<int>(target.sources.size()) != sharding.num_shards()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an array of ", sharding.num_shards(), " shards cannot be made of ", target.sources.size()));
  }
  ArrayId last{0};
  for (int i = 0; i < sharding.num_shards(); ++i) {
    const AliasShards::From& from = target.sources[i];
    ASSIGN_OR_RETURN(const Array* source, Usable(session, from.array));
    array.error.Update(source->KnownError());
    if (!source->KnownError().ok()) continue;
    if (source->spec == nullptr) return absl::InvalidArgumentError("a launch's status has no shards");
    if (from.shard < 0 || from.shard >= source->spec->sharding->num_shards()) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(from.array), " has no shard ", from.shard));
    }
    if (source->spec->sharding->devices()[from.shard] != sharding.devices()[i]) {
      return absl::InvalidArgumentError(absl::StrCat("shard ", from.shard, " of ", Describe(from.array),
                                                     " is on device ",
                                                     Raw(source->spec->sharding->devices()[from.shard]), ", not on ",
                                                     Raw(sharding.devices()[i]), ": copy it first"));
    }
    if (source->spec->dtype != target.spec->dtype) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(from.array), " is of type ", Name(source->spec->dtype),
                                                     ", not ", Name(target.spec->dtype)));
    }
    if (from.array == last) continue;
    last = from.array;
    if (array.made_by == 0) array.made_by = source->made_by;
    for (const std::shared_ptr<Future>& future : source->futures) {
      if (!future->done() && std::find(array.futures.begin(), array.futures.end(), future) == array.futures.end()) {
        array.futures.push_back(future);
      }
    }
  }
  return absl::OkStatus();
}

void ControllerCore::Impl::On(AliasShards& e) {
  Session& session = *FindSession(e.request.session);
  std::vector<ArrayId> ids;
  for (const AliasShards::Target& target : e.targets) ids.push_back(target.array);
  std::map<WorkerId, proto::ToWorker> messages;
  std::vector<std::pair<ArrayId, Array>> made;
  for (const AliasShards::Target& target : e.targets) {
    Array array;
    if (absl::Status ok = CheckAlias(session, target, array); !ok.ok()) return Refuse(session, e.request, ids, ok);
    made.emplace_back(target.array, std::move(array));
  }
  if (absl::Status ok = CheckNames(session, ids); !ok.ok()) return Refuse(session, e.request, ids, ok);
  for (size_t t = 0; t < e.targets.size(); ++t) {
    const AliasShards::Target& target = e.targets[t];
    absl::StatusOr<Array*> array = Add(session, target.array, target.spec);
    if (!array.ok()) return Refuse(session, e.request, ids, array.status());
    (*array)->futures = std::move(made[t].second.futures);
    (*array)->error = made[t].second.error;
    (*array)->made_by = made[t].second.made_by;
    if (!(*array)->error.ok()) continue;
    (*array)->on_workers = true;
    (*array)->placement = cluster_.PlacementOf(target.spec->sharding->devices());
    (*array)->memory = AliasMemory(session, target);
    for (int i = 0; i < static_cast<int>(target.sources.size()); ++i) {
      const WorkerId worker = cluster_.Find(target.spec->sharding->devices()[i])->worker;
      proto::Alias::Entry& entry = *messages[worker].mutable_alias()->add_entries();
      entry.set_array(Raw(target.array));
      entry.set_shard(i);
      entry.set_source_array(Raw(target.sources[i].array));
      entry.set_source_shard(target.sources[i].shard);
    }
  }
  std::vector<ArrayId> sources;
  for (const AliasShards::Target& target : e.targets) {
    for (const AliasShards::From& from : target.sources) {
      if (sources.empty() || sources.back() != from.array) sources.push_back(from.array);
    }
  }
  if (const uint64_t id = BeginHold(session, sources); id != 0) {
    for (ArrayId target : ids) session.arrays[target].maker = id;
  }
  for (const auto& [worker, message] : messages) Send(worker, message);
  EndHold();
  Delete(session, e.donated).IgnoreError();  // sources, found above
  out_->ReplyDone(e.request, absl::OkStatus());
}

void ControllerCore::Impl::On(MakeErrorArrays& e) {
  Session& session = *FindSession(e.request.session);
  const absl::Status error = ErrorOf(e.request, e.error);
  for (ArrayId id : e.arrays) {
    absl::StatusOr<Array*> array = Add(session, id, e.spec);
    if (array.ok()) {
      (*array)->error = error;
    } else if (const auto found = session.arrays.find(id); found == session.arrays.end() || found->second.error.ok()) {
      return out_->ReplyDone(e.request, array.status());
    }
  }
  out_->ReplyDone(e.request, absl::OkStatus());
}

void ControllerCore::Impl::DropNames(std::vector<std::pair<WorkerId, ArrayId>> names) {
  std::sort(names.begin(), names.end());
  for (auto name = names.begin(); name != names.end();) {
    const WorkerId worker = name->first;
    proto::Delete& message = *delete_frame_.mutable_delete_();
    message.Clear();
    for (; name != names.end() && name->first == worker; ++name) message.add_arrays(Raw(name->second));
    Send(worker, delete_frame_);
  }
}

bool ControllerCore::Impl::DropHeld(const Session& session, ArrayId id, const Array& array) {
  if (held_.empty()) return false;
  const uint64_t number = ++last_held_;
  const int missing = ComesAfter(number, array, /*takes=*/true);
  if (missing == 0) return false;
  auto held = std::make_unique<Held>();
  held->session = session.id;
  held->missing = missing;
  for (WorkerId worker : array.placement->workers) held->names.emplace_back(worker, id);
  held_.emplace(number, std::move(held));
  return true;
}

absl::Status ControllerCore::Impl::Delete(Session& session, const std::vector<ArrayId>& ids) {
  std::vector<std::pair<WorkerId, ArrayId>> dropped;
  std::vector<std::string> unknown;
  for (ArrayId id : ids) {
    const auto found = session.arrays.find(id);
    if (found == session.arrays.end()) {
      unknown.push_back(Describe(id));
      continue;
    }
    Array& array = found->second;
    if (array.on_workers && !DropHeld(session, id, array)) {
      for (WorkerId worker : array.placement->workers) dropped.emplace_back(worker, id);
    }
    array.on_workers = false;
    array.deleted = true;
    array.memory = {};
  }
  DropNames(std::move(dropped));
  if (unknown.empty()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("unknown ", absl::StrJoin(unknown, ", ")));
}

void ControllerCore::Impl::On(DeleteArrays& e) {
  out_->ReplyDone(e.request, Delete(*FindSession(e.request.session), e.arrays));
}

void ControllerCore::Impl::On(DestructArrays& e) {
  Session& session = *FindSession(e.request.session);
  const absl::Status deleted = Delete(session, e.arrays);
  for (ArrayId id : e.arrays) session.arrays.erase(id);
  out_->ReplyDone(e.request, deleted);
}

// ---------------------------------------------------------------- waiting and fetching

void ControllerCore::Impl::On(WaitReady& e) {
  Session& session = *FindSession(e.request.session);
  auto wait = std::make_shared<Wait>(Wait{.request = e.request});
  std::vector<Future*> pending;
  for (ArrayId id : e.arrays) {
    absl::StatusOr<Array*> array = Usable(session, id);
    if (!array.ok()) return out_->ReplyDone(e.request, array.status());
    wait->status.Update((*array)->KnownError());
    if (!wait->status.ok()) continue;
    for (const std::shared_ptr<Future>& future : (*array)->futures) {
      if (!future->done()) pending.push_back(future.get());
    }
  }
  if (pending.empty() || !wait->status.ok()) return out_->ReplyDone(e.request, wait->status);
  wait->arrays = std::move(e.arrays);
  wait->remaining = static_cast<int>(pending.size());
  for (Future* future : pending) future->AddWait(wait);
}

void ControllerCore::Impl::On(FetchShard& e) {
  Session& session = *FindSession(e.request.session);
  absl::StatusOr<Array*> array = Usable(session, e.array);
  if (!array.ok()) return out_->ReplyFetched(e.request, array.status());
  if (absl::Status error = (*array)->KnownError(); !error.ok()) return out_->ReplyFetched(e.request, error);
  if ((*array)->spec == nullptr || e.shard < 0 || e.shard >= (*array)->spec->sharding->num_shards()) {
    return out_->ReplyFetched(e.request,
                              absl::InvalidArgumentError(absl::StrCat(Describe(e.array), " has no shard ", e.shard)));
  }
  const WorkerId worker = cluster_.Find((*array)->spec->sharding->devices()[e.shard])->worker;
  const StreamId stream = NextStream();
  proto::ToWorker message;
  proto::Fetch& fetch = *message.mutable_fetch();
  fetch.set_fetch(++last_fetch_);
  fetch.set_array(Raw(e.array));
  fetch.set_shard(e.shard);
  fetch.set_stream(Raw(stream));
  for (int64_t stride : e.byte_strides) fetch.add_byte_strides(stride);
  fetches_[last_fetch_] = PendingFetch{e.request, worker, stream};
  BeginHold(session, {e.array});
  Send(worker, message);
  EndHold();
}

void ControllerCore::Impl::OnFetchDone(const proto::FetchDone& done) {
  const auto found = fetches_.find(done.fetch());
  if (found == fetches_.end()) return;
  const PendingFetch fetch = found->second;
  fetches_.erase(found);
  if (absl::Status status = FromProto(done.status()); !status.ok()) return out_->ReplyFetched(fetch.request, status);
  const bool in_frame = done.total_bytes() <= kInlineBytes;
  if (in_frame && done.total_bytes() != static_cast<int64_t>(done.data().size())) {
    return out_->ReplyFetched(fetch.request, absl::InternalError(absl::StrCat("a worker announced ", done.total_bytes(),
                                                                              " bytes and sent ", done.data().size())));
  }
  Fetched fetched{done.total_bytes(), done.data()};
  if (!in_frame) {
    fetched.worker = fetch.worker;
    fetched.stream = fetch.stream;
  }
  out_->ReplyFetched(fetch.request, std::move(fetched));
}

}  // namespace causeway
