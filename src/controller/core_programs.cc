#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "controller/core_impl.h"
#include "proto/status.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

constexpr size_t kMaxProgramsPerSession = 1 << 20;

std::string Describe(ProgramId id) { return absl::StrCat("program ", Raw(id) & kMaxPerSession); }

// What clients see of a program's outputs, from what the worker says of one device's part of them.
absl::StatusOr<std::vector<std::shared_ptr<const ArraySpec>>> OutputSpecs(const proto::ProgramInfo& info,
                                                                          const std::vector<DeviceId>& devices) {
  std::vector<std::shared_ptr<const ArraySpec>> specs;
  for (const proto::OutputInfo& output : info.outputs()) {
    auto spec = std::make_shared<ArraySpec>();
    spec->dtype = static_cast<DType>(output.type().dtype());
    if (devices.size() == 1) {
      spec->sharding = std::make_shared<const Sharding>(Sharding::SingleDevice(devices[0], output.memory_kind()));
    } else if (!output.has_sharding()) {
      spec->sharding = std::make_shared<const Sharding>(Sharding::Replicated(devices, output.memory_kind()));
    } else {
      xla::OpSharding op;
      if (!op.ParseFromString(output.sharding()))
        return absl::InternalError("the plugin gave an output sharding that cannot be read");
      ASSIGN_OR_RETURN(Sharding sharding, Sharding::FromOpSharding(devices, output.memory_kind(), op));
      spec->sharding = std::make_shared<const Sharding>(std::move(sharding));
    }
    spec->dims =
        spec->sharding->GlobalDims({output.type().dims().data(), static_cast<size_t>(output.type().dims_size())});
    if (absl::Status ok = CheckDims(*spec); !ok.ok()) {
      return absl::InternalError(absl::StrCat("the plugin gave an output that cannot be: ", ok.message()));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace

const Program* ControllerCore::Impl::FindProgram(ProgramId id) const {
  const auto session = sessions_.find(SessionOf(id));
  if (session == sessions_.end()) return nullptr;
  const auto found = session->second->programs.find(id);
  return found == session->second->programs.end() ? nullptr : &found->second;
}

// ---------------------------------------------------------------- compiling

void ControllerCore::Impl::On(CompileProgram& e) {
  Session& session = *FindSession(e.request.session);
  const auto check = [&]() -> absl::Status {
    if (SessionOf(e.program) != session.id || session.programs.contains(e.program)) {
      return absl::InvalidArgumentError(absl::StrCat("the name of ", Describe(e.program), " is taken"));
    }
    if (session.programs.size() >= kMaxProgramsPerSession) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the session has ", kMaxProgramsPerSession, " programs: drop some"));
    }
    RETURN_IF_ERROR(CheckDevices(session, e.devices));
    if (std::set<DeviceId>(e.devices.begin(), e.devices.end()).size() != e.devices.size()) {
      return absl::InvalidArgumentError("the device assignment names a device twice");
    }
    return absl::OkStatus();
  };
  if (absl::Status ok = check(); !ok.ok()) return out_->ReplyCompiled(e.request, ok);
  Program& program = session.programs[e.program];
  program.placement = cluster_.PlacementOf(e.devices);
  program.told.resize(program.placement->workers.size());
  program.compile.set_program(Raw(e.program));
  program.compile.set_format(std::move(e.format));
  program.compile.set_code(std::move(e.code));
  program.compile.set_options(std::move(e.options));
  auto view = std::make_shared<ProgramView>();
  view->id = e.program;
  view->devices = std::move(e.devices);
  program.view = std::move(view);
  PendingCompile& pending = compiles_[e.program];
  pending.request = e.request;
  const bool host = options_.collectives == Collectives::kHost;
  const bool gang = program.placement->workers.size() > 1 || (host && program.view->devices.size() > 1);
  if (gang && !host) {
    absl::StatusOr<std::vector<int32_t>> ids = PluginDevices(*program.placement);
    if (ids.ok()) {
      // Every plugin compiles it: it has to know who meets whom.
      program.gang = std::make_shared<const proto::Gang>(GangOf(program.view->devices));
      program.compile.mutable_plugin_devices()->Add(ids->begin(), ids->end());
      pending.waiting_for = static_cast<int>(program.placement->workers.size());
      return TellProgram(program);
    }
    if (options_.collectives == Collectives::kPlugin) return EndCompile(e.program, ids.status());
  }
  if (!gang) {
    pending.waiting_for = 1;
    return TellProgram(program);
  }
  program.gang = std::make_shared<const proto::Gang>(GangOf(program.view->devices));
  program.cache_key = ProgramCache::Key(program.compile, static_cast<int>(program.view->devices.size()),
                                        cluster_.slot(program.placement->workers.front()).hello.plugin());
  program.portable = cache_.Find(program.cache_key);
  if (program.portable != nullptr) {
    pending.cached = true;
    return LoadOnGang(program, pending);
  }
  if (options_.program_store) return out_->LookUpProgram(e.program, program.cache_key);
  CompileForGang(program, pending);
}

absl::StatusOr<std::vector<int32_t>> ControllerCore::Impl::PluginDevices(const Placement& placement) const {
  const proto::Hello& first = cluster_.slot(placement.workers.front()).hello;
  for (WorkerId worker : placement.workers) {
    const proto::Hello& hello = cluster_.slot(worker).hello;
    if (!hello.group().empty() && hello.group() == first.group()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the plugins of workers ", first.name(), " and ", hello.name(),
        " do not know of one another, so that no program of theirs runs on both: start the workers with one --group, "
        "or let them carry out its collectives (--collectives auto)"));
  }
  std::vector<int32_t> ids;
  std::set<int32_t> seen;
  for (DeviceId device : placement.devices) {
    const Cluster::Place& place = *cluster_.Find(device);
    const proto::Hello& hello = cluster_.slot(place.worker).hello;
    ids.push_back(hello.devices(place.local_index).global_id());
    if (seen.insert(ids.back()).second) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the plugin ", hello.plugin(), " numbers two devices of process group ", hello.group(), " ", ids.back(),
        ": it makes no client of several processes; let the workers carry out collectives (--collectives auto)"));
  }
  return ids;
}

proto::Gang ControllerCore::Impl::GangOf(const std::vector<DeviceId>& devices) const {
  proto::Gang gang;
  std::map<std::string, int32_t> islands;
  std::map<std::string, int32_t> machines;
  for (DeviceId device : devices) {
    const WorkerId worker = cluster_.Find(device)->worker;
    gang.add_workers(Raw(worker));
    gang.add_islands(
        islands.emplace(cluster_.slot(worker).hello.island(), static_cast<int32_t>(islands.size())).first->second);
    const std::string& machine = cluster_.slot(worker).hello.machine();
    const std::string name = machine.empty() ? absl::StrCat("worker ", Raw(worker)) : machine;
    gang.add_machines(machines.emplace(name, static_cast<int32_t>(machines.size())).first->second);
  }
  return gang;
}

void ControllerCore::Impl::CompileForGang(Program& program, PendingCompile& pending) {
  pending.waiting_for = 1;
  TellProgram(program, /*place=*/0);
}

void ControllerCore::Impl::LoadOnGang(Program& program, PendingCompile& pending) {
  pending.waiting_for += static_cast<int>(std::count(program.told.begin(), program.told.end(), 0));
  TellProgram(program);
}

void ControllerCore::Impl::CompileAfterAll(Program& program, PendingCompile& pending) {
  DropFromWorkers(program);
  std::fill(program.told.begin(), program.told.end(), 0);
  program.portable = nullptr;
  cache_.Remove(program.cache_key);
  pending.cached = false;
  CompileForGang(program, pending);
}

void ControllerCore::Impl::On(ProgramLookedUp& e) {
  const auto found = compiles_.find(e.program);
  if (found == compiles_.end() || found->second.waiting_for > 0) return;
  Program& program = FindSession(found->second.request.session)->programs[e.program];
  if (e.portable == nullptr) return CompileForGang(program, found->second);
  cache_.Keep(program.cache_key, e.portable);
  program.portable = std::move(e.portable);
  found->second.cached = true;
  LoadOnGang(program, found->second);
}

bool ControllerCore::Impl::IsTold(const Program& program) const {
  for (size_t place = 0; place < program.told.size(); ++place) {
    if (program.told[place] != cluster_.slot(program.placement->workers[place]).incarnation) return false;
  }
  return true;
}

void ControllerCore::Impl::TellProgram(Program& program) {
  for (size_t place = 0; place < program.told.size(); ++place) {
    const WorkerSlot& slot = cluster_.slot(program.placement->workers[place]);
    if (slot.alive && program.told[place] != slot.incarnation) TellProgram(program, static_cast<int>(place));
  }
}

void ControllerCore::Impl::TellProgram(Program& program, int place) {
  const WorkerId worker = program.placement->workers[place];
  program.told[place] = cluster_.slot(worker).incarnation;
  proto::ToWorker message;
  proto::Compile& compile = *message.mutable_compile();
  compile = program.compile;
  for (DeviceId device : program.view->devices) {
    const Cluster::Place& where = *cluster_.Find(device);
    if (where.worker == worker) compile.add_devices(where.local_index);
  }
  if (program.is_gang()) {
    *compile.mutable_gang() = *program.gang;
    if (program.portable != nullptr) {
      *compile.mutable_portable() = *program.portable;
      compile.clear_code();
      compile.clear_options();
    }
  }
  Send(worker, message);
}

void ControllerCore::Impl::OnCompiled(WorkerId worker, const proto::Compiled& compiled) {
  const ProgramId id{compiled.program()};
  const auto found = compiles_.find(id);
  // Nobody waits when the session has left, or when a worker that returned was told of an old program.
  if (found == compiles_.end() || found->second.waiting_for == 0) return;
  PendingCompile& pending = found->second;
  Program& program = FindSession(pending.request.session)->programs[id];
  const int place = program.placement->IndexOf(worker);
  if (place < 0 || program.told[place] == 0) return;
  if (absl::Status status = FromProto(compiled.status()); !status.ok()) {
    if (!pending.cached) return EndCompile(id, status);
    // When all have said something, so that no answer is taken for one to what follows.
    pending.unusable.Update(status);
  }
  program.compile_us = std::max(program.compile_us, compiled.compile_us());
  const bool by_plugin = program.compile.plugin_devices_size() > 0;
  if (by_plugin && place == 0) pending.info = compiled.info();
  if (program.is_gang() && !by_plugin && program.portable == nullptr) {
    if (!compiled.has_portable()) {
      return EndCompile(id, absl::InternalError(absl::StrCat(cluster_.slot(worker).Describe(),
                                                             " has compiled a gang's program, but not given it")));
    }
    program.portable = std::make_shared<const proto::PortableProgram>(compiled.portable());
    cache_.Keep(program.cache_key, program.portable);
    if (options_.program_store) out_->KeepProgram(program.cache_key, program.portable);
    LoadOnGang(program, pending);
  }
  if (--pending.waiting_for > 0) return;
  if (!pending.unusable.ok()) {
    pending.unusable = absl::OkStatus();
    return CompileAfterAll(program, pending);
  }
  auto view = std::make_shared<ProgramView>(*program.view);
  if (by_plugin) {
    view->info = std::move(pending.info);
  } else {
    view->info = program.is_gang() ? program.portable->info() : compiled.info();
  }
  auto outputs = OutputSpecs(view->info, view->devices);
  if (!outputs.ok()) return EndCompile(id, outputs.status());
  view->outputs = *std::move(outputs);
  program.view = std::move(view);
  const Cluster::Place& first = *cluster_.Find(program.view->devices.front());
  program.memory = causeway::MemoryOf(program.view->info, cluster_.slot(first.worker).hello.devices(first.local_index));
  EndCompile(id, absl::OkStatus());
}

void ControllerCore::Impl::EndCompile(ProgramId id, const absl::Status& status) {
  const RequestHeader request = compiles_.extract(id).mapped().request;
  Session& session = *FindSession(request.session);
  Program& program = session.programs[id];
  if (status.ok()) {
    program.compiled = true;
    if (program.is_gang()) {
      // What it was compiled from is not needed any more.
      program.compile.clear_code();
      program.compile.clear_options();
    }
    return out_->ReplyCompiled(request, program.view);
  }
  DropFromWorkers(program);
  session.programs.erase(id);
  out_->ReplyCompiled(request, status);
}

void ControllerCore::Impl::FailCompiles(WorkerId lost_worker, const absl::Status& lost) {
  std::vector<std::pair<RequestHeader, ProgramId>> ended;
  for (const auto& [id, pending] : compiles_) {
    if (FindProgram(id)->placement->IndexOf(lost_worker) >= 0) ended.emplace_back(pending.request, id);
  }
  // In the order in which they were made, whatever the map's.
  std::sort(ended.begin(), ended.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.session, a.first.ticket) < std::pair(b.first.session, b.first.ticket);
  });
  for (const auto& [request, id] : ended) EndCompile(id, lost);
}

void ControllerCore::Impl::DropFromWorkers(const Program& program) {
  proto::ToWorker message;
  message.mutable_drop_programs()->add_programs(Raw(program.view->id));
  for (size_t place = 0; place < program.told.size(); ++place) {
    if (program.told[place] != 0) Send(program.placement->workers[place], message);
  }
}

void ControllerCore::Impl::On(DropProgram& e) {
  Session& session = *FindSession(e.request.session);
  const auto found = session.programs.find(e.program);
  if (found == session.programs.end() || !found->second.compiled) {
    return out_->ReplyDone(e.request, absl::NotFoundError(absl::StrCat("unknown ", Describe(e.program))));
  }
  const uint64_t id = ++last_held_;
  if (const int missing = ComesAfter(id, found->second.users); missing > 0) {
    auto held = std::make_unique<Held>();
    held->session = session.id;
    held->missing = missing;
    held_.emplace(id, std::move(held));
    holding_ = id;
  }
  DropFromWorkers(found->second);
  EndHold();
  session.programs.erase(found);
  out_->ReplyDone(e.request, absl::OkStatus());
}

// ---------------------------------------------------------------- asking

void ControllerCore::Impl::Ask(RequestHeader request, WorkerId worker, proto::Query query) {
  if (absl::Status ok = CheckAlive(worker); !ok.ok()) return out_->ReplyQuery(request, ok);
  query.set_query(++last_query_);
  queries_[last_query_] = PendingQuery{request, worker};
  proto::ToWorker message;
  *message.mutable_query() = std::move(query);
  Send(worker, message);
}

void ControllerCore::Impl::On(QueryDefaultLayout& e) {
  const Session& session = *FindSession(e.request.session);
  if (absl::Status ok = CheckDevices(session, {e.device}); !ok.ok()) return out_->ReplyQuery(e.request, ok);
  const Cluster::Place place = *cluster_.Find(e.device);
  proto::Query query;
  proto::Query::DefaultLayout& layout = *query.mutable_default_layout();
  layout.mutable_type()->set_dtype(static_cast<int32_t>(e.dtype));
  for (int64_t d : e.dims) layout.mutable_type()->add_dims(d);
  layout.set_device(place.local_index);
  layout.set_memory_kind(e.memory_kind);
  Ask(e.request, place.worker, std::move(query));
}

void ControllerCore::Impl::On(QueryProgram& e) {
  Session& session = *FindSession(e.request.session);
  const auto found = session.programs.find(e.program);
  if (found == session.programs.end() || !found->second.compiled) {
    return out_->ReplyQuery(e.request, absl::NotFoundError(absl::StrCat("unknown ", Describe(e.program))));
  }
  Program& program = found->second;
  if (!IsTold(program)) TellProgram(program);
  proto::Query query;
  if (e.what == QueryProgram::What::kText) {
    query.set_program_text(Raw(e.program));
  } else {
    query.set_cost_analysis(Raw(e.program));
  }
  // Any of its workers can say it.
  const auto& workers = program.placement->workers;
  const auto alive = std::find_if(workers.begin(), workers.end(), [&](WorkerId w) { return CheckAlive(w).ok(); });
  Ask(e.request, alive == workers.end() ? workers.front() : *alive, std::move(query));
}

void ControllerCore::Impl::OnQueryDone(const proto::QueryDone& done) {
  const auto found = queries_.find(done.query());
  if (found == queries_.end()) return;
  const RequestHeader request = found->second.request;
  queries_.erase(found);
  if (absl::Status status = FromProto(done.status()); !status.ok()) return out_->ReplyQuery(request, status);
  out_->ReplyQuery(request, done);
}

}  // namespace causeway
