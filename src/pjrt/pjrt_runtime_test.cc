#include "pjrt/pjrt_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_replace.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pjrt/ffi.h"
#include "pjrt/plugin_discovery.h"
#include "worker/device_runtime_cts.h"
#include "xla/ffi/api/ffi.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

namespace ffi = xla::ffi;

// ---------------------------------------------------------------- custom calls that wait and that fail

Mutex gate_mutex;
CondVar gate_changed;
bool gate_open ABSL_GUARDED_BY(gate_mutex) = true;

void SetGate(bool open) {
  MutexLock lock(&gate_mutex);
  gate_open = open;
  gate_changed.SignalAll();
}

ffi::Error PassTheGate(ffi::Buffer<ffi::F32> in, ffi::ResultBuffer<ffi::F32> out) {
  MutexLock lock(&gate_mutex);
  while (!gate_open) gate_changed.Wait(&gate_mutex);
  std::memcpy(out->typed_data(), in.typed_data(), in.size_bytes());
  return ffi::Error::Success();
}

ffi::Error FailOnTheDevice(ffi::Buffer<ffi::F32>, ffi::ResultBuffer<ffi::F32>) {
  return ffi::Error(ffi::ErrorCode::kAborted, "it failed, as it should");
}

XLA_FFI_DEFINE_HANDLER(kGate, PassTheGate, ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
XLA_FFI_DEFINE_HANDLER(kFail, FailOnTheDevice,
                       ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

// Another CPU plugin can be put to the test by its path.
std::string PluginUnderTest() {
  const char* plugin = std::getenv("CAUSEWAY_TEST_PLUGIN");
  return plugin == nullptr ? "cpu" : plugin;
}

absl::Status RegisterTestCalls() {
  ASSIGN_OR_RETURN(const std::string path, FindPlugin(PluginUnderTest()));
  ASSIGN_OR_RETURN(const PjrtApi* const api, PjrtApi::Load(path));
  RETURN_IF_ERROR(RegisterFfiHandler(*api, "causeway_cts_gate", kFfiHostPlatform, reinterpret_cast<void*>(+kGate)));
  return RegisterFfiHandler(*api, "causeway_cts_fail", kFfiHostPlatform, reinterpret_cast<void*>(+kFail));
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCpu(int devices) {
  RETURN_IF_ERROR(RegisterTestCalls());
  PjrtRuntimeOptions options;
  options.plugin = PluginUnderTest();
  options.device_count = devices;
  return CreatePjrtRuntime(options);
}

// ---------------------------------------------------------------- programs

constexpr char kAdd[] = R"(
module @add {
  func.func public @main(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.add %a, %b : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
})";

constexpr char kAddDonating[] = R"(
module @add_donating {
  func.func public @main(%a: tensor<4xf32> {tf.aliasing_output = 0 : i32}, %b: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.add %a, %b : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
})";

constexpr char kFirstElement[] = R"(
module @first_element {
  func.func public @main(%a: tensor<4xf32> {jax.buffer_donor = true}) -> tensor<1xf32> {
    %0 = stablehlo.slice %a [0:1] : (tensor<4xf32>) -> tensor<1xf32>
    return %0 : tensor<1xf32>
  }
})";

// The product costs enough that the plugin does not run the program inside Execute.
constexpr char kCall[] = R"(
module @call {
  func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32> {
    %m = stablehlo.broadcast_in_dim %a, dims = [1] : (tensor<4xf32>) -> tensor<256x4xf32>
    %p = stablehlo.dot_general %m, %m, contracting_dims = [1] x [1]
        : (tensor<256x4xf32>, tensor<256x4xf32>) -> tensor<256x256xf32>
    %s = stablehlo.slice %p [0:1, 0:4] : (tensor<256x256xf32>) -> tensor<1x4xf32>
    %r = stablehlo.reshape %s : (tensor<1x4xf32>) -> tensor<4xf32>
    %c = stablehlo.custom_call @TARGET(%a) {api_version = 4 : i32} : (tensor<4xf32>) -> tensor<4xf32>
    %d = stablehlo.subtract %r, %r : tensor<4xf32>
    %e = stablehlo.add %c, %d : tensor<4xf32>
    return %e : tensor<4xf32>
  }
})";

CompileRequest Request(const std::string& code, const std::vector<int>& devices, int partitions = 1) {
  xla::CompileOptionsProto options;
  auto& build = *options.mutable_executable_build_options();
  build.set_device_ordinal(-1);
  build.set_num_replicas(static_cast<int64_t>(devices.size()) / partitions);
  build.set_num_partitions(partitions);
  build.set_use_spmd_partitioning(partitions > 1);
  return {"mlir", code, options.SerializeAsString(), devices};
}

CompileRequest CtsRequest(CtsProgram program, const std::vector<int>& devices) {
  switch (program) {
    case CtsProgram::kAdd:
      return Request(kAdd, devices);
    case CtsProgram::kAddDonating:
      return Request(kAddDonating, devices);
    case CtsProgram::kGated:
      return Request(absl::StrReplaceAll(kCall, {{"TARGET", "causeway_cts_gate"}}), devices);
    case CtsProgram::kFailing:
      return Request(absl::StrReplaceAll(kCall, {{"TARGET", "causeway_cts_fail"}}), devices);
  }
  return {};
}

INSTANTIATE_TEST_SUITE_P(PjrtCpu, DeviceRuntimeCts,
                         testing::Values(DeviceRuntimeCtsFactory{"PjrtCpu", MakeCpu, CtsRequest, SetGate}),
                         [](const auto& info) { return info.param.name; });

// ---------------------------------------------------------------- what only PJRT shows

class PjrtRuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<DeviceRuntime>> runtime = MakeCpu(2);
    ASSERT_TRUE(runtime.ok()) << runtime.status();
    runtime_ = *std::move(runtime);
  }

  std::shared_ptr<DeviceProgram> Compile(const CompileRequest& request) {
    absl::StatusOr<std::shared_ptr<DeviceProgram>> program = runtime_->Compile(request);
    EXPECT_TRUE(program.ok()) << program.status();
    return *program;
  }

  std::shared_ptr<DeviceBuffer> Put(const std::vector<float>& values, std::vector<int64_t> dims, int device = 0,
                                    const std::string& layout = "") {
    auto owner = std::make_shared<std::vector<float>>(values);
    const absl::Span<const char> bytes(reinterpret_cast<const char*>(owner->data()), owner->size() * sizeof(float));
    auto buffer = runtime_->FromHost({owner, bytes}, {DType::kF32, std::move(dims), {}}, device, "", layout);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    return *buffer;
  }

  std::vector<float> Get(const std::shared_ptr<DeviceBuffer>& buffer) {
    std::vector<float> values(buffer->size_bytes() / sizeof(float));
    CtsWaiter done;
    runtime_->ToHost(buffer, {}, {reinterpret_cast<char*>(values.data()), values.size() * sizeof(float)},
                     done.Callback());
    EXPECT_TRUE(done.Wait().ok());
    return values;
  }

  std::unique_ptr<DeviceRuntime> runtime_;
};

// So the controller counts memory before it is there.
TEST_F(PjrtRuntimeTest, ABufferOfAnyTypeIsAsLargeAsItsElementsPacked) {
  for (int number = 1; number <= 33; ++number) {
    const DType dtype{number};
    if (HostByteWidth(dtype) == 0) continue;
    for (int64_t elements : {0, 1, 7, 8, 1000}) {
      const auto bytes = std::make_shared<std::string>(elements * HostByteWidth(dtype), '\0');
      auto buffer = runtime_->FromHost({bytes, *bytes}, {dtype, {elements}, {}}, 0, "", "");
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ((*buffer)->size_bytes(), PackedBytes(dtype, elements)) << Name(dtype) << "[" << elements << "]";
    }
  }
}

// x is split by rows over two partitions; y is their sum over all rows, whole everywhere; z stays split.
constexpr char kSharded[] = R"(
module @sharded attributes {mhlo.num_partitions = 2 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%x: tensor<4x3xf32> {mhlo.sharding = "{devices=[2,1]<=[2]}"})
      -> (tensor<3xf32> {mhlo.sharding = "{replicated}"}, tensor<4x3xf32> {mhlo.sharding = "{devices=[2,1]<=[2]}"}) {
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %y = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0]
        : (tensor<4x3xf32>, tensor<f32>) -> tensor<3xf32>
    %z = stablehlo.add %x, %x : tensor<4x3xf32>
    return %y, %z : tensor<3xf32>, tensor<4x3xf32>
  }
})";

TEST_F(PjrtRuntimeTest, AProgramOfTwoPartitionsSaysItsShardingsAndMeetsInItsCollectives) {
  const auto program = Compile(Request(kSharded, {0, 1}, /*partitions=*/2));
  const proto::ProgramInfo& info = program->info();
  EXPECT_EQ(info.name(), "sharded");
  EXPECT_TRUE(info.has_collectives());
  ASSERT_EQ(info.parameters_size(), 1);
  ASSERT_EQ(info.outputs_size(), 2);

  xla::OpSharding sharding;
  ASSERT_TRUE(sharding.ParseFromString(info.parameters(0).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::OTHER);
  EXPECT_THAT(sharding.tile_assignment_dimensions(), testing::ElementsAre(2, 1));
  ASSERT_TRUE(sharding.ParseFromString(info.outputs(0).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::REPLICATED);
  ASSERT_TRUE(sharding.ParseFromString(info.outputs(1).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::OTHER);
  EXPECT_THAT(info.outputs(1).type().dims(), testing::ElementsAre(2, 3)) << "of one device's shard";

  CtsWaiter done;
  auto run = runtime_->Execute(*program, {{Put({1, 2, 3, 4, 5, 6}, {2, 3}, 0)}, {Put({1, 1, 1, 1, 1, 1}, {2, 3}, 1)}},
                               {}, done.Callback());
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_TRUE(done.Wait().ok());
  EXPECT_THAT(Get(run->outputs[0][0]), testing::ElementsAre(7, 9, 11));
  EXPECT_THAT(Get(run->outputs[1][0]), testing::ElementsAre(7, 9, 11));
  EXPECT_THAT(Get(run->outputs[1][1]), testing::ElementsAre(2, 2, 2, 2, 2, 2));
}

TEST_F(PjrtRuntimeTest, AProgramOfOneDeviceHasNoCollectivesAndNoShardings) {
  const auto program = Compile(Request(kAdd, {1}));
  EXPECT_FALSE(program->info().has_collectives());
  EXPECT_EQ(program->info().parameters(0).sharding(), "");
  EXPECT_EQ(program->info().outputs(0).sharding(), "");
}

TEST_F(PjrtRuntimeTest, AProgramSaysItsLayoutsMemoriesAndSizes) {
  const proto::ProgramInfo info = Compile(Request(kAdd, {0}))->info();
  xla::LayoutProto layout;
  for (const std::string& serialized : {info.parameters(1).layout(), info.outputs(0).layout()}) {
    ASSERT_TRUE(layout.ParseFromString(serialized));
    EXPECT_THAT(layout.minor_to_major(), testing::ElementsAre(0));
  }
  const std::string kind = runtime_->Describe().devices(0).memories(0).kind();
  EXPECT_EQ(info.outputs(0).memory_kind(), kind);
  EXPECT_EQ(info.memory().argument_size_bytes(), 32);
  EXPECT_EQ(info.memory().output_size_bytes(), 16);
}

TEST_F(PjrtRuntimeTest, ABufferDonorIsADonatedParameter) {
  const std::string donor =
      absl::StrReplaceAll(kAddDonating, {{"tf.aliasing_output = 0 : i32", "jax.buffer_donor = true"}});
  EXPECT_THAT(Compile(Request(donor, {0}))->info().donated_parameters(), testing::ElementsAre(0));
}

TEST_F(PjrtRuntimeTest, ABufferDonorThatNoOutputCanUseStaysWhatItIs) {
  const auto program = Compile(Request(kFirstElement, {0}));
  EXPECT_THAT(program->info().donated_parameters(), testing::IsEmpty());
  const auto argument = Put({5, 6, 7, 8}, {4}, 0);
  CtsWaiter done;
  auto run = runtime_->Execute(*program, {{argument}}, {}, done.Callback());
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_TRUE(done.Wait().ok());
  EXPECT_THAT(Get(run->outputs[0][0]), testing::ElementsAre(5));
  EXPECT_THAT(Get(argument), testing::ElementsAre(5, 6, 7, 8));
}

TEST_F(PjrtRuntimeTest, TheClientsDevicesGiveWayToOurs) {
  CompileRequest request = Request(kAdd, {1});
  xla::CompileOptionsProto options;
  ASSERT_TRUE(options.ParseFromString(request.options));
  auto& build = *options.mutable_executable_build_options();
  build.set_device_ordinal(77);
  build.mutable_device_assignment()->set_replica_count(1);
  build.mutable_device_assignment()->set_computation_count(1);
  build.mutable_device_assignment()->add_computation_devices()->add_replica_device_ids(77);
  request.options = options.SerializeAsString();
  const auto program = Compile(request);
  auto run = runtime_->Execute(*program, {{Put({1, 2, 3, 4}, {4}, 1), Put({1, 1, 1, 1}, {4}, 1)}}, {},
                               [](const absl::Status&) {});
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_THAT(Get(run->outputs[0][0]), testing::ElementsAre(2, 3, 4, 5));
}

TEST_F(PjrtRuntimeTest, OptionsThatDoNotFitTheDevicesAreRefused) {
  EXPECT_EQ(runtime_->Compile(Request(kSharded, {0}, 2)).status().code(), absl::StatusCode::kInvalidArgument);
  CompileRequest garbage = Request(kAdd, {0});
  garbage.options = "\xff";
  EXPECT_EQ(runtime_->Compile(garbage).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PjrtRuntimeTest, TheTextOfAProgramNamesItsInstructions) {
  const auto program = Compile(Request(kSharded, {0, 1}, 2));
  const absl::StatusOr<std::string> text = runtime_->ProgramText(*program);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, testing::HasSubstr("HloModule sharded"));
  EXPECT_THAT(*text, testing::HasSubstr("ENTRY %"));
  EXPECT_THAT(*text, testing::HasSubstr(" all-reduce(f32[3]"));
}

TEST_F(PjrtRuntimeTest, CostsThatThePluginDoesNotEstimateAreCountedInTheProgram) {
  const auto costs = runtime_->CostAnalysis(*Compile(Request(kAdd, {0})));
  ASSERT_TRUE(costs.ok()) << costs.status();
  EXPECT_EQ(costs->at("flops"), 4);
  EXPECT_EQ(costs->at("bytes accessed"), 3 * 16);
}

TEST_F(PjrtRuntimeTest, ALayoutAskedForIsTheBuffersOwnAndInvisibleToTheHost) {
  xla::LayoutProto column_major;
  column_major.add_minor_to_major(0);
  column_major.add_minor_to_major(1);
  const auto buffer = Put({1, 2, 3, 4, 5, 6}, {2, 3}, 0, column_major.SerializeAsString());
  EXPECT_THAT(Get(buffer), testing::ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(runtime_->HostView(buffer).status().code(), absl::StatusCode::kFailedPrecondition) << "not row-major";
  column_major.add_minor_to_major(5);
  const std::string data(24, '\0');
  EXPECT_EQ(runtime_->FromHost({nullptr, data}, {DType::kF32, {2, 3}, {}}, 0, "", column_major.SerializeAsString())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PjrtRuntimeTest, DefaultLayoutsAreRowMajorOnCpu) {
  EXPECT_EQ(*runtime_->DefaultLayout(DType::kF32, {2, 3, 4}, 0, ""), "{2,1,0}");
}

TEST_F(PjrtRuntimeTest, LargeAlignedDataAreNotCopiedAndSmallDataAre) {
  for (const bool large : {true, false}) {
    const size_t count = large ? 64'000 : 16;
    std::shared_ptr<float> data(static_cast<float*>(std::aligned_alloc(64, count * sizeof(float))), &std::free);
    std::memset(data.get(), 0, count * sizeof(float));
    const auto* bytes = reinterpret_cast<const char*>(data.get());
    auto buffer = runtime_->FromHost({data, {bytes, count * sizeof(float)}},
                                     {DType::kF32, {static_cast<int64_t>(count)}, {}}, 0, "", "");
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    CtsWaiter ready;
    (*buffer)->OnReady(ready.Callback());
    ASSERT_TRUE(ready.Wait().ok());
    const absl::StatusOr<HostBytes> view = runtime_->HostView(*buffer);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->bytes.data() == bytes, large);
    EXPECT_EQ(data.use_count(), large ? 2 : 1) << "small data do not keep the frame in which they came";
  }
}

// The plugin has no LAPACK of its own; 76 is 'L'.
constexpr char kCholesky[] = R"(
module @cholesky {
  func.func public @main(%a: tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<i32>) {
    %0:2 = stablehlo.custom_call @lapack_spotrf_ffi(%a) {
        api_version = 4 : i32, backend_config = {uplo = 76 : ui8},
        operand_layouts = [dense<[0, 1]> : tensor<2xindex>],
        result_layouts = [dense<[0, 1]> : tensor<2xindex>, dense<> : tensor<0xindex>]}
        : (tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<i32>)
    return %0#0, %0#1 : tensor<2x2xf32>, tensor<i32>
  }
})";

TEST_F(PjrtRuntimeTest, LinearAlgebraCallsFindTheirKernels) {
  const auto program = Compile(Request(kCholesky, {0}));
  auto run = runtime_->Execute(*program, {{Put({4, 2, 2, 10}, {2, 2})}}, {}, [](const absl::Status&) {});
  ASSERT_TRUE(run.ok()) << run.status();
  const std::vector<float> lower = Get(run->outputs[0][0]);
  EXPECT_FLOAT_EQ(lower[0], 2);
  EXPECT_FLOAT_EQ(lower[2], 1);
  EXPECT_FLOAT_EQ(lower[3], 3);
}

TEST_F(PjrtRuntimeTest, ANameHasOneHandler) {
  const auto path = FindPlugin(PluginUnderTest());
  const PjrtApi& api = **PjrtApi::Load(*path);
  EXPECT_TRUE(RegisterTestCalls().ok()) << "again the same";
  EXPECT_EQ(RegisterFfiHandler(api, "causeway_cts_gate", kFfiHostPlatform, reinterpret_cast<void*>(+kFail)).code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(CreatePjrtRuntime, APluginThatIsNotThereIsNotFound) {
  PjrtRuntimeOptions options;
  options.plugin = "/nowhere/plugin.so";
  EXPECT_EQ(CreatePjrtRuntime(options).status().code(), absl::StatusCode::kNotFound);
  options.plugin = "cpu";
  options.device_count = -1;
  EXPECT_EQ(CreatePjrtRuntime(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace causeway
