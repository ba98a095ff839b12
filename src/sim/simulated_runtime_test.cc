#include "sim/simulated_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mutex.h"
#include "base/timer_thread.h"
#include "worker/device_runtime_cts.h"

namespace causeway {
namespace {

// Runs calls on a thread of its own while the gate is open, and keeps them while it is closed.
class GatedTimer {
 public:
  void RunAfter(std::function<void()> call) {
    MutexLock lock(&mutex_);
    if (open_) {
      timer_.RunAfter(absl::ZeroDuration(), std::move(call));
    } else {
      held_.push_back(std::move(call));
    }
  }

  void Set(bool open) {
    MutexLock lock(&mutex_);
    open_ = open;
    if (!open) return;
    for (std::function<void()>& call : held_) timer_.RunAfter(absl::ZeroDuration(), std::move(call));
    held_.clear();
  }

 private:
  TimerThread timer_;
  Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<std::function<void()>> held_ ABSL_GUARDED_BY(mutex_);
};

// Lives as long as the tests of the suite, which all use the one.
GatedTimer& Gate() {
  static auto& gate = *new GatedTimer;
  return gate;
}

// A program from `parameters` arrays f32[4] to one.
proto::ProgramInfo Info(int parameters) {
  proto::ProgramInfo info;
  for (int i = 0; i < parameters; ++i) info.add_parameters();
  proto::ShardType& type = *info.add_outputs()->mutable_type();
  type.set_dtype(static_cast<int>(DType::kF32));
  type.add_dims(4);
  return info;
}

CompileRequest CtsRequest(CtsProgram program, const std::vector<int>& devices) {
  const bool one_parameter = program == CtsProgram::kGated || program == CtsProgram::kFailing;
  proto::ProgramInfo info = Info(one_parameter ? 1 : 2);
  if (program == CtsProgram::kAddDonating) info.add_donated_parameters(0);
  if (program == CtsProgram::kFailing) info.set_name("failing");
  return SimulatedProgram(info, devices);
}

DeviceRuntimeCtsFactory Factory() {
  DeviceRuntimeCtsFactory factory;
  factory.name = "Simulated";
  factory.holds_contents = false;
  factory.program = CtsRequest;
  factory.set_gate = [](bool open) { Gate().Set(open); };
  factory.make = [](int devices) -> absl::StatusOr<std::unique_ptr<DeviceRuntime>> {
    SimulatedRuntimeOptions options;
    options.devices = devices;
    options.run_after = [](absl::Duration, std::function<void()> call) { Gate().RunAfter(std::move(call)); };
    options.outcome = [](const proto::ProgramInfo& info) {
      return info.name() == "failing" ? absl::AbortedError("it failed, as it should") : absl::OkStatus();
    };
    return MakeSimulatedRuntime(options);
  };
  return factory;
}

INSTANTIATE_TEST_SUITE_P(Simulated, DeviceRuntimeCts, testing::Values(Factory()),
                         [](const auto& info) { return info.param.name; });

// ---------------------------------------------------------------- what only the simulation promises

// A runtime whose time the test moves by hand.
class SimulatedRuntimeTest : public testing::Test {
 protected:
  std::unique_ptr<DeviceRuntime> Make(int devices) {
    SimulatedRuntimeOptions options;
    options.devices = devices;
    options.launch_time = absl::Milliseconds(7);
    options.run_after = [this](absl::Duration delay, std::function<void()> call) {
      EXPECT_EQ(delay, absl::Milliseconds(7));
      pending_.push_back(std::move(call));
    };
    return MakeSimulatedRuntime(options);
  }

  void Launch(DeviceRuntime& runtime, const std::vector<int>& devices, const std::string& name) {
    auto program = runtime.Compile(SimulatedProgram(Info(0), devices));
    ASSERT_TRUE(program.ok()) << program.status();
    auto run = runtime.Execute(**program, std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>(devices.size()), {},
                               [this, name](const absl::Status&) { finished_.push_back(name); });
    ASSERT_TRUE(run.ok()) << run.status();
  }

  // Ends the launch that has run longest.
  void FinishOne() {
    ASSERT_FALSE(pending_.empty());
    std::function<void()> call = std::move(pending_.front());
    pending_.erase(pending_.begin());
    call();
  }

  std::vector<std::function<void()>> pending_;
  std::vector<std::string> finished_;
};

TEST_F(SimulatedRuntimeTest, ADeviceRunsOneLaunchAtATimeInOrder) {
  auto runtime = Make(1);
  Launch(*runtime, {0}, "a");
  Launch(*runtime, {0}, "b");
  EXPECT_EQ(pending_.size(), 1) << "b waits for a";
  FinishOne();
  FinishOne();
  EXPECT_THAT(finished_, testing::ElementsAre("a", "b"));
}

TEST_F(SimulatedRuntimeTest, DevicesRunSideBySide) {
  auto runtime = Make(2);
  Launch(*runtime, {0}, "a");
  Launch(*runtime, {1}, "b");
  EXPECT_EQ(pending_.size(), 2);
  FinishOne();
  FinishOne();
}

TEST_F(SimulatedRuntimeTest, AGangStartsWhenItIsNextOnAllItsDevices) {
  auto runtime = Make(2);
  Launch(*runtime, {0}, "before");
  Launch(*runtime, {0, 1}, "gang");
  Launch(*runtime, {1}, "after");
  EXPECT_EQ(pending_.size(), 1) << "device 1 is idle, but the gang is not next on device 0";
  FinishOne();
  EXPECT_EQ(pending_.size(), 1);
  FinishOne();
  FinishOne();
  EXPECT_THAT(finished_, testing::ElementsAre("before", "gang", "after"));
}

TEST_F(SimulatedRuntimeTest, ReadingGivesZeros) {
  auto runtime = Make(1);
  const std::string ones(16, '\1');
  auto buffer = runtime->FromHost({nullptr, ones}, {DType::kF32, {4}, {}}, 0, "", "");
  ASSERT_TRUE(buffer.ok());
  std::string target(16, '\1');
  runtime->ToHost(*buffer, {}, absl::MakeSpan(target.data(), target.size()), [](const absl::Status&) {});
  EXPECT_EQ(target, std::string(16, '\0'));
}

TEST_F(SimulatedRuntimeTest, OnlyItsOwnProgramsAreTaken) {
  auto runtime = Make(1);
  EXPECT_EQ(runtime->Compile({"mlir", "module {}", "", {0}}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SimulatedRuntime, ALaunchInFlightIsFinishedBeforeTheRuntimeIsGone) {
  SimulatedRuntimeOptions options;
  options.launch_time = absl::Hours(1);
  auto runtime = MakeSimulatedRuntime(options);
  auto program = runtime->Compile(SimulatedProgram(Info(0), {0}));
  CtsWaiter done;
  {
    ASSERT_TRUE(runtime->Execute(**program, {{}}, {}, done.Callback()).ok());
    ASSERT_TRUE(runtime->Execute(**program, {{}}, {}, [](const absl::Status&) {}).ok());
  }
  program->reset();
  runtime.reset();
  EXPECT_EQ(done.calls(), 1);
}

}  // namespace
}  // namespace causeway
