#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {
namespace {

// What a launch takes in a frame, about: for itself, and for each array that it names.
constexpr int64_t kLaunchBytes = 32;
constexpr int64_t kNameBytes = 10;

std::string Describe(ProgramId id) { return absl::StrCat("program ", Raw(id) & kMaxPerSession); }

std::vector<ArrayId> ResultsOf(const LaunchProgram& e) {
  std::vector<ArrayId> results = e.outputs;
  if (e.status) results.push_back(*e.status);
  return results;
}

// Whether the launch takes its i-th argument away, for each.
std::vector<bool> DonatedBy(const LaunchProgram& e, const ProgramView& view) {
  std::vector<bool> donated(e.arguments.size(), false);
  for (int32_t i : view.info.donated_parameters()) {
    if (i < 0 || i >= static_cast<int32_t>(e.arguments.size())) continue;
    donated[i] = std::find(e.non_donatable.begin(), e.non_donatable.end(), i) == e.non_donatable.end();
  }
  return donated;
}

}  // namespace

absl::Status ControllerCore::Impl::CheckArguments(Session& session, const LaunchProgram& e, const Program& program,
                                                  absl::Status& poison) {
  const ProgramView& view = *program.view;
  if (static_cast<int>(e.arguments.size()) != view.info.parameters_size()) {
    return absl::InvalidArgumentError(absl::StrCat("program ", view.info.name(), " takes ", view.info.parameters_size(),
                                                   " arguments, ", e.arguments.size(), " are given"));
  }
  if (e.outputs.size() != view.outputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("program ", view.info.name(), " makes ", view.outputs.size(),
                                                   " arrays, ", e.outputs.size(), " are named"));
  }
  if (e.non_donatable.size() > e.arguments.size()) {
    return absl::InvalidArgumentError("more arguments are kept from donation than there are");
  }
  for (size_t i = 0; i < e.arguments.size(); ++i) {
    ASSIGN_OR_RETURN(const Array* array, Usable(session, e.arguments[i]));
    poison.Update(array->KnownError());
    if (!poison.ok()) continue;
    if (array->spec == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("argument ", i, " of program ", view.info.name(), " is a launch's status, which holds no data"));
    }
    if (array->placement != program.placement) {
      return absl::InvalidArgumentError(absl::StrCat("argument ", i, " of program ", view.info.name(),
                                                     " lies on other devices than the program runs on"));
    }
  }
  return absl::OkStatus();
}

void ControllerCore::Impl::On(LaunchProgram& e) {
  Session& session = *FindSession(e.request.session);
  const auto found = session.programs.find(e.program);
  if (found == session.programs.end() || !found->second.compiled) {
    return Refuse(session, e.request, ResultsOf(e), absl::NotFoundError(absl::StrCat("unknown ", Describe(e.program))));
  }
  Program& program = found->second;
  const ProgramView& view = *program.view;
  absl::Status poison;
  if (absl::Status ok = CheckArguments(session, e, program, poison); !ok.ok()) {
    return Refuse(session, e.request, ResultsOf(e), ok);
  }
  poison.Update(CheckAlive(*program.placement));
  if (poison.ok()) {
    if (absl::Status room = CheckRoom(session, e, program); !room.ok()) {
      return Refuse(session, e.request, ResultsOf(e), room);
    }
  }
  absl::InlinedVector<DeviceMemory::Watch, 2> memory;
  auto future = std::make_shared<Future>(static_cast<int>(program.told.size()), e.request, *out_);
  const size_t results = e.outputs.size() + (e.status ? 1 : 0);
  for (size_t i = 0; i < results; ++i) {
    const bool is_output = i < e.outputs.size();
    absl::StatusOr<Array*> array =
        Add(session, is_output ? e.outputs[i] : *e.status, is_output ? view.outputs[i] : nullptr);
    if (!array.ok()) {
      future->Fail(array.status(), *out_);
      // Those before it are nowhere but here.
      for (size_t made = 0; made < i; ++made) {
        session.arrays[e.outputs[made]].on_workers = false;
        session.arrays[e.outputs[made]].memory = {};
      }
      return Refuse(session, e.request, ResultsOf(e), array.status());
    }
    (*array)->futures.push_back(future);
    if (!is_output || !poison.ok()) continue;
    (*array)->placement = program.placement;
    (*array)->on_workers = true;
    (*array)->made_by = last_held_ + 1;  // as Queue counts
    (*array)->memory = memory_.Plan(*session.memory, program.placement, program.memory.outputs[i].bytes,
                                    program.memory.outputs[i].space);
    memory.emplace_back((*array)->memory);
  }
  ++session.launches;
  if (!poison.ok()) {
    future->Fail(poison, *out_);
    return out_->ReplyDone(e.request, absl::OkStatus());
  }
  if (!IsTold(program)) TellProgram(program);
  ++program.launches;
  Queue(session, program, e, std::move(future), std::move(memory));
}

void ControllerCore::Impl::Queue(Session& session, Program& program, const LaunchProgram& e,
                                 std::shared_ptr<Future> future, absl::InlinedVector<DeviceMemory::Watch, 2> outputs) {
  fresh_ = std::make_unique<PendingLaunch>();
  PendingLaunch& launch = *fresh_;
  launch.session = session.id;
  launch.order = ++last_held_;
  launch.placement = program.placement;
  launch.measured = program.measured;
  launch.future = std::move(future);
  launch.program = program.view;
  launch.bytes = kLaunchBytes + kNameBytes * static_cast<int64_t>(e.arguments.size() + e.outputs.size());
  launch.told = program.told;
  launch.reported.resize(program.told.size());
  launch.account = session.memory;
  launch.outputs = std::move(outputs);
  const Load::Item load = launch.load();
  const uint64_t id = launch.order;
  const std::vector<bool> donated = DonatedBy(e, *program.view);
  for (size_t i = 0; i < e.arguments.size(); ++i) {
    Array& array = session.arrays[e.arguments[i]];
    if (!held_.empty()) launch.missing += ComesAfter(id, array, donated[i]);
    // What launches make is made on the devices that this one needs, before it: they need not be looked after.
    for (const std::shared_ptr<Future>& input : array.futures) {
      if (!input->done() && (input->is_make() || options_.scheduling.sequential)) launch.inputs.push_back(input);
    }
    if (!donated[i]) continue;
    array.deleted = true;
    launch.taken.emplace_back(e.arguments[i], array.memory);
  }
  if (trace_.on()) TraceAccepted(launch, ProducersOf(session, e.arguments), now_);
  launch.need = NeedOf(e, program);
  const int missing = launch.missing;
  MakeLaunchFrame(e);
  scheduler_.Add(launch);
  Schedule();
  if (fresh_ != nullptr) {
    auto held = std::make_unique<Held>();
    held->session = session.id;
    held->missing = missing;
    held->launch = std::move(fresh_);
    held->launch_frame.Swap(&launch_frame_);
    held->asked = now_;
    memory_queue_.Plan({.order = id, .account = launch.account, .placement = launch.placement, .need = launch.need});
    Producers& producers = held_.emplace(id, std::move(held)).first->second->producers;
    for (ArrayId argument : e.arguments) {
      Array& array = session.arrays[argument];
      launch.arguments.push_back(array.memory);
      AddUser(array.users, id);
      AddProducer(array, producers);
    }
    for (ArrayId array : e.outputs) session.arrays[array].maker = id;
    AddUser(program.users, id);
  }
  for (size_t i = 0; i < e.arguments.size(); ++i) {
    if (donated[i]) session.arrays[e.arguments[i]].memory = {};
  }
  out_->ReplyDone(e.request, absl::OkStatus());
  Began(session, load);
}

void ControllerCore::Impl::MakeLaunchFrame(const LaunchProgram& e) {
  proto::Launch& launch = *launch_frame_.mutable_launch();
  launch.Clear();
  launch.set_program(Raw(e.program));
  for (ArrayId id : e.arguments) launch.add_arguments(Raw(id));
  for (ArrayId id : e.outputs) launch.add_outputs(Raw(id));
  launch.mutable_non_donatable()->Add(e.non_donatable.begin(), e.non_donatable.end());
  launch.set_launch_id(e.launch_id);
  launch.set_origin(e.request.origin);
}

void ControllerCore::Impl::OnLaunchDone(WorkerId worker, const proto::LaunchDone& done) {
  const auto found = launches_.find(LaunchNumber{done.number()});
  if (found == launches_.end() || !found->second->Report(worker)) return;
  PendingLaunch& launch = *found->second;
  // The longest would count more than there is: each worker that sees one end late sees the next one shorter.
  launch.busy += absl::Microseconds(std::max<int64_t>(0, done.run_us())) / launch.placement->workers.size();
  if (done.worker_bytes() > 0) CountTraffic(launch, done);
  if (done.output_sizes_size() > 0) CorrectMemory(launch, done);
  const absl::Status status = FromProto(done.status());
  if (!status.ok()) {
    for (const DeviceMemory::Watch& output : launch.outputs) Evict(output, worker);
  }
  // The workers tell one another; but their links may be what has failed.
  if (!status.ok() && !std::exchange(launch.failed, true)) {
    proto::ToWorker message;
    message.mutable_abort_launch()->set_number(done.number());
    *message.mutable_abort_launch()->mutable_status() = done.status();
    for (WorkerId other : launch.placement->workers) {
      if (launch.WaitsFor(other)) Send(other, message);
    }
    DropTaken(launch);
  }
  launch.future->PartDone(status, *out_);
  if (launch.future->done()) EndLaunch(LaunchNumber{done.number()});
}

void ControllerCore::Impl::EndLaunch(LaunchNumber number) {
  const std::unique_ptr<PendingLaunch> ended = std::move(launches_.extract(number).mapped());
  if (!ended->failed) ended->measured->Add(ended->busy);
  scheduler_.End(*ended, ended->busy, now_);
  Ended(ended->session, ended->load());
}

void ControllerCore::Impl::CountTraffic(const PendingLaunch& launch, const proto::LaunchDone& done) {
  Session* session = FindSession(launch.session);
  if (session == nullptr) return;
  const auto found = session->programs.find(launch.program->id);
  if (found == session->programs.end()) return;
  Program& program = found->second;
  program.worker_bytes = SaturatingAdd(program.worker_bytes, std::max<int64_t>(0, done.worker_bytes()));
  program.island_bytes = SaturatingAdd(program.island_bytes, std::max<int64_t>(0, done.island_bytes()));
}

}  // namespace causeway
