// Requests about programs.
#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "ifrt/memory_stats.h"
#include "ifrt/session.h"
#include "ifrt/statuses.h"
#include "ifrt/types.h"
#include "xla/python/pjrt_ifrt/xla_compiler.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;
using wire::IfrtResponse;

absl::Status CheckProgramType(const wire::CompileRequest& r) {
  const std::string& type = r.program().type_name();
  if (absl::EndsWith(type, "::CustomCallProgram")) {
    // jax looks for these words, and then runs the colocated Python function in the client.
    return absl::UnimplementedError("PjRtCompiler requires an HloProgram: colocated Python is not run by this server");
  }
  if (absl::EndsWith(type, "::PluginProgram")) {
    return absl::UnimplementedError(
        "plugin programs of pathwaysutils (persistence, profiling, resharding by program) are not known to this "
        "server");
  }
  if (!absl::EndsWith(type, "::XlaProgram") && !absl::EndsWith(type, "::HloProgram")) {
    return absl::UnimplementedError(absl::StrCat("programs of type '", type, "' are not known to this server"));
  }
  if (r.host_callbacks_size() > 0) {
    return absl::UnimplementedError(
        "host callbacks (jax.debug.print, pure_callback, io_callback): the public jaxlib client cannot run them for "
        "any "
        "remote server");
  }
  return absl::OkStatus();
}

// The program's devices in logical order, replica-major. Empty where the options leave them open.
absl::StatusOr<std::vector<DeviceId>> AssignedDevices(const xla::ExecutableBuildOptionsProto& options) {
  const auto& assignment = options.device_assignment();
  const int columns = assignment.computation_devices_size();
  if (columns == 0) return std::vector<DeviceId>();
  const int replicas = assignment.computation_devices(0).replica_device_ids_size();
  for (const auto& column : assignment.computation_devices()) {
    if (column.replica_device_ids_size() != replicas || replicas == 0) {
      return absl::InvalidArgumentError("a device assignment that is no rectangle");
    }
  }
  std::vector<DeviceId> devices;
  for (int replica = 0; replica < replicas; ++replica) {
    for (int column = 0; column < columns; ++column) {
      const int64_t id = assignment.computation_devices(column).replica_device_ids(replica);
      if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
        return absl::InvalidArgumentError(absl::StrCat("a device assignment with device ", id));
      }
      devices.push_back(DeviceId{static_cast<int32_t>(id)});
    }
  }
  return devices;
}

// Adds what parses; the client needs one entry for each parameter or output, or none at all.
template <typename List>
void AddLayout(const std::string& layout, int rank, List& list) {
  xla::LayoutProto& out = *list.add_layouts();
  if (!layout.empty() && out.ParseFromString(layout)) return;
  out.Clear();
  for (int i = rank - 1; i >= 0; --i) out.add_minor_to_major(i);
}

void FillMetadata(const ProgramView& program, wire::LoadedExecutableMetadataResponse& out) {
  const proto::ProgramInfo& info = program.info;
  const auto has_sharding = [](const auto& x) { return x.has_sharding(); };
  if (info.parameters_size() > 0 && std::all_of(info.parameters().begin(), info.parameters().end(), has_sharding)) {
    for (const auto& p : info.parameters()) {
      out.mutable_parameter_shardings()->add_shardings()->ParseFromString(p.sharding());
    }
  }
  if (info.outputs_size() > 0 && std::all_of(info.outputs().begin(), info.outputs().end(), has_sharding)) {
    for (const auto& o : info.outputs()) {
      out.mutable_output_shardings()->add_shardings()->ParseFromString(o.sharding());
    }
  }
  auto& parameter_layouts = *out.mutable_parameter_layouts_list();
  for (const auto& p : info.parameters()) AddLayout(p.layout(), 0, parameter_layouts);
  auto& output_layouts = *out.mutable_output_layouts_list();
  auto& kinds = *out.mutable_output_memory_kinds()->add_memory_kind_lists();
  for (const auto& o : info.outputs()) {
    AddLayout(o.layout(), o.type().dims_size(), output_layouts);
    kinds.add_memory_kinds(o.memory_kind());
  }
  auto& donated = *out.mutable_donated_input_indices();
  for (int32_t i : info.donated_parameters()) donated.add_donated_input_indices(i);
  const proto::CompiledMemoryStats& memory = info.memory();
  auto& stats = *out.mutable_compiled_memory_stats();
  stats.set_generated_code_size_in_bytes(memory.generated_code_size_bytes());
  stats.set_argument_size_in_bytes(memory.argument_size_bytes());
  stats.set_output_size_in_bytes(memory.output_size_bytes());
  stats.set_alias_size_in_bytes(memory.alias_size_bytes());
  stats.set_temp_size_in_bytes(memory.temp_size_bytes());
  stats.set_host_generated_code_size_in_bytes(memory.host_generated_code_size_bytes());
  stats.set_host_argument_size_in_bytes(memory.host_argument_size_bytes());
  stats.set_host_output_size_in_bytes(memory.host_output_size_bytes());
  stats.set_host_alias_size_in_bytes(memory.host_alias_size_bytes());
  stats.set_host_temp_size_in_bytes(memory.host_temp_size_bytes());
  stats.set_peak_memory_in_bytes(memory.peak_memory_bytes());
  out.set_size_of_generated_code_in_bytes(info.code_bytes());
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ProgramView>> IfrtSession::UsableProgram(uint64_t handle) const {
  MutexLock lock(&mutex_);
  const auto it = programs_.find(handle);
  if (it == programs_.end()) return absl::NotFoundError(absl::StrCat("no program ", handle));
  if (it->second.deleted) {
    return absl::FailedPreconditionError(absl::StrCat("program ", it->second.view->info.name(), " has been deleted"));
  }
  return it->second.view;
}

absl::Status IfrtSession::OnCompile(const IfrtCall& call, const wire::CompileRequest& r) {
  RETURN_IF_ERROR(CheckProgramType(r));
  xla::ifrt::XlaCompileOptionsProto options;
  if (!options.ParseFromString(r.compile_options().data())) {
    return absl::InvalidArgumentError("compile options that cannot be parsed");
  }
  const auto& build = options.compile_options().executable_build_options();
  CompileProgram event;
  ASSIGN_OR_RETURN(event.devices, AssignedDevices(build));
  if (options.compile_options().env_option_overrides().contains(kMemoryStatsOption)) {
    if (event.devices.size() != 1) return absl::InvalidArgumentError("memory is asked of one device at a time");
    absl::Status answer;
    gate_->Read([&](const ControllerCore& core) { answer = MemoryStats(core.MemoryOf(event.devices[0]), id_); });
    return answer;
  }
  if (event.devices.empty()) {
    const int64_t wanted =
        SaturatingMultiply(std::max<int64_t>(1, build.num_replicas()), std::max<int64_t>(1, build.num_partitions()));
    gate_->Read([&](const ControllerCore& core) {
      for (const DeviceView& device : core.DevicesOf(id_)) {
        if (device.alive && static_cast<int64_t>(event.devices.size()) < wanted) event.devices.push_back(device.id);
      }
    });
  }
  ASSIGN_OR_RETURN(const uint64_t handle, handles_.Mint(HandleKind::kObject));
  ASSIGN_OR_RETURN(event.program, ProgramOfHandle(id_, handle));
  event.format = "mlir";
  event.code = r.program().data();
  event.options = options.compile_options().SerializeAsString();
  event.request = Expect(OnCompiled([this, call, handle](absl::StatusOr<std::shared_ptr<const ProgramView>> program) {
    if (!program.ok()) return AnswerError(call, program.status());
    AnswerCompiled(call, handle, *std::move(program));
  }));
  Submit(std::move(event));
  return absl::OkStatus();
}

void IfrtSession::AnswerCompiled(const IfrtCall& call, uint64_t handle, std::shared_ptr<const ProgramView> view) {
  const absl::StatusOr<uint64_t> ready = handles_.Mint(HandleKind::kReady);
  if (!ready.ok()) return AnswerError(call, ready.status());
  IfrtResponse response;
  auto& out = *response.mutable_compile_response();
  out.set_loaded_executable_handle(handle);
  out.set_name(view->info.name());
  out.set_num_devices(static_cast<int32_t>(view->devices.size()));
  for (DeviceId device : view->devices) {
    out.add_device_ids(Raw(device));
    out.add_addressable_device_ids(Raw(device));
  }
  if (!view->info.fingerprint().empty()) out.set_fingerprint_value(view->info.fingerprint());
  out.set_ready_future_handle(*ready);
  {
    MutexLock lock(&mutex_);
    programs_[handle].view = std::move(view);
  }
  Answer(call, response);
}

absl::Status IfrtSession::OnMetadata(const IfrtCall& call, const wire::LoadedExecutableMetadataRequest& r) {
  ASSIGN_OR_RETURN(const auto program, UsableProgram(r.loaded_executable_handle()));
  IfrtResponse response;
  FillMetadata(*program, *response.mutable_loaded_executable_metadata_response());
  Answer(call, response);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnExecute(const IfrtCall& call, const wire::LoadedExecutableExecuteRequest& r) {
  ASSIGN_OR_RETURN(const auto program, UsableProgram(r.loaded_executable_handle()));
  if (r.device_ids_size() > 0 &&
      !std::equal(r.device_ids().begin(), r.device_ids().end(), program->devices.begin(), program->devices.end(),
                  [](int32_t id, DeviceId device) { return DeviceId{id} == device; })) {
    return absl::UnimplementedError(
        "a program runs on the devices it was compiled for; portable executables do not exist");
  }
  LaunchProgram event;
  event.program = program->id;
  ASSIGN_OR_RETURN(event.arguments, ToArrays(r.args_handles()));
  const int outputs = static_cast<int>(program->outputs.size());
  const bool first = r.result_array_handle().empty();
  ASSIGN_OR_RETURN(const std::vector<uint64_t> results, ResultHandles(r.result_array_handle(), outputs));
  IfrtResponse response;
  auto& answer = *response.mutable_loaded_executable_execute_response();
  for (int i = 0; i < outputs; ++i) {
    ASSIGN_OR_RETURN(const ArrayId array, ToArray(results[i]));
    event.outputs.push_back(array);
    if (!first) continue;
    // The client keeps what it is told here for all later launches.
    const ArraySpec& spec = *program->outputs[i];
    const proto::OutputInfo& info = program->info.outputs(i);
    auto& output = *answer.add_outputs();
    *output.mutable_dtype() = DTypeToWire(spec.dtype);
    *output.mutable_shape() = DimsToWire(spec.dims);
    *output.mutable_sharding() =
        OutputShardingToWire(program->devices, info.memory_kind(), info.has_sharding() ? &info.sharding() : nullptr,
                             {info.type().dims().data(), static_cast<size_t>(info.type().dims_size())});
    output.set_array_handle(results[i]);
  }
  const auto& options = r.execute_options();
  event.non_donatable.assign(options.non_donatable_input_indices().begin(),
                             options.non_donatable_input_indices().end());
  event.launch_id = options.launch_id();
  uint64_t status = r.result_status_handle();
  if (options.fill_status()) {
    if (status == 0) {
      ASSIGN_OR_RETURN(status, handles_.Mint(HandleKind::kLaunchStatus));
    }
    ASSIGN_OR_RETURN(event.status, ToArray(status));
    answer.set_status_handle(status);
  }
  if (first) {
    // Names that the client never hears of go again if there is an error.
    std::vector<ArrayId> minted = event.outputs;
    if (event.status && r.result_status_handle() == 0) minted.push_back(*event.status);
    auto answer = [this, call, minted, response = std::move(response)](const absl::Status& s) mutable {
      if (s.ok()) return Answer(call, response);
      for (ArrayId array : minted) ForgetLater(array);
      AnswerError(call, s);
    };
    event.request = Expect(OnDone(std::move(answer)), call.user_context);
  } else {
    event.request = ExpectDone(call, std::move(response));
  }
  Submit(std::move(event));
  return absl::OkStatus();
}

void IfrtSession::AskProgram(uint64_t handle, QueryProgram::What what, OnQueried answer) {
  const auto program = UsableProgram(handle);
  if (!program.ok()) return answer(program.status());
  Submit(QueryProgram{Expect(std::move(answer)), (*program)->id, what});
}

absl::Status IfrtSession::OnCostAnalysis(const IfrtCall& call, const wire::LoadedExecutableCostAnalysisRequest& r) {
  // An error goes inside the answer: one outside makes the stock client stumble.
  const auto answer = [this, call](absl::StatusOr<proto::QueryDone> done) {
    IfrtResponse response;
    auto& out = *response.mutable_loaded_executable_cost_analysis_response();
    if (done.ok()) {
      auto& attributes = *out.mutable_attributes()->mutable_attributes();
      for (const auto& [name, value] : done->values()) attributes[name].set_float_value(static_cast<float>(value));
    } else {
      *out.mutable_status() = StatusToWire(done.status());
    }
    Answer(call, response);
  };
  AskProgram(r.loaded_executable_handle(), QueryProgram::What::kCostAnalysis, answer);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnProgramText(const IfrtCall& call,
                                        const wire::LoadedExecutableHumanReadableProgramTextRequest& r) {
  const auto answer = [this, call](absl::StatusOr<proto::QueryDone> done) {
    IfrtResponse response;
    auto& out = *response.mutable_loaded_executable_human_readable_program_text_response();
    if (done.ok()) {
      out.set_human_readable_program_text(done->text());
    } else {
      *out.mutable_status() = StatusToWire(done.status());
    }
    Answer(call, response);
  };
  AskProgram(r.loaded_executable_handle(), QueryProgram::What::kText, answer);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnDeleteProgram(const IfrtCall& call, const wire::LoadedExecutableDeleteRequest& r) {
  ASSIGN_OR_RETURN(const auto program, UsableProgram(r.loaded_executable_handle()));
  ASSIGN_OR_RETURN(const uint64_t future, handles_.Mint(HandleKind::kReady));
  {
    MutexLock lock(&mutex_);
    programs_[r.loaded_executable_handle()].deleted = true;
  }
  IfrtResponse response;
  response.mutable_loaded_executable_delete_response()->set_future_handle(future);
  Submit(DropProgram{ExpectDone(call, std::move(response)), program->id});
  return absl::OkStatus();
}

absl::Status IfrtSession::OnIsProgramDeleted(const IfrtCall& call, const wire::LoadedExecutableIsDeletedRequest& r) {
  IfrtResponse response;
  {
    MutexLock lock(&mutex_);
    const auto it = programs_.find(r.loaded_executable_handle());
    if (it == programs_.end()) return absl::NotFoundError(absl::StrCat("no program ", r.loaded_executable_handle()));
    response.mutable_loaded_executable_is_deleted_response()->set_is_deleted(it->second.deleted);
  }
  Answer(call, response);
  return absl::OkStatus();
}

absl::Status IfrtSession::OnDestructProgram(const IfrtCall& call, const wire::LoadedExecutableDestructRequest& r) {
  IfrtResponse response;
  response.mutable_loaded_executable_destruct_response();
  KnownProgram known;
  {
    MutexLock lock(&mutex_);
    const auto it = programs_.find(r.loaded_executable_handle());
    if (it == programs_.end()) return absl::NotFoundError(absl::StrCat("no program ", r.loaded_executable_handle()));
    known = std::move(it->second);
    programs_.erase(it);
  }
  if (known.deleted) {
    Answer(call, response);
  } else {
    Submit(DropProgram{ExpectDone(call, std::move(response)), known.view->id});
  }
  return absl::OkStatus();
}

}  // namespace causeway
