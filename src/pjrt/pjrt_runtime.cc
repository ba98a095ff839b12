#include "pjrt/pjrt_runtime.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "hlo/collectives.h"
#include "pjrt/collective_calls.h"
#include "pjrt/element_type.h"
#include "pjrt/ffi.h"
#include "pjrt/hlo_text.h"
#include "pjrt/lapack/lapack_kernels.h"
#include "pjrt/memory_layout.h"
#include "pjrt/partitioner.h"
#include "pjrt/pjrt_api.h"
#include "pjrt/pjrt_buffer.h"
#include "pjrt/pjrt_program.h"
#include "pjrt/plugin_discovery.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

using Arguments = std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>;

// Calls `done` once, with the first error, after `parts` calls of OnPart.
class Completion {
 public:
  Completion(int parts, StatusCallback done) : left_(parts), done_(std::move(done)) {}

  void OnPart(const absl::Status& status) {
    if (!status.ok()) {
      MutexLock lock(&mutex_);
      first_error_.Update(status);
    }
    if (left_.fetch_sub(1) > 1) return;
    absl::Status result;
    {
      MutexLock lock(&mutex_);
      result = first_error_;
    }
    done_(result);
  }

 private:
  std::atomic<int> left_;
  const StatusCallback done_;
  Mutex mutex_;
  absl::Status first_error_ ABSL_GUARDED_BY(mutex_);
};

PjrtBuffer& AsPjrt(const std::shared_ptr<DeviceBuffer>& buffer) { return static_cast<PjrtBuffer&>(*buffer); }

// Claims the arguments that a launch takes over. A parameter of which some device's buffer is viewed by the host is
// added to `keep`, so that the launch leaves all of that parameter alone. Unless Started(), the destructor gives the
// claims back.
class Donation {
 public:
  Donation(const proto::ProgramInfo& info, const Arguments& arguments, std::vector<int64_t>& keep) {
    for (int32_t parameter : info.donated_parameters()) {
      if (std::find(keep.begin(), keep.end(), parameter) != keep.end()) continue;
      const size_t claimed_before = claimed_.size();
      for (const auto& row : arguments) {
        PjrtBuffer& buffer = AsPjrt(row[parameter]);
        if (buffer.TryDonate()) {
          claimed_.push_back(&buffer);
          continue;
        }
        GiveBack(claimed_before);
        keep.push_back(parameter);
        break;
      }
    }
  }
  ~Donation() { GiveBack(0); }
  Donation(const Donation&) = delete;
  Donation& operator=(const Donation&) = delete;

  void Started() { claimed_.clear(); }

 private:
  void GiveBack(size_t from) {
    for (size_t i = from; i < claimed_.size(); ++i) claimed_[i]->UndoDonate();
    claimed_.resize(from);
  }

  std::vector<PjrtBuffer*> claimed_;
};

absl::Status CheckArguments(const PjrtProgram& program, const Arguments& arguments) {
  const std::string& name = program.info().name();
  if (arguments.size() != program.devices().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("arguments for ", arguments.size(), " devices; ", name, " runs on ", program.devices().size()));
  }
  const auto parameters = static_cast<size_t>(program.info().parameters_size());
  for (const auto& row : arguments) {
    if (row.size() != parameters) {
      return absl::InvalidArgumentError(
          absl::StrCat(row.size(), " arguments for ", name, ", which has ", parameters, " parameters"));
    }
    if (std::find(row.begin(), row.end(), nullptr) != row.end()) {
      return absl::InvalidArgumentError(absl::StrCat("an argument of ", name, " is null"));
    }
  }
  return absl::OkStatus();
}

class PjrtRuntime final : public DeviceRuntime {
 public:
  explicit PjrtRuntime(std::unique_ptr<PjrtClient> client) : client_(std::move(client)), partitioner_(client_->api()) {}

  const proto::Hello& Describe() const override { return client_->description(); }

  absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) override {
    return PjrtProgram::Compile(*client_, request);
  }

  absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int devices) override {
    if (Describe().platform() != "cpu") return NoHostCollectives();
    RETURN_IF_ERROR(RegisterCollectiveCalls(api()));
    return PjrtProgram::CompilePortable(*client_, partitioner_, request, devices);
  }

  absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) override {
    if (Describe().platform() != "cpu") return NoHostCollectives();
    RETURN_IF_ERROR(RegisterCollectiveCalls(api()));
    ASSIGN_OR_RETURN(const auto programs, PjrtProgram::Load(*client_, request));
    return std::vector<std::shared_ptr<DeviceProgram>>(programs.begin(), programs.end());
  }

  absl::StatusOr<Execution> Execute(DeviceProgram& program, const Arguments& arguments, const ExecuteOptions& options,
                                    StatusCallback done) override;
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes host, const HostShape& shape, int device,
                                                         const std::string& memory_kind,
                                                         const std::string& layout) override;

  void ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides, absl::Span<char> target,
              StatusCallback done) override {
    PjrtBuffer::CopyToHost(std::static_pointer_cast<PjrtBuffer>(std::move(buffer)), byte_strides, target,
                           std::move(done));
  }

  absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer> buffer) override {
    return PjrtBuffer::View(std::static_pointer_cast<PjrtBuffer>(std::move(buffer)));
  }

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer& buffer, int device,
                                                       const std::string& memory_kind) override;
  absl::StatusOr<std::string> DefaultLayout(DType dtype, absl::Span<const int64_t> dims, int device,
                                            const std::string& memory_kind) override;

  absl::StatusOr<std::string> ProgramText(DeviceProgram& program) override {
    const auto& pjrt_program = static_cast<const PjrtProgram&>(program);
    ASSIGN_OR_RETURN(xla::HloModuleProto module, pjrt_program.OptimizedModule());
    if (pjrt_program.collectives() != nullptr) ShowCollectives(*pjrt_program.collectives(), module);
    return HloText(module);
  }

  absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram& program) override {
    return static_cast<PjrtProgram&>(program).CostAnalysis();
  }

 private:
  const PjrtApi& api() const { return client_->api(); }
  const PJRT_Api& table() const { return client_->api().table(); }

  static absl::Status NoHostCollectives() {
    return absl::UnimplementedError("collectives by the host are for CPU devices: others have their own");
  }

  const std::unique_ptr<PjrtClient> client_;
  Partitioner partitioner_;
};

absl::StatusOr<Execution> PjrtRuntime::Execute(DeviceProgram& program, const Arguments& arguments,
                                               const ExecuteOptions& options, StatusCallback done) {
  auto& pjrt_program = static_cast<PjrtProgram&>(program);
  RETURN_IF_ERROR(CheckArguments(pjrt_program, arguments));
  const size_t devices = arguments.size();
  const size_t parameters = arguments[0].size();
  const auto outputs = static_cast<size_t>(pjrt_program.num_outputs());

  // Rows of at least one element, so that none is a null pointer.
  const size_t in_width = std::max<size_t>(parameters, 1);
  const size_t out_width = std::max<size_t>(outputs, 1);
  std::vector<PJRT_Buffer*> in(devices * in_width);
  std::vector<PJRT_Buffer*> out(devices * out_width);
  std::vector<PJRT_Buffer* const*> in_rows(devices);
  std::vector<PJRT_Buffer**> out_rows(devices);
  std::vector<PJRT_Event*> events(devices);
  for (size_t d = 0; d < devices; ++d) {
    in_rows[d] = &in[d * in_width];
    out_rows[d] = &out[d * out_width];
    for (size_t p = 0; p < parameters; ++p) in[d * in_width + p] = AsPjrt(arguments[d][p]).get();
  }

  std::vector<int64_t> keep = options.non_donatable;
  Donation donation(pjrt_program.info(), arguments, keep);

  PjrtArgs<PJRT_ExecuteOptions> execute_options;
  execute_options.launch_id = options.launch_id;
  execute_options.non_donatable_input_indices = keep.data();
  execute_options.num_non_donatable_input_indices = keep.size();
  PjrtArgs<PJRT_LoadedExecutable_Execute_Args> args;
  args.executable = pjrt_program.loaded();
  args.options = &execute_options;
  args.argument_lists = in_rows.data();
  args.num_devices = devices;
  args.num_args = parameters;
  args.output_lists = out_rows.data();
  args.device_complete_events = events.data();
  args.execute_device = pjrt_program.execute_device();
  if (pjrt_program.collectives() != nullptr) {
    if (options.collectives == nullptr) return absl::InvalidArgumentError("a gang's program without its collectives");
    const auto launch = std::make_shared<DeviceLaunch>(options.collectives, options.launch,
                                                       pjrt_program.logical_device(), pjrt_program.collectives());
    ASSIGN_OR_RETURN(LaunchContext made, LaunchContext::Make(api(), launch.get()));
    execute_options.context = made.get();
    const auto context = std::make_shared<LaunchContext>(std::move(made));
    done = [launch, context, done = std::move(done)](absl::Status status) { done(std::move(status)); };
  }
  RETURN_IF_ERROR(api().Call(table().PJRT_LoadedExecutable_Execute, args));
  donation.Started();

  Execution execution;
  execution.outputs.resize(devices);
  for (size_t d = 0; d < devices; ++d) {
    execution.outputs[d].reserve(outputs);
    for (size_t o = 0; o < outputs; ++o) {
      execution.outputs[d].push_back(
          pjrt_program.WrapOutput(PjrtBufferHandle(out[d * out_width + o], {&api()}), static_cast<int>(o)));
    }
  }
  if (devices == 1) {
    CallWhenReady(PjrtEventHandle(events[0], {&api()}), std::move(done));
    return execution;
  }
  auto completion = std::make_shared<Completion>(static_cast<int>(devices), std::move(done));
  for (PJRT_Event* event : events) {
    CallWhenReady(PjrtEventHandle(event, {&api()}),
                  [completion](const absl::Status& status) { completion->OnPart(status); });
  }
  return execution;
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> PjrtRuntime::FromHost(HostBytes host, const HostShape& shape, int device,
                                                                    const std::string& memory_kind,
                                                                    const std::string& layout) {
  RETURN_IF_ERROR(worker::CheckShape(shape.dtype, shape.dims));
  ASSIGN_OR_RETURN(const int64_t span, worker::SpanBytes(shape));
  if (static_cast<int64_t>(host.bytes.size()) < span || HostByteWidth(shape.dtype) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(host.bytes.size(), " bytes for an array of ", Name(shape.dtype), " that takes ", span));
  }
  ASSIGN_OR_RETURN(PJRT_Memory* const memory, client_->FindMemory(device, memory_kind));
  ASSIGN_OR_RETURN(const PJRT_Buffer_Type type, ToPjrtType(shape.dtype));

  static constexpr char kNothing = 0;  // plugins want an address even where there is nothing to read
  PjrtArgs<PJRT_Client_BufferFromHostBuffer_Args> args;
  args.client = client_->get();
  args.data = span == 0 ? &kNothing : host.bytes.data();
  args.type = type;
  args.dims = shape.dims.data();
  args.num_dims = shape.dims.size();
  if (!worker::IsDense(shape) && span != 0) {
    args.byte_strides = shape.byte_strides.data();
    args.num_byte_strides = shape.byte_strides.size();
  }
  if (memory == nullptr) {
    args.device = client_->device(device).device;
  } else {
    args.memory = memory;
  }
  std::optional<MemoryLayout> device_layout;
  if (!layout.empty()) {
    ASSIGN_OR_RETURN(device_layout, MemoryLayout::FromProto(layout, static_cast<int>(shape.dims.size())));
    args.device_layout = device_layout->Get();
  }
  // Small data are copied at once: a scalar must not keep the frame alive in which it came. Of larger ones a CPU device
  // may use the memory itself, which it does where they are dense and aligned to 64 bytes.
  if (span <= kInlineBytes) {
    args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
  } else if (Describe().platform() == "cpu") {
    args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableZeroCopy;
  } else {
    args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableUntilTransferCompletes;
  }
  RETURN_IF_ERROR(api().Call(table().PJRT_Client_BufferFromHostBuffer, args));

  PjrtBufferHandle buffer(args.buffer, {&api()});
  CallWhenReady(PjrtEventHandle(args.done_with_host_buffer, {&api()}),
                [owner = std::move(host.owner)](const absl::Status&) mutable { owner.reset(); });
  ASSIGN_OR_RETURN(const int64_t size, OnDeviceBytes(buffer));
  return std::make_shared<PjrtBuffer>(std::move(buffer),
                                      std::make_shared<BufferType>(BufferType{shape.dtype, shape.dims}), size);
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> PjrtRuntime::CopyTo(DeviceBuffer& buffer, int device,
                                                                  const std::string& memory_kind) {
  auto& source = static_cast<PjrtBuffer&>(buffer);
  ASSIGN_OR_RETURN(PJRT_Memory * memory, client_->FindMemory(device, memory_kind));
  if (memory == nullptr) {
    const proto::Device& described = Describe().devices(device);
    memory = client_->device(device).memories[described.default_memory()].memory;
  }
  PjrtArgs<PJRT_Buffer_CopyToMemory_Args> args;
  args.buffer = source.get();
  args.dst_memory = memory;
  RETURN_IF_ERROR(api().Call(table().PJRT_Buffer_CopyToMemory, args));
  PjrtBufferHandle copy(args.dst_buffer, {&api()});
  ASSIGN_OR_RETURN(const int64_t size, OnDeviceBytes(copy));
  return std::make_shared<PjrtBuffer>(std::move(copy), source.type(), size);
}

absl::StatusOr<std::string> PjrtRuntime::DefaultLayout(DType dtype, absl::Span<const int64_t> dims, int device,
                                                       const std::string& memory_kind) {
  RETURN_IF_ERROR(worker::CheckShape(dtype, dims));
  RETURN_IF_ERROR(client_->FindMemory(device, memory_kind).status());
  ASSIGN_OR_RETURN(const PJRT_Buffer_Type type, ToPjrtType(dtype));
  const auto layouts = api().Extension<PJRT_Layouts_Extension>(PJRT_Extension_Type_Layouts);

  PjrtArgs<PJRT_Layouts_PJRT_Client_GetDefaultLayout_Args> get;
  get.client = client_->get();
  get.type = type;
  get.dims = dims.data();
  get.num_dims = dims.size();
  RETURN_IF_ERROR(api().Call(layouts.PJRT_Layouts_PJRT_Client_GetDefaultLayout, get));

  PjrtArgs<PJRT_Layouts_MemoryLayout_Serialize_Args> serialize;
  serialize.layout = get.layout;
  const absl::Status serialized = api().Call(layouts.PJRT_Layouts_MemoryLayout_Serialize, serialize);
  std::string result;
  if (serialized.ok()) {
    result.assign(serialize.serialized_bytes, serialize.serialized_bytes_size);
    serialize.serialized_layout_deleter(serialize.serialized_layout);
  }
  PjrtArgs<PJRT_Layouts_MemoryLayout_Destroy_Args> destroy;
  destroy.layout = get.layout;
  RETURN_IF_ERROR(api().Call(layouts.PJRT_Layouts_MemoryLayout_Destroy, destroy));
  RETURN_IF_ERROR(serialized);
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceRuntime>> CreatePjrtRuntime(const PjrtRuntimeOptions& options) {
  if (options.device_count < 0 || options.device_count > kMaxDevicesPerWorker) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.device_count, " devices; a worker drives 1 to ", kMaxDevicesPerWorker));
  }
  ASSIGN_OR_RETURN(const std::string path, FindPlugin(options.plugin));
  ASSIGN_OR_RETURN(const PjrtApi* const api, PjrtApi::Load(path));
  CreateOptions create_options = options.create_options;
  if (options.device_count > 0) create_options["cpu_device_count"] = int64_t{options.device_count};
  if (options.nodes > 1) {
    create_options["node_id"] = int64_t{options.node_id};
    create_options["num_nodes"] = int64_t{options.nodes};
  }
  absl::StatusOr<std::unique_ptr<PjrtClient>> created = PjrtClient::Create(api, create_options, options.store);
  if (!created.ok() && options.nodes > 1) {
    return absl::Status(created.status().code(),
                        absl::StrCat("the plugin ", path, " makes no client as node ", options.node_id, " of ",
                                     options.nodes, " (--group): ", created.status().message()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<PjrtClient> client, std::move(created));
  if (options.device_count > 0 && client->num_devices() != options.device_count) {
    return absl::InvalidArgumentError(absl::StrCat("the plugin ", path, " has ", client->num_devices(),
                                                   " devices, not ", options.device_count,
                                                   ": only CPU devices can be asked for by number"));
  }
  if (client->description().platform() == "cpu") {
    RETURN_IF_ERROR(RegisterFfiKernels(*api, kFfiHostPlatform, LapackKernels()));
  }
  return std::make_unique<PjrtRuntime>(std::move(client));
}

}  // namespace causeway
