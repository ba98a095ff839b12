#include "sim/client.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "sim/describe.h"
#include "sim/simulated_runtime.h"
#include "worker/shapes.h"

namespace causeway::sim {
namespace {

std::string Names(const std::vector<ArrayId>& ids) {
  return absl::StrJoin(ids, " ", [](std::string* out, ArrayId id) { out->append(Describe(id)); });
}

std::string Devices(const std::vector<DeviceId>& devices) {
  return absl::StrCat(
      "[", absl::StrJoin(devices, " ", [](std::string* out, DeviceId d) { absl::StrAppend(out, Raw(d)); }), "]");
}

bool HasData(const ModelArray& array) { return array.spec != nullptr; }

}  // namespace

Client::Client(ClientContext& context, SessionId session) : context_(context), session_(session) {}

Answers Client::AnswersFor(std::string what, Expectation expected) {
  return {.done = [&world = context_.world, what = std::move(what),
                   expected = std::move(expected)](const absl::Status& status) {
    if (const absl::Status wrong = expected.Check(status); !wrong.ok()) {
      world.Fail(absl::StrCat(what, " ", wrong.message()));
    }
    if (expected.adopt != nullptr) expected.adopt(status);
  }};
}

template <typename E>
void Client::Do(E e, const std::string& what, Expectation expected) {
  const auto answered = std::make_shared<bool>(false);
  Answers answers = AnswersFor(what, std::move(expected));
  answers.done = [answered, done = std::move(answers.done)](const absl::Status& status) {
    *answered = true;
    done(status);
  };
  const uint64_t origin = e.request.origin;
  e.request = context_.door.Ask(session_, what, std::move(answers));
  e.request.origin = origin;
  context_.controller->Handle(std::move(e));
  if (!*answered) context_.world.Fail(absl::StrCat(what, " is not answered at once"));
}

// ---------------------------------------------------------------- the session

void Client::Open() {
  Expectation expected;
  expected.may_succeed = context_.model.AnyAlive();
  if (!expected.may_succeed) expected.errors.push_back({absl::StatusCode::kFailedPrecondition, "no worker"});
  expected.adopt = [this](const absl::Status& status) { open_ = status.ok(); };
  const SessionWishes wishes = PickWishes();
  // How many there are is the resource manager's to say (controller/slices_test.cc).
  expected.errors.push_back({absl::StatusCode::kResourceExhausted, "Free for it"});
  Do(OpenSession{{}, "sim", "sim", wishes}, absl::StrCat("open session ", Raw(session_)), std::move(expected));
  if (!open_) return;
  context_.door.Open(session_);
  context_.model.SetDevices(context_.controller->core().Devices());

  std::map<WorkerId, std::vector<DeviceId>> by_worker;
  std::vector<DeviceId> all;
  for (const DeviceView& device : context_.controller->core().DevicesOf(session_)) {
    by_worker[device.worker].push_back(device.id);
    all.push_back(device.id);
  }
  context_.model.Open(session_, all, wishes);
  if (Mistake()) {
    const auto& devices = context_.model.devices();
    meshes_.push_back({std::next(devices.begin(), random().Pick(static_cast<int64_t>(devices.size())))->first});
  }
  for (const auto& [worker, devices] : by_worker) {
    meshes_.push_back(devices);
    meshes_.push_back({random().Of(devices)});
  }
  for (int i = 0; i < 2; ++i) {
    random().Shuffle(all);
    meshes_.emplace_back(all.begin(), all.begin() + random().Between(1, static_cast<int64_t>(all.size())));
  }
}

void Client::Close() {
  open_ = false;
  context_.world.Note("session ", session_, " closes");
  context_.door.Close(session_);
  context_.model.Close(session_);
  context_.controller->Handle(CloseSession{session_});
}

void Client::Step() {
  Act act = static_cast<Act>(random().Weighted(context_.profile.weights));
  const auto& arrays = context_.model.arrays(session_);
  if (static_cast<int>(arrays.size()) > context_.profile.max_arrays) act = Act::kDestruct;
  switch (act) {
    case Act::kPut:
      return Put();
    case Act::kCompile:
      return Compile();
    case Act::kLaunch:
      return Launch();
    case Act::kCopy:
      return Copy();
    case Act::kReshard:
      return Reshard();
    case Act::kAlias:
      return Alias();
    case Act::kMakeErrors:
      return MakeErrors();
    case Act::kDelete:
      return Delete();
    case Act::kDestruct:
      return Destruct();
    case Act::kWait:
      return Wait();
    case Act::kFetch:
      return Fetch();
    case Act::kQuery:
      return Query();
    case Act::kDropProgram:
      return DropAProgram();
  }
}

// ---------------------------------------------------------------- making arrays

void Client::Put() {
  PutArray e;
  e.request = Making();
  e.array = NewName();
  auto spec = std::make_shared<ArraySpec>();
  spec->dtype = random().Of(std::vector<DType>{DType::kF32, DType::kU8, DType::kBF16, DType::kS64});
  const std::vector<DeviceId> devices = PickDevices(/*one_worker=*/false);
  spec->dims = PickDims(static_cast<int>(devices.size()));
  spec->sharding = PickSharding(devices, spec->dims);
  e.spec = spec;

  // One piece for all shards that are the same part; sometimes several.
  std::vector<std::pair<std::vector<int64_t>, std::vector<int>>> parts;
  for (int shard = 0; shard < spec->sharding->num_shards(); ++shard) {
    const std::vector<int64_t> start = spec->sharding->ShardBox(spec->dims, shard).start;
    const auto known = std::find_if(parts.begin(), parts.end(), [&](const auto& part) { return part.first == start; });
    if (known == parts.end() || random().Chance(10)) {
      parts.push_back({start, {shard}});
    } else {
      known->second.push_back(shard);
    }
  }
  const uint64_t salt = random().Next();
  std::string strides;
  std::vector<std::string> data;
  std::vector<absl::Status> aborted;
  for (const auto& [start, shards] : parts) {
    HostShape shape{spec->dtype, spec->sharding->ShardBox(spec->dims, shards.front()).size, {}};
    int64_t part = 0;
    for (int64_t s : start) part = part * 1'000'003 + s;
    const ContentsRef contents = OutputContents(salt, 0, part, worker::DenseBytes(shape.dtype, shape.dims));
    shape.byte_strides = PickStrides(shape);
    std::string bytes(*worker::SpanBytes(shape), '\0');
    Scatter(contents->bytes, shape, bytes.data());
    if (Mistake() && !bytes.empty()) bytes.pop_back();
    absl::Status abort;
    const bool inline_data = static_cast<int64_t>(bytes.size()) <= kInlineBytes && random().Chance(50);
    if (random().Chance(context_.profile.bad_data)) {
      const int64_t how = random().Pick(3);
      if (how == 0 && !inline_data) abort = absl::AbortedError("the client breaks off");
      const absl::string_view mark = how == 1 ? kRefusedData : kSpoiltData;
      if (how > 0 && bytes.size() >= mark.size()) bytes.replace(0, mark.size(), mark.data(), mark.size());
    }
    if (!shape.byte_strides.empty()) {
      absl::StrAppend(&strides, ", one with strides [", absl::StrJoin(shape.byte_strides, " "), "]");
    }
    HostPiece piece;
    piece.shards = shards;
    piece.byte_strides = shape.byte_strides;
    piece.total_bytes = static_cast<int64_t>(bytes.size());
    if (inline_data) piece.data = bytes;
    e.pieces.push_back(std::move(piece));
    data.push_back(std::move(bytes));
    aborted.push_back(std::move(abort));
  }
  if (Mistake() && !e.pieces.empty()) e.pieces.front().shards.push_back(static_cast<int>(random().Pick(3)));

  Expectation expected = context_.model.Expect(e, data, aborted);
  for (size_t i = 0; i < e.pieces.size(); ++i) {
    if (e.pieces[i].data || !expected.may_succeed) continue;
    e.pieces[i].buffer =
        context_.door.Store(session_, {data[i], aborted[i], random().Delay(context_.profile.think_time * 3)});
  }
  const std::string what = absl::StrCat("put ", Describe(e.array), " [", absl::StrJoin(spec->dims, ","), "] on ",
                                        Devices(devices), " in ", e.pieces.size(), " pieces", strides);
  Do(std::move(e), what, std::move(expected));
}

void Client::Copy() {
  CopyArrays e;
  e.request = Making();
  bool found = false;
  const ArrayId first = PickName(HasData, found);
  if (!found) return Put();
  e.sources.push_back(first);
  size_t shards = 1;
  if (const ModelArrayRef array = context_.model.Find(first); array != nullptr && array->spec != nullptr) {
    shards = array->spec->sharding->devices().size();
  }
  if (random().Chance(20)) {
    const auto as_many = [&](const ModelArray& a) {
      return HasData(a) && a.spec->sharding->devices().size() == shards;
    };
    e.sources.push_back(PickName(as_many, found));
  }
  for (size_t i = 0; i < e.sources.size(); ++i) e.targets.push_back(NewName());
  if (random().Chance(80)) {
    const bool distinct = !Mistake();
    std::vector<DeviceId> all;
    for (const DeviceView& device : context_.controller->core().DevicesOf(session_)) all.push_back(device.id);
    random().Shuffle(all);
    for (size_t i = 0; i < shards; ++i) e.devices.push_back(distinct ? all[i % all.size()] : random().Of(all));
    if (Mistake()) e.devices.push_back(random().Of(all));
    if (Mistake()) e.devices.back() = DeviceId{999};
  }
  if (random().Chance(20)) e.memory_kind = "device";
  if (Mistake()) e.memory_kind = "nowhere";
  e.donate = random().Chance(10);
  Expectation expected = context_.model.Expect(e);
  const std::string what = absl::StrCat("copy ", Names(e.sources), " to ", Names(e.targets), " on ", Devices(e.devices),
                                        e.donate ? ", donated" : "");
  Do(std::move(e), what, std::move(expected));
}

void Client::Reshard() {
  ReshardArrays e;
  e.request = Making();
  const int64_t count = random().Between(1, 2);
  for (int64_t i = 0; i < count; ++i) {
    bool found = false;
    const ArrayId source = PickName([](const ModelArray& a) { return HasData(a) && a.replicas_agree; }, found);
    if (!found) return Put();
    const ModelArrayRef array = context_.model.Find(source);
    // Which of several unequal replicas is taken is nobody's business.
    if (array != nullptr && !array->replicas_agree) return;
    e.sources.push_back(source);
    e.targets.push_back(NewName());
    const std::vector<DeviceId> devices = PickDevices(/*one_worker=*/false);
    const std::vector<int64_t> any_dims = {2, 2};
    const bool known = array != nullptr && array->spec != nullptr && !Mistake();
    e.shardings.push_back(PickSharding(devices, known ? array->spec->dims : any_dims));
  }
  e.donate = random().Chance(10);
  Expectation expected = context_.model.Expect(e);
  const std::string what = absl::StrCat("reshard ", Names(e.sources), " to ", Names(e.targets), " on ",
                                        Devices(e.shardings.front()->devices()), e.donate ? ", donated" : "");
  Do(std::move(e), what, std::move(expected));
}

void Client::Alias() {
  AliasShards e;
  e.request = Making();
  switch (random().Pick(3)) {
    case 0:
      Disassemble(e);
      break;
    case 1:
      Assemble(e);
      break;
    default:
      Permute(e);
  }
  if (e.targets.empty()) return Put();
  if (Mistake()) e.targets.front().sources.front().shard += static_cast<int>(random().Between(-1, 1));
  if (Mistake()) e.targets.front().sources.pop_back();
  std::vector<std::string> texts;
  for (const AliasShards::Target& target : e.targets) {
    std::string text = absl::StrCat(Describe(target.array), " =");
    for (const AliasShards::From& from : target.sources)
      absl::StrAppend(&text, " ", Describe(from.array), ":", from.shard);
    texts.push_back(std::move(text));
  }
  if (random().Chance(20)) {
    for (const AliasShards::Target& target : e.targets) {
      for (const AliasShards::From& from : target.sources) {
        if (e.donated.empty() || e.donated.back() != from.array) e.donated.push_back(from.array);
      }
    }
  }
  Expectation expected = context_.model.Expect(e);
  const std::string what = absl::StrCat("alias ", absl::StrJoin(texts, ", "), e.donated.empty() ? "" : ", donated");
  Do(std::move(e), what, std::move(expected));
}

void Client::MakeErrors() {
  MakeErrorArrays e;
  e.request = Making();
  e.arrays = {NewName(), NewName()};
  e.error = absl::UnimplementedError(absl::StrCat("not for session ", Raw(session_)));
  Expectation expected = context_.model.Expect(e);
  Do(std::move(e), absl::StrCat("make errors ", Names(e.arrays)), std::move(expected));
}

void Client::Delete() {
  DeleteArrays e{{session_, {}}, PickNames(3)};
  if (e.arrays.empty()) return;
  Expectation expected = context_.model.Expect(e);
  Do(std::move(e), absl::StrCat("delete ", Names(e.arrays)), std::move(expected));
}

void Client::Destruct() {
  DestructArrays e{{session_, {}}, PickNames(5)};
  if (e.arrays.empty()) return;
  Expectation expected = context_.model.Expect(e);
  Do(std::move(e), absl::StrCat("destruct ", Names(e.arrays)), std::move(expected));
}

// ---------------------------------------------------------------- programs

void Client::Compile() {
  CompileProgram e;
  e.request.session = session_;
  e.program = MakeProgramId(session_, ++last_program_);
  if (Mistake() && !programs_.empty()) e.program = random().Of(programs_);
  e.devices = PickDevices(/*one_worker=*/random().Chance(70));
  if (Mistake()) e.devices.push_back(random().Chance(50) ? e.devices.front() : DeviceId{999});
  ProgramKind kind = ProgramKind::kGood;
  const proto::ProgramInfo info = PickProgram(static_cast<int>(e.devices.size()), kind);
  CompileRequest request = SimulatedProgram(info, {});
  e.format = std::move(request.format);
  e.code = std::move(request.code);
  programs_.push_back(e.program);
  const std::string what =
      absl::StrCat("compile ", info.name(), " as ", Describe(ArrayId{Raw(e.program)}), " for ", Devices(e.devices));
  const Expectation expected = context_.model.Expect(e, kind, info.name());
  Answers answers = AnswersFor(what, expected);
  answers.compiled = [&context = context_, expected, what, info,
                      devices = e.devices](const std::shared_ptr<const ProgramView>& view) {
    if (absl::Status wrong = expected.Check(absl::OkStatus()); !wrong.ok()) {
      context.world.Fail(absl::StrCat(what, " ", wrong.message()));
    }
    if (view->devices != devices || view->info.SerializeAsString() != info.SerializeAsString() ||
        static_cast<int>(view->outputs.size()) != info.outputs_size()) {
      context.world.Fail(absl::StrCat(what, " gives another program"));
    }
    context.model.AdoptProgram(view->id, view);
  };
  e.request = context_.door.Ask(session_, what, std::move(answers));
  context_.controller->Handle(std::move(e));
}

void Client::Launch() {
  std::vector<ProgramId> ready;
  for (ProgramId id : programs_) {
    const ModelProgram* const program = context_.model.Find(id);
    if (Mistake() || (program != nullptr && program->view != nullptr)) ready.push_back(id);
  }
  if (ready.empty()) return Compile();
  LaunchProgram e;
  e.request = Making();
  // The newest are the most used.
  e.program = ready[std::max(random().Pick(ready.size()), random().Pick(ready.size()))];
  e.launch_id = ++context_.last_launch_id;
  const ModelProgram* const program = context_.model.Find(e.program);
  int outputs = 1;
  if (program != nullptr && program->view != nullptr) {
    const ProgramView& view = *program->view;
    outputs = view.info.outputs_size();
    const auto fits = [&](const ModelArray& a) { return HasData(a) && a.spec->sharding->devices() == view.devices; };
    for (int i = 0; i < view.info.parameters_size(); ++i) {
      bool found = false;
      const ArrayId argument = PickName(fits, found);
      if (!found) return Put();
      e.arguments.push_back(argument);
      if (random().Chance(20)) e.non_donatable.push_back(i);
    }
  }
  if (Mistake()) e.arguments.push_back(NewArray());
  if (Mistake()) ++outputs;
  for (int i = 0; i < outputs; ++i) e.outputs.push_back(NewName());
  if (random().Chance(15)) e.status = NewName();
  Expectation expected =
      context_.model.Expect(e, [&context = context_](ArrayId id) { return context.controller->core().IsDeleted(id); });
  const std::string what = absl::StrCat("launch ", Describe(ArrayId{Raw(e.program)}), " (",
                                        program == nullptr ? "?" : program->name, ") of ", Names(e.arguments), " to ",
                                        Names(e.outputs), e.status ? absl::StrCat(" and ", Describe(*e.status)) : "");
  Do(std::move(e), what, std::move(expected));
}

void Client::DropAProgram() {
  if (programs_.empty()) return;
  const DropProgram e{{session_, {}}, random().Of(programs_)};
  Expectation expected = context_.model.Expect(e);
  const ModelProgram* const program = context_.model.Find(e.program);
  const bool compiling = program != nullptr && program->view == nullptr;
  if (!compiling) std::erase(programs_, e.program);
  Do(e, absl::StrCat("drop program ", Describe(ArrayId{Raw(e.program)})), std::move(expected));
}

// ---------------------------------------------------------------- asking

void Client::Wait() {
  WaitReady e{{session_, {}}, PickNames(3)};
  if (e.arrays.empty()) return;
  const std::string what = absl::StrCat("wait for ", Names(e.arrays));
  e.request = context_.door.Ask(session_, what, AnswersFor(what, context_.model.Expect(e)));
  context_.controller->Handle(std::move(e));
}

void Client::Fetch() {
  bool found = false;
  const ArrayId id = PickName(HasData, found);
  if (!found) return;
  const ModelArrayRef array = context_.model.Find(id);
  int shard = 0;
  std::vector<int64_t> byte_strides;
  if (array != nullptr && array->spec != nullptr) {
    shard = static_cast<int>(random().Pick(array->spec->sharding->num_shards()));
    byte_strides =
        PickStrides({array->spec->dtype, array->spec->sharding->ShardBox(array->spec->dims, shard).size, {}});
  }
  if (Mistake()) {
    shard += static_cast<int>(random().Between(-1, 1));
    byte_strides.clear();  // those of another shard may overlap
  }
  if (Mistake()) byte_strides.push_back(-4);
  FetchOne(id, shard, std::move(byte_strides));
}

void Client::FetchOne(ArrayId array, int shard, std::vector<int64_t> byte_strides) {
  FetchShard e{{session_, {}}, array, shard, std::move(byte_strides)};
  ContentsRef contents;
  const Expectation expected = context_.model.Expect(e, contents);
  std::string what = absl::StrCat("fetch ", Describe(array), ":", shard);
  if (!e.byte_strides.empty()) absl::StrAppend(&what, " with strides [", absl::StrJoin(e.byte_strides, " "), "]");
  Answers answers = AnswersFor(what, expected);
  std::shared_ptr<const ArraySpec> spec;
  if (const ModelArrayRef known = context_.model.Find(array)) spec = known->spec;
  answers.fetched = [&world = context_.world, expected, what, contents, spec, shard,
                     strides = e.byte_strides](const std::string& bytes) {
    if (absl::Status wrong = expected.Check(absl::OkStatus()); !wrong.ok()) {
      return world.Fail(absl::StrCat(what, " ", wrong.message()));
    }
    const HostShape shape{spec->dtype, spec->sharding->ShardBox(spec->dims, shard).size, strides};
    const absl::StatusOr<int64_t> span = worker::SpanBytes(shape);
    if (!span.ok() || *span != static_cast<int64_t>(bytes.size())) {
      world.Fail(absl::StrCat(what, " brings ", bytes.size(), " bytes"));
    } else if (Gather(shape, bytes.data()) != contents->bytes) {
      world.Fail(absl::StrCat(what, " brings other data than the array holds"));
    }
  };
  e.request = context_.door.Ask(session_, what, std::move(answers));
  context_.controller->Handle(std::move(e));
}

void Client::Query() {
  const auto ask = [this](auto e, const std::string& what) {
    const Expectation expected = context_.model.Expect(e);
    Answers answers = AnswersFor(what, expected);
    answers.answered = [&world = context_.world, expected, what](const proto::QueryDone&) {
      if (absl::Status wrong = expected.Check(absl::OkStatus()); !wrong.ok()) {
        world.Fail(absl::StrCat(what, " ", wrong.message()));
      }
    };
    e.request = context_.door.Ask(session_, what, std::move(answers));
    context_.controller->Handle(std::move(e));
  };
  if (random().Chance(50) || programs_.empty()) {
    QueryDefaultLayout e{{session_, {}}, DType::kF32, {4, 4}, PickDevices(false).front(), ""};
    if (Mistake()) e.dims = {-1};
    if (Mistake()) e.device = DeviceId{999};
    if (Mistake()) e.memory_kind = "nowhere";
    return ask(e, "ask for a layout");
  }
  const auto what = random().Chance(50) ? QueryProgram::What::kText : QueryProgram::What::kCostAnalysis;
  const ProgramId program = random().Of(programs_);
  ask(QueryProgram{{session_, {}}, program, what}, absl::StrCat("ask about program ", Describe(ArrayId{Raw(program)})));
}

void Client::AskForEverything() {
  const std::map<ArrayId, ModelArrayRef> arrays = context_.model.arrays(session_);
  for (const auto& [id, array] : arrays) {
    if (array->deleted) continue;
    WaitReady e{{session_, {}}, {id}};
    const std::string what = absl::StrCat("wait at last for ", Describe(id));
    e.request = context_.door.Ask(session_, what, AnswersFor(what, context_.model.Expect(e)));
    context_.controller->Handle(std::move(e));
    if (array->spec == nullptr) continue;
    for (int shard = 0; shard < array->spec->sharding->num_shards(); ++shard) FetchOne(id, shard, {});
  }
}

void Client::LetGoOfEverything() {
  DestructArrays e{{session_, {}}, {}};
  for (const auto& [id, array] : context_.model.arrays(session_)) e.arrays.push_back(id);
  Expectation expected = context_.model.Expect(e);
  Do(std::move(e), "destruct everything", std::move(expected));
  while (!programs_.empty()) DropAProgram();
}

}  // namespace causeway::sim
