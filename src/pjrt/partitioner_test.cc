#include "pjrt/partitioner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "pjrt/plugin_discovery.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

constexpr char kSum[] = R"(
module @sum attributes {mhlo.num_partitions = 4 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%a: tensor<8x4xf32> {mhlo.sharding = "{devices=[4,1]<=[4]}"}) -> tensor<4xf32> {
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %0 = stablehlo.reduce(%a init: %zero) applies stablehlo.add across dimensions = [0]
      : (tensor<8x4xf32>, tensor<f32>) -> tensor<4xf32>
    return %0 : tensor<4xf32>
  }
})";

std::string Options(int partitions) {
  xla::CompileOptionsProto options;
  options.mutable_executable_build_options()->set_num_replicas(1);
  options.mutable_executable_build_options()->set_num_partitions(partitions);
  options.mutable_executable_build_options()->set_use_spmd_partitioning(true);
  return options.SerializeAsString();
}

const PjrtApi& Cpu() { return **PjrtApi::Load(*FindPlugin("cpu")); }

int Count(const xla::HloModuleProto& module, const std::string& opcode) {
  int count = 0;
  for (const auto& computation : module.computations()) {
    for (const auto& instruction : computation.instructions()) count += instruction.opcode() == opcode ? 1 : 0;
  }
  return count;
}

TEST(PartitionerTest, ShowsWhatOneDeviceDoes) {
  Partitioner partitioner(Cpu());
  const auto module = partitioner.Partition("mlir", kSum, Options(4), 4);
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(Count(*module, "all-reduce"), 1);
  EXPECT_THAT(module->host_program_shape().parameters(0).dimensions(), testing::ElementsAre(2, 4));
  EXPECT_EQ(module->spmd_parameters_shardings_size(), 1);
  EXPECT_TRUE(module->has_spmd_output_sharding());
}

TEST(PartitionerTest, DoesSoAgainAndForMoreDevices) {
  Partitioner partitioner(Cpu());
  ASSERT_TRUE(partitioner.Partition("mlir", kSum, Options(4), 4).ok());
  for (int i = 0; i < 3; ++i) {
    const std::string for_eight = absl::StrReplaceAll(kSum, {{"[4,1]<=[4]", "[8,1]<=[8]"}, {"= 4 :", "= 8 :"}});
    const auto module = partitioner.Partition("mlir", for_eight, Options(8), 8);
    ASSERT_TRUE(module.ok()) << module.status();
    EXPECT_EQ(Count(*module, "all-reduce"), 1);
  }
}

TEST(PartitionerTest, LeavesOtherCompilesAlone) {
  Partitioner partitioner(Cpu());
  ASSERT_TRUE(partitioner.Partition("mlir", kSum, Options(4), 4).ok());
  const auto client = PjrtClient::Create(&Cpu(), {{"cpu_device_count", int64_t{4}}});
  ASSERT_TRUE(client.ok()) << client.status();
}

TEST(PartitionerTest, GivesTheCompilersErrors) {
  Partitioner partitioner(Cpu());
  EXPECT_FALSE(partitioner.Partition("mlir", "no module", Options(4), 4).ok());
  EXPECT_EQ(partitioner.Partition("mlir", kSum, Options(4), 3).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace causeway
