// What the core tells people of itself.
#include <algorithm>
#include <set>

#include "base/saturate.h"
#include "controller/core_impl.h"

namespace causeway {
namespace {

// What the session has of the device.
proto::ClusterStatus::Share& ShareOf(proto::ClusterStatus::DeviceStatus& device, SessionId session) {
  for (proto::ClusterStatus::Share& share : *device.mutable_shares()) {
    if (share.session() == Raw(session)) return share;
  }
  proto::ClusterStatus::Share& share = *device.add_shares();
  share.set_session(Raw(session));
  return share;
}

}  // namespace

proto::ClusterStatus ControllerCore::Impl::Status(absl::Time now) const {
  proto::ClusterStatus status;
  status.set_client_address(client_address_);
  status.set_expected_workers(options_.expected_workers);
  proto::ClusterStatus::Pending& pending = *status.mutable_pending();
  pending.set_launches(static_cast<int64_t>(launches_.size()) + scheduler_.queued());
  pending.set_makes(static_cast<int64_t>(makes_.size()));
  pending.set_compiles(static_cast<int64_t>(compiles_.size()));
  pending.set_fetches(static_cast<int64_t>(fetches_.size()));
  pending.set_queries(static_cast<int64_t>(queries_.size()));
  pending.set_host_data(static_cast<int64_t>(host_data_wanted_.size()));
  if (started_ != absl::InfinitePast()) status.set_uptime_ms(absl::ToInt64Milliseconds(now - started_));
  absl::flat_hash_map<DeviceId, int64_t> in_flight;
  absl::flat_hash_map<SessionId, int64_t> waiting;
  for (const auto& [number, launch] : launches_) {
    for (DeviceId device : launch->program->devices) ++in_flight[device];
    ++waiting[launch->session];
  }
  for (const auto& [id, held] : held_) {
    if (held->launch != nullptr) ++waiting[held->session];
  }
  for (const auto& [name, slots] : cluster_.Islands()) {
    proto::ClusterStatus::Island& island = *status.add_islands();
    island.set_name(name);
    for (const WorkerSlot* slot : slots) {
      proto::ClusterStatus::Worker& worker = *island.add_workers();
      worker.set_worker(Raw(slot->id));
      worker.set_name(slot->hello.name());
      worker.set_host(slot->hello.host());
      worker.set_pid(slot->hello.pid());
      worker.set_alive(slot->alive);
      worker.set_incarnation(slot->incarnation);
      worker.set_platform(slot->hello.platform());
      worker.set_plugin(slot->hello.plugin());
      worker.set_silent_ms(absl::ToInt64Milliseconds(now - slot->last_heard));
      worker.set_queued_launches(slot->accounts.queued_launches());
      worker.set_lost_because(std::string(slot->lost_because.message()));
      worker.set_host_bytes(slot->accounts.host_bytes());
      worker.set_programs(slot->accounts.programs());
    }
  }
  // Devices in the order in which sessions see them, so that those without ids yet show the ones they will get.
  absl::flat_hash_map<int32_t, proto::ClusterStatus::Worker*> workers;
  for (auto& island : *status.mutable_islands()) {
    for (auto& worker : *island.mutable_workers()) workers[worker.worker()] = &worker;
  }
  absl::flat_hash_map<DeviceId, proto::ClusterStatus::DeviceStatus*> devices;
  for (const DeviceView& view : cluster_.Views()) {
    const proto::Pong& accounts = cluster_.slot(view.worker).accounts;
    proto::ClusterStatus::DeviceStatus& device = *workers[Raw(view.worker)]->add_devices();
    devices[view.id] = &device;
    device.set_device(Raw(view.id));
    device.set_kind(view.device.kind());
    if (view.local_index < accounts.device_bytes_size()) device.set_bytes(accounts.device_bytes(view.local_index));
    if (view.local_index < accounts.device_buffers_size())
      device.set_buffers(accounts.device_buffers(view.local_index));
    device.set_launches_in_flight(in_flight[view.id]);
    const DeviceMemory::Use memory = memory_.Of(view.id);
    device.set_named_bytes(memory.bytes + memory.elsewhere);
    device.set_limit_bytes(view.device.memory_bytes());
    device.set_peak_bytes(memory.peak);
    const Scheduler::DeviceUse use = scheduler_.OfDevice(view.id);
    device.set_busy_us(absl::ToInt64Microseconds(use.busy));
    device.set_credits_in_flight(use.in_flight);
    device.set_credits(scheduler_.credits());
    for (const Scheduler::Use& session : use.sessions) {
      proto::ClusterStatus::Share& share = *device.add_shares();
      share.set_session(Raw(session.session));
      share.set_busy_us(absl::ToInt64Microseconds(session.busy));
    }
  }
  std::vector<const Session*> sessions;
  for (const auto& [id, session] : sessions_) sessions.push_back(session.get());
  std::sort(sessions.begin(), sessions.end(), [](const Session* a, const Session* b) { return a->id < b->id; });
  for (const Session* session : sessions) {
    proto::ClusterStatus::Session& out = *status.add_sessions();
    out.set_session(Raw(session->id));
    out.set_name(session->name);
    out.set_peer(session->peer);
    out.set_age_ms(absl::ToInt64Milliseconds(now - session->opened));
    out.set_programs(static_cast<int64_t>(session->programs.size()));
    out.set_launches(session->launches);
    out.set_launches_waiting(waiting[session->id]);
    out.set_in_flight(session->load.items());
    out.set_held_back(session->throttled);
    const absl::Span<const DeviceId> slice = slices_.Of(session->id);
    out.set_devices(DescribeDevices(slice));
    out.set_device_count(static_cast<int64_t>(slice.size()));
    out.set_cap(session->wishes.cap);
    out.set_memory_cap_bytes(session->wishes.memory_bytes);
    out.set_exclusive(session->wishes.exclusive);
    for (int i = 0; i < memory_.devices(); ++i) {
      const int64_t on_device = session->memory->On(DeviceId{i});
      if (on_device == 0) continue;
      out.add_device_bytes()->set_device(i);
      out.mutable_device_bytes()->rbegin()->set_bytes(on_device);
    }
    if (const uint64_t id = memory_queue_.FirstOf(session->id); id != 0) out.set_memory_wait(WhyNoRoom(id));
    const Scheduler::SessionUse use = scheduler_.OfSession(session->id, now);
    out.set_weight(use.weight);
    out.set_device_us(absl::ToInt64Microseconds(use.busy));
    out.set_queued(use.queued);
    out.set_expected_wait_us(absl::ToDoubleMicroseconds(use.expected_wait));
    out.set_place(use.place);
    int64_t bytes = 0;
    int64_t arrays = 0;
    absl::flat_hash_map<DeviceId, int64_t> bytes_on;
    for (const auto& [id, array] : session->arrays) {
      if (array.deleted || !array.on_workers) continue;
      ++arrays;
      for (int i = 0; i < array.spec->sharding->num_shards(); ++i) {
        const int64_t elements = array.spec->sharding->ShardBox(array.spec->dims, i).NumElements();
        const int64_t shard_bytes = elements * HostByteWidth(array.spec->dtype);
        bytes = SaturatingAdd(bytes, shard_bytes);
        int64_t& there = bytes_on[array.spec->sharding->devices()[i]];
        there = SaturatingAdd(there, shard_bytes);
      }
    }
    for (const auto& [device, held] : bytes_on) {
      if (devices.contains(device)) ShareOf(*devices[device], session->id).set_bytes(held);
    }
    out.set_arrays(arrays);
    out.set_array_bytes(bytes);
    AddPrograms(*session, status);
  }
  return status;
}

void ControllerCore::Impl::AddPrograms(const Session& session, proto::ClusterStatus& status) const {
  std::vector<const Program*> programs;
  for (const auto& [id, program] : session.programs) {
    if (program.compiled) programs.push_back(&program);
  }
  std::sort(programs.begin(), programs.end(),
            [](const Program* a, const Program* b) { return a->view->id < b->view->id; });
  for (const Program* program : programs) {
    proto::ClusterStatus::Program& out = *status.add_programs();
    out.set_session(Raw(session.id));
    out.set_name(program->view->info.name());
    out.set_devices(static_cast<int64_t>(program->view->devices.size()));
    out.set_workers(static_cast<int64_t>(program->placement->workers.size()));
    std::set<std::string> islands;
    for (WorkerId worker : program->placement->workers) islands.insert(cluster_.slot(worker).hello.island());
    out.set_islands(static_cast<int64_t>(islands.size()));
    out.set_launches(program->launches);
    out.set_worker_bytes(program->worker_bytes);
    out.set_island_bytes(program->island_bytes);
    out.set_compile_us(program->compile_us);
  }
}

ControllerCounts ControllerCore::Impl::Counts() const {
  ControllerCounts counts{.sessions = static_cast<int64_t>(sessions_.size()),
                          .launches = static_cast<int64_t>(launches_.size()),
                          .makes = static_cast<int64_t>(makes_.size()),
                          .compiles = static_cast<int64_t>(compiles_.size()),
                          .fetches = static_cast<int64_t>(fetches_.size()),
                          .queries = static_cast<int64_t>(queries_.size()),
                          .host_data = static_cast<int64_t>(host_data_wanted_.size()),
                          .traces = trace_.busy() ? 1 : 0};
  counts.held = static_cast<int64_t>(held_.size());
  counts.credits = scheduler_.in_flight();
  counts.memory_waits = static_cast<int64_t>(memory_queue_.orders().size());
  for (const auto& [id, session] : sessions_) {
    counts.arrays += static_cast<int64_t>(session->arrays.size());
    counts.programs += static_cast<int64_t>(session->programs.size());
  }
  for (int i = 0; i < memory_.devices(); ++i) {
    const DeviceMemory::Use use = memory_.Of(DeviceId{i});
    counts.named_bytes += use.bytes + use.elsewhere;
  }
  return counts;
}

}  // namespace causeway
