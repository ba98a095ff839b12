#include "sim/contents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/regions.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::Ne;

ContentsRef Make(std::string bytes) { return std::make_shared<const Contents>(std::move(bytes)); }

TEST(Contents, ALaunchsOutputDependsOnAllThatGoesIn) {
  const ContentsRef a = Make("a");
  const ContentsRef b = Make("b");
  const uint64_t digest = LaunchDigest("f", {a, b});
  EXPECT_EQ(LaunchDigest("f", {Make("a"), b}), digest);
  EXPECT_NE(LaunchDigest("g", {a, b}), digest);
  EXPECT_NE(LaunchDigest("f", {b, a}), digest);
  EXPECT_NE(LaunchDigest("f", {a}), digest);

  const std::string bytes = OutputContents(digest, 0, 0, 100)->bytes;
  EXPECT_EQ(bytes.size(), 100u);
  EXPECT_EQ(OutputContents(digest, 0, 0, 100)->bytes, bytes);
  EXPECT_THAT(OutputContents(digest, 1, 0, 100)->bytes, Ne(bytes));
  EXPECT_THAT(OutputContents(digest, 0, 1, 100)->bytes, Ne(bytes));
}

TEST(Contents, DevicesWithTheSameTileHoldTheSame) {
  proto::OutputInfo output;
  output.mutable_type()->add_dims(3);
  EXPECT_THAT(TilesOf(output, 4), ElementsAre(0, 0, 0, 0)) << "replicated";
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  op.add_tile_assignment_dimensions(2);
  op.add_tile_assignment_dimensions(2);
  op.set_replicate_on_last_tile_dim(true);
  for (int i = 0; i < 4; ++i) op.add_tile_assignment_devices(i);
  output.set_sharding(op.SerializeAsString());
  const std::vector<int64_t> tiles = TilesOf(output, 4);
  EXPECT_EQ(tiles[0], tiles[1]);
  EXPECT_EQ(tiles[2], tiles[3]);
  EXPECT_NE(tiles[0], tiles[2]);
}

TEST(Contents, StridesAreGatheredAndScattered) {
  const HostShape transposed{DType::kU8, {2, 3}, {1, 2}};
  EXPECT_EQ(Gather(transposed, "adbecf"), "abcdef");
  std::string memory(6, '\0');
  Scatter("abcdef", transposed, memory.data());
  EXPECT_EQ(memory, "adbecf");
}

TEST(Regions, ReshardingMovesEveryElementToItsPlace) {
  const std::vector<DeviceId> devices = {DeviceId{0}, DeviceId{1}};
  const auto tiled = [&](int rows, int columns) {
    xla::OpSharding op;
    op.set_type(xla::OpSharding::OTHER);
    op.add_tile_assignment_dimensions(rows);
    op.add_tile_assignment_dimensions(columns);
    op.add_tile_assignment_devices(0);
    op.add_tile_assignment_devices(1);
    return *Sharding::FromOpSharding(devices, "", op);
  };
  const ArraySpec rows{DType::kU8, {2, 3}, std::make_shared<const Sharding>(tiled(2, 1)), ""};
  const Sharding columns = tiled(1, 2);
  const std::vector<ContentsRef> held = sim::Reshard(rows, {Make("abc"), Make("def")}, columns);
  EXPECT_EQ(held[0]->bytes, "abde") << "tiles are rounded up";
  EXPECT_EQ(held[1]->bytes, "cf");
}

}  // namespace
}  // namespace causeway
