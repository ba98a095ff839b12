#include "timed/timed_runtime.h"

#include <algorithm>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/task_pool.h"
#include "base/timer_thread.h"
#include "timed/timed_buffer.h"
#include "timed/zeros.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

using Arguments = std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>;

constexpr char kFlops[] = "flops";  // what cost analyses call them

TimedBuffer& AsTimed(const std::shared_ptr<DeviceBuffer>& buffer) { return static_cast<TimedBuffer&>(*buffer); }

class TimedProgram final : public DeviceProgram {
 public:
  TimedProgram(std::shared_ptr<DeviceProgram> inside, absl::Duration duration,
               std::vector<std::shared_ptr<const TimedBufferType>> outputs)
      : inside_(std::move(inside)), duration_(duration), outputs_(std::move(outputs)) {}

  const proto::ProgramInfo& info() const override { return inside_->info(); }
  const std::vector<int>& devices() const override { return inside_->devices(); }

  DeviceProgram& inside() const { return *inside_; }
  absl::Duration duration() const { return duration_; }
  const std::vector<std::shared_ptr<const TimedBufferType>>& outputs() const { return outputs_; }

 private:
  const std::shared_ptr<DeviceProgram> inside_;
  const absl::Duration duration_;
  const std::vector<std::shared_ptr<const TimedBufferType>> outputs_;
};

TimedProgram& AsTimed(DeviceProgram& program) { return static_cast<TimedProgram&>(program); }

absl::Status CheckArguments(const DeviceProgram& program, const Arguments& arguments) {
  const std::string& name = program.info().name();
  if (arguments.size() != program.devices().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("arguments for ", arguments.size(), " devices; ", name, " runs on ", program.devices().size()));
  }
  const auto parameters = static_cast<size_t>(program.info().parameters_size());
  for (size_t d = 0; d < arguments.size(); ++d) {
    const auto& row = arguments[d];
    if (row.size() != parameters) {
      return absl::InvalidArgumentError(
          absl::StrCat(row.size(), " arguments for ", name, ", which has ", parameters, " parameters"));
    }
    for (const auto& argument : row) {
      if (argument == nullptr) return absl::InvalidArgumentError(absl::StrCat("an argument of ", name, " is null"));
      if (AsTimed(argument).device() != program.devices()[d]) {
        return absl::InvalidArgumentError(absl::StrCat("an argument of ", name, " is on device ",
                                                       AsTimed(argument).device(), ", not on ", program.devices()[d]));
      }
    }
  }
  return absl::OkStatus();
}

// Claims the arguments that a launch takes over. Unless Started(), the destructor gives them back.
class Donation {
 public:
  ~Donation() {
    for (TimedBuffer* buffer : claimed_) buffer->UndoDonate();
  }

  // INVALID_ARGUMENT where an argument was donated before, or is donated twice, or once and used beside that.
  absl::Status Claim(const proto::ProgramInfo& info, const Arguments& arguments, const std::vector<int64_t>& keep) {
    for (int32_t parameter : info.donated_parameters()) {
      if (std::find(keep.begin(), keep.end(), parameter) != keep.end()) continue;
      taken_.push_back(parameter);
      for (const auto& row : arguments) {
        TimedBuffer& buffer = AsTimed(row[parameter]);
        if (!buffer.TryDonate()) return Gone(info, parameter);
        claimed_.push_back(&buffer);
      }
    }
    for (int i = 0; i < info.parameters_size(); ++i) {
      if (std::find(taken_.begin(), taken_.end(), i) != taken_.end()) continue;
      for (const auto& row : arguments) {
        if (!AsTimed(row[i]).Use().ok()) return Gone(info, i);
      }
    }
    return absl::OkStatus();
  }

  void Started() {
    for (TimedBuffer* buffer : claimed_) buffer->Release();
    claimed_.clear();
  }

 private:
  static absl::Status Gone(const proto::ProgramInfo& info, int parameter) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument ", parameter, " of ", info.name(), " was donated to this launch or to an earlier one"));
  }

  std::vector<int> taken_;  // parameters
  std::vector<TimedBuffer*> claimed_;
};

proto::Hello Describe(const DeviceRuntime& inside) {
  proto::Hello hello = inside.Describe();
  hello.set_plugin(absl::StrCat(hello.plugin(), kTimedMark));
  return hello;
}

class TimedRuntime final : public DeviceRuntime {
 public:
  TimedRuntime(std::unique_ptr<DeviceRuntime> inside, TimedRuntimeOptions options)
      : inside_(std::move(inside)),
        description_(::causeway::Describe(*inside_)),
        times_(std::move(options.times)),
        outcome_(std::move(options.outcome)) {
    if (options.clock == nullptr) {
      timer_ = std::make_unique<TimerThread>();
      options.clock = &real_clock_;
      options.run_at = [timer = timer_.get()](absl::Time at, std::function<void()> call) {
        timer->RunAt(at, std::move(call));
      };
    }
    schedule_ = std::make_shared<Schedule>(description_.devices_size(), *options.clock, std::move(options.run_at));
  }

  ~TimedRuntime() override {
    schedule_->Stop();
    timer_.reset();  // ends what is left
    std::promise<void> written;
    writers_.Add([&] { written.set_value(); });
    written.get_future().wait();
  }

  const proto::Hello& Describe() const override { return description_; }

  absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) override {
    ASSIGN_OR_RETURN(std::shared_ptr<DeviceProgram> program, inside_->Compile(request));
    ASSIGN_OR_RETURN(const absl::Duration duration, DurationOf(*program));
    return Wrap(std::move(program), duration);
  }

  absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int devices) override {
    return inside_->CompilePortable(request, devices);
  }

  absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) override;
  absl::StatusOr<Execution> Execute(DeviceProgram& program, const Arguments& arguments, const ExecuteOptions& options,
                                    StatusCallback done) override;

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes host, const HostShape& shape, int device,
                                                         const std::string& memory_kind,
                                                         const std::string& layout) override {
    ASSIGN_OR_RETURN(auto buffer, inside_->FromHost(std::move(host), shape, device, memory_kind, layout));
    return std::make_shared<TimedBuffer>(schedule_, device, std::move(buffer));
  }

  void ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides, absl::Span<char> target,
              StatusCallback done) override;
  absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer> buffer) override;
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer& buffer, int device,
                                                       const std::string& memory_kind) override;

  absl::StatusOr<std::string> DefaultLayout(DType dtype, absl::Span<const int64_t> dims, int device,
                                            const std::string& memory_kind) override {
    return inside_->DefaultLayout(dtype, dims, device, memory_kind);
  }
  absl::StatusOr<std::string> ProgramText(DeviceProgram& program) override {
    return inside_->ProgramText(AsTimed(program).inside());
  }
  absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram& program) override {
    return inside_->CostAnalysis(AsTimed(program).inside());
  }

 private:
  absl::StatusOr<absl::Duration> DurationOf(DeviceProgram& program) {
    return times_.Of(program.info().name(), [&]() -> absl::StatusOr<double> {
      ASSIGN_OR_RETURN(const auto costs, inside_->CostAnalysis(program));
      const auto flops = costs.find(kFlops);
      if (flops != costs.end()) return flops->second;
      return absl::FailedPreconditionError(
          absl::StrCat("the plugin's cost analysis of ", program.info().name(),
                       " counts no flops: give it a time with --launch-time instead of cost:"));
    });
  }

  absl::StatusOr<std::shared_ptr<DeviceProgram>> Wrap(std::shared_ptr<DeviceProgram> program, absl::Duration duration);
  absl::StatusOr<int64_t> SizeOnDevice(const proto::OutputInfo& output, const HostShape& shape, int device);
  absl::Status CheckPlace(int device, const std::string& memory_kind) const;

  const RealClock real_clock_;  // first: the runtime inside may still call back when it ends
  const std::unique_ptr<DeviceRuntime> inside_;
  const proto::Hello description_;
  const LaunchTimes times_;
  const std::function<absl::Status(const proto::ProgramInfo&)> outcome_;
  std::unique_ptr<TimerThread> timer_;
  std::shared_ptr<Schedule> schedule_;
  // Writes zeros where they are asked for: the timer's thread must not be late for others.
  TaskPool writers_{"cw-zeros", 1};
};

// ---------------------------------------------------------------- programs

absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> TimedRuntime::Load(const LoadRequest& request) {
  ASSIGN_OR_RETURN(std::vector<std::shared_ptr<DeviceProgram>> programs, inside_->Load(request));
  if (programs.empty()) return programs;
  // The same one for each device.
  ASSIGN_OR_RETURN(const absl::Duration duration, DurationOf(*programs.front()));
  for (std::shared_ptr<DeviceProgram>& program : programs) {
    ASSIGN_OR_RETURN(program, Wrap(std::move(program), duration));
  }
  return programs;
}

absl::StatusOr<std::shared_ptr<DeviceProgram>> TimedRuntime::Wrap(std::shared_ptr<DeviceProgram> program,
                                                                  absl::Duration duration) {
  std::vector<std::shared_ptr<const TimedBufferType>> outputs;
  for (const proto::OutputInfo& output : program->info().outputs()) {
    ASSIGN_OR_RETURN(HostShape shape, worker::ShapeFrom(output.type().dtype(), output.type().dims(), {}));
    ASSIGN_OR_RETURN(const int64_t size, SizeOnDevice(output, shape, program->devices().front()));
    outputs.push_back(std::make_shared<TimedBufferType>(TimedBufferType{shape.dtype, std::move(shape.dims), size}));
  }
  return std::make_shared<TimedProgram>(std::move(program), duration, std::move(outputs));
}

// Devices may pack and pad, so a buffer of this kind tells, which is made for that. CPU devices use the zeros in place.
absl::StatusOr<int64_t> TimedRuntime::SizeOnDevice(const proto::OutputInfo& output, const HostShape& shape,
                                                   int device) {
  const int64_t dense = worker::DenseBytes(shape.dtype, shape.dims);
  if (dense == 0) return 0;  // a token's too
  ASSIGN_OR_RETURN(HostBytes zeros, Zeros(dense));
  // On CPU devices the layout makes no difference to the size, but a copy.
  ASSIGN_OR_RETURN(const auto buffer, inside_->FromHost(std::move(zeros), shape, device, output.memory_kind(),
                                                        description_.platform() == "cpu" ? "" : output.layout()));
  return buffer->size_bytes();
}

absl::StatusOr<Execution> TimedRuntime::Execute(DeviceProgram& program, const Arguments& arguments,
                                                const ExecuteOptions& options, StatusCallback done) {
  const TimedProgram& timed = AsTimed(program);
  RETURN_IF_ERROR(CheckArguments(timed, arguments));
  Donation donation;
  RETURN_IF_ERROR(donation.Claim(timed.info(), arguments, options.non_donatable));
  std::vector<MomentRef> ready;
  for (const auto& row : arguments) {
    for (const auto& argument : row) ready.push_back(AsTimed(argument).ready());
  }
  const ReadyRef end =
      schedule_->Launch(timed.devices(), timed.duration(), std::move(ready),
                        outcome_ == nullptr ? absl::OkStatus() : outcome_(timed.info()), std::move(done));
  donation.Started();
  Execution execution;
  for (int device : timed.devices()) {
    std::vector<std::shared_ptr<DeviceBuffer>>& row = execution.outputs.emplace_back();
    for (const auto& type : timed.outputs()) row.push_back(std::make_shared<TimedBuffer>(schedule_, end, device, type));
  }
  return execution;
}

// ---------------------------------------------------------------- buffers

void TimedRuntime::ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides,
                          absl::Span<char> target, StatusCallback done) {
  TimedBuffer& timed = AsTimed(buffer);
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> inside = timed.Use();
  if (!inside.ok()) return done(inside.status());
  if (*inside != nullptr) {
    // A launch that is given this buffer lets go of the one inside, which must stay until it is read.
    return inside_->ToHost(*inside, byte_strides, target,
                           [held = *inside, done = std::move(done)](const absl::Status& status) { done(status); });
  }

  HostShape shape{timed.dtype(), timed.dims(), {byte_strides.begin(), byte_strides.end()}};
  if (shape.dtype == DType::kToken) return done(absl::InvalidArgumentError("a token has no data"));
  const absl::StatusOr<int64_t> span = worker::SpanBytes(shape);
  if (!span.ok()) return done(span.status());
  if (*span != static_cast<int64_t>(target.size())) {
    return done(absl::InvalidArgumentError(
        absl::StrCat("room for ", target.size(), " bytes where the array takes ", *span, " in host memory")));
  }
  timed.OnReady([this, shape = std::move(shape), target, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    writers_.Add([shape, target, done] {
      WriteZeros(shape, target);
      done(absl::OkStatus());
    });
  });
}

absl::StatusOr<HostBytes> TimedRuntime::HostView(std::shared_ptr<DeviceBuffer> buffer) {
  TimedBuffer& timed = AsTimed(buffer);
  ASSIGN_OR_RETURN(std::shared_ptr<DeviceBuffer> inside, timed.Use());
  if (inside != nullptr) return inside_->HostView(std::move(inside));
  const std::optional<absl::Status> ready = schedule_->Now(*timed.ready());
  if (!ready.has_value() || timed.dtype() == DType::kToken) {
    return absl::FailedPreconditionError("the buffer's memory cannot be read in place now; copy it with ToHost");
  }
  RETURN_IF_ERROR(*ready);
  return Zeros(worker::DenseBytes(timed.dtype(), timed.dims()));
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> TimedRuntime::CopyTo(DeviceBuffer& buffer, int device,
                                                                   const std::string& memory_kind) {
  auto& timed = static_cast<TimedBuffer&>(buffer);
  ASSIGN_OR_RETURN(const std::shared_ptr<DeviceBuffer> inside, timed.Use());
  if (inside != nullptr) {
    ASSIGN_OR_RETURN(auto copy, inside_->CopyTo(*inside, device, memory_kind));
    return std::make_shared<TimedBuffer>(schedule_, device, std::move(copy));
  }
  RETURN_IF_ERROR(CheckPlace(device, memory_kind));
  return std::make_shared<TimedBuffer>(schedule_, timed.ready(), device, timed.type());
}

absl::Status TimedRuntime::CheckPlace(int device, const std::string& memory_kind) const {
  if (device < 0 || device >= description_.devices_size()) {
    return absl::InvalidArgumentError(absl::StrCat("no local device ", device));
  }
  if (memory_kind.empty()) return absl::OkStatus();
  for (const proto::Memory& memory : description_.devices(device).memories()) {
    if (memory.kind() == memory_kind) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("device ", device, " has no memory of kind '", memory_kind, "'"));
}

}  // namespace

std::unique_ptr<DeviceRuntime> MakeTimedRuntime(std::unique_ptr<DeviceRuntime> inside, TimedRuntimeOptions options) {
  return std::make_unique<TimedRuntime>(std::move(inside), std::move(options));
}

}  // namespace causeway
