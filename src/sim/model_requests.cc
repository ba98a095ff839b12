// The requests of clients, as the model sees them.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/origin.h"
#include "sim/describe.h"
#include "sim/model.h"
#include "sim/regions.h"
#include "worker/shapes.h"

namespace causeway::sim {
namespace {

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

ModelBufferRef Hold(ContentsRef contents) { return std::make_shared<ModelBuffer>(ModelBuffer{std::move(contents)}); }

HostShape ShardShape(const ArraySpec& spec, int shard, std::vector<int64_t> byte_strides) {
  return {spec.dtype, spec.sharding->ShardBox(spec.dims, shard).size, std::move(byte_strides)};
}

bool IsLoss(const absl::Status& status) { return absl::IsDataLoss(status) || absl::IsUnavailable(status); }

void Append(std::vector<Cause>& all, const std::vector<Cause>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace

std::vector<Cause> Model::MemoryProblems(const std::string& memory_kind) {
  if (memory_kind.empty() || memory_kind == "device") return {};
  return {{kInvalid, "no memory of kind"}};
}

// ---------------------------------------------------------------- making arrays

Expectation Model::Expect(const PutArray& e, const std::vector<std::string>& data,
                          const std::vector<absl::Status>& aborted) {
  const SessionId session = e.request.session;
  const Sharding& sharding = *e.spec->sharding;
  Problems problems;
  Append(problems.sure, DeviceProblems(e.request.session, sharding.devices()));
  Append(problems.sure, NameProblems(session, {e.array}));
  std::vector<int> given;
  for (const HostPiece& piece : e.pieces) given.insert(given.end(), piece.shards.begin(), piece.shards.end());
  std::sort(given.begin(), given.end());
  bool each_once = static_cast<int>(given.size()) == sharding.num_shards();
  for (size_t i = 0; i < given.size(); ++i) each_once = each_once && given[i] == static_cast<int>(i);
  if (!each_once) problems.sure.push_back({kInvalid, "shard"});

  return Answer(e.request, problems, {e.array}, [this, e, data, aborted] {
    const ModelArrayRef array = New(e.array, e.request, e.spec);
    const Sharding& sharding = *e.spec->sharding;
    array->holders = WorkersOf(sharding.devices());
    array->shards.resize(sharding.num_shards());
    Append(array->must, MemoryProblems(sharding.memory_kind()));
    const bool no_memory = !array->must.empty();
    for (size_t i = 0; i < e.pieces.size(); ++i) {
      const HostPiece& piece = e.pieces[i];
      if (piece.shards.empty()) continue;
      const HostShape shape = ShardShape(*e.spec, piece.shards.front(), piece.byte_strides);
      const auto span = worker::SpanBytes(shape);
      bool fails = true;
      if (!aborted[i].ok()) array->must.push_back(Exactly(aborted[i]));
      if (!span.ok()) {
        array->must.push_back({kInvalid, "byte strides"});
      } else if (*span > static_cast<int64_t>(data[i].size())) {
        array->must.push_back({kInvalid, "bytes of host data"});
      } else if (absl::StartsWith(data[i], kRefusedData)) {
        array->must.push_back(Exactly(RefusalError()));
      } else if (absl::StartsWith(data[i], kSpoiltData)) {
        array->must.push_back(Exactly(SpoilError()));
      } else {
        fails = no_memory || !aborted[i].ok();
      }
      const ContentsRef contents = fails ? nullptr : std::make_shared<const Contents>(Gather(shape, data[i].data()));
      for (int shard : piece.shards) {
        array->shards[shard] = Hold(contents);
        if (piece.data || piece.total_bytes <= kInlineBytes) continue;
        array->paths.insert(PathBetween(kControllerPeer, PeerOf(devices_.at(sharding.devices()[shard]).worker)));
      }
    }
    array->replicas_agree = ReplicasAgree(*array);
    Add(array);
  });
}

Expectation Model::Expect(const CopyArrays& e) {
  const SessionId session = e.request.session;
  Problems problems;
  if (e.sources.size() != e.targets.size()) problems.sure.push_back({kInvalid, "as many targets"});
  if (!e.devices.empty()) Append(problems.sure, DeviceProblems(e.request.session, e.devices));
  std::vector<bool> overlooked(e.sources.size(), false);
  for (size_t i = 0; i < e.sources.size(); ++i) {
    const ModelArrayRef source = Use(session, e.sources[i], problems.sure);
    if (source == nullptr) continue;
    if (source->spec != nullptr) {
      const size_t devices = source->spec->sharding->devices().size();
      if (!e.devices.empty() && e.devices.size() != devices) problems.sure.push_back({kInvalid, "shards"});
      continue;
    }
    problems.unless_poisoned.push_back({kInvalid, "status"});
    overlooked[i] = true;
    problems.poison_possible = problems.poison_possible && MayFail(*source);
  }
  Append(problems.sure, NameProblems(session, e.targets));

  return Answer(e.request, problems, e.targets, [this, e, overlooked] {
    for (size_t i = 0; i < e.sources.size(); ++i) {
      const ModelArrayRef source = Find(e.sources[i]);
      const ModelArrayRef target = New(e.targets[i], e.request, nullptr);
      InheritParts(*target, source);
      if (overlooked[i]) {
        target->certain = true;
      } else if (source->spec != nullptr) {
        const Sharding& from = *source->spec->sharding;
        auto spec = std::make_shared<ArraySpec>(*source->spec);
        spec->sharding = std::make_shared<const Sharding>(
            from.OnDevices(e.devices.empty() ? from.devices() : e.devices, e.memory_kind.value_or(from.memory_kind())));
        const Sharding& to = *spec->sharding;
        Append(target->must, MemoryProblems(to.memory_kind()));
        target->spec = spec;
        target->holders = WorkersOf(to.devices());
        target->helpers = WorkersOf(from.devices());
        target->replicas_agree = source->replicas_agree;
        for (size_t shard = 0; shard < source->shards.size(); ++shard) {
          ContentsRef contents = source->shards[shard]->contents;
          // Where there is nothing to send, nothing is said of an error either.
          if (worker::DenseBytes(spec->dtype, to.ShardBox(spec->dims, static_cast<int>(shard)).size) == 0) {
            contents = std::make_shared<const Contents>("");
          }
          if (contents == nullptr) target->doomed = true;
          target->shards.push_back(Hold(target->certain || !target->must.empty() ? nullptr : contents));
          const WorkerId sender = devices_.at(from.devices()[shard]).worker;
          const WorkerId maker = devices_.at(to.devices()[shard]).worker;
          if (sender != maker) target->paths.insert(PathBetween(PeerOf(sender), PeerOf(maker)));
        }
      }
      Add(target);
    }
    if (e.donate) DeleteAll(e.sources);
  });
}

Expectation Model::Expect(const ReshardArrays& e) {
  const SessionId session = e.request.session;
  Problems problems;
  if (e.sources.size() != e.targets.size() || e.sources.size() != e.shardings.size()) {
    problems.sure.push_back({kInvalid, "as many targets"});
  }
  std::vector<bool> overlooked(e.sources.size(), false);
  for (size_t i = 0; i < std::min(e.sources.size(), e.shardings.size()); ++i) {
    const ModelArrayRef source = Use(session, e.sources[i], problems.sure);
    Append(problems.sure, DeviceProblems(e.request.session, e.shardings[i]->devices()));
    if (source == nullptr) continue;
    if (source->spec != nullptr) {
      if (!e.shardings[i]->CheckRank(source->spec->dims).ok()) problems.sure.push_back({kInvalid, "dimensions"});
      continue;
    }
    problems.unless_poisoned.push_back({kInvalid, "status"});
    overlooked[i] = true;
    problems.poison_possible = problems.poison_possible && MayFail(*source);
  }
  Append(problems.sure, NameProblems(session, e.targets));

  return Answer(e.request, problems, e.targets, [this, e, overlooked] {
    for (size_t i = 0; i < e.sources.size(); ++i) {
      const ModelArrayRef source = Find(e.sources[i]);
      const ModelArrayRef target = New(e.targets[i], e.request, nullptr);
      InheritParts(*target, source);
      if (overlooked[i]) {
        target->certain = true;
      } else if (source->spec != nullptr) {
        auto spec = std::make_shared<ArraySpec>(*source->spec);
        spec->sharding = e.shardings[i];
        target->spec = spec;
        Append(target->must, MemoryProblems(spec->sharding->memory_kind()));
        target->holders = WorkersOf(spec->sharding->devices());
        target->helpers = WorkersOf(source->spec->sharding->devices());
        for (WorkerId sender : target->helpers) {
          for (WorkerId maker : target->holders) target->paths.insert(PathBetween(PeerOf(sender), PeerOf(maker)));
        }
        std::vector<ContentsRef> held;
        for (const ModelBufferRef& shard : source->shards) held.push_back(shard->contents);
        const bool fails = target->certain || !target->must.empty() || held.empty();
        for (const ContentsRef& contents : fails ? std::vector<ContentsRef>(spec->sharding->num_shards())
                                                 : Reshard(*source->spec, held, *spec->sharding)) {
          if (contents == nullptr) target->doomed = true;
          target->shards.push_back(Hold(contents));
        }
      }
      Add(target);
    }
    if (e.donate) DeleteAll(e.sources);
  });
}

Expectation Model::Expect(const AliasShards& e) {
  const SessionId session = e.request.session;
  Problems problems;
  std::vector<ArrayId> ids;
  std::vector<bool> overlooked;
  for (const AliasShards::Target& target : e.targets) {
    ids.push_back(target.array);
    const Sharding& sharding = *target.spec->sharding;
    Append(problems.sure, DeviceProblems(e.request.session, sharding.devices()));
    const bool fits = static_cast<int>(target.sources.size()) == sharding.num_shards();
    if (!fits) problems.sure.push_back({kInvalid, "shards cannot be made of"});
    bool any = false;
    for (size_t i = 0; i < target.sources.size(); ++i) {
      const AliasShards::From& from = target.sources[i];
      const ModelArrayRef source = Use(session, from.array, problems.sure);
      if (source == nullptr || !fits) continue;
      if (source->spec == nullptr) {
        problems.unless_poisoned.push_back({kInvalid, "no shards"});
      } else if (from.shard < 0 || from.shard >= source->spec->sharding->num_shards()) {
        problems.unless_poisoned.push_back({kInvalid, "no shard"});
      } else if (source->spec->sharding->devices()[from.shard] != sharding.devices()[i]) {
        problems.unless_poisoned.push_back({kInvalid, "copy it first"});
      } else if (source->spec->dtype != target.spec->dtype) {
        problems.unless_poisoned.push_back({kInvalid, "of type"});
      } else {
        continue;
      }
      any = true;
      problems.poison_possible = problems.poison_possible && MayFail(*source);
    }
    overlooked.push_back(any);
  }
  Append(problems.sure, NameProblems(session, ids));

  return Answer(e.request, problems, ids, [this, e, overlooked] {
    for (size_t t = 0; t < e.targets.size(); ++t) {
      const AliasShards::Target& wanted = e.targets[t];
      const ModelArrayRef target = New(wanted.array, e.request, wanted.spec);
      target->holders = WorkersOf(wanted.spec->sharding->devices());
      target->good = true;
      for (const AliasShards::From& from : wanted.sources) {
        const ModelArrayRef source = Find(from.array);
        if (source->MustFail()) target->doomed = true;
        if (source->certain) target->certain = true;
        if (!source->good || source->certain) {
          target->good = false;
          AddParent(*target, source);
        }
        const bool there = from.shard >= 0 && from.shard < static_cast<int>(source->shards.size());
        target->shards.push_back(there ? source->shards[from.shard] : Hold(nullptr));
      }
      if (overlooked[t]) target->certain = true;
      target->replicas_agree = ReplicasAgree(*target);
      Add(target);
    }
    DeleteAll(e.donated);
  });
}

Expectation Model::Expect(const MakeErrorArrays& e) {
  const SessionId session = e.request.session;
  Problems problems;
  for (ArrayId id : e.arrays) {
    const ModelArrayRef known = Find(id);
    if (SessionOf(id) != session) {
      problems.sure.push_back({kInvalid, "of another session"});
    } else if (known != nullptr) {
      problems.unless_poisoned.push_back({kInvalid, "is taken"});
      problems.poison_possible = problems.poison_possible && MayFail(*known);
    }
  }
  // Those before the first that is wrong are made all the same.
  const auto adopt = [this, e](bool all) {
    for (ArrayId id : e.arrays) {
      if (SessionOf(id) != e.request.session) return;
      if (Find(id) != nullptr) {
        if (!all) return;
        continue;
      }
      const ModelArrayRef array = New(id, e.request, nullptr);
      array->must.push_back(Exactly(e.error));
      array->certain = true;
      Add(array);
    }
  };
  Expectation expectation = Answer(e.request, problems, {}, [adopt] { adopt(true); });
  expectation.adopt = [adopt](const absl::Status& status) { adopt(status.ok()); };
  return expectation;
}

Expectation Model::Expect(const DeleteArrays& e) {
  Expectation expectation;
  for (ArrayId id : e.arrays) {
    if (SessionOf(id) != e.request.session || Find(id) == nullptr) {
      expectation.may_succeed = false;
      expectation.errors.push_back({absl::StatusCode::kNotFound, "unknown"});
    }
  }
  expectation.adopt = [this, e](const absl::Status&) {
    for (ArrayId id : e.arrays) {
      if (SessionOf(id) == e.request.session) DeleteAll({id});
    }
  };
  return expectation;
}

Expectation Model::Expect(const DestructArrays& e) {
  Expectation expectation = Expect(DeleteArrays{e.request, e.arrays});
  expectation.adopt = [this, e](const absl::Status&) {
    for (ArrayId id : e.arrays) sessions_[e.request.session].arrays.erase(id);
  };
  return expectation;
}

// ---------------------------------------------------------------- programs

Expectation Model::Expect(const CompileProgram& e, ProgramKind kind, const std::string& name) {
  const SessionId session = e.request.session;
  Expectation expectation;
  std::vector<Cause>& sure = expectation.errors;
  if (SessionOf(e.program) != session || sessions_[session].programs.contains(e.program)) {
    sure.push_back({kInvalid, "is taken"});
  }
  Append(sure, DeviceProblems(e.request.session, e.devices));
  expectation.may_succeed = sure.empty() && kind != ProgramKind::kBroken;
  if (!sure.empty()) return expectation;
  if (kind == ProgramKind::kBroken) sure.push_back(Exactly(CompilerError(name)));
  const std::set<WorkerId> workers = WorkersOf(e.devices);
  sessions_[session].programs[e.program] =
      ModelProgram{nullptr, workers, kind, name, workers_.at(*workers.begin()).life};
  expectation.explains = [this, workers, begun = clock_.Now()](const absl::Status& status) {
    return IsLoss(status) && Harmed(workers, {}, begun);
  };
  expectation.adopt = [this, session, id = e.program](const absl::Status& status) {
    if (!status.ok()) sessions_[session].programs.erase(id);
  };
  return expectation;
}

void Model::AdoptProgram(ProgramId id, std::shared_ptr<const ProgramView> view) {
  sessions_[SessionOf(id)].programs[id].view = std::move(view);
}

Expectation Model::Expect(const DropProgram& e) {
  Expectation expectation;
  const ModelProgram* const program = SessionOf(e.program) == e.request.session ? Find(e.program) : nullptr;
  if (program == nullptr || program->view == nullptr) {
    expectation.may_succeed = false;
    expectation.errors.push_back({absl::StatusCode::kNotFound, "unknown program"});
    return expectation;
  }
  expectation.adopt = [this, e](const absl::Status&) { sessions_[e.request.session].programs.erase(e.program); };
  return expectation;
}

Expectation Model::Expect(const LaunchProgram& e, std::function<bool(ArrayId)> is_deleted) {
  const SessionId session = e.request.session;
  std::vector<ArrayId> results = e.outputs;
  if (e.status) results.push_back(*e.status);
  const ModelProgram* const program = SessionOf(e.program) == session ? Find(e.program) : nullptr;
  Problems problems;
  if (program == nullptr || program->view == nullptr) {
    problems.sure.push_back({absl::StatusCode::kNotFound, "unknown program"});
    return Answer(e.request, problems, results, nullptr);
  }
  const ProgramView& view = *program->view;
  if (static_cast<int>(e.arguments.size()) != view.info.parameters_size()) {
    problems.sure.push_back({kInvalid, "arguments"});
  }
  if (e.outputs.size() != view.outputs.size()) problems.sure.push_back({kInvalid, "arrays"});
  bool any_may_fail = false;
  for (ArrayId id : e.arguments) {
    const ModelArrayRef argument = Use(session, id, problems.sure);
    if (argument == nullptr) continue;
    any_may_fail = any_may_fail || MayFail(*argument);
    if (argument->spec == nullptr) {
      problems.unless_poisoned.push_back({kInvalid, "status"});
    } else if (argument->spec->sharding->devices() != view.devices) {
      problems.unless_poisoned.push_back({kInvalid, "lies on other devices"});
    }
  }
  problems.poison_possible = any_may_fail;
  const bool only_names = problems.sure.empty();
  Append(problems.sure, NameProblems(session, results));

  const bool overlooked = !problems.unless_poisoned.empty();
  Expectation expectation = Answer(e.request, problems, results, [=, this, program = *program] {
    AdoptLaunch(e, program, overlooked);
    // Where it may have been known to be poisoned, it may not have been sent: then nothing is taken.
    TakeDonated(e, program, /*sure=*/!any_may_fail && AllAlive(program.workers), is_deleted);
  });
  if (only_names && !problems.sure.empty()) {
    // Outputs before the one whose name cannot be had are known by what they would have been.
    size_t first = 0;
    while (first < results.size() && NameProblems(session, {results.begin(), results.begin() + first + 1}).empty()) {
      ++first;
    }
    expectation.adopt = [=, this, adopt = expectation.adopt, specs = view.outputs](const absl::Status& status) {
      adopt(status);
      if (!absl::StrContains(status.message(), "taken") && !absl::StrContains(status.message(), "of another")) return;
      for (size_t i = 0; i < std::min(first, specs.size()); ++i) Find(results[i])->spec = specs[i];
    };
  }
  return expectation;
}

void Model::TakeDonated(const LaunchProgram& e, const ModelProgram& program, bool sure,
                        const std::function<bool(ArrayId)>& is_deleted) {
  for (int32_t i : program.view->info.donated_parameters()) {
    if (std::find(e.non_donatable.begin(), e.non_donatable.end(), i) != e.non_donatable.end()) continue;
    const ModelArrayRef argument = Find(e.arguments[i]);
    argument->deleted = is_deleted(argument->id);
    for (const ModelBufferRef& shard : argument->shards) shard->taken = shard->taken || argument->deleted;
    if (sure && !argument->deleted) {
      fail_(absl::StrCat("array ", Describe(argument->id), " was donated and is not deleted"));
    }
  }
}

void Model::AdoptLaunch(const LaunchProgram& e, const ModelProgram& program, bool overlooked) {
  const ProgramView& view = *program.view;
  ModelArray common;
  common.origins.insert(e.request.origin);
  common.begun = clock_.Now();
  common.helpers = program.workers;
  common.certain = overlooked;
  if (memory_limited_) common.may.push_back(NoRoom());
  for (ArrayId id : e.arguments) Inherit(common, Find(id));
  for (WorkerId worker : program.workers) {
    if (alive(worker)) continue;
    common.must.push_back({absl::StatusCode::kDataLoss, workers_.at(worker).name});
    common.certain = true;
  }
  if (program.kind == ProgramKind::kFailing) common.must.push_back(Exactly(LaunchError(program.name)));
  if (program.kind == ProgramKind::kRejected) common.must.push_back(Exactly(RejectionError(program.name)));
  if (MustCompileAgain(program)) {
    common.must.push_back(Exactly(CompilerError(program.name)));
  }
  const bool fails = common.MustFail();
  std::vector<ContentsRef> taken;
  for (size_t device = 0; !fails && !program.is_gang() && device < view.devices.size(); ++device) {
    for (ArrayId id : e.arguments) taken.push_back(Find(id)->shards[device]->contents);
  }
  const uint64_t digest = fails ? 0 : LaunchDigest(view.info.name(), taken);
  const int devices = static_cast<int>(view.devices.size());
  for (size_t i = 0; i < e.outputs.size(); ++i) {
    const auto output = std::make_shared<ModelArray>(common);
    output->id = e.outputs[i];
    output->spec = view.outputs[i];
    if (AllAlive(program.workers)) output->holders = program.workers;
    const proto::OutputInfo& info = view.info.outputs(static_cast<int>(i));
    const std::vector<int64_t> tiles = TilesOf(info, devices);
    const int64_t bytes = worker::DenseBytes(static_cast<DType>(info.type().dtype()), info.type().dims());
    for (int device = 0; device < devices; ++device) {
      output->shards.push_back(
          Hold(fails ? nullptr : OutputContents(digest, static_cast<int>(i), tiles[device], bytes)));
    }
    Add(output);
  }
  if (!e.status) return;
  const auto status = std::make_shared<ModelArray>(common);
  status->id = *e.status;
  Add(status);
}

// ---------------------------------------------------------------- asking

Expectation Model::Expect(const WaitReady& e) {
  Expectation expectation;
  std::vector<ModelArrayRef> arrays;
  for (ArrayId id : e.arrays) arrays.push_back(Use(e.request.session, id, expectation.errors));
  if (!expectation.errors.empty()) {
    expectation.may_succeed = false;
    return expectation;
  }
  expectation.may_succeed = std::none_of(arrays.begin(), arrays.end(), [](const auto& a) { return a->MustFail(); });
  expectation.explains = [this, arrays](const absl::Status& status) {
    const uint64_t origin = OriginOf(status);
    return std::any_of(arrays.begin(), arrays.end(), [&](const auto& a) {
      return Explains(*a, status) && (origin == 0 || a->origins.contains(origin));
    });
  };
  expectation.adopt = [arrays](const absl::Status& status) {
    for (const ModelArrayRef& array : arrays) {
      if (array->certain) continue;
      if (status.ok()) {
        array->good = true;
        array->may.clear();
        array->parents.clear();
      } else if (arrays.size() == 1) {
        array->certain = true;
        array->must.push_back(Exactly(status));
      }
    }
  };
  return expectation;
}

Expectation Model::Expect(const FetchShard& e, ContentsRef& contents) {
  Expectation expectation;
  const ModelArrayRef array = Use(e.request.session, e.array, expectation.errors);
  if (!expectation.errors.empty()) {
    expectation.may_succeed = false;
    return expectation;
  }
  const absl::Time begun = clock_.Now();
  std::set<WorkerId> worker;
  std::set<Path> path;
  bool taken = false;
  const bool there = e.shard >= 0 && e.shard < static_cast<int>(array->shards.size()) && array->spec != nullptr;
  if (there) {
    const ModelBuffer& shard = *array->shards[e.shard];
    contents = shard.contents;
    taken = shard.taken;
    worker.insert(devices_.at(array->spec->sharding->devices()[e.shard]).worker);
    path.insert(PathBetween(kControllerPeer, PeerOf(*worker.begin())));
    const HostShape shape = ShardShape(*array->spec, e.shard, e.byte_strides);
    if (!worker::SpanBytes(shape).ok()) {
      expectation.errors.push_back({kInvalid, "byte strides"});
      contents = nullptr;
    }
  } else {
    expectation.errors.push_back({kInvalid, "no shard"});
  }
  expectation.may_succeed = contents != nullptr && !array->certain;
  expectation.explains = [this, array, worker, path, taken, begun](const absl::Status& status) {
    if (taken && absl::IsFailedPrecondition(status)) return true;
    return Explains(*array, status) || (IsLoss(status) && Harmed(worker, path, begun));
  };
  return expectation;
}

Expectation Model::Expect(const QueryDefaultLayout& e) {
  Expectation expectation;
  Append(expectation.errors, DeviceProblems(e.request.session, {e.device}));
  expectation.may_succeed = expectation.errors.empty();
  if (!expectation.may_succeed) return expectation;
  const std::vector<Cause> memory = MemoryProblems(e.memory_kind);
  Append(expectation.errors, memory);
  if (!worker::CheckShape(e.dtype, e.dims).ok()) expectation.errors.push_back({kInvalid, ""});
  expectation.may_succeed = expectation.errors.empty();
  expectation.explains = [this, worker = devices_.at(e.device).worker, begun = clock_.Now()](const absl::Status& s) {
    return IsLoss(s) && Harmed({worker}, {}, begun);
  };
  return expectation;
}

Expectation Model::Expect(const QueryProgram& e) {
  Expectation expectation;
  const ModelProgram* const program = SessionOf(e.program) == e.request.session ? Find(e.program) : nullptr;
  if (program == nullptr || program->view == nullptr) {
    expectation.may_succeed = false;
    expectation.errors.push_back({absl::StatusCode::kNotFound, "unknown program"});
    return expectation;
  }
  // Any that is there can say it.
  std::set<WorkerId> asked = program->workers;
  if (std::none_of(asked.begin(), asked.end(), [this](WorkerId worker) { return alive(worker); })) {
    expectation.errors.push_back({absl::StatusCode::kDataLoss, ""});
  }
  if (MustCompileAgain(*program)) {
    expectation.errors.push_back(Exactly(CompilerError(program->name)));
  }
  expectation.may_succeed = expectation.errors.empty();
  expectation.explains = [this, asked, begun = clock_.Now()](const absl::Status& status) {
    return IsLoss(status) && Harmed(asked, {}, begun);
  };
  return expectation;
}

bool Model::AllAlive(const std::set<WorkerId>& workers) const {
  return std::all_of(workers.begin(), workers.end(), [this](WorkerId worker) { return alive(worker); });
}

// A gang's executable is loaded where it is missing, never compiled again.
bool Model::MustCompileAgain(const ModelProgram& program) const {
  return program.kind == ProgramKind::kOnce && !program.is_gang() &&
         program.life != workers_.at(*program.workers.begin()).life;
}

}  // namespace causeway::sim
