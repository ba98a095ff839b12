#include "hlo/sharding.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

std::vector<DeviceId> Devices(int n) {
  std::vector<DeviceId> devices;
  for (int i = 0; i < n; ++i) devices.push_back(DeviceId{i});
  return devices;
}

xla::OpSharding Tiled(std::vector<int64_t> dims, std::vector<int64_t> devices) {
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  for (int64_t d : dims) op.add_tile_assignment_dimensions(d);
  for (int64_t d : devices) op.add_tile_assignment_devices(d);
  return op;
}

xla::OpSharding Iota(std::vector<int64_t> dims, std::vector<int64_t> reshape, std::vector<int> perm) {
  xla::OpSharding op = Tiled(dims, {});
  for (int64_t d : reshape) op.add_iota_reshape_dims(d);
  for (int p : perm) op.add_iota_transpose_perm(p);
  return op;
}

TEST(Sharding, EveryDeviceOfAReplicatedArrayHoldsAll) {
  const Sharding s = Sharding::Replicated(Devices(3), "device");
  EXPECT_TRUE(s.fully_replicated());
  EXPECT_EQ(s.ShardBox({4, 5}, 2), (Box{{0, 0}, {4, 5}}));
}

TEST(Sharding, ListedTilesGiveEachDeviceItsPart) {
  const auto s = Sharding::FromOpSharding(Devices(4), "", Tiled({2, 2}, {3, 1, 2, 0}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->ShardBox({4, 6}, 3), (Box{{0, 0}, {2, 3}}));
  EXPECT_EQ(s->ShardBox({4, 6}, 1), (Box{{0, 3}, {2, 3}}));
  EXPECT_EQ(s->ShardBox({4, 6}, 0), (Box{{2, 3}, {2, 3}}));
}

TEST(Sharding, ATransposedIotaIsWalkedInItsTransposedOrder) {
  // iota(2,4) transposed: 0 4 1 5 2 6 3 7.
  const auto s = Sharding::FromOpSharding(Devices(8), "", Iota({8}, {2, 4}, {1, 0}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->ShardBox({8}, 4).start[0], 1);
  EXPECT_EQ(s->ShardBox({8}, 1).start[0], 2);
  EXPECT_EQ(s->ShardBox({8}, 7).start[0], 7);
}

TEST(Sharding, SubgroupsInTheLastDimensionHoldTheSameTile) {
  xla::OpSharding op = Iota({2, 1, 2}, {4}, {0});
  op.set_replicate_on_last_tile_dim(true);
  const auto s = Sharding::FromOpSharding(Devices(4), "", op);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->ShardBox({6, 3}, 0), s->ShardBox({6, 3}, 1));
  EXPECT_EQ(s->ShardBox({6, 3}, 2), (Box{{3, 0}, {3, 3}}));
}

TEST(Sharding, TilesThatDoNotDivideLeaveTheLastShort) {
  const auto s = Sharding::FromOpSharding(Devices(4), "", Tiled({4}, {0, 1, 2, 3}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->ShardBox({5}, 0), (Box{{0}, {2}}));
  EXPECT_EQ(s->ShardBox({5}, 2), (Box{{4}, {1}}));
  EXPECT_EQ(s->ShardBox({5}, 3), (Box{{5}, {0}}));
}

TEST(Sharding, GlobalDimsUndoShardBox) {
  const auto s = Sharding::FromOpSharding(Devices(4), "", Tiled({2, 2}, {0, 1, 2, 3}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->GlobalDims({2, 3}), (std::vector<int64_t>{4, 6}));
}

TEST(Sharding, EvenShardsHaveAShapeAndNoPlace) {
  const auto s = Sharding::Even(Devices(4), "", {4, 6}, {4, 3});
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_FALSE(s->placed());
  EXPECT_FALSE(s->fully_replicated());
  EXPECT_EQ(s->ShardBox({4, 6}, 3).size, (std::vector<int64_t>{4, 3}));
  EXPECT_TRUE(Sharding::Even(Devices(2), "", {4, 6}, {4, 6})->placed()) << "each holds all";
  EXPECT_FALSE(Sharding::Even(Devices(2), "", {4, 6}, {4, 4}).ok());
  EXPECT_FALSE(Sharding::Even(Devices(2), "", {4, 6}, {2, 2}).ok()) << "more shards than devices";
}

TEST(Sharding, PartialSumsHaveNoPlace) {
  xla::OpSharding op;
  op.set_type(xla::OpSharding::UNREDUCED);
  EXPECT_FALSE(Sharding::FromOpSharding(Devices(2), "", op)->placed());
  op = Tiled({2, 2}, {0, 1, 2, 3});
  op.add_last_tile_dims(xla::OpSharding::UNREDUCED);
  EXPECT_FALSE(Sharding::FromOpSharding(Devices(4), "", op)->placed());
  op.set_last_tile_dims(0, xla::OpSharding::REPLICATED);
  EXPECT_TRUE(Sharding::FromOpSharding(Devices(4), "", op)->placed());
}

TEST(Sharding, NoPartOfAnEmptyArrayIsLargerThanIt) {
  // This once divided by zero.
  EXPECT_EQ(Sharding::Even(Devices(2), "", {0, 4}, {1, 2}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Sharding::Even(Devices(2), "", {0, 4}, {0, 2}).ok());
}

TEST(Sharding, NonsenseFromAPeerIsAnErrorThatSaysWhy) {
  const std::vector<xla::OpSharding> bad = {
      Tiled({2, 2}, {0, 1, 2}),          // list too short
      Tiled({2, 2}, {0, 1, 2, 2}),       // twice
      Tiled({2, 2}, {0, 1, 2, 4}),       // out of range
      Tiled({-2, -2}, {0, 1, 2, 3}),     // negative
      Tiled({0, 4}, {}),                 // zero
      Tiled({int64_t{1} << 62, 4}, {}),  // overflow
      Iota({4}, {2, 2}, {0, 0}),         // not a permutation
      Iota({4}, {2, 2}, {0}),            // rank
      Iota({4}, {3, 2}, {0, 1}),         // size
  };
  for (const xla::OpSharding& op : bad) {
    EXPECT_EQ(Sharding::FromOpSharding(Devices(4), "", op).status().code(), absl::StatusCode::kInvalidArgument)
        << op.ShortDebugString();
  }
  xla::OpSharding many_subgroups = Tiled({4}, {0, 1, 2, 3});
  many_subgroups.add_last_tile_dims(xla::OpSharding::MANUAL);
  many_subgroups.set_replicate_on_last_tile_dim(true);
  EXPECT_FALSE(Sharding::FromOpSharding(Devices(4), "", many_subgroups).ok());
}

TEST(Sharding, TilesOfThousandsOfDimensionsAreRefusedBeforeTheyAreWalked) {
  const std::vector<int64_t> ones(20'000, 1);
  std::vector<int> in_order(20'000);
  for (int i = 0; i < 20'000; ++i) in_order[i] = i;
  // Walking these would take as many steps as there are devices times dimensions.
  EXPECT_EQ(Sharding::FromOpSharding(Devices(1), "", Iota({1}, ones, in_order)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Sharding::FromOpSharding(Devices(1), "", Tiled(ones, {0})).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Sharding, AnArrayThatIsTooLargeToCountIsAsLargeAsCanBe) {
  const auto s = Sharding::FromOpSharding(Devices(2), "", Tiled({2}, {0, 1}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->GlobalDims({int64_t{1} << 62}), (std::vector<int64_t>{std::numeric_limits<int64_t>::max()}));
}

TEST(Sharding, ARankThatDoesNotFitIsRefused) {
  const auto s = Sharding::FromOpSharding(Devices(2), "", Tiled({2}, {0, 1}));
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_TRUE(s->CheckRank({8}).ok());
  EXPECT_FALSE(s->CheckRank({8, 8}).ok());
}

TEST(Box, IntersectionOfBoxesThatDoNotMeetIsEmpty) {
  EXPECT_EQ(Intersect(Box{{0, 0}, {2, 2}}, Box{{1, 1}, {4, 4}}), (Box{{1, 1}, {1, 1}}));
  EXPECT_EQ(Intersect(Box{{0}, {2}}, Box{{5}, {2}}).NumElements(), 0);
}

}  // namespace
}  // namespace causeway
