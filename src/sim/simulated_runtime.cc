#include "sim/simulated_runtime.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/timer_thread.h"
#include "sim/contents.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

constexpr char kFormat[] = "simulated";
constexpr char kMemoryKind[] = "device";

class SimulatedBuffer final : public DeviceBuffer {
 public:
  SimulatedBuffer(DType dtype, std::vector<int64_t> dims)
      : dtype_(dtype), dims_(std::move(dims)), size_bytes_(worker::DenseBytes(dtype_, dims_)) {}

  int64_t size_bytes() const override { return size_bytes_; }
  DType dtype() const override { return dtype_; }
  const std::vector<int64_t>& dims() const override { return dims_; }

  void OnReady(StatusCallback done) override {
    absl::Status status;
    {
      MutexLock lock(&mutex_);
      if (!resolved_) {
        waiting_.push_back(std::move(done));
        return;
      }
      status = donated_ ? DonatedError() : status_;
    }
    done(status);
  }

  // Once. `contents` may be null.
  void Resolve(const absl::Status& status, ContentsRef contents) {
    std::vector<StatusCallback> waiting;
    {
      MutexLock lock(&mutex_);
      resolved_ = true;
      status_ = status;
      contents_ = std::move(contents);
      waiting.swap(waiting_);
    }
    for (StatusCallback& done : waiting) done(status);
  }

  absl::Status CheckUsable() {
    MutexLock lock(&mutex_);
    return donated_ ? DonatedError() : absl::OkStatus();
  }

  void Donate() {
    MutexLock lock(&mutex_);
    donated_ = true;
  }

  // What it holds, once it is ready. Null: nothing that can be read.
  ContentsRef contents() {
    MutexLock lock(&mutex_);
    return contents_;
  }

 private:
  static absl::Status DonatedError() { return absl::InvalidArgumentError("the buffer was donated to a launch"); }

  const DType dtype_;
  const std::vector<int64_t> dims_;
  const int64_t size_bytes_;
  Mutex mutex_;
  bool resolved_ ABSL_GUARDED_BY(mutex_) = false;
  bool donated_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  ContentsRef contents_ ABSL_GUARDED_BY(mutex_);
  std::vector<StatusCallback> waiting_ ABSL_GUARDED_BY(mutex_);
};

using SimulatedBufferPtr = std::shared_ptr<SimulatedBuffer>;

class SimulatedProgramObject final : public DeviceProgram, public std::enable_shared_from_this<SimulatedProgramObject> {
 public:
  // `logical` is empty for a program that is no gang's.
  SimulatedProgramObject(proto::ProgramInfo info, std::vector<int> devices, std::vector<int> logical, int gang_devices)
      : info_(std::move(info)), devices_(std::move(devices)), logical_(std::move(logical)) {
    const int count = logical_.empty() ? static_cast<int>(devices_.size()) : gang_devices;
    for (const proto::OutputInfo& output : info_.outputs()) tiles_.push_back(TilesOf(output, count));
  }
  const proto::ProgramInfo& info() const override { return info_; }
  const std::vector<int>& devices() const override { return devices_; }

  // The tile of an output that a device holds.
  int64_t TileOf(int output, int device) const { return tiles_[output][logical_.empty() ? device : logical_[device]]; }

  bool is_gang() const { return !logical_.empty(); }

 private:
  const proto::ProgramInfo info_;
  const std::vector<int> devices_;
  const std::vector<int> logical_;
  std::vector<std::vector<int64_t>> tiles_;
};

struct Launch {
  // Of the outputs, each by device and then by output. Null contents where there are none.
  std::vector<ContentsRef> Compute() const {
    std::vector<ContentsRef> contents(outputs.size());
    if (program == nullptr || !status.ok()) return contents;
    std::vector<ContentsRef> taken;
    if (!program->is_gang()) {
      for (const SimulatedBufferPtr& argument : arguments) taken.push_back(argument->contents());
    }
    const uint64_t digest = LaunchDigest(program->info().name(), taken);
    const int count = program->info().outputs_size();
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int output = static_cast<int>(i) % count;
      const int device = static_cast<int>(i) / count;
      contents[i] = OutputContents(digest, output, program->TileOf(output, device), outputs[i]->size_bytes());
    }
    return contents;
  }

  std::shared_ptr<const SimulatedProgramObject> program;  // null where there are no contents
  std::vector<SimulatedBufferPtr> arguments;              // likewise empty
  std::vector<int> devices;
  int arguments_left = 0;  // that are not ready yet
  bool started = false;
  absl::Status status;  // the first error among its arguments, or its outcome
  std::vector<SimulatedBufferPtr> outputs;
  StatusCallback done;
};

// The devices' queues. Shared with the calls that `run_after` holds.
class Devices : public std::enable_shared_from_this<Devices> {
 public:
  explicit Devices(SimulatedRuntimeOptions options) : options_(std::move(options)), queues_(options_.devices) {
    if (options_.run_after == nullptr) {
      timer_ = std::make_unique<TimerThread>();
      options_.run_after = [timer = timer_.get()](absl::Duration delay, std::function<void()> call) {
        timer->RunAfter(delay, std::move(call));
      };
    }
  }

  // Ends the timer's thread, which has called everything then.
  void Stop() { timer_.reset(); }

  absl::Status Outcome(const proto::ProgramInfo& info) const {
    return options_.outcome == nullptr ? absl::OkStatus() : options_.outcome(info);
  }

  void Enqueue(const std::shared_ptr<Launch>& launch, const std::vector<SimulatedBufferPtr>& arguments) {
    {
      MutexLock lock(&mutex_);
      launch->arguments_left = static_cast<int>(arguments.size());
      for (int device : launch->devices) queues_[device].push_back(launch);
    }
    for (const SimulatedBufferPtr& argument : arguments) {
      argument->OnReady([self = shared_from_this(), launch](const absl::Status& status) {
        MutexLock lock(&self->mutex_);
        launch->status.Update(status);
        --launch->arguments_left;
        self->StartIfPossible(launch);
      });
    }
    MutexLock lock(&mutex_);
    StartIfPossible(launch);
  }

 private:
  void StartIfPossible(const std::shared_ptr<Launch>& launch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (launch->started || launch->arguments_left > 0) return;
    for (int device : launch->devices) {
      if (queues_[device].front() != launch) return;
    }
    launch->started = true;
    options_.run_after(options_.launch_time, [self = shared_from_this(), launch] { self->Finish(launch); });
  }

  void Finish(const std::shared_ptr<Launch>& launch) {
    {
      MutexLock lock(&mutex_);
      for (int device : launch->devices) queues_[device].pop_front();
      for (int device : launch->devices) {
        if (!queues_[device].empty()) StartIfPossible(std::shared_ptr<Launch>(queues_[device].front()));
      }
    }
    const std::vector<ContentsRef> contents = launch->Compute();
    for (size_t i = 0; i < contents.size(); ++i) launch->outputs[i]->Resolve(launch->status, contents[i]);
    launch->done(launch->status);
  }

  SimulatedRuntimeOptions options_;
  std::unique_ptr<TimerThread> timer_;
  Mutex mutex_;
  std::vector<std::deque<std::shared_ptr<Launch>>> queues_ ABSL_GUARDED_BY(mutex_);  // by device; the first runs
};

proto::Hello Description(const SimulatedRuntimeOptions& options) {
  proto::Hello hello;
  hello.set_platform(options.platform);
  hello.set_platform_version("simulated");
  hello.set_plugin("simulated");
  for (int i = 0; i < options.devices; ++i) {
    proto::Device& device = *hello.add_devices();
    device.set_kind("simulated");
    device.set_local_hardware_id(i);
    device.set_memory_bytes(options.memory_bytes);
    device.set_debug_string(absl::StrCat("simulated device ", i));
    proto::Memory& memory = *device.add_memories();
    memory.set_kind(kMemoryKind);
    memory.set_debug_string(absl::StrCat("memory of simulated device ", i));
  }
  return hello;
}

class SimulatedRuntime final : public DeviceRuntime {
 public:
  explicit SimulatedRuntime(SimulatedRuntimeOptions options)
      : description_(Description(options)),
        contents_(options.contents),
        host_view_(options.contents && options.host_view),
        host_outcome_(options.host_outcome),
        devices_(std::make_shared<Devices>(std::move(options))) {}
  ~SimulatedRuntime() override { devices_->Stop(); }

  const proto::Hello& Describe() const override { return description_; }

  absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) override;
  absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int devices) override;
  absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) override;
  absl::StatusOr<Execution> Execute(DeviceProgram& program,
                                    const std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>& arguments,
                                    const ExecuteOptions& options, StatusCallback done) override;
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes host, const HostShape& shape, int device,
                                                         const std::string& memory_kind,
                                                         const std::string& layout) override;
  void ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides, absl::Span<char> target,
              StatusCallback done) override;

  absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer> buffer) override {
    auto& simulated = static_cast<SimulatedBuffer&>(*buffer);
    RETURN_IF_ERROR(simulated.CheckUsable());
    const ContentsRef contents = simulated.contents();
    if (!host_view_ || contents == nullptr) {
      return absl::FailedPreconditionError("there is no memory to look at; copy with ToHost");
    }
    return HostBytes{contents, contents->bytes};
  }

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer& buffer, int device,
                                                       const std::string& memory_kind) override;

  absl::StatusOr<std::string> DefaultLayout(DType dtype, absl::Span<const int64_t> dims, int device,
                                            const std::string& memory_kind) override {
    RETURN_IF_ERROR(worker::CheckShape(dtype, dims));
    RETURN_IF_ERROR(CheckPlace(device, memory_kind));
    std::vector<size_t> minor_to_major;
    for (size_t i = dims.size(); i-- > 0;) minor_to_major.push_back(i);
    return absl::StrCat("{", absl::StrJoin(minor_to_major, ","), "}");
  }

  absl::StatusOr<std::string> ProgramText(DeviceProgram&) override {
    return absl::UnimplementedError("simulated programs have no HLO");
  }

  absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram&) override {
    return std::map<std::string, double>();
  }

 private:
  absl::Status CheckPlace(int device, const std::string& memory_kind) const {
    if (device < 0 || device >= description_.devices_size()) {
      return absl::InvalidArgumentError(absl::StrCat("no local device ", device));
    }
    if (!memory_kind.empty() && memory_kind != kMemoryKind) {
      return absl::InvalidArgumentError(absl::StrCat("a simulated device has no memory of kind '", memory_kind, "'"));
    }
    return absl::OkStatus();
  }

  const proto::Hello description_;
  const bool contents_;
  const bool host_view_;
  const std::function<absl::Status(absl::string_view)> host_outcome_;
  const std::shared_ptr<Devices> devices_;
};

// The program itself is the executable.
absl::StatusOr<proto::PortableProgram> SimulatedRuntime::CompilePortable(const CompileRequest& request, int) {
  CompileRequest on_one = request;
  on_one.devices = {0};
  ASSIGN_OR_RETURN(const std::shared_ptr<DeviceProgram> program, Compile(on_one));
  proto::PortableProgram portable;
  portable.set_executable(request.code);
  *portable.mutable_info() = program->info();
  return portable;
}

absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> SimulatedRuntime::Load(const LoadRequest& request) {
  std::vector<std::shared_ptr<DeviceProgram>> programs;
  for (int device : request.devices) {
    ASSIGN_OR_RETURN(programs.emplace_back(), Compile(SimulatedProgram(request.portable->info(), {device})));
  }
  return programs;
}

absl::StatusOr<std::shared_ptr<DeviceProgram>> SimulatedRuntime::Compile(const CompileRequest& request) {
  proto::ProgramInfo info;
  if (request.format != kFormat || !info.ParseFromString(request.code)) {
    return absl::InvalidArgumentError("simulated devices run only what SimulatedProgram() makes");
  }
  if (request.devices.empty()) return absl::InvalidArgumentError("a program without devices");
  for (int device : request.devices) RETURN_IF_ERROR(CheckPlace(device, ""));
  for (const proto::OutputInfo& output : info.outputs()) {
    RETURN_IF_ERROR(worker::CheckShape(static_cast<DType>(output.type().dtype()), output.type().dims()));
  }
  for (int32_t parameter : info.donated_parameters()) {
    if (parameter < 0 || parameter >= info.parameters_size()) {
      return absl::InvalidArgumentError(absl::StrCat("donated parameter ", parameter, " does not exist"));
    }
  }
  std::vector<int> logical;
  int gang_devices = 0;
  if (!request.options.empty()) {
    // "GANG_DEVICES,LOGICAL,LOGICAL,..."
    for (absl::string_view text : absl::StrSplit(request.options, ',')) {
      int number = 0;
      if (!absl::SimpleAtoi(text, &number) || number < 0) return absl::InvalidArgumentError("no part of a gang");
      logical.push_back(number);
    }
    gang_devices = logical.front();
    logical.erase(logical.begin());
    if (logical.size() != request.devices.size() ||
        std::any_of(logical.begin(), logical.end(), [gang_devices](int i) { return i >= gang_devices; })) {
      return absl::InvalidArgumentError("no part of a gang");
    }
  }
  return std::make_shared<SimulatedProgramObject>(std::move(info), request.devices, std::move(logical), gang_devices);
}

absl::StatusOr<Execution> SimulatedRuntime::Execute(
    DeviceProgram& program, const std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>& arguments,
    const ExecuteOptions& options, StatusCallback done) {
  const proto::ProgramInfo& info = program.info();
  if (arguments.size() != program.devices().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("arguments for ", arguments.size(), " devices; the program has ", program.devices().size()));
  }
  std::vector<SimulatedBufferPtr> all;
  std::vector<SimulatedBufferPtr> donated;
  for (const auto& row : arguments) {
    if (static_cast<int>(row.size()) != info.parameters_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(row.size(), " arguments; the program has ", info.parameters_size(), " parameters"));
    }
    for (const auto& argument : row) {
      if (argument == nullptr) return absl::InvalidArgumentError("an argument is null");
      all.push_back(std::static_pointer_cast<SimulatedBuffer>(argument));
      RETURN_IF_ERROR(all.back()->CheckUsable());
    }
    for (int32_t parameter : info.donated_parameters()) {
      const auto& keep = options.non_donatable;
      if (std::find(keep.begin(), keep.end(), parameter) != keep.end()) continue;
      donated.push_back(std::static_pointer_cast<SimulatedBuffer>(row[parameter]));
    }
  }

  auto launch = std::make_shared<Launch>();
  if (contents_) {
    launch->program = static_cast<SimulatedProgramObject&>(program).shared_from_this();
    launch->arguments = all;
  }
  launch->devices = program.devices();
  launch->status = devices_->Outcome(info);
  launch->done = std::move(done);
  Execution execution;
  execution.outputs.resize(program.devices().size());
  for (std::vector<std::shared_ptr<DeviceBuffer>>& row : execution.outputs) {
    for (const proto::OutputInfo& output : info.outputs()) {
      const proto::ShardType& type = output.type();
      launch->outputs.push_back(std::make_shared<SimulatedBuffer>(
          static_cast<DType>(type.dtype()), std::vector<int64_t>(type.dims().begin(), type.dims().end())));
      row.push_back(launch->outputs.back());
    }
  }
  devices_->Enqueue(launch, all);
  for (const SimulatedBufferPtr& buffer : donated) buffer->Donate();
  return execution;
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> SimulatedRuntime::FromHost(HostBytes host, const HostShape& shape,
                                                                         int device, const std::string& memory_kind,
                                                                         const std::string& /*layout*/) {
  RETURN_IF_ERROR(CheckPlace(device, memory_kind));
  RETURN_IF_ERROR(worker::CheckShape(shape.dtype, shape.dims));
  ASSIGN_OR_RETURN(const int64_t span, worker::SpanBytes(shape));
  if (static_cast<int64_t>(host.bytes.size()) < span || HostByteWidth(shape.dtype) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(host.bytes.size(), " bytes for an array that takes ", span));
  }
  auto buffer = std::make_shared<SimulatedBuffer>(shape.dtype, shape.dims);
  const absl::string_view bytes(host.bytes.data(), host.bytes.size());
  buffer->Resolve(host_outcome_ == nullptr ? absl::OkStatus() : host_outcome_(bytes),
                  contents_ ? std::make_shared<const Contents>(Gather(shape, host.bytes.data())) : nullptr);
  return buffer;
}

void SimulatedRuntime::ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides,
                              absl::Span<char> target, StatusCallback done) {
  HostShape shape{buffer->dtype(), buffer->dims(), {byte_strides.begin(), byte_strides.end()}};
  const absl::StatusOr<int64_t> span = worker::SpanBytes(shape);
  if (!span.ok()) return done(span.status());
  if (*span != static_cast<int64_t>(target.size())) {
    return done(absl::InvalidArgumentError(absl::StrCat("room for ", target.size(), " bytes, not ", *span)));
  }
  auto& simulated = static_cast<SimulatedBuffer&>(*buffer);
  buffer->OnReady([&simulated, target, shape = std::move(shape), done = std::move(done)](const absl::Status& status) {
    if (status.ok() && !target.empty()) {
      std::memset(target.data(), 0, target.size());
      if (const ContentsRef contents = simulated.contents()) Scatter(contents->bytes, shape, target.data());
    }
    done(status);
  });
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> SimulatedRuntime::CopyTo(DeviceBuffer& buffer, int device,
                                                                       const std::string& memory_kind) {
  RETURN_IF_ERROR(CheckPlace(device, memory_kind));
  auto& source = static_cast<SimulatedBuffer&>(buffer);
  RETURN_IF_ERROR(source.CheckUsable());
  auto copy = std::make_shared<SimulatedBuffer>(buffer.dtype(), buffer.dims());
  // Called by `source`, or never.
  buffer.OnReady([copy, &source](const absl::Status& status) { copy->Resolve(status, source.contents()); });
  return copy;
}

}  // namespace

std::unique_ptr<DeviceRuntime> MakeSimulatedRuntime(SimulatedRuntimeOptions options) {
  return std::make_unique<SimulatedRuntime>(std::move(options));
}

CompileRequest SimulatedProgram(const proto::ProgramInfo& info, std::vector<int> devices) {
  return {kFormat, info.SerializeAsString(), /*options=*/"", std::move(devices)};
}

CompileRequest SimulatedGangPart(const proto::ProgramInfo& info, std::vector<int> devices,
                                 const std::vector<int>& logical, int gang_devices) {
  return {kFormat, info.SerializeAsString(), absl::StrCat(gang_devices, ",", absl::StrJoin(logical, ",")),
          std::move(devices)};
}

}  // namespace causeway
