// The contract of DeviceRuntime (device_runtime.h) as tests, to be run on every implementation.
//
//   INSTANTIATE_TEST_SUITE_P(Pjrt, DeviceRuntimeCts, testing::Values(PjrtFactory()));
//
// The factory says how to make a runtime and how its programs are written. Comparisons of contents are left out where
// buffers hold none, and where launches compute nothing their results must be zeros. Nothing here measures time: what
// must be unready is held back by the factory's gate.
#ifndef CAUSEWAY_WORKER_DEVICE_RUNTIME_CTS_H_
#define CAUSEWAY_WORKER_DEVICE_RUNTIME_CTS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "worker/device_runtime.h"

namespace causeway {

// The programs of the suite. All arrays are f32[4]; on several devices each runs the same on its own shard.
enum class CtsProgram {
  kAdd,          // (a, b) -> a + b
  kAddDonating,  // the same, and a is donated
  kGated,        // (a) -> a, on the device not before the gate is open; Execute returns before that
  kFailing,      // (a) -> a, fails on the device
};

struct DeviceRuntimeCtsFactory {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<DeviceRuntime>>(int devices)> make;
  std::function<CompileRequest(CtsProgram program, const std::vector<int>& devices)> program;
  std::function<void(bool open)> set_gate;
  bool holds_contents = true;
  bool computes = true;  // otherwise what launches make is zeros
};

inline void PrintTo(const DeviceRuntimeCtsFactory& factory, std::ostream* out) { *out << factory.name; }

// Waits until somebody has said that something happened.
class CtsFlag {
 public:
  void Set() {
    MutexLock lock(&mutex_);
    set_ = true;
    changed_.SignalAll();
  }
  // False if it did not happen within a minute.
  bool Wait() {
    MutexLock lock(&mutex_);
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (!set_ && absl::Now() < deadline) changed_.WaitWithTimeout(&mutex_, deadline - absl::Now());
    return set_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

// Takes one StatusCallback, waits for it, counts its calls.
class CtsWaiter {
 public:
  StatusCallback Callback() {
    return [state = state_](const absl::Status& status) {
      if (++state->calls == 1) {
        state->status = status;
        state->called.Set();
      }
    };
  }
  absl::Status Wait() const {
    if (!state_->called.Wait()) return absl::DeadlineExceededError("the callback did not come");
    return state_->status;
  }
  int calls() const { return state_->calls; }

 private:
  struct State {
    CtsFlag called;
    absl::Status status;
    std::atomic<int> calls{0};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class DeviceRuntimeCts : public testing::TestWithParam<DeviceRuntimeCtsFactory> {
 protected:
  using Buffer = std::shared_ptr<DeviceBuffer>;
  using Rows = std::vector<std::vector<Buffer>>;
  static constexpr int kDevices = 2;

  void SetUp() override {
    GetParam().set_gate(true);
    absl::StatusOr<std::unique_ptr<DeviceRuntime>> runtime = GetParam().make(kDevices);
    ASSERT_TRUE(runtime.ok()) << runtime.status();
    runtime_ = *std::move(runtime);
  }
  void TearDown() override { GetParam().set_gate(true); }

  bool holds_contents() const { return GetParam().holds_contents; }

  static HostBytes Bytes(std::string data) {
    auto owner = std::make_shared<std::string>(std::move(data));
    return HostBytes{owner, *owner};
  }

  static HostBytes Floats(const std::vector<float>& values) {
    return Bytes(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
  }

  static std::vector<float> FloatsIn(absl::Span<const char> bytes) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
  }

  Buffer Put(const std::vector<float>& values, int device = 0) {
    absl::StatusOr<Buffer> buffer =
        runtime_->FromHost(Floats(values), {DType::kF32, {static_cast<int64_t>(values.size())}, {}}, device, "", "");
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    return *buffer;
  }

  // The buffer's `bytes` bytes in host memory.
  absl::StatusOr<std::string> Get(const Buffer& buffer, size_t bytes, absl::Span<const int64_t> byte_strides = {}) {
    std::string target(bytes, '\x77');
    CtsWaiter waiter;
    runtime_->ToHost(buffer, byte_strides, absl::MakeSpan(target.data(), target.size()), waiter.Callback());
    if (absl::Status status = waiter.Wait(); !status.ok()) return status;
    EXPECT_EQ(waiter.calls(), 1);
    return target;
  }

  void ExpectFloats(const Buffer& buffer, const std::vector<float>& expected) {
    const absl::StatusOr<std::string> bytes = Get(buffer, expected.size() * sizeof(float));
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    if (!holds_contents()) return;
    EXPECT_EQ(FloatsIn(*bytes), expected);
  }

  // The same of what a launch has made.
  void ExpectResult(const Buffer& buffer, const std::vector<float>& expected) {
    ExpectFloats(buffer, GetParam().computes ? expected : std::vector<float>(expected.size(), 0));
  }

  std::shared_ptr<DeviceProgram> Compile(CtsProgram program, const std::vector<int>& devices = {0}) {
    absl::StatusOr<std::shared_ptr<DeviceProgram>> compiled = runtime_->Compile(GetParam().program(program, devices));
    EXPECT_TRUE(compiled.ok()) << compiled.status();
    return *compiled;
  }

  // One launch on one device, of which only the output matters.
  Buffer Run(DeviceProgram& program, const std::vector<Buffer>& arguments) {
    absl::StatusOr<Execution> run = runtime_->Execute(program, {arguments}, {}, [](const absl::Status&) {});
    EXPECT_TRUE(run.ok()) << run.status();
    return run->outputs.at(0).at(0);
  }

  absl::Status Ready(const Buffer& buffer) {
    CtsWaiter waiter;
    buffer->OnReady(waiter.Callback());
    return waiter.Wait();
  }

  // The error of a launch, whether Execute gives it at once or `done` later.
  absl::Status ErrorOf(DeviceProgram& program, const Rows& arguments) {
    CtsWaiter done;
    absl::StatusOr<Execution> run = runtime_->Execute(program, arguments, {}, done.Callback());
    return run.ok() ? done.Wait() : run.status();
  }

  std::unique_ptr<DeviceRuntime> runtime_;
};

// ---------------------------------------------------------------- description

TEST_P(DeviceRuntimeCts, DescribesItsDevicesAndLeavesTheWorkersPartEmpty) {
  const proto::Hello& hello = runtime_->Describe();
  EXPECT_FALSE(hello.platform().empty());
  EXPECT_FALSE(hello.plugin().empty());
  EXPECT_THAT(hello.name() + hello.island() + hello.token() + hello.data_address(), testing::IsEmpty());
  ASSERT_EQ(hello.devices_size(), kDevices);
  for (const proto::Device& device : hello.devices()) {
    ASSERT_GT(device.memories_size(), 0);
    EXPECT_LT(device.default_memory(), device.memories_size());
    for (const proto::Memory& memory : device.memories()) EXPECT_FALSE(memory.kind().empty());
  }
}

// ---------------------------------------------------------------- host memory

TEST_P(DeviceRuntimeCts, EveryElementTypeComesBackAsItWent) {
  for (DType dtype : {DType::kPred, DType::kS4, DType::kS8, DType::kS16, DType::kS32, DType::kS64, DType::kU4,
                      DType::kU8, DType::kU16, DType::kU32, DType::kU64, DType::kF16, DType::kBF16, DType::kF32,
                      DType::kF64, DType::kC64, DType::kC128, DType::kF8E5M2, DType::kF8E4M3FN}) {
    const int width = HostByteWidth(dtype);
    std::string data(6 * width, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(dtype == DType::kPred ? i % 2 : i % 8);
    absl::StatusOr<Buffer> buffer = runtime_->FromHost(Bytes(data), {dtype, {2, 3}, {}}, 0, "", "");
    ASSERT_TRUE(buffer.ok()) << Name(dtype) << ": " << buffer.status();
    EXPECT_EQ((*buffer)->dtype(), dtype);
    EXPECT_THAT((*buffer)->dims(), testing::ElementsAre(2, 3));
    const absl::StatusOr<std::string> back = Get(*buffer, data.size());
    ASSERT_TRUE(back.ok()) << Name(dtype) << ": " << back.status();
    if (holds_contents()) {
      EXPECT_EQ(*back, data) << Name(dtype);
    }
  }
}

TEST_P(DeviceRuntimeCts, DataLargerThanAnInlineMessageComeBackAsTheyWent) {
  std::vector<float> values(100'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  ExpectFloats(Put(values), values);
}

TEST_P(DeviceRuntimeCts, HostStridesAreHonouredInBothDirections) {
  const std::string columns{0, 3, 1, 4, 2, 5};  // [[0, 1, 2], [3, 4, 5]] by columns
  absl::StatusOr<Buffer> buffer = runtime_->FromHost(Bytes(columns), {DType::kS8, {2, 3}, {1, 2}}, 0, "", "");
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const absl::StatusOr<std::string> rows = Get(*buffer, 6);
  const absl::StatusOr<std::string> by_columns = Get(*buffer, 6, {1, 2});
  const absl::StatusOr<std::string> padded = Get(*buffer, 7, {4, 1});
  ASSERT_TRUE(rows.ok() && by_columns.ok() && padded.ok()) << rows.status() << by_columns.status() << padded.status();
  if (!holds_contents()) return;
  EXPECT_EQ(*rows, (std::string{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(*by_columns, columns);
  EXPECT_EQ(*padded, (std::string{0, 1, 2, '\x77', 3, 4, 5})) << "what lies between the rows is left alone";
}

TEST_P(DeviceRuntimeCts, RowsWithGapsBetweenThemAreReadWithoutTheGaps) {
  absl::StatusOr<Buffer> buffer =
      runtime_->FromHost(Bytes({0, 1, 9, 9, 2, 3}), {DType::kS8, {2, 2}, {4, 1}}, 0, "", "");
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const absl::StatusOr<std::string> rows = Get(*buffer, 4);
  ASSERT_TRUE(rows.ok()) << rows.status();
  if (!holds_contents()) return;
  EXPECT_EQ(*rows, (std::string{0, 1, 2, 3}));
}

TEST_P(DeviceRuntimeCts, ScalarsAndEmptyArraysComeBackAsTheyWent) {
  absl::StatusOr<Buffer> scalar = runtime_->FromHost(Floats({7}), {DType::kF32, {}, {}}, 0, "", "");
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  ExpectFloats(*scalar, {7});

  absl::StatusOr<Buffer> empty = runtime_->FromHost(HostBytes{}, {DType::kF32, {3, 0}, {}}, 0, "", "");
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_TRUE(Ready(*empty).ok());
  EXPECT_TRUE(Get(*empty, 0).ok());
  absl::StatusOr<Buffer> strided = runtime_->FromHost(HostBytes{}, {DType::kF32, {3, 0}, {4, 4}}, 0, "", "");
  EXPECT_TRUE(strided.ok()) << strided.status();
}

TEST_P(DeviceRuntimeCts, ABufferSaysItsExactSize) {
  absl::StatusOr<Buffer> buffer =
      runtime_->FromHost(Bytes(std::string(60, '\0')), {DType::kF32, {3, 5}, {}}, 1, "", "");
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ((*buffer)->size_bytes(), 60);
  EXPECT_EQ(Run(*Compile(CtsProgram::kAdd), {Put({1, 2, 3, 4}), Put({1, 2, 3, 4})})->size_bytes(), 16);
}

TEST_P(DeviceRuntimeCts, WhatDoesNotFitIsRefusedWithAnError) {
  const HostShape shape{DType::kF32, {4}, {}};
  const auto code = [&](HostBytes bytes, const HostShape& s, int device, const std::string& kind) {
    return runtime_->FromHost(std::move(bytes), s, device, kind, "").status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(Bytes(std::string(15, '\0')), shape, 0, ""), kInvalid) << "too few bytes";
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), shape, kDevices, ""), kInvalid) << "no such device";
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), shape, -1, ""), kInvalid) << "no such device";
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), shape, 0, "no such memory"), kInvalid);
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), {DType::kF32, {-4}, {}}, 0, ""), kInvalid);
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), {DType::kF32, {4}, {-4}}, 0, ""), kInvalid);
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), {DType::kF32, {4}, {4, 4}}, 0, ""), kInvalid);
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), {DType::kString, {1}, {}}, 0, ""), kInvalid);
  EXPECT_EQ(code(Floats({1, 2, 3, 4}), {DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}, {}}, 0, ""), kInvalid);

  const Buffer buffer = Put({1, 2, 3, 4});
  EXPECT_EQ(Get(buffer, 15).status().code(), kInvalid) << "too little room";
  EXPECT_EQ(Get(buffer, 17).status().code(), kInvalid) << "too much room";
  EXPECT_EQ(Get(buffer, 16, {-4}).status().code(), kInvalid);
}

TEST_P(DeviceRuntimeCts, HostMemoryIsLetGoOnceTheBufferIsGone) {
  auto let_go = std::make_shared<CtsFlag>();
  {
    auto* data = new std::vector<float>(100'000);
    std::shared_ptr<const void> owner(data, [let_go](const void* p) {
      delete static_cast<const std::vector<float>*>(p);
      let_go->Set();
    });
    const absl::Span<const char> bytes(reinterpret_cast<const char*>(data->data()), data->size() * sizeof(float));
    absl::StatusOr<Buffer> buffer =
        runtime_->FromHost({std::move(owner), bytes}, {DType::kF32, {100'000}, {}}, 0, "", "");
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    ASSERT_TRUE(Ready(*buffer).ok());
  }
  EXPECT_TRUE(let_go->Wait());
}

TEST_P(DeviceRuntimeCts, AViewShowsTheDataOrSendsToTheCopy) {
  const Buffer buffer = Put({1, 2, 3, 4});
  ASSERT_TRUE(Ready(buffer).ok());
  const absl::StatusOr<HostBytes> view = runtime_->HostView(buffer);
  if (!view.ok()) {
    EXPECT_EQ(view.status().code(), absl::StatusCode::kFailedPrecondition) << view.status();
    return;
  }
  EXPECT_EQ(FloatsIn(view->bytes), (std::vector<float>{1, 2, 3, 4}));
}

TEST_P(DeviceRuntimeCts, AViewKeepsItsDataWhateverHappensToTheBuffer) {
  const auto program = Compile(CtsProgram::kAddDonating);
  Buffer buffer = Put({1, 2, 3, 4});
  ASSERT_TRUE(Ready(buffer).ok());
  const absl::StatusOr<HostBytes> view = runtime_->HostView(buffer);
  if (!view.ok()) GTEST_SKIP() << "no views here: " << view.status();
  const Buffer sum = Run(*program, {buffer, Put({1, 1, 1, 1})});
  ExpectResult(sum, {2, 3, 4, 5});
  buffer.reset();
  EXPECT_EQ(FloatsIn(view->bytes), (std::vector<float>{1, 2, 3, 4})) << "the launch wrote over what the host reads";
}

TEST_P(DeviceRuntimeCts, ACopyOnAnotherDeviceHoldsTheSame) {
  const Buffer source = Put({1, 2, 3, 4}, 0);
  for (int device : {0, 1}) {
    absl::StatusOr<Buffer> copy = runtime_->CopyTo(*source, device, "");
    ASSERT_TRUE(copy.ok()) << copy.status();
    EXPECT_EQ((*copy)->size_bytes(), 16);
    EXPECT_EQ((*copy)->dims(), source->dims());
    ExpectFloats(*copy, {1, 2, 3, 4});
  }
  EXPECT_EQ(runtime_->CopyTo(*source, kDevices, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(runtime_->CopyTo(*source, 0, "no such memory").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(DeviceRuntimeCts, EveryMemoryKindOfADeviceTakesBuffers) {
  for (const proto::Memory& memory : runtime_->Describe().devices(1).memories()) {
    absl::StatusOr<Buffer> buffer =
        runtime_->FromHost(Floats({1, 2, 3, 4}), {DType::kF32, {4}, {}}, 1, memory.kind(), "");
    ASSERT_TRUE(buffer.ok()) << memory.kind() << ": " << buffer.status();
    ExpectFloats(*buffer, {1, 2, 3, 4});
    absl::StatusOr<Buffer> copy = runtime_->CopyTo(**buffer, 0, memory.kind());
    ASSERT_TRUE(copy.ok()) << memory.kind() << ": " << copy.status();
    ExpectFloats(*copy, {1, 2, 3, 4});
  }
}

TEST_P(DeviceRuntimeCts, ADefaultLayoutIsNamedForEachShape) {
  const absl::StatusOr<std::string> layout = runtime_->DefaultLayout(DType::kF32, {2, 3}, 0, "");
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_FALSE(layout->empty());
  EXPECT_FALSE(runtime_->DefaultLayout(DType::kF32, {2, 3}, kDevices, "").ok());
}

// ---------------------------------------------------------------- programs

TEST_P(DeviceRuntimeCts, ACompileErrorIsAStatusAndTheRuntimeGoesOn) {
  CompileRequest garbage = GetParam().program(CtsProgram::kAdd, {0});
  garbage.code = "this is no program";
  EXPECT_FALSE(runtime_->Compile(garbage).ok());

  CompileRequest nowhere = GetParam().program(CtsProgram::kAdd, {0});
  nowhere.devices = {kDevices};
  EXPECT_EQ(runtime_->Compile(nowhere).status().code(), absl::StatusCode::kInvalidArgument);

  const Buffer a = Put({1, 2, 3, 4});
  ExpectResult(Run(*Compile(CtsProgram::kAdd), {a, a}), {2, 4, 6, 8});
}

TEST_P(DeviceRuntimeCts, AProgramSaysWhatGoesInAndWhatComesOut) {
  const auto program = Compile(CtsProgram::kAddDonating, {1, 0});
  EXPECT_THAT(program->devices(), testing::ElementsAre(1, 0));
  const proto::ProgramInfo& info = program->info();
  EXPECT_EQ(info.parameters_size(), 2);
  ASSERT_EQ(info.outputs_size(), 1);
  EXPECT_EQ(info.outputs(0).type().dtype(), static_cast<int>(DType::kF32));
  EXPECT_THAT(info.outputs(0).type().dims(), testing::ElementsAre(4));
  EXPECT_THAT(info.donated_parameters(), testing::ElementsAre(0));
  EXPECT_FALSE(info.has_collectives());
  EXPECT_THAT(Compile(CtsProgram::kAdd)->info().donated_parameters(), testing::IsEmpty());
}

TEST_P(DeviceRuntimeCts, ALaunchComputesAndReportsOnce) {
  const auto program = Compile(CtsProgram::kAdd);
  CtsWaiter done;
  absl::StatusOr<Execution> run =
      runtime_->Execute(*program, {{Put({1, 2, 3, 4}), Put({10, 20, 30, 40})}}, {}, done.Callback());
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ(run->outputs.size(), 1);
  ASSERT_EQ(run->outputs[0].size(), 1);
  EXPECT_EQ(run->outputs[0][0]->dtype(), DType::kF32);
  EXPECT_THAT(run->outputs[0][0]->dims(), testing::ElementsAre(4));
  EXPECT_TRUE(done.Wait().ok());
  ExpectResult(run->outputs[0][0], {11, 22, 33, 44});
  EXPECT_EQ(done.calls(), 1);
}

TEST_P(DeviceRuntimeCts, EachDeviceOfALaunchWorksOnItsOwnRow) {
  for (const std::vector<int>& devices : {std::vector<int>{0, 1}, {1, 0}}) {
    const auto program = Compile(CtsProgram::kAdd, devices);
    Rows rows;
    for (int row = 0; row < kDevices; ++row) {
      const float x = static_cast<float>(row + 1);
      rows.push_back({Put({x, x, x, x}, devices[row]), Put({1, 2, 3, 4}, devices[row])});
    }
    CtsWaiter done;
    absl::StatusOr<Execution> run = runtime_->Execute(*program, rows, {}, done.Callback());
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_TRUE(done.Wait().ok());
    ASSERT_EQ(run->outputs.size(), kDevices);
    ExpectResult(run->outputs[0].at(0), {2, 3, 4, 5});
    ExpectResult(run->outputs[1].at(0), {3, 4, 5, 6});
    EXPECT_EQ(done.calls(), 1);
  }
}

TEST_P(DeviceRuntimeCts, AProgramRunsOnTheDeviceItWasCompiledFor) {
  const Buffer a = Put({1, 2, 3, 4}, 1);
  ExpectResult(Run(*Compile(CtsProgram::kAdd, {1}), {a, a}), {2, 4, 6, 8});
}

TEST_P(DeviceRuntimeCts, ALaunchWithTheWrongArgumentsDoesNotStart) {
  const auto program = Compile(CtsProgram::kAdd);
  const Buffer a = Put({1, 2, 3, 4});
  CtsWaiter done;
  for (const Rows& rows : {Rows{{a}}, Rows{{a, a, a}}, Rows{}, Rows{{a, a}, {a, a}}, Rows{{a, nullptr}}}) {
    EXPECT_EQ(runtime_->Execute(*program, rows, {}, done.Callback()).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(done.calls(), 0);
}

TEST_P(DeviceRuntimeCts, ADonatedBufferIsGone) {
  const auto program = Compile(CtsProgram::kAddDonating);
  const Buffer a = Put({1, 2, 3, 4});
  const Buffer b = Put({10, 20, 30, 40});
  ExpectResult(Run(*program, {a, b}), {11, 22, 33, 44});
  EXPECT_FALSE(ErrorOf(*program, {{a, b}}).ok());
  EXPECT_FALSE(ErrorOf(*Compile(CtsProgram::kAdd), {{b, a}}).ok());
  EXPECT_FALSE(Get(a, 16).ok());
  EXPECT_FALSE(runtime_->HostView(a).ok());
  ExpectFloats(b, {10, 20, 30, 40});
}

TEST_P(DeviceRuntimeCts, AParameterThatMustStayUsableIsNotDonated) {
  const auto program = Compile(CtsProgram::kAddDonating);
  const Buffer a = Put({1, 2, 3, 4});
  const Buffer b = Put({10, 20, 30, 40});
  ExecuteOptions keep;
  keep.non_donatable = {0};
  absl::StatusOr<Execution> run = runtime_->Execute(*program, {{a, b}}, keep, [](const absl::Status&) {});
  ASSERT_TRUE(run.ok()) << run.status();
  ExpectResult(run->outputs[0][0], {11, 22, 33, 44});
  ExpectFloats(a, {1, 2, 3, 4});
}

TEST_P(DeviceRuntimeCts, ARefusedLaunchDonatesNothing) {
  const auto program = Compile(CtsProgram::kAddDonating);
  const Buffer a = Put({1, 2, 3, 4});
  EXPECT_FALSE(ErrorOf(*program, {{a}}).ok());
  ExpectResult(Run(*program, {a, Put({1, 1, 1, 1})}), {2, 3, 4, 5});
}

// Zero-copy buffers share the host's memory, which a launch must not write.
TEST_P(DeviceRuntimeCts, DonationLeavesTheHostsMemoryAlone) {
  const auto program = Compile(CtsProgram::kAddDonating);
  alignas(64) static const float kHost[4] = {1, 2, 3, 4};
  const HostBytes host{nullptr, {reinterpret_cast<const char*>(kHost), sizeof(kHost)}};
  absl::StatusOr<Buffer> a = runtime_->FromHost(host, {DType::kF32, {4}, {}}, 0, "", "");
  ASSERT_TRUE(a.ok()) << a.status();
  ExpectResult(Run(*program, {*a, Put({10, 20, 30, 40})}), {11, 22, 33, 44});
  EXPECT_THAT(kHost, testing::ElementsAre(1, 2, 3, 4));
}

// ---------------------------------------------------------------- asynchrony

TEST_P(DeviceRuntimeCts, OutputsThatAreNotReadyFeedFurtherLaunches) {
  const auto gated = Compile(CtsProgram::kGated);
  const auto add = Compile(CtsProgram::kAdd);
  const Buffer b = Put({10, 20, 30, 40});
  GetParam().set_gate(false);
  const Buffer a = Run(*gated, {Put({1, 2, 3, 4})});
  CtsWaiter done, ready;
  absl::StatusOr<Execution> run = runtime_->Execute(*add, {{a, b}}, {}, done.Callback());
  ASSERT_TRUE(run.ok()) << run.status();
  const Buffer sum = run->outputs[0][0];
  sum->OnReady(ready.Callback());
  absl::StatusOr<Buffer> copy = runtime_->CopyTo(*sum, 1, "");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(runtime_->HostView(a).status().code(), absl::StatusCode::kFailedPrecondition) << "not ready";
  EXPECT_EQ(done.calls() + ready.calls(), 0) << "the gate is closed";

  GetParam().set_gate(true);
  EXPECT_TRUE(done.Wait().ok());
  EXPECT_TRUE(ready.Wait().ok());
  ExpectResult(sum, {11, 22, 33, 44});
  ExpectResult(*copy, {11, 22, 33, 44});
  EXPECT_EQ(done.calls(), 1);
  EXPECT_EQ(ready.calls(), 1);
}

TEST_P(DeviceRuntimeCts, ArgumentsAndProgramMayGoWhileALaunchUsesThem) {
  auto gated = Compile(CtsProgram::kGated);
  auto add = Compile(CtsProgram::kAdd);
  GetParam().set_gate(false);
  Buffer a = Run(*gated, {Put({1, 2, 3, 4})});
  const Buffer sum = Run(*add, {a, Put({10, 20, 30, 40})});
  a.reset();
  gated.reset();
  add.reset();
  GetParam().set_gate(true);
  ExpectResult(sum, {11, 22, 33, 44});
}

TEST_P(DeviceRuntimeCts, EveryReadyCallbackComesOnceHoweverMany) {
  const auto gated = Compile(CtsProgram::kGated);
  GetParam().set_gate(false);
  const Buffer a = Run(*gated, {Put({1, 2, 3, 4})});
  std::vector<CtsWaiter> waiters(10);
  for (CtsWaiter& waiter : waiters) a->OnReady(waiter.Callback());
  GetParam().set_gate(true);
  CtsWaiter late;
  ASSERT_TRUE(waiters[0].Wait().ok());
  a->OnReady(late.Callback());
  waiters.push_back(late);
  for (const CtsWaiter& waiter : waiters) {
    EXPECT_TRUE(waiter.Wait().ok());
    EXPECT_EQ(waiter.calls(), 1);
  }
}

TEST_P(DeviceRuntimeCts, ALongChainRunsToItsEndWithoutWaiting) {
  constexpr int kLaunches = 200;
  const auto add = Compile(CtsProgram::kAdd);
  const Buffer one = Put({1, 1, 1, 1});
  Buffer sum = Put({0, 0, 0, 0});
  std::vector<CtsWaiter> done(kLaunches);
  for (CtsWaiter& waiter : done) {
    absl::StatusOr<Execution> run = runtime_->Execute(*add, {{sum, one}}, {}, waiter.Callback());
    ASSERT_TRUE(run.ok()) << run.status();
    sum = run->outputs[0][0];
  }
  ExpectResult(sum, {kLaunches, kLaunches, kLaunches, kLaunches});
  for (const CtsWaiter& waiter : done) {
    EXPECT_TRUE(waiter.Wait().ok());
    EXPECT_EQ(waiter.calls(), 1);
  }
}

// ---------------------------------------------------------------- errors

TEST_P(DeviceRuntimeCts, AFailedLaunchPoisonsItsDependentsAndNothingElse) {
  const auto failing = Compile(CtsProgram::kFailing);
  const auto add = Compile(CtsProgram::kAdd);
  const Buffer healthy = Put({1, 2, 3, 4});
  CtsWaiter done;
  absl::StatusOr<Execution> run = runtime_->Execute(*failing, {{healthy}}, {}, done.Callback());
  // A device that runs cheap programs inline may find out before Execute returns; then nothing has started.
  if (run.ok()) {
    EXPECT_FALSE(done.Wait().ok());
    EXPECT_EQ(done.calls(), 1);
    const Buffer failed = run->outputs[0][0];
    EXPECT_FALSE(Ready(failed).ok());
    EXPECT_FALSE(Get(failed, 16).ok());
    EXPECT_FALSE(runtime_->HostView(failed).ok());
    EXPECT_FALSE(ErrorOf(*add, {{failed, healthy}}).ok());
    absl::StatusOr<Buffer> copy = runtime_->CopyTo(*failed, 1, "");
    EXPECT_FALSE(copy.ok() && Ready(*copy).ok());
  } else {
    EXPECT_EQ(done.calls(), 0);
  }
  ExpectResult(Run(*add, {healthy, healthy}), {2, 4, 6, 8});
}

}  // namespace causeway

#endif  // CAUSEWAY_WORKER_DEVICE_RUNTIME_CTS_H_
