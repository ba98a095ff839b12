#include "controller/program_memory.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace causeway {
namespace {

using Space = DeviceMemory::Space;

proto::Device Gpu() {
  proto::Device device;
  device.add_memories()->set_kind("pinned_host");
  device.add_memories()->set_kind("device");
  device.set_default_memory(1);
  return device;
}

void AddOutput(proto::ProgramInfo& info, DType dtype, const std::vector<int64_t>& dims, const std::string& kind = "") {
  proto::OutputInfo& output = *info.add_outputs();
  output.mutable_type()->set_dtype(static_cast<int32_t>(dtype));
  for (int64_t d : dims) output.mutable_type()->add_dims(d);
  output.set_memory_kind(kind);
}

TEST(ProgramMemoryTest, OutputsAreAsLargeAsTheirTypesSay) {
  proto::ProgramInfo info;
  AddOutput(info, DType::kF32, {2, 3});
  AddOutput(info, DType::kS4, {7}, "device");
  AddOutput(info, DType::kF64, {10}, "pinned_host");
  AddOutput(info, DType::kToken, {});
  const ProgramMemory memory = MemoryOf(info, Gpu());
  ASSERT_EQ(memory.outputs.size(), 4);
  EXPECT_EQ(memory.outputs[0].bytes, 24);
  EXPECT_EQ(memory.outputs[1].bytes, 4);
  EXPECT_EQ(memory.outputs[1].space, Space::kDevice);
  EXPECT_EQ(memory.outputs[2].bytes, 80);
  EXPECT_EQ(memory.outputs[2].space, Space::kElsewhere);
  EXPECT_EQ(memory.outputs[3].bytes, 0);
  EXPECT_EQ(memory.output_bytes, 28);
}

TEST(ProgramMemoryTest, NeedsRoomForOutputsThatTakeNobodysPlace) {
  proto::ProgramInfo info;
  AddOutput(info, DType::kF32, {100});
  info.mutable_memory()->set_alias_size_bytes(300);
  info.mutable_memory()->set_temp_size_bytes(50);
  const ProgramMemory memory = MemoryOf(info, Gpu());
  EXPECT_EQ(memory.NeedOf(/*donates=*/true).arrays, 100);
  EXPECT_EQ(memory.NeedOf(/*donates=*/true).temp, 50);
  EXPECT_EQ(memory.NeedOf(/*donates=*/false).arrays, 400);
}

TEST(ProgramMemoryTest, SizesAreCorrected) {
  proto::ProgramInfo info;
  AddOutput(info, DType::kF32, {100});
  AddOutput(info, DType::kF32, {1}, "pinned_host");
  ProgramMemory memory = MemoryOf(info, Gpu());
  memory.Correct({512, 64});
  EXPECT_EQ(memory.outputs[1].bytes, 64);
  EXPECT_EQ(memory.NeedOf(/*donates=*/true).arrays, 512);
}

TEST(ProgramMemoryTest, ShapesThatCannotBeAreVeryLarge) {
  proto::ProgramInfo info;
  AddOutput(info, DType::kC128, {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max()});
  AddOutput(info, DType::kC128, {-1});
  const ProgramMemory memory = MemoryOf(info, Gpu());
  EXPECT_GE(memory.outputs[0].bytes, int64_t{1} << 59);
  EXPECT_EQ(memory.outputs[1].bytes, 0);
}

}  // namespace
}  // namespace causeway
