#include "controller/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace causeway {
namespace {

using ::testing::ElementsAre;

// Workers of two devices each.
Cluster MakeCluster(int workers) {
  Cluster cluster(/*key_seed=*/1);
  for (int w = 0; w < workers; ++w) {
    proto::Hello hello;
    hello.set_version(kControlVersion);
    hello.set_name("w" + std::to_string(1000 + w));
    for (int d = 0; d < 2; ++d) hello.add_devices()->add_memories();
    EXPECT_TRUE(cluster.Join(hello, LinkId{static_cast<uint64_t>(w + 1)}, absl::UnixEpoch()).ok());
  }
  cluster.AssignDeviceIds();
  return cluster;
}

TEST(ClusterTest, APlacementNamesEachWorkerOnce) {
  Cluster cluster = MakeCluster(2);
  const auto placement = cluster.PlacementOf({DeviceId{3}, DeviceId{0}, DeviceId{2}, DeviceId{1}});
  EXPECT_THAT(placement->workers, ElementsAre(WorkerId{1}, WorkerId{0}));
  EXPECT_THAT(placement->devices, ElementsAre(DeviceId{3}, DeviceId{0}, DeviceId{2}, DeviceId{1}));
}

TEST(ClusterTest, PlacementsAreOneObjectExactlyWhereTheDevicesAreTheSameInOrder) {
  Cluster cluster = MakeCluster(2);
  const auto placement = cluster.PlacementOf({DeviceId{0}, DeviceId{1}});
  EXPECT_EQ(cluster.PlacementOf({DeviceId{0}, DeviceId{1}}), placement);
  EXPECT_NE(cluster.PlacementOf({DeviceId{1}, DeviceId{0}}), placement);
  EXPECT_NE(cluster.PlacementOf({DeviceId{0}}), placement);
}

TEST(ClusterTest, PlacementsThatNobodyUsesAreForgottenAndOthersAreNot) {
  Cluster cluster = MakeCluster(100);
  const auto kept = cluster.PlacementOf({DeviceId{0}});
  for (int first = 0; first < 200; ++first) {
    for (int second = 0; second < 200; ++second) {
      if (first != second) cluster.PlacementOf({DeviceId{first}, DeviceId{second}});
    }
  }
  EXPECT_LE(cluster.placement_count(), 128u);
  EXPECT_EQ(cluster.PlacementOf({DeviceId{0}}), kept);
}

}  // namespace
}  // namespace causeway
