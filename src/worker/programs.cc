#include "worker/programs.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/dtype.h"
#include "base/saturate.h"

namespace causeway::worker {
namespace {

constexpr int kMaxGangDevices = 1 << 20;

}  // namespace

Program::Program(Programs& owner, ProgramKey key, ProgramId id, Life life)
    : owner(owner), key(key), id(id), life(life) {
  ++owner.count_;
}

Program::~Program() {
  --owner.count_;
  owner.gone_.push_back(key);
}

void Programs::Compile(proto::Compile request) {
  const ProgramId id{request.program()};
  if (programs_.contains(id)) {
    return ReportFailure(id, absl::AlreadyExistsError(absl::StrCat("program ", Raw(id), " exists already")));
  }
  auto program = std::make_shared<Program>(*this, ProgramKey{++last_key_}, id, context_.life);
  if (absl::Status ok = ReadDevices(request, context_, *program); !ok.ok()) return ReportFailure(id, ok);

  programs_.emplace(id, program);
  compiling_.emplace(program->key, program);
  CompileRequest compile{std::move(*request.mutable_format()), std::move(*request.mutable_code()),
                         std::move(*request.mutable_options()), program->devices, program->plugin_devices};
  if (program->gang == nullptr || !program->plugin_devices.empty())
    return context_.out->Compile(program->key, std::move(compile));
  GangProgram gang;
  gang.compile = std::move(compile);
  gang.devices = static_cast<int>(program->gang->workers.size());
  gang.local = program->devices;
  gang.logical = program->shards;
  if (request.has_portable()) {
    gang.portable = std::make_shared<const proto::PortableProgram>(std::move(*request.mutable_portable()));
  }
  context_.out->CompileGang(program->key, std::move(gang));
}

absl::Status Programs::ReadDevices(const proto::Compile& request, const Context& context, Program& program) {
  absl::flat_hash_set<int> seen;
  for (int device : request.devices()) {
    if (device < 0 || device >= context.devices || !seen.insert(device).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("device ", device, " is named twice or is none of the ", context.devices, " here"));
    }
    program.devices.push_back(device);
  }
  if (program.devices.empty()) return absl::InvalidArgumentError("a program without devices");
  if (!request.has_gang()) {
    for (int i = 0; i < request.devices_size(); ++i) program.shards.push_back(i);
    return absl::OkStatus();
  }
  auto gang = std::make_shared<collectives::Gang>();
  gang->self = context.self;
  if (request.gang().workers_size() > kMaxGangDevices ||
      request.gang().islands_size() != request.gang().workers_size() ||
      (!request.gang().machines().empty() && request.gang().machines_size() != request.gang().workers_size())) {
    return absl::InvalidArgumentError("a gang of too many devices, or with devices of unknown islands");
  }
  for (int i = 0; i < request.gang().workers_size(); ++i) {
    gang->workers.push_back(WorkerId{request.gang().workers(i)});
    gang->islands.push_back(request.gang().islands(i));
    if (!request.gang().machines().empty()) gang->machines.push_back(request.gang().machines(i));
    if (gang->workers.back() == context.self) program.shards.push_back(i);
  }
  if (program.shards.size() != program.devices.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a gang has ", program.shards.size(), " devices here, ", program.devices.size(), " are named"));
  }
  if (request.plugin_devices_size() != 0 && request.plugin_devices_size() != request.gang().workers_size()) {
    return absl::InvalidArgumentError(absl::StrCat("a gang of ", request.gang().workers_size(), " devices, of which ",
                                                   request.plugin_devices_size(), " have numbers of the plugin's"));
  }
  program.plugin_devices.assign(request.plugin_devices().begin(), request.plugin_devices().end());
  program.gang = std::move(gang);
  return absl::OkStatus();
}

ProgramRef Programs::OnCompileDone(CompileDone event) {
  const auto found = compiling_.find(event.program);
  if (found == compiling_.end()) return nullptr;
  ProgramRef program = std::move(found->second);
  compiling_.erase(found);

  proto::ToController message;
  proto::Compiled& report = *message.mutable_compiled();
  report.set_program(Raw(program->id));
  report.set_compile_us(absl::ToInt64Microseconds(event.took));
  *report.mutable_status() = ToProto(event.info.status());
  if (event.info.ok()) {
    program->state = Program::State::kCompiled;
    program->donated.assign(event.info->donated_parameters().begin(), event.info->donated_parameters().end());
    for (const proto::OutputInfo& output : event.info->outputs()) {
      int64_t elements = 1;
      for (int64_t d : output.type().dims()) elements = SaturatingMultiply(elements, d);
      program->output_bytes =
          SaturatingAdd(program->output_bytes, PackedBytes(static_cast<DType>(output.type().dtype()), elements));
    }
    const bool meets = program->gang == nullptr ? program->devices.size() > 1 : !program->plugin_devices.empty();
    program->has_collectives = meets && event.info->has_collectives();
    if (event.portable != nullptr) {
      *report.mutable_portable() = *event.portable;
    } else {
      *report.mutable_info() = *std::move(event.info);
    }
  } else {
    program->state = Program::State::kFailed;
    program->error = event.info.status();
  }
  context_.Report(program->life, message);
  return program;
}

absl::StatusOr<ProgramRef> Programs::Find(ProgramId id) const {
  const auto found = programs_.find(id);
  if (found == programs_.end()) {
    return absl::NotFoundError(
        absl::StrCat("the worker has no program ", Raw(id) & kMaxPerSession, " of session ", Raw(SessionOf(id))));
  }
  return found->second;
}

void Programs::DropSession(SessionId session) {
  programs_.erase(programs_.lower_bound(MakeProgramId(session, 0)),
                  programs_.upper_bound(MakeProgramId(session, kMaxPerSession)));
}

void Programs::Sweep() {
  for (ProgramKey key : gone_) context_.out->DropProgram(key);
  gone_.clear();
}

void Programs::ReportFailure(ProgramId id, const absl::Status& status) {
  proto::ToController message;
  message.mutable_compiled()->set_program(Raw(id));
  *message.mutable_compiled()->mutable_status() = ToProto(status);
  context_.Report(context_.life, message);
}

}  // namespace causeway::worker
