// For tests of the shell: devices that are host memory, and one program, whose outputs are copies of its arguments.
//
// A launch runs inside Execute, or on a thread of its own where FakeRuntimeOptions::launch_time says so.
#ifndef CAUSEWAY_WORKER_FAKE_RUNTIME_H_
#define CAUSEWAY_WORKER_FAKE_RUNTIME_H_

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "worker/device_runtime.h"
#include "worker/shapes.h"

namespace causeway::worker {

struct FakeRuntimeOptions {
  int devices = 1;
  bool host_sees_devices = true;  // HostView works
  absl::Duration launch_time = absl::ZeroDuration();
};

class FakeBuffer final : public DeviceBuffer {
 public:
  FakeBuffer(DType dtype, std::vector<int64_t> dims, std::string data)
      : dtype_(dtype), dims_(std::move(dims)), data_(std::move(data)) {
    ++live;
  }
  ~FakeBuffer() override { --live; }

  int64_t size_bytes() const override { return static_cast<int64_t>(data_.size()); }
  DType dtype() const override { return dtype_; }
  const std::vector<int64_t>& dims() const override { return dims_; }
  void OnReady(StatusCallback done) override { done(absl::OkStatus()); }
  const std::string& data() const { return data_; }

  static inline std::atomic<int> live = 0;

 private:
  const DType dtype_;
  const std::vector<int64_t> dims_;
  const std::string data_;
};

class FakeProgram final : public DeviceProgram {
 public:
  explicit FakeProgram(std::vector<int> devices) : devices_(std::move(devices)) { info_.set_name("copy"); }
  const proto::ProgramInfo& info() const override { return info_; }
  const std::vector<int>& devices() const override { return devices_; }

 private:
  proto::ProgramInfo info_;
  const std::vector<int> devices_;
};

class FakeRuntime final : public DeviceRuntime {
 public:
  explicit FakeRuntime(FakeRuntimeOptions options) : options_(options) {
    for (int i = 0; i < options.devices; ++i) hello_.add_devices()->set_kind("fake");
    hello_.set_platform("fake");
  }
  ~FakeRuntime() override {
    for (std::thread& thread : threads_) thread.join();
  }

  const proto::Hello& Describe() const override { return hello_; }

  absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) override {
    if (request.code != "copy") return absl::InvalidArgumentError("no such program");
    return std::make_shared<FakeProgram>(request.devices);
  }

  absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int) override {
    if (request.code != "copy") return absl::InvalidArgumentError("no such program");
    proto::PortableProgram portable;
    portable.set_executable(request.code);
    portable.mutable_info()->set_name("copy");
    return portable;
  }

  absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) override {
    std::vector<std::shared_ptr<DeviceProgram>> programs;
    for (int device : request.devices) programs.push_back(std::make_shared<FakeProgram>(std::vector<int>{device}));
    return programs;
  }

  absl::StatusOr<Execution> Execute(DeviceProgram& program,
                                    const std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>& arguments,
                                    const ExecuteOptions&, StatusCallback done) override {
    Execution execution;
    for (size_t device = 0; device < program.devices().size(); ++device) {
      execution.outputs.emplace_back();
      for (const auto& argument : arguments[device]) {
        const auto& from = static_cast<const FakeBuffer&>(*argument);
        execution.outputs.back().push_back(std::make_shared<FakeBuffer>(from.dtype(), from.dims(), from.data()));
      }
    }
    if (options_.launch_time == absl::ZeroDuration()) {
      done(absl::OkStatus());
    } else {
      Later(options_.launch_time, std::move(done));
    }
    return execution;
  }

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes host, const HostShape& shape, int,
                                                         const std::string&, const std::string&) override {
    const int64_t bytes = DenseBytes(shape.dtype, shape.dims);
    return std::make_shared<FakeBuffer>(shape.dtype, shape.dims, std::string(host.bytes.data(), bytes));
  }

  // With strides only of one dimension.
  void ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides, absl::Span<char> target,
              StatusCallback done) override {
    const std::string& data = static_cast<const FakeBuffer&>(*buffer).data();
    const size_t piece = byte_strides.empty() ? data.size() : data.size() / buffer->dims()[0];
    const size_t step = byte_strides.empty() ? piece : byte_strides[0];
    for (size_t from = 0, to = 0; from < data.size(); from += piece, to += step) {
      std::memcpy(target.data() + to, data.data() + from, piece);
    }
    Later(absl::ZeroDuration(), std::move(done));
  }

  absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer> buffer) override {
    if (!options_.host_sees_devices) return absl::FailedPreconditionError("use ToHost");
    const std::string& data = static_cast<const FakeBuffer&>(*buffer).data();
    return HostBytes{buffer, data};
  }

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer& buffer, int, const std::string&) override {
    return std::make_shared<FakeBuffer>(buffer.dtype(), buffer.dims(), static_cast<const FakeBuffer&>(buffer).data());
  }

  absl::StatusOr<std::string> DefaultLayout(DType, absl::Span<const int64_t>, int, const std::string&) override {
    return "layout";
  }
  absl::StatusOr<std::string> ProgramText(DeviceProgram&) override { return absl::UnimplementedError("no text"); }
  absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram&) override {
    return std::map<std::string, double>{{"flops", 2}};
  }

 private:
  void Later(absl::Duration delay, StatusCallback done) {
    MutexLock lock(&mu_);
    threads_.emplace_back([delay, done = std::move(done)] {
      absl::SleepFor(delay);
      done(absl::OkStatus());
    });
  }

  const FakeRuntimeOptions options_;
  proto::Hello hello_;
  Mutex mu_;
  std::vector<std::thread> threads_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_FAKE_RUNTIME_H_
