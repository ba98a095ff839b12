#include "timed/timed_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/timer_thread.h"
#include "pjrt/pjrt_runtime.h"
#include "worker/device_runtime_cts.h"
#include "worker/fake_runtime.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// ---------------------------------------------------------------- programs

// NAME and DONATED are replaced.
constexpr char kAddCode[] = R"(
module @NAME {
  func.func public @main(%a: tensor<4xf32> DONATED, %b: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.add %a, %b : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
})";

constexpr char kIdentityCode[] = R"(
module @NAME {
  func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.negate %a : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
})";

constexpr char kTypesCode[] = R"(
module @types {
  func.func public @main(%a: tensor<3x5xf32>)
      -> (tensor<3x5xf32>, tensor<15xi4>, tensor<7xui2>, tensor<0x4xf64>, tensor<i1>, tensor<2x3xcomplex<f32>>) {
    %1 = stablehlo.constant dense<1> : tensor<15xi4>
    %2 = stablehlo.constant dense<1> : tensor<7xui2>
    %3 = stablehlo.constant dense<1.0> : tensor<0x4xf64>
    %4 = stablehlo.constant dense<true> : tensor<i1>
    %5 = stablehlo.constant dense<(1.0, 2.0)> : tensor<2x3xcomplex<f32>>
    return %a, %1, %2, %3, %4, %5
      : tensor<3x5xf32>, tensor<15xi4>, tensor<7xui2>, tensor<0x4xf64>, tensor<i1>, tensor<2x3xcomplex<f32>>
  }
})";

CompileRequest Request(const std::string& code, const std::vector<int>& devices) {
  xla::CompileOptionsProto options;
  auto& build = *options.mutable_executable_build_options();
  build.set_device_ordinal(-1);
  build.set_num_replicas(static_cast<int64_t>(devices.size()));
  build.set_num_partitions(1);
  return {"mlir", code, options.SerializeAsString(), devices};
}

CompileRequest AddRequest(const std::string& name, const std::vector<int>& devices, bool donating = false) {
  return Request(
      absl::StrReplaceAll(kAddCode, {{"NAME", name}, {"DONATED", donating ? "{tf.aliasing_output = 0 : i32}" : ""}}),
      devices);
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCpu(int devices) {
  PjrtRuntimeOptions options;
  options.device_count = devices;
  return CreatePjrtRuntime(options);
}

// ---------------------------------------------------------------- the contract

// Ends launches at their times while it is open, and keeps them while it is closed.
class Gate {
 public:
  void RunAt(absl::Time at, std::function<void()> call) {
    MutexLock lock(&mutex_);
    if (open_) {
      timer_.RunAt(at, std::move(call));
    } else {
      held_.emplace(at, std::move(call));
    }
  }

  void Set(bool open) {
    MutexLock lock(&mutex_);
    open_ = open;
    if (!open) return;
    for (auto& [at, call] : held_) timer_.RunAt(at, std::move(call));
    held_.clear();
  }

 private:
  TimerThread timer_;
  Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  std::multimap<absl::Time, std::function<void()>> held_ ABSL_GUARDED_BY(mutex_);
};

// Lives as long as the tests of the suite, which all use the one.
Gate& TheGate() {
  static auto& gate = *new Gate;
  return gate;
}

CompileRequest CtsRequest(CtsProgram program, const std::vector<int>& devices) {
  switch (program) {
    case CtsProgram::kAdd:
      return AddRequest("add", devices);
    case CtsProgram::kAddDonating:
      return AddRequest("add_donating", devices, /*donating=*/true);
    case CtsProgram::kGated:
      return Request(absl::StrReplaceAll(kIdentityCode, {{"NAME", "gated"}}), devices);
    case CtsProgram::kFailing:
      return Request(absl::StrReplaceAll(kIdentityCode, {{"NAME", "failing"}}), devices);
  }
  return {};
}

DeviceRuntimeCtsFactory Factory() {
  DeviceRuntimeCtsFactory factory;
  factory.name = "TimedCpu";
  factory.computes = false;
  factory.program = CtsRequest;
  factory.set_gate = [](bool open) { TheGate().Set(open); };
  factory.make = [](int devices) -> absl::StatusOr<std::unique_ptr<DeviceRuntime>> {
    ASSIGN_OR_RETURN(std::unique_ptr<DeviceRuntime> cpu, MakeCpu(devices));
    static const RealClock& clock = *new RealClock;
    TimedRuntimeOptions options;
    ASSIGN_OR_RETURN(options.times, LaunchTimes::Parse("*=50us"));
    options.clock = &clock;
    options.run_at = [](absl::Time at, std::function<void()> call) { TheGate().RunAt(at, std::move(call)); };
    options.outcome = [](const proto::ProgramInfo& info) {
      return info.name() == "failing" ? absl::AbortedError("it failed, as it should") : absl::OkStatus();
    };
    return MakeTimedRuntime(std::move(cpu), std::move(options));
  };
  return factory;
}

INSTANTIATE_TEST_SUITE_P(TimedCpu, DeviceRuntimeCts, testing::Values(Factory()),
                         [](const auto& info) { return info.param.name; });

// ---------------------------------------------------------------- what only this runtime promises

// A clock that the test moves, and what waits for it.
class ManualClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }

  Schedule::RunAt RunAt() {
    return [this](absl::Time at, std::function<void()> call) { calls_.emplace(at, std::move(call)); };
  }

  // Calls what was to be called until then, each at its time.
  void Advance(absl::Duration by) {
    const absl::Time end = now_ + by;
    while (!calls_.empty() && calls_.begin()->first <= end) {
      now_ = std::max(now_, calls_.begin()->first);
      std::function<void()> call = std::move(calls_.begin()->second);
      calls_.erase(calls_.begin());
      call();
    }
    now_ = end;
  }

  size_t waiting() const { return calls_.size(); }

 private:
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1000);
  std::multimap<absl::Time, std::function<void()>> calls_;
};

constexpr absl::Duration kMs = absl::Milliseconds(1);

class TimedRuntimeTest : public testing::Test {
 protected:
  using Buffer = std::shared_ptr<DeviceBuffer>;

  void Make(const std::string& times, int devices = 2) {
    absl::StatusOr<std::unique_ptr<DeviceRuntime>> cpu = MakeCpu(devices);
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    inside_ = cpu->get();
    runtime_ = MakeTimedRuntime(*std::move(cpu), Options(times));
  }

  TimedRuntimeOptions Options(const std::string& times) {
    TimedRuntimeOptions options;
    if (!times.empty()) options.times = *LaunchTimes::Parse(times);
    options.clock = &clock_;
    options.run_at = clock_.RunAt();
    return options;
  }

  std::shared_ptr<DeviceProgram> Compile(const CompileRequest& request) {
    absl::StatusOr<std::shared_ptr<DeviceProgram>> program = runtime_->Compile(request);
    EXPECT_TRUE(program.ok()) << program.status();
    return *program;
  }

  Buffer Put(const std::vector<float>& values, int device = 0, std::vector<int64_t> dims = {4}) {
    auto owner = std::make_shared<std::vector<float>>(values);
    const absl::Span<const char> bytes(reinterpret_cast<const char*>(owner->data()), owner->size() * sizeof(float));
    auto buffer = runtime_->FromHost({owner, bytes}, {DType::kF32, std::move(dims), {}}, device, "", "");
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    CtsWaiter ready;
    (*buffer)->OnReady(ready.Callback());
    EXPECT_TRUE(ready.Wait().ok());
    return *buffer;
  }

  // Hands a launch over; `finished_` gets its name and the time at which it ends, and so does `ready_` for its outputs.
  std::vector<std::vector<Buffer>> Launch(const std::string& name, DeviceProgram& program,
                                          const std::vector<std::vector<Buffer>>& arguments) {
    absl::StatusOr<Execution> run =
        runtime_->Execute(program, arguments, {}, [this, name, start = start_](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          finished_.emplace_back(name, clock_.Now() - start);
        });
    EXPECT_TRUE(run.ok()) << run.status();
    for (const auto& row : run->outputs) {
      for (const auto& output : row) {
        output->OnReady([this, name, start = start_](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          EXPECT_THAT(finished_, testing::Not(testing::Contains(testing::Key(name))));
          ready_.emplace_back(name, clock_.Now() - start);
        });
      }
    }
    return run->outputs;
  }

  absl::StatusOr<std::string> Get(const Buffer& buffer, size_t bytes) {
    std::string target(bytes, 'x');
    CtsWaiter done;
    runtime_->ToHost(buffer, {}, absl::MakeSpan(target.data(), target.size()), done.Callback());
    if (absl::Status status = done.Wait(); !status.ok()) return status;
    return target;
  }

  ManualClock clock_;
  const absl::Time start_ = clock_.Now();
  DeviceRuntime* inside_ = nullptr;
  std::unique_ptr<DeviceRuntime> runtime_;
  std::vector<std::pair<std::string, absl::Duration>> finished_;
  std::vector<std::pair<std::string, absl::Duration>> ready_;
};

TEST_F(TimedRuntimeTest, SaysThatItIsTimedAndIsOtherwiseThePluginsDescription) {
  Make("*=5ms");
  proto::Hello expected = inside_->Describe();
  EXPECT_EQ(runtime_->Describe().plugin(), absl::StrCat(expected.plugin(), kTimedMark));
  expected.set_plugin(runtime_->Describe().plugin());
  EXPECT_EQ(runtime_->Describe().SerializeAsString(), expected.SerializeAsString());
}

TEST_F(TimedRuntimeTest, LaunchesEndAtTheirTimesAndNotBefore) {
  Make("a=5ms,b=300us");
  const auto a = Compile(AddRequest("jit_a", {0}));
  const auto b = Compile(AddRequest("jit_b", {0}));
  const Buffer x = Put({1, 2, 3, 4});
  Launch("a", *a, {{x, x}});
  Launch("b", *b, {{x, x}});
  clock_.Advance(5 * kMs - absl::Nanoseconds(1));
  EXPECT_THAT(finished_, testing::IsEmpty());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(finished_, ElementsAre(std::pair("a", 5 * kMs)));
  EXPECT_THAT(ready_, ElementsAre(std::pair("a", 5 * kMs)));
  clock_.Advance(1 * kMs);
  EXPECT_THAT(finished_, ElementsAre(std::pair("a", 5 * kMs), std::pair("b", 5 * kMs + absl::Microseconds(300))));
}

TEST_F(TimedRuntimeTest, DependentLaunchesFollowOneAnotherAcrossDevices) {
  Make("*=5ms");
  const auto on_0 = Compile(AddRequest("f", {0}));
  const auto on_1 = Compile(AddRequest("f", {1}));
  const Buffer x = Put({1, 2, 3, 4});
  const auto first = Launch("first", *on_0, {{x, x}});
  const auto moved = runtime_->CopyTo(*first[0][0], 1, "");
  ASSERT_TRUE(moved.ok()) << moved.status();
  Launch("second", *on_1, {{*moved, *moved}});
  Launch("beside", *on_0, {{x, x}});
  clock_.Advance(20 * kMs);
  EXPECT_THAT(finished_,
              ElementsAre(std::pair("first", 5 * kMs), std::pair("second", 10 * kMs), std::pair("beside", 10 * kMs)));
}

TEST_F(TimedRuntimeTest, ALaunchOverTwoDevicesWaitsForBothAndGivesARowOfOutputsForEach) {
  Make("one=5ms,both=2ms");
  const auto one = Compile(AddRequest("one", {1}));
  const auto both = Compile(AddRequest("both", {1, 0}));
  const Buffer on_0 = Put({1, 2, 3, 4}, 0);
  const Buffer on_1 = Put({1, 2, 3, 4}, 1);
  Launch("one", *one, {{on_1, on_1}});
  const auto outputs = Launch("both", *both, {{on_1, on_1}, {on_0, on_0}});
  ASSERT_EQ(outputs.size(), 2);
  EXPECT_EQ(outputs[0].size(), 1);
  EXPECT_EQ(outputs[1].size(), 1);
  clock_.Advance(20 * kMs);
  EXPECT_THAT(finished_, ElementsAre(std::pair("one", 5 * kMs), std::pair("both", 7 * kMs)));
  EXPECT_EQ(ready_.size(), 3);
  Launch("again", *both, {{outputs[0][0], on_1}, {outputs[1][0], on_0}});
  clock_.Advance(20 * kMs);
  EXPECT_THAT(finished_.back(), std::pair("again", 22 * kMs)) << "each row is on its own device";
}

TEST_F(TimedRuntimeTest, AnArgumentOnAnotherDeviceIsRefused) {
  Make("");
  const auto program = Compile(AddRequest("f", {0}));
  const Buffer elsewhere = Put({1, 2, 3, 4}, 1);
  const absl::Status error =
      runtime_->Execute(*program, {{elsewhere, elsewhere}}, {}, [](const absl::Status&) {}).status();
  EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(error.message()), HasSubstr("is on device 1, not on 0"));
}

TEST_F(TimedRuntimeTest, OutputsAreZerosOfTheSizesThatThePluginGivesThem) {
  Make("");
  absl::StatusOr<std::shared_ptr<DeviceProgram>> real = inside_->Compile(Request(kTypesCode, {0}));
  ASSERT_TRUE(real.ok()) << real.status();
  const std::vector<float> ones(15, 1);
  const HostBytes host{nullptr, {reinterpret_cast<const char*>(ones.data()), 60}};
  const auto in = inside_->FromHost(host, {DType::kF32, {3, 5}, {}}, 0, "", "");
  ASSERT_TRUE(in.ok()) << in.status();
  const auto computed = inside_->Execute(**real, {{*in}}, {}, [](const absl::Status&) {});
  ASSERT_TRUE(computed.ok()) << computed.status();

  const auto program = Compile(Request(kTypesCode, {0}));
  const auto outputs = Launch("types", *program, {{Put(ones, 0, {3, 5})}});
  clock_.Advance(kMs);
  ASSERT_EQ(outputs[0].size(), 6);
  for (size_t i = 0; i < 6; ++i) {
    const DeviceBuffer& expected = *computed->outputs[0][i];
    const Buffer& output = outputs[0][i];
    EXPECT_EQ(output->dtype(), expected.dtype()) << i;
    EXPECT_EQ(output->dims(), expected.dims()) << i;
    EXPECT_EQ(output->size_bytes(), expected.size_bytes()) << i << ": " << Name(expected.dtype());
    const int64_t bytes = worker::DenseBytes(expected.dtype(), expected.dims());
    EXPECT_EQ(*Get(output, bytes), std::string(bytes, '\0')) << i;
    const absl::StatusOr<HostBytes> view = runtime_->HostView(output);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(std::string(view->bytes.data(), view->bytes.size()), std::string(bytes, '\0')) << i;
  }
}

TEST_F(TimedRuntimeTest, ACopyOfZerosIsThereWhenTheyAre) {
  Make("*=5ms");
  const auto program = Compile(AddRequest("f", {0}));
  const Buffer x = Put({1, 2, 3, 4});
  const auto outputs = Launch("f", *program, {{x, x}});
  const auto copy = runtime_->CopyTo(*outputs[0][0], 1, "");
  ASSERT_TRUE(copy.ok()) << copy.status();
  CtsWaiter ready;
  (*copy)->OnReady(ready.Callback());
  clock_.Advance(4 * kMs);
  EXPECT_EQ(ready.calls(), 0);
  EXPECT_EQ(runtime_->HostView(*copy).status().code(), absl::StatusCode::kFailedPrecondition);
  clock_.Advance(1 * kMs);
  EXPECT_EQ(ready.calls(), 1);
  EXPECT_EQ(*Get(*copy, 16), std::string(16, '\0'));
}

TEST_F(TimedRuntimeTest, DonatedZerosAreGoneAndSoAreDonatedData) {
  Make("*=5ms");
  const auto donating = Compile(AddRequest("f", {0}, /*donating=*/true));
  const Buffer data = Put({1, 2, 3, 4});
  const Buffer kept = Put({1, 2, 3, 4});
  const auto first = Launch("first", *donating, {{data, kept}});
  const auto second = Launch("second", *donating, {{first[0][0], kept}});
  for (const Buffer& gone : {data, first[0][0]}) {
    EXPECT_FALSE(runtime_->Execute(*donating, {{gone, kept}}, {}, [](const absl::Status&) { FAIL(); }).ok());
    EXPECT_FALSE(runtime_->Execute(*donating, {{kept, gone}}, {}, [](const absl::Status&) { FAIL(); }).ok());
    EXPECT_FALSE(runtime_->CopyTo(*gone, 1, "").ok());
    EXPECT_FALSE(Get(gone, 16).ok());
    EXPECT_FALSE(runtime_->HostView(gone).ok());
    CtsWaiter ready;
    gone->OnReady(ready.Callback());
    EXPECT_EQ(ready.Wait().code(), absl::StatusCode::kInvalidArgument);
  }
  clock_.Advance(10 * kMs);
  EXPECT_EQ(*Get(second[0][0], 16), std::string(16, '\0'));
  EXPECT_TRUE(Get(kept, 16).ok());
}

TEST_F(TimedRuntimeTest, ABufferIsNotDonatedAndUsedAtOnce) {
  Make("");
  const auto donating = Compile(AddRequest("f", {0}, /*donating=*/true));
  const Buffer data = Put({1, 2, 3, 4});
  EXPECT_EQ(runtime_->Execute(*donating, {{data, data}}, {}, [](const absl::Status&) { FAIL(); }).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Get(data, 16).ok()) << "nothing was started";
}

TEST_F(TimedRuntimeTest, ADonatedBufferThatIsBeingReadIsReadToItsEnd) {
  Make("");
  const auto donating = Compile(AddRequest("f", {0}, /*donating=*/true));
  const Buffer data = Put({1, 2, 3, 4});
  const absl::StatusOr<HostBytes> view = runtime_->HostView(data);
  ASSERT_TRUE(view.ok()) << view.status();
  Launch("f", *donating, {{data, Put({1, 2, 3, 4})}});
  float first = 0;
  std::memcpy(&first, view->bytes.data(), sizeof(first));
  EXPECT_EQ(first, 1);
}

TEST_F(TimedRuntimeTest, AProgramsCostAndTextAreThePlugins) {
  Make("f=cost:4000");
  const auto program = Compile(AddRequest("jit_f", {0}));
  const auto real = inside_->Compile(AddRequest("jit_f", {0}));
  ASSERT_TRUE(real.ok());
  EXPECT_EQ(*runtime_->CostAnalysis(*program), *inside_->CostAnalysis(**real));
  EXPECT_EQ(*runtime_->ProgramText(*program), *inside_->ProgramText(**real));
  // Four additions.
  const Buffer x = Put({1, 2, 3, 4});
  Launch("f", *program, {{x, x}});
  clock_.Advance(kMs);
  EXPECT_THAT(finished_, ElementsAre(std::pair("f", 1 * kMs)));
}

TEST_F(TimedRuntimeTest, AProgramThatWouldTakeForEverIsNotCompiled) {
  Make("f=cost:0.0001");
  const absl::Status error = runtime_->Compile(AddRequest("f", {0})).status();
  EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(error.message()), HasSubstr("--launch-time"));
}

TEST_F(TimedRuntimeTest, AGangsProgramTakesTheTimeOfItsNameOnEachDeviceAndMeetsNobody) {
  Make("*=1ms");
  const absl::StatusOr<proto::PortableProgram> portable =
      runtime_->CompilePortable(AddRequest("jit_stage_for_5ms", {0, 1, 2, 3}), 4);
  ASSERT_TRUE(portable.ok()) << portable.status();
  const auto programs = runtime_->Load({std::make_shared<proto::PortableProgram>(*portable), {0, 1}, {2, 3}});
  ASSERT_TRUE(programs.ok()) << programs.status();
  ASSERT_EQ(programs->size(), 2);
  const Buffer on_0 = Put({1, 2, 3, 4}, 0);
  const Buffer on_1 = Put({1, 2, 3, 4}, 1);
  Launch("on 0", *(*programs)[0], {{on_0, on_0}});
  clock_.Advance(2 * kMs);
  Launch("on 1", *(*programs)[1], {{on_1, on_1}});
  clock_.Advance(10 * kMs);
  EXPECT_THAT(finished_, ElementsAre(std::pair("on 0", 5 * kMs), std::pair("on 1", 7 * kMs)));
}

TEST_F(TimedRuntimeTest, LaunchesThatRunWhenTheDevicesGoAreCancelled) {
  absl::StatusOr<std::unique_ptr<DeviceRuntime>> cpu = MakeCpu(1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  TimedRuntimeOptions options;
  options.times = *LaunchTimes::Parse("*=1h");
  runtime_ = MakeTimedRuntime(*std::move(cpu), std::move(options));
  auto program = Compile(AddRequest("f", {0}));
  CtsWaiter first, second, ready, read;
  std::string target(16, 'x');
  {
    const Buffer x = Put({1, 2, 3, 4});
    auto run = runtime_->Execute(*program, {{x, x}}, {}, first.Callback());
    ASSERT_TRUE(run.ok());
    const Buffer output = run->outputs[0][0];
    output->OnReady(ready.Callback());
    runtime_->ToHost(output, {}, absl::MakeSpan(target.data(), target.size()), read.Callback());
    ASSERT_TRUE(runtime_->Execute(*program, {{output, x}}, {}, second.Callback()).ok());
  }
  program.reset();
  runtime_.reset();
  for (const CtsWaiter& waiter : {first, second, ready, read}) {
    EXPECT_EQ(waiter.calls(), 1);
    EXPECT_EQ(waiter.Wait().code(), absl::StatusCode::kCancelled);
  }
}

TEST_F(TimedRuntimeTest, ManyShortLaunchesInRealTimeTakeNoLessThanTheirSum) {
  constexpr int kLaunches = 1000;
  absl::StatusOr<std::unique_ptr<DeviceRuntime>> cpu = MakeCpu(1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  TimedRuntimeOptions options;
  options.times = *LaunchTimes::Parse("*=300us");
  runtime_ = MakeTimedRuntime(*std::move(cpu), std::move(options));
  const auto program = Compile(AddRequest("f", {0}));
  const Buffer one = Put({1, 2, 3, 4});
  Buffer sum = one;
  const absl::Time start = SteadyNow();
  std::vector<absl::Time> ended(kLaunches);
  std::vector<CtsWaiter> done(kLaunches);
  for (int i = 0; i < kLaunches; ++i) {
    auto run = runtime_->Execute(*program, {{sum, one}}, {},
                                 [&ended, i, callback = done[i].Callback()](const absl::Status& status) {
                                   ended[i] = SteadyNow();
                                   callback(status);
                                 });
    ASSERT_TRUE(run.ok()) << run.status();
    sum = run->outputs[0][0];
  }
  for (int i = 0; i < kLaunches; ++i) {
    ASSERT_TRUE(done[i].Wait().ok());
    EXPECT_EQ(done[i].calls(), 1);
    EXPECT_GE(ended[i] - start, (i + 1) * absl::Microseconds(300)) << i;
  }
}

// ---------------------------------------------------------------- data that are still on their way

// As the worker's fake runtime, but its buffers are ready when the test says so.
class SlowBuffer final : public DeviceBuffer {
 public:
  int64_t size_bytes() const override { return 4; }
  DType dtype() const override { return DType::kF32; }
  const std::vector<int64_t>& dims() const override { return dims_; }
  void OnReady(StatusCallback done) override { waiting_.push_back(std::move(done)); }

  void Resolve(const absl::Status& status) {
    for (StatusCallback& done : std::exchange(waiting_, {})) done(status);
  }

 private:
  const std::vector<int64_t> dims_ = {1};
  std::vector<StatusCallback> waiting_;
};

class SlowRuntime final : public DeviceRuntime {
 public:
  const proto::Hello& Describe() const override { return fake_.Describe(); }
  absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) override {
    return fake_.Compile(request);
  }
  absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int devices) override {
    return fake_.CompilePortable(request, devices);
  }
  absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) override {
    return fake_.Load(request);
  }
  absl::StatusOr<Execution> Execute(DeviceProgram&, const std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>&,
                                    const ExecuteOptions&, StatusCallback) override {
    ADD_FAILURE() << "nothing is executed";
    return absl::InternalError("no");
  }
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes, const HostShape&, int, const std::string&,
                                                         const std::string&) override {
    return last_ = std::make_shared<SlowBuffer>();
  }
  void ToHost(std::shared_ptr<DeviceBuffer>, absl::Span<const int64_t>, absl::Span<char>,
              StatusCallback done) override {
    done(absl::UnimplementedError("no data"));
  }
  absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer>) override {
    return absl::FailedPreconditionError("no data");
  }
  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer&, int, const std::string&) override {
    return absl::UnimplementedError("no copies");
  }
  absl::StatusOr<std::string> DefaultLayout(DType, absl::Span<const int64_t>, int, const std::string&) override {
    return absl::UnimplementedError("no layouts");
  }
  absl::StatusOr<std::string> ProgramText(DeviceProgram&) override { return absl::UnimplementedError("no text"); }
  absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram&) override {
    return std::map<std::string, double>();
  }

  std::shared_ptr<SlowBuffer> last() const { return last_; }

 private:
  worker::FakeRuntime fake_{{.devices = 1}};
  std::shared_ptr<SlowBuffer> last_;
};

class SlowDataTest : public TimedRuntimeTest {
 protected:
  // The fake program takes as many arguments as its info says, none.
  void SetUp() override {
    auto slow = std::make_unique<SlowRuntime>();
    slow_ = slow.get();
    runtime_ = MakeTimedRuntime(std::move(slow), Options("*=5ms"));
  }

  SlowRuntime* slow_ = nullptr;
};

TEST_F(SlowDataTest, ABufferIsReadyWhenThePluginSaysSo) {
  const auto buffer = runtime_->FromHost({}, {DType::kF32, {1}, {}}, 0, "", "");
  ASSERT_TRUE(buffer.ok());
  CtsWaiter ready;
  (*buffer)->OnReady(ready.Callback());
  EXPECT_EQ(ready.calls(), 0);
  slow_->last()->Resolve(absl::InternalError("the transfer failed"));
  EXPECT_EQ(ready.Wait(), absl::InternalError("the transfer failed"));
}

TEST_F(SlowDataTest, CostsWithoutFlopsAreAnErrorWithTheCure) {
  runtime_ = nullptr;
  runtime_ = MakeTimedRuntime(std::make_unique<SlowRuntime>(), Options("*=cost:1e9"));
  const absl::Status error = runtime_->Compile({"", "copy", "", {0}}).status();
  EXPECT_EQ(error.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(error.message()), testing::AllOf(HasSubstr("copy"), HasSubstr("--launch-time")));
}

}  // namespace
}  // namespace causeway
