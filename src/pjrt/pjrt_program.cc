#include "pjrt/pjrt_program.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "hlo/collectives.h"
#include "hlo/cost.h"
#include "pjrt/compile.h"
#include "pjrt/element_type.h"
#include "pjrt/program_info.h"
#include "worker/shapes.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

// More than any program has: a number beyond is a plugin's mistake.
constexpr size_t kMaxOutputs = 1 << 20;

// Protobuf reads no longer messages.
constexpr size_t kMaxModuleBytes = std::numeric_limits<int32_t>::max();

std::vector<std::string> Strings(const char* const* data, const size_t* sizes, size_t count) {
  std::vector<std::string> strings;
  for (size_t i = 0; i < count; ++i) strings.push_back(PluginText(data[i], sizes[i]));
  return strings;
}

}  // namespace

absl::StatusOr<std::shared_ptr<PjrtProgram>> PjrtProgram::Compile(const PjrtClient& client,
                                                                  const CompileRequest& request) {
  xla::CompileOptionsProto options;
  if (!options.ParseFromString(request.options)) {
    return absl::InvalidArgumentError("the compile options are no xla.CompileOptionsProto");
  }
  const bool alone = request.global_devices.empty();
  RETURN_IF_ERROR(alone ? AssignDevices(client, request.devices, options)
                        : AssignGlobalDevices(request.global_devices, options));
  ASSIGN_OR_RETURN(PjrtLoadedExecutableHandle loaded, CompileCode(client, request.format, request.code, options));
  std::shared_ptr<PjrtProgram> compiled(new PjrtProgram(client, std::move(loaded), request.devices));
  RETURN_IF_ERROR(compiled->GetExecutable());
  RETURN_IF_ERROR(compiled->CheckDeviceOrder(client));
  RETURN_IF_ERROR(compiled->Describe(client, options.parameter_is_tupled_arguments(), alone));
  return compiled;
}

absl::StatusOr<proto::PortableProgram> PjrtProgram::CompilePortable(const PjrtClient& client, Partitioner& partitioner,
                                                                    const CompileRequest& request, int devices) {
  ASSIGN_OR_RETURN(xla::HloModuleProto module,
                   partitioner.Partition(request.format, request.code, request.options, devices));
  xla::CompileOptionsProto options;
  if (!options.ParseFromString(request.options)) {
    return absl::InvalidArgumentError("the compile options are no xla.CompileOptionsProto");
  }
  xla::ExecutableBuildOptionsProto& build = *options.mutable_executable_build_options();
  proto::PortableProgram portable;
  xla::HloModuleProto shardings;  // of the whole program: the module is about to lose them
  *shardings.mutable_spmd_parameters_shardings() = module.spmd_parameters_shardings();
  if (module.has_spmd_output_sharding()) {
    *shardings.mutable_spmd_output_sharding() = module.spmd_output_sharding();
  }
  ASSIGN_OR_RETURN(*portable.mutable_collectives(),
                   TakeOutCollectives(module, std::max<int64_t>(build.num_replicas(), 1),
                                      std::max<int64_t>(build.num_partitions(), 1)));

  // From here on it is a program for one device, whichever. What the client asked of shapes is asked of the whole.
  build.set_num_replicas(1);
  build.set_num_partitions(1);
  build.set_use_spmd_partitioning(false);
  build.set_use_auto_spmd_partitioning(false);
  build.set_use_shardy_partitioner(false);
  build.clear_allow_spmd_sharding_propagation_to_parameters();
  build.clear_allow_spmd_sharding_propagation_to_output();
  build.clear_device_assignment();
  build.clear_result_layout();
  build.set_device_ordinal(-1);
  options.clear_argument_layouts();
  options.set_compile_portable_executable(true);
  ASSIGN_OR_RETURN(PjrtLoadedExecutableHandle loaded, CompileCode(client, "hlo", module.SerializeAsString(), options));
  PjrtProgram program(client, std::move(loaded), {0});
  RETURN_IF_ERROR(program.GetExecutable());
  RETURN_IF_ERROR(program.Describe(client, options.parameter_is_tupled_arguments(), /*alone=*/true));
  SetShardings(shardings, program.info_);
  *portable.mutable_info() = program.info_;
  ASSIGN_OR_RETURN(*portable.mutable_executable(), program.Serialize());
  return portable;
}

absl::StatusOr<std::vector<std::shared_ptr<PjrtProgram>>> PjrtProgram::Load(const PjrtClient& client,
                                                                            const LoadRequest& request) {
  const PjrtApi& api = client.api();
  const std::string& executable = request.portable->executable();
  PjrtArgs<PJRT_Executable_DeserializeAndLoad_Args> args;
  args.client = client.get();
  args.serialized_executable = executable.data();
  args.serialized_executable_size = executable.size();
  RETURN_IF_ERROR(api.Call(api.table().PJRT_Executable_DeserializeAndLoad, args));
  const SharedExecutable loaded(PjrtLoadedExecutableHandle(args.loaded_executable, {&api}));
  const std::shared_ptr<const proto::Collectives> collectives(request.portable, &request.portable->collectives());
  std::vector<std::shared_ptr<PjrtProgram>> programs;
  for (size_t i = 0; i < request.devices.size(); ++i) {
    RETURN_IF_ERROR(client.CheckDevice(request.devices[i]));
    std::shared_ptr<PjrtProgram> program(new PjrtProgram(client, loaded, {request.devices[i]}));
    program->execute_device_ = client.device(request.devices[i]).device;
    program->logical_device_ = request.logical[i];
    program->collectives_ = collectives;
    program->info_ = request.portable->info();
    RETURN_IF_ERROR(program->GetExecutable());
    RETURN_IF_ERROR(program->TakeOutputTypes());
    programs.push_back(std::move(program));
  }
  return programs;
}

// The other way round: what the info says of the outputs.
absl::Status PjrtProgram::TakeOutputTypes() {
  outputs_ = std::vector<Output>(info_.outputs_size());
  for (int i = 0; i < info_.outputs_size(); ++i) {
    const proto::ShardType& described = info_.outputs(i).type();
    auto type = std::make_shared<BufferType>();
    type->dtype = static_cast<DType>(described.dtype());
    type->dims.assign(described.dims().begin(), described.dims().end());
    RETURN_IF_ERROR(worker::CheckShape(type->dtype, type->dims));
    outputs_[i].type = std::move(type);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PjrtProgram::Serialize() const {
  PjrtArgs<PJRT_Executable_Serialize_Args> args;
  args.executable = executable_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_Serialize, args));
  std::string bytes(args.serialized_bytes, args.serialized_bytes_size);
  args.serialized_executable_deleter(args.serialized_executable);
  return bytes;
}

absl::Status PjrtProgram::GetExecutable() {
  PjrtArgs<PJRT_LoadedExecutable_GetExecutable_Args> get;
  get.loaded_executable = loaded_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_LoadedExecutable_GetExecutable, get));
  executable_ = PjrtExecutableHandle(get.executable, {&api_});
  return absl::OkStatus();
}

absl::Status PjrtProgram::Describe(const PjrtClient& client, bool tupled_arguments, bool alone) {
  PjrtArgs<PJRT_Executable_NumOutputs_Args> outputs;
  outputs.executable = executable_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_NumOutputs, outputs));

  if (outputs.num_outputs > kMaxOutputs) {
    return absl::InternalError(
        absl::StrCat("the plugin ", api_.path(), " claims that a program has ", outputs.num_outputs, " outputs"));
  }
  ASSIGN_OR_RETURN(const xla::HloModuleProto module, OptimizedModule());
  info_ = DescribeModule(module, tupled_arguments, static_cast<int>(outputs.num_outputs));
  if (alone && devices_.size() == 1) info_.set_has_collectives(false);  // one device has nobody to meet
  RETURN_IF_ERROR(DescribeOutputs());
  DescribeMemoryKinds(client);
  DescribeSizes();
  return absl::OkStatus();
}

// Rows of a launch's arguments are in the order of the executable's devices, which must be ours.
absl::Status PjrtProgram::CheckDeviceOrder(const PjrtClient& client) const {
  PjrtArgs<PJRT_LoadedExecutable_AddressableDevices_Args> args;
  args.executable = loaded_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_LoadedExecutable_AddressableDevices, args));
  bool same = args.num_addressable_devices == devices_.size();
  for (size_t i = 0; same && i < devices_.size(); ++i) {
    same = args.addressable_devices[i] == client.device(devices_[i]).device;
  }
  return same ? absl::OkStatus()
              : absl::InternalError(absl::StrCat(
                    "the plugin ", api_.path(), " loaded a program on other devices, or in another order, than asked"));
}

absl::Status PjrtProgram::DescribeOutputs() {
  PjrtArgs<PJRT_Executable_OutputElementTypes_Args> types;
  types.executable = executable_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_OutputElementTypes, types));
  PjrtArgs<PJRT_Executable_OutputDimensions_Args> dims;
  dims.executable = executable_.get();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_OutputDimensions, dims));
  const auto count = static_cast<size_t>(info_.outputs_size());
  if (types.num_output_types != count || dims.num_outputs != count) {
    return absl::InternalError(
        absl::StrCat("the plugin ", api_.path(), " contradicts itself about the number of outputs"));
  }
  outputs_ = std::vector<Output>(count);
  const int64_t* next = dims.dims;
  for (size_t i = 0; i < count; ++i) {
    auto type = std::make_shared<BufferType>();
    ASSIGN_OR_RETURN(type->dtype, FromPjrtType(RawEnum(&types.output_types[i])));
    type->dims.assign(next, next + dims.dim_sizes[i]);
    next += dims.dim_sizes[i];
    RETURN_IF_ERROR(worker::CheckShape(type->dtype, type->dims));
    proto::ShardType& described = *info_.mutable_outputs(static_cast<int>(i))->mutable_type();
    described.set_dtype(static_cast<int>(type->dtype));
    described.mutable_dims()->Add(type->dims.begin(), type->dims.end());
    outputs_[i].type = std::move(type);
  }
  return absl::OkStatus();
}

// Plugins that do not say put everything into the device's default memory.
void PjrtProgram::DescribeMemoryKinds(const PjrtClient& client) {
  const proto::Device& device = client.description().devices(devices_[0]);
  if (device.default_memory() < device.memories_size()) {
    const std::string& kind = device.memories(device.default_memory()).kind();
    for (proto::OutputInfo& output : *info_.mutable_outputs()) output.set_memory_kind(kind);
    for (proto::ParameterInfo& parameter : *info_.mutable_parameters()) parameter.set_memory_kind(kind);
  }
  PjrtArgs<PJRT_Executable_OutputMemoryKinds_Args> outputs;
  outputs.executable = executable_.get();
  if (api_.Call(api_.table().PJRT_Executable_OutputMemoryKinds, outputs).ok()) {
    const auto kinds = Strings(outputs.memory_kinds, outputs.memory_kind_sizes, outputs.num_outputs);
    for (int i = 0; i < std::min<int>(info_.outputs_size(), static_cast<int>(kinds.size())); ++i) {
      info_.mutable_outputs(i)->set_memory_kind(kinds[i]);
    }
  }
  PjrtArgs<PJRT_Executable_ParameterMemoryKinds_Args> parameters;
  parameters.executable = executable_.get();
  if (api_.Call(api_.newer_table().PJRT_Executable_ParameterMemoryKinds, parameters).ok()) {
    const auto kinds = Strings(parameters.memory_kinds, parameters.memory_kind_sizes, parameters.num_parameters);
    for (int i = 0; i < std::min<int>(info_.parameters_size(), static_cast<int>(kinds.size())); ++i) {
      info_.mutable_parameters(i)->set_memory_kind(kinds[i]);
    }
  }
}

// What a plugin does not know stays zero.
void PjrtProgram::DescribeSizes() {
  PjrtArgs<PJRT_Executable_Fingerprint_Args> fingerprint;
  fingerprint.executable = executable_.get();
  if (api_.Call(api_.table().PJRT_Executable_Fingerprint, fingerprint).ok()) {
    info_.set_fingerprint(std::string(fingerprint.executable_fingerprint, fingerprint.executable_fingerprint_size));
  }
  PjrtArgs<PJRT_Executable_SizeOfGeneratedCodeInBytes_Args> code;
  code.executable = executable_.get();
  if (api_.Call(api_.table().PJRT_Executable_SizeOfGeneratedCodeInBytes, code).ok()) {
    info_.set_code_bytes(code.size_in_bytes);
  }
  PjrtArgs<PJRT_Executable_GetCompiledMemoryStats_Args> memory;
  memory.executable = executable_.get();
  if (!api_.Call(api_.table().PJRT_Executable_GetCompiledMemoryStats, memory).ok()) return;
  proto::CompiledMemoryStats& stats = *info_.mutable_memory();
  stats.set_generated_code_size_bytes(memory.generated_code_size_in_bytes);
  stats.set_argument_size_bytes(memory.argument_size_in_bytes);
  stats.set_output_size_bytes(memory.output_size_in_bytes);
  stats.set_alias_size_bytes(memory.alias_size_in_bytes);
  stats.set_temp_size_bytes(memory.temp_size_in_bytes);
  stats.set_host_generated_code_size_bytes(memory.host_generated_code_size_in_bytes);
  stats.set_host_argument_size_bytes(memory.host_argument_size_in_bytes);
  stats.set_host_output_size_bytes(memory.host_output_size_in_bytes);
  stats.set_host_alias_size_bytes(memory.host_alias_size_in_bytes);
  stats.set_host_temp_size_bytes(memory.host_temp_size_in_bytes);
  stats.set_peak_memory_bytes(memory.peak_memory_in_bytes);
}

std::shared_ptr<DeviceBuffer> PjrtProgram::WrapOutput(PjrtBufferHandle buffer, int output) {
  Output& place = outputs_[output];
  int64_t size = place.size_bytes.load(std::memory_order_relaxed);
  if (size < 0) {
    size = OnDeviceBytes(buffer).value_or(0);
    place.size_bytes.store(size, std::memory_order_relaxed);
  }
  return std::make_shared<PjrtBuffer>(std::move(buffer), place.type, size);
}

absl::StatusOr<xla::HloModuleProto> PjrtProgram::OptimizedModule() const {
  PjrtArgs<PJRT_Program> program;
  PjrtArgs<PJRT_Executable_OptimizedProgram_Args> args;
  args.executable = executable_.get();
  args.program = &program;
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_OptimizedProgram, args));  // says how long it is
  if (program.code_size > kMaxModuleBytes) {
    return absl::InternalError(
        absl::StrCat("the plugin ", api_.path(), " claims that a program has ", program.code_size, " bytes of HLO"));
  }
  std::string code(program.code_size, '\0');
  program.code = code.data();
  RETURN_IF_ERROR(api_.Call(api_.table().PJRT_Executable_OptimizedProgram, args));
  return ParseOptimizedProgram(absl::string_view(program.format, program.format_size), code);
}

absl::StatusOr<std::map<std::string, double>> PjrtProgram::CostAnalysis() const {
  PjrtArgs<PJRT_Executable_GetCostAnalysis_Args> args;
  args.executable = executable_.get();
  const absl::Status asked = api_.Call(api_.table().PJRT_Executable_GetCostAnalysis, args);
  if (absl::IsUnimplemented(asked)) {
    ASSIGN_OR_RETURN(const xla::HloModuleProto module, OptimizedModule());
    return EstimateCost(module);
  }
  RETURN_IF_ERROR(asked);
  std::map<std::string, double> costs;
  for (const proto::Attribute& property : ToAttributes(args.properties, args.num_properties)) {
    if (property.value_case() == proto::Attribute::kDoubleValue) costs[property.name()] = property.double_value();
    if (property.value_case() == proto::Attribute::kIntValue) {
      costs[property.name()] = static_cast<double>(property.int_value());
    }
  }
  return costs;
}

}  // namespace causeway
