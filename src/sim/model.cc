#include "sim/model.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/describe.h"

namespace causeway::sim {
namespace {

// How long both ends of a broken data connection may take to notice, and what is begun meanwhile may be hit.
constexpr absl::Duration kCutEchoes = absl::Milliseconds(500);

}  // namespace

bool Cause::Explains(const absl::Status& status) const {
  return status.code() == code && absl::StrContains(status.message(), text);
}

Cause Exactly(const absl::Status& status) { return {status.code(), std::string(status.message())}; }

Cause NoRoom() { return {absl::StatusCode::kResourceExhausted, " on device "}; }

Path PathBetween(PeerId a, PeerId b) { return std::minmax(a, b); }

absl::Status Expectation::Check(const absl::Status& status) const {
  if (status.ok() && may_succeed) return absl::OkStatus();
  if (!status.ok() && explains != nullptr && explains(status)) return absl::OkStatus();
  if (!status.ok() && std::any_of(errors.begin(), errors.end(), [&](const Cause& c) { return c.Explains(status); })) {
    return absl::OkStatus();
  }
  const auto describe = [](std::string* out, const Cause& cause) {
    absl::StrAppend(out, absl::StatusCodeToString(cause.code), " '", cause.text, "'");
  };
  return absl::InternalError(
      absl::StrCat("is answered with ", status.ToString(), ", expected was ", may_succeed ? "OK" : "no OK",
                   errors.empty() ? "" : absl::StrCat(" or ", absl::StrJoin(errors, ", ", describe))));
}

// ---------------------------------------------------------------- the cluster

void Model::OnWorkerUp(WorkerId worker, const std::string& name) {
  Worker& known = workers_[worker];
  known.name = name;
  known.alive = true;
  ++known.life;
  if (!healthy_(name)) return;
  for (Fault& fault : faults_) {
    if (fault.worker == worker) fault.until = std::min(fault.until, clock_.Now());
  }
}

void Model::OnWorkerDown(WorkerId worker) {
  Worker& known = workers_[worker];
  known.alive = false;
  Impair(known.name);
  for (auto& [id, session] : sessions_) {
    for (auto& [array_id, array] : session.arrays) {
      if (array->deleted || !array->holders.contains(worker)) continue;
      array->must.push_back({absl::StatusCode::kDataLoss, known.name});
      array->certain = true;
    }
  }
}

void Model::Impair(const std::string& worker) {
  const std::optional<WorkerId> id = WorkerNamed(worker);
  if (id) faults_.push_back({.until = absl::InfiniteFuture(), .worker = *id});
}

void Model::Cut(const Path& path) { faults_.push_back({.until = clock_.Now() + kCutEchoes, .path = path}); }

void Model::SetDevices(const std::vector<DeviceView>& views) {
  for (const DeviceView& view : views) devices_[view.id] = {view.id, view.worker, view.local_index};
}

void Model::Reset() {
  workers_.clear();
  devices_.clear();
  sessions_.clear();
  faults_.clear();
}

std::optional<WorkerId> Model::WorkerNamed(const std::string& name) const {
  for (const auto& [id, worker] : workers_) {
    if (worker.name == name) return id;
  }
  return std::nullopt;
}

bool Model::AnyAlive() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker.second.alive; });
}

bool Model::Harmed(const std::set<WorkerId>& workers, const std::set<Path>& paths, absl::Time begun) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const Fault& fault) {
    if (fault.until < begun) return false;
    return fault.worker ? workers.contains(*fault.worker) : paths.contains(*fault.path);
  });
}

// ---------------------------------------------------------------- errors

bool Model::AnyOf(const ModelArray& array, const std::function<bool(const ModelArray&)>& is) const {
  std::set<const ModelArray*> seen;
  std::vector<const ModelArray*> open = {&array};
  while (!open.empty()) {
    const ModelArray* const next = open.back();
    open.pop_back();
    if (!seen.insert(next).second) continue;
    if (is(*next)) return true;
    if (next->good) continue;
    for (const ModelArrayRef& parent : next->parents) open.push_back(parent.get());
  }
  return false;
}

bool Model::MayFail(const ModelArray& array) const {
  return AnyOf(array, [this](const ModelArray& a) {
    if (a.MustFail()) return true;
    if (a.good) return false;
    return !a.may.empty() || Harmed(a.holders, a.paths, a.begun) || Harmed(a.helpers, {}, a.begun);
  });
}

bool Model::Explains(const ModelArray& array, const absl::Status& status) const {
  const auto explains = [&](const Cause& cause) { return cause.Explains(status); };
  return AnyOf(array, [&](const ModelArray& a) {
    if (std::any_of(a.must.begin(), a.must.end(), explains)) return true;
    if (a.good) return false;
    if (std::any_of(a.may.begin(), a.may.end(), explains)) return true;
    const bool lost = absl::IsDataLoss(status) || absl::IsUnavailable(status);
    return lost && (Harmed(a.holders, a.paths, a.begun) || Harmed(a.helpers, {}, a.begun));
  });
}

void Model::AddParent(ModelArray& child, const ModelArrayRef& parent) {
  child.parents.push_back(parent);
  child.origins.insert(parent->origins.begin(), parent->origins.end());
}

void Model::Inherit(ModelArray& child, const ModelArrayRef& parent) const {
  InheritParts(child, parent);
  child.doomed = child.doomed || parent->certain || parent->shards.empty();
  for (const ModelBufferRef& shard : parent->shards) child.doomed = child.doomed || shard->contents == nullptr;
}

void Model::InheritParts(ModelArray& child, const ModelArrayRef& parent) const {
  // The core has nothing done where it knows the error.
  if (parent->certain) child.certain = true;
  if (!parent->good || parent->certain) AddParent(child, parent);
  for (const ModelBufferRef& shard : parent->shards) {
    if (shard->taken) child.may.push_back({absl::StatusCode::kFailedPrecondition, "donated"});
  }
}

// ---------------------------------------------------------------- names

ModelArrayRef Model::Find(ArrayId id) const {
  const auto session = sessions_.find(SessionOf(id));
  if (session == sessions_.end()) return nullptr;
  const auto found = session->second.arrays.find(id);
  return found == session->second.arrays.end() ? nullptr : found->second;
}

const ModelProgram* Model::Find(ProgramId id) const {
  const auto session = sessions_.find(SessionOf(id));
  if (session == sessions_.end()) return nullptr;
  const auto found = session->second.programs.find(id);
  return found == session->second.programs.end() ? nullptr : &found->second;
}

ModelArrayRef Model::New(ArrayId id, const RequestHeader& request, std::shared_ptr<const ArraySpec> spec) const {
  auto array = std::make_shared<ModelArray>();
  array->id = id;
  array->origins.insert(request.origin);
  array->spec = std::move(spec);
  array->begun = clock_.Now();
  if (memory_limited_) array->may.push_back(NoRoom());
  return array;
}

void Model::Add(const ModelArrayRef& array) { sessions_[SessionOf(array->id)].arrays[array->id] = array; }

void Model::Open(SessionId session, const std::vector<DeviceId>& devices, const SessionWishes& wishes) {
  if (devices.empty() || (wishes.devices > 0 && devices.size() != static_cast<size_t>(wishes.devices))) {
    fail_(absl::StrCat("session ", Raw(session), " wished ", wishes.devices, " devices and got ", devices.size()));
  }
  for (DeviceId device : devices) {
    if (!alive(devices_.at(device).worker)) {
      fail_(absl::StrCat("session ", Raw(session), " was given device ", Raw(device), " of a dead worker"));
    }
    for (const auto& [id, other] : sessions_) {
      if (!other.devices.contains(device) || !(other.exclusive || wishes.exclusive)) continue;
      fail_(absl::StrCat("device ", Raw(device), " was given to session ", Raw(session), ", and session ", Raw(id),
                         " has it"));
    }
  }
  Session& opened = sessions_[session];
  opened.devices = {devices.begin(), devices.end()};
  opened.exclusive = wishes.exclusive;
}

std::set<WorkerId> Model::WorkersOf(const std::vector<DeviceId>& devices) const {
  std::set<WorkerId> workers;
  for (DeviceId device : devices) workers.insert(devices_.at(device).worker);
  return workers;
}

std::vector<Cause> Model::DeviceProblems(SessionId session, const std::vector<DeviceId>& devices) const {
  const std::set<DeviceId>& slice = sessions_.at(session).devices;
  std::vector<Cause> problems;
  if (devices.empty()) problems.push_back({absl::StatusCode::kInvalidArgument, "no device"});
  if (std::set<DeviceId>(devices.begin(), devices.end()).size() != devices.size()) {
    problems.push_back({absl::StatusCode::kInvalidArgument, "named twice"});
  }
  for (DeviceId device : devices) {
    const auto found = devices_.find(device);
    if (found == devices_.end()) {
      problems.push_back({absl::StatusCode::kInvalidArgument, "not in this cluster"});
    } else if (!slice.contains(device)) {
      problems.push_back({absl::StatusCode::kInvalidArgument, "not in this session's slice"});
    } else if (!alive(found->second.worker)) {
      problems.push_back({absl::StatusCode::kDataLoss, workers_.at(found->second.worker).name});
    }
  }
  return problems;
}

std::vector<Cause> Model::NameProblems(SessionId session, const std::vector<ArrayId>& ids) const {
  std::vector<Cause> problems;
  std::set<ArrayId> seen;
  for (ArrayId id : ids) {
    if (SessionOf(id) != session) {
      problems.push_back({absl::StatusCode::kInvalidArgument, "of another session"});
    } else if (!seen.insert(id).second || Find(id) != nullptr) {
      problems.push_back({absl::StatusCode::kInvalidArgument, "is taken"});
    }
  }
  return problems;
}

ModelArrayRef Model::Use(SessionId session, ArrayId id, std::vector<Cause>& problems) const {
  const ModelArrayRef array = SessionOf(id) == session ? Find(id) : nullptr;
  if (array == nullptr) {
    problems.push_back({absl::StatusCode::kNotFound, "unknown array"});
  } else if (array->deleted) {
    problems.push_back({absl::StatusCode::kInvalidArgument, "deleted"});
  }
  return array;
}

Expectation Model::Answer(const RequestHeader& request, const Problems& problems, std::vector<ArrayId> results,
                          std::function<void()> adopt) {
  Expectation expectation;
  expectation.errors = problems.sure;
  expectation.errors.insert(expectation.errors.end(), problems.unless_poisoned.begin(), problems.unless_poisoned.end());
  if (memory_limited_ && !results.empty()) expectation.errors.push_back(NoRoom());
  expectation.may_succeed = problems.sure.empty() && (problems.unless_poisoned.empty() || problems.poison_possible);
  expectation.adopt = [this, request, results = std::move(results), adopt = std::move(adopt)](const absl::Status& ok) {
    if (ok.ok()) {
      adopt();
    } else {
      Refuse(request, results, ok);
    }
  };
  return expectation;
}

void Model::Refuse(const RequestHeader& request, const std::vector<ArrayId>& results, const absl::Status& status) {
  for (ArrayId id : results) {
    if (SessionOf(id) != request.session || Find(id) != nullptr) continue;
    const ModelArrayRef array = New(id, request, nullptr);
    array->must.push_back(Exactly(status));
    array->certain = true;
    Add(array);
  }
}

bool Model::ReplicasAgree(const ModelArray& array) {
  std::map<std::vector<int64_t>, ModelBufferRef> parts;
  for (size_t i = 0; i < array.shards.size(); ++i) {
    const Box box = array.spec->sharding->ShardBox(array.spec->dims, static_cast<int>(i));
    const auto [part, fresh] = parts.try_emplace(box.start, array.shards[i]);
    if (fresh) continue;
    const ContentsRef& a = part->second->contents;
    const ContentsRef& b = array.shards[i]->contents;
    if ((a == nullptr) != (b == nullptr) || (a != nullptr && a->bytes != b->bytes)) return false;
  }
  return true;
}

void Model::DeleteAll(const std::vector<ArrayId>& ids) {
  for (ArrayId id : ids) {
    if (const ModelArrayRef array = Find(id)) array->deleted = true;
  }
}

}  // namespace causeway::sim
