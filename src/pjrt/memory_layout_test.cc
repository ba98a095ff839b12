#include "pjrt/memory_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

std::vector<int64_t> MinorToMajor(MemoryLayout layout) {
  const PJRT_Buffer_MemoryLayout_Tiled& tiled = layout.Get()->tiled;
  return {tiled.minor_to_major, tiled.minor_to_major + tiled.minor_to_major_size};
}

TEST(MemoryLayout, RowMajorCountsFromTheLastDimension) {
  EXPECT_THAT(MinorToMajor(MemoryLayout::RowMajor(3)), testing::ElementsAre(2, 1, 0));
  EXPECT_THAT(MinorToMajor(MemoryLayout::RowMajor(0)), testing::IsEmpty());
}

TEST(MemoryLayout, AProtoGivesItsOrderAndItsTiles) {
  xla::LayoutProto proto;
  proto.add_minor_to_major(0);
  proto.add_minor_to_major(1);
  proto.add_tiles()->add_dimensions(8);
  proto.mutable_tiles(0)->add_dimensions(128);
  absl::StatusOr<MemoryLayout> layout = MemoryLayout::FromProto(proto.SerializeAsString(), 2);
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_THAT(MinorToMajor(*layout), testing::ElementsAre(0, 1));
  const PJRT_Buffer_MemoryLayout_Tiled& tiled = layout->Get()->tiled;
  EXPECT_EQ(tiled.num_tiles, 1);
  EXPECT_EQ(tiled.tile_dim_sizes[0], 2);
  EXPECT_EQ(tiled.tile_dims[1], 128);
}

TEST(MemoryLayout, AProtoThatIsNoneOfThatRankIsRefused) {
  xla::LayoutProto proto;
  proto.add_minor_to_major(1);
  EXPECT_EQ(MemoryLayout::FromProto(proto.SerializeAsString(), 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MemoryLayout::FromProto("\xff", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MemoryLayout::FromProto("", 2).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MemoryLayout, DenseStridesAreALayoutAndOthersAreNone) {
  const auto order = [](std::vector<int64_t> dims, std::vector<int64_t> strides) {
    return MinorToMajor(MemoryLayout::FromStrides(DType::kF32, dims, strides).value());
  };
  EXPECT_THAT(order({2, 3}, {}), testing::ElementsAre(1, 0));
  EXPECT_THAT(order({2, 3}, {12, 4}), testing::ElementsAre(1, 0));
  EXPECT_THAT(order({2, 3}, {4, 8}), testing::ElementsAre(0, 1));
  EXPECT_THAT(order({2, 1, 3}, {4, 999, 8}), testing::ElementsAre(0, 2, 1)) << "one element has no stride";
  EXPECT_FALSE(MemoryLayout::FromStrides(DType::kF32, {2, 3}, {16, 4}).has_value());
}

}  // namespace
}  // namespace causeway
