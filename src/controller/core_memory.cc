// What device memory is counted for, and what waits for it (memory_queue.h).
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/origin.h"
#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {
namespace {

// Whether the launch takes away what it can of its argument.
bool Donates(const LaunchProgram& e, int32_t argument) {
  return argument >= 0 && argument < static_cast<int32_t>(e.arguments.size()) &&
         std::find(e.non_donatable.begin(), e.non_donatable.end(), argument) == e.non_donatable.end();
}

std::string Describe(ArrayId id, const ArraySpec& spec) {
  return absl::StrCat("array ", Raw(id) & kMaxPerSession, " (", Name(spec.dtype), "[", absl::StrJoin(spec.dims, ","),
                      "])");
}

// Host data of no bytes, in the place of those that `put` was to have.
void TakeData(proto::Put& put) {
  put.clear_data();
  put.clear_byte_strides();
  put.mutable_type()->clear_dims();
  put.mutable_type()->add_dims(0);
}

}  // namespace

// ---------------------------------------------------------------- what counts

void ControllerCore::Impl::SetMemoryLimits() {
  std::vector<int64_t> limits;
  for (const WorkerSlot& slot : cluster_.slots()) {
    for (size_t i = 0; i < slot.devices.size(); ++i) {
      const auto device = static_cast<size_t>(Raw(slot.devices[i]));
      if (limits.size() <= device) limits.resize(device + 1);
      limits[device] = slot.hello.devices(static_cast<int>(i)).memory_bytes();
    }
  }
  memory_.SetLimits(limits);
}

void ControllerCore::Impl::Evict(const DeviceMemory::Watch& memory, WorkerId worker) {
  const std::vector<DeviceId>& devices = cluster_.slot(worker).devices;
  if (devices.empty()) return;  // no session has seen them yet
  memory_.Evict(memory, devices.front(), DeviceId{Raw(devices.back()) + 1});
}

std::vector<int64_t> ControllerCore::Impl::ShardBytes(const ArraySpec& spec) const {
  const Sharding& sharding = *spec.sharding;
  std::vector<int64_t> bytes;
  const int shards = sharding.fully_replicated() ? 1 : sharding.num_shards();
  for (int i = 0; i < shards; ++i)
    bytes.push_back(PackedBytes(spec.dtype, sharding.ShardBox(spec.dims, i).NumElements()));
  return bytes;
}

DeviceMemory::Space ControllerCore::Impl::SpaceOf(const Sharding& sharding) const {
  const Cluster::Place& place = *cluster_.Find(sharding.devices().front());
  return causeway::SpaceOf(sharding.memory_kind(), cluster_.slot(place.worker).hello.devices(place.local_index));
}

absl::Status ControllerCore::Impl::CheckRoom(const Session& session, ArrayId id, const ArraySpec& spec) {
  if (!memory_.IsLimited(*session.memory)) return absl::OkStatus();
  if (SpaceOf(*spec.sharding) != DeviceMemory::Space::kDevice) return absl::OkStatus();
  const std::vector<int64_t> bytes = ShardBytes(spec);
  return memory_.NeverFits(*session.memory, *cluster_.PlacementOf(spec.sharding->devices()),
                           {.arrays = *std::max_element(bytes.begin(), bytes.end())},
                           /*kept=*/0, Describe(id, spec));
}

DeviceMemory::Claim ControllerCore::Impl::AliasMemory(Session& session, const AliasShards::Target& target) {
  const DeviceMemory::Claim& first = session.arrays[target.sources.front().array].memory;
  const auto& whole = session.arrays[target.sources.front().array].spec->sharding;
  bool same = target.sources.size() == static_cast<size_t>(whole->num_shards());
  std::vector<DeviceMemory::Shard> shards;
  for (const AliasShards::From& from : target.sources) {
    same = same && from.array == target.sources.front().array && from.shard == static_cast<int>(shards.size());
    shards.push_back({&session.arrays[from.array].memory, from.shard});
  }
  return same ? first : memory_.Alias(shards);
}

void ControllerCore::Impl::EvictFailed(const DeviceMemory::Watch& memory, WorkerId worker,
                                       const proto::ArrayDone& done) {
  const std::vector<DeviceId>& devices = cluster_.slot(worker).devices;
  for (int32_t device : done.failed_devices()) {
    if (device < 0 || device >= static_cast<int32_t>(devices.size())) continue;
    memory_.Evict(memory, devices[device], DeviceId{Raw(devices[device]) + 1});
  }
}

void ControllerCore::Impl::KeepLost(ArrayId id, const PendingMake& make, WorkerId lost) {
  if (make.reports.size() < 2) return;
  LostMake& kept = lost_makes_[id];
  kept = {make.reports, make.memory};
  kept.reports.erase(lost);
}

void ControllerCore::Impl::ForgetLost(WorkerId lost) {
  absl::erase_if(lost_makes_, [&](auto& p) {
    p.second.reports.erase(lost);
    return p.second.reports.empty();
  });
}

void ControllerCore::Impl::OnLostMake(WorkerId worker, const proto::ArrayDone& done) {
  const auto found = lost_makes_.find(ArrayId{done.array()});
  if (found == lost_makes_.end()) return;
  const auto reports = found->second.reports.find(worker);
  if (reports == found->second.reports.end()) return;
  EvictFailed(found->second.memory, worker, done);
  if (--reports->second == 0) found->second.reports.erase(reports);
  if (found->second.reports.empty()) lost_makes_.erase(found);
}

DeviceMemory::Need ControllerCore::Impl::NeedOf(const LaunchProgram& e, const Program& program) {
  const auto& donated = program.view->info.donated_parameters();
  return program.memory.NeedOf(std::all_of(donated.begin(), donated.end(), [&e](int32_t i) { return Donates(e, i); }));
}

absl::Status ControllerCore::Impl::CheckRoom(Session& session, const LaunchProgram& e, const Program& program) {
  if (!memory_.IsLimited(*session.memory)) return absl::OkStatus();
  const DeviceMemory::Need need = NeedOf(e, program);
  if (memory_.Fits(*session.memory, *program.placement, need)) return absl::OkStatus();
  std::vector<const DeviceMemory::Claim*> arguments;
  for (ArrayId id : e.arguments) arguments.push_back(&session.arrays[id].memory);
  return memory_.NeverFits(*session.memory, *program.placement, need, DeviceMemory::Kept(*program.placement, arguments),
                           absl::StrCat("program ", program.view->info.name()));
}

void ControllerCore::Impl::TakeMemory(PendingLaunch& launch) {
  memory_queue_.Forget(launch.order);
  for (const auto& [id, memory] : launch.taken) memory_.Evict(memory);
  launch.arguments.clear();
  memory_.Commit(launch.outputs);
  if (launch.need.temp > 0 && memory_.IsLimited(*launch.account)) {
    launch.temp = DeviceMemory::Reservation(memory_, launch.placement, launch.need.temp);
  }
  launch.account = nullptr;
}

void ControllerCore::Impl::CorrectMemory(PendingLaunch& launch, const proto::LaunchDone& done) {
  if (done.output_sizes_size() != static_cast<int>(launch.outputs.size())) return;
  for (size_t i = 0; i < launch.outputs.size(); ++i) {
    memory_.Resize(launch.outputs[i], done.output_sizes(static_cast<int>(i)));
  }
  // The next launch's outputs count so from the beginning.
  Session* session = FindSession(launch.session);
  if (session == nullptr) return;
  const auto found = session->programs.find(launch.program->id);
  if (found == session->programs.end()) return;
  found->second.memory.Correct({done.output_sizes().data(), static_cast<size_t>(done.output_sizes_size())});
}

// ---------------------------------------------------------------- what waits

std::optional<ControllerCore::Impl::Room> ControllerCore::Impl::RoomFor(const Session& session, ArrayId id,
                                                                        std::shared_ptr<const ArraySpec> spec) {
  if (!memory_.IsLimited(*session.memory)) return std::nullopt;
  if (SpaceOf(*spec->sharding) != DeviceMemory::Space::kDevice) return std::nullopt;
  const std::vector<int64_t> bytes = ShardBytes(*spec);
  auto placement = cluster_.PlacementOf(spec->sharding->devices());
  return Room{id, std::move(spec), std::move(placement), *std::max_element(bytes.begin(), bytes.end())};
}

MemoryQueue::Ask ControllerCore::Impl::AskOf(const Session& session, uint64_t id, const Room& room) {
  return {.order = id,
          .account = session.memory,
          .placement = room.placement,
          .need = {.arrays = room.bytes},
          .leaves_room = true};
}

bool ControllerCore::Impl::HasRoom(PendingLaunch& launch) {
  if (!memory_.IsLimited(*launch.account)) return true;
  return memory_queue_.Admits(
      {.order = launch.order, .account = launch.account, .placement = launch.placement, .need = launch.need}, now_);
}

bool ControllerCore::Impl::HasRoom(uint64_t id, Held& held) {
  if (!held.room) return true;
  if (!held.memory.is_named() || !makes_.contains(held.room->array)) {
    // Nobody is left who could use it, or one of its workers is lost: it goes as soon as it is there.
    memory_queue_.Forget(id);
    return true;
  }
  return memory_queue_.Admits(AskOf(*FindSession(held.session), id, *held.room), now_);
}

void ControllerCore::Impl::LookForRoom() {
  scheduler_.LookAgain();
  for (uint64_t id : memory_queue_.orders()) {
    const auto found = held_.find(id);
    if (found == held_.end() || found->second->launch != nullptr) continue;
    if (HasRoom(id, *found->second)) Release(id);
  }
}

void ControllerCore::Impl::AskFor(SessionId session, const Want& want) {
  out_->WantHostData(session, want.buffer, want.worker, want.stream, want.total_bytes, want.in_frame, want.last);
}

// ---------------------------------------------------------------- what has waited too long

std::string ControllerCore::Impl::WhyNoRoom(uint64_t id) const {
  const auto found = held_.find(id);
  if (found == held_.end()) return "";
  const Held& held = *found->second;
  return memory_queue_.WhyNot(id, held.launch != nullptr ? absl::StrCat("program ", held.launch->program->info.name())
                                                         : Describe(held.room->array, *held.room->spec));
}

void ControllerCore::Impl::GiveUpOnRoom() {
  if (memory_queue_.empty()) return;
  for (uint64_t id : memory_queue_.Stuck(now_, options_.memory_wait)) {
    const auto found = held_.find(id);
    // What was behind another that has just been given up may have its turn now.
    if (found == held_.end() || !memory_queue_.is_waiting(id)) continue;
    Held& held = *found->second;
    if (held.launch == nullptr && HasRoom(id, held)) {
      Release(id);
      continue;
    }
    const absl::Status error = absl::ResourceExhaustedError(
        absl::StrCat(WhyNoRoom(id),
                     ". Nobody has let go of enough for as long as it may wait (--memory-wait): delete arrays, donate "
                     "arguments, use more devices or smaller arrays"));
    memory_queue_.Forget(id);
    if (held.launch != nullptr) {
      RefuseLaunch(held, error);
    } else {
      RefuseMake(held, error);
    }
    Release(id);
  }
}

void ControllerCore::Impl::RefuseLaunch(Held& held, const absl::Status& error) {
  const std::unique_ptr<PendingLaunch> launch = std::move(held.launch);
  scheduler_.Drop(*launch, now_);
  launch->future->Fail(error, *out_);
  Ended(launch->session, launch->load());
  const proto::Launch& frame = held.launch_frame.launch();
  for (int i = 0; i < frame.outputs_size(); ++i) {
    HoldError(held, ArrayId{frame.outputs(i)}, *launch->program->outputs[i]->sharding, launch->future->status());
  }
  DropTaken(*launch);
}

void ControllerCore::Impl::DropTaken(const PendingLaunch& launch) {
  Session* session = FindSession(launch.session);
  if (session == nullptr) return;
  for (const auto& [id, memory] : launch.taken) {
    const auto found = session->arrays.find(id);
    if (found == session->arrays.end() || !std::exchange(found->second.on_workers, false)) continue;
    for (WorkerId worker : launch.placement->workers) dropped_.emplace_back(worker, id);
  }
}

void ControllerCore::Impl::RefuseMake(Held& held, const absl::Status& error) {
  const Room& room = *held.room;
  const bool is_put = std::any_of(held.frames.begin(), held.frames.end(), [](const Held::Frame& frame) {
    return frame.message.has_put() || frame.message.has_receive_host();
  });
  if (!is_put) {
    const PendingMake make = std::move(makes_.extract(room.array).mapped());
    memory_.Evict(held.memory);
    make.future->Fail(error, *out_);
    Ended(held.session, make.load);
    held.frames.clear();
    return HoldError(held, room.array, *room.spec->sharding, make.future->status());
  }
  // The door has the data, and lets go of them when they are wanted: they are sent to workers that have been told that
  // they come to nothing. Some may be faster than that, and make a shard: so the workers say how it ends.
  for (Held::Frame& frame : held.frames) {
    if (!frame.message.has_put()) continue;
    proto::ToWorker message;
    message.mutable_receive_host()->mutable_put()->Swap(frame.message.mutable_put());
    message.mutable_receive_host()->set_stream(Raw(NextStream()));
    TakeData(*message.mutable_receive_host()->mutable_put());
    frame.message.Swap(&message);
  }
  proto::ToWorker fail;
  fail.mutable_fail()->set_array(Raw(room.array));
  *fail.mutable_fail()->mutable_status() = ToProto(error);
  for (WorkerId worker : room.placement->workers) {
    held.frames.push_back({worker, cluster_.slot(worker).incarnation, fail});
  }
}

void ControllerCore::Impl::HoldError(Held& held, ArrayId array, const Sharding& sharding, const absl::Status& error) {
  std::map<WorkerId, proto::ToWorker> messages;
  for (int i = 0; i < sharding.num_shards(); ++i) {
    const Cluster::Place& place = *cluster_.Find(sharding.devices()[i]);
    proto::Shard& shard = *messages[place.worker].mutable_receive_host()->mutable_put()->add_shards();
    shard.set_index(i);
    shard.set_device(place.local_index);
  }
  proto::ToWorker fail;
  fail.mutable_fail()->set_array(Raw(array));
  *fail.mutable_fail()->mutable_status() = ToProto(error);
  for (auto& [worker, message] : messages) {
    proto::ReceiveHost& receive = *message.mutable_receive_host();
    receive.set_stream(Raw(NextStream()));
    receive.mutable_put()->set_array(Raw(array));
    receive.mutable_put()->mutable_type()->set_dtype(static_cast<int32_t>(DType::kF32));
    TakeData(*receive.mutable_put());
    const uint64_t incarnation = cluster_.slot(worker).incarnation;
    held.frames.push_back({worker, incarnation, message});
    held.frames.push_back({worker, incarnation, fail});
  }
}

}  // namespace causeway
