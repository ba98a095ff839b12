#include "ifrt/shardings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "ifrt/types.h"
#include "xla/python/ifrt/sharding_serdes.pb.h"
#include "xla/python/pjrt_ifrt/xla_sharding.pb.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;

template <typename Proto>
xla::ifrt::ShardingProto Wire(const std::string& type, const Proto& p) {
  xla::ifrt::ShardingProto wire;
  wire.mutable_serialized_sharding()->set_type_name("xla::ifrt::" + type);
  wire.mutable_serialized_sharding()->set_data(p.SerializeAsString());
  return wire;
}

xla::ifrt::DeviceListProto Devices(const std::vector<int>& ids) {
  xla::ifrt::DeviceListProto list;
  for (int id : ids) list.add_device_ids(id);
  return list;
}

TEST(ShardingsTest, SingleDeviceKeepsDeviceAndMemory) {
  xla::ifrt::SingleDeviceShardingProto p;
  p.set_device_id(5);
  p.set_memory_kind("pinned_host");
  const Sharding s = ParseSharding(Wire("SingleDeviceSharding", p)).value();
  EXPECT_THAT(s.devices(), ElementsAre(DeviceId{5}));
  EXPECT_EQ(s.memory_kind(), "pinned_host");
}

TEST(ShardingsTest, HloShardingTilesOverItsDeviceList) {
  xla::ifrt::HloShardingProto p;
  *p.mutable_devices() = Devices({7, 3});
  p.mutable_xla_op_sharding()->set_type(xla::OpSharding::OTHER);
  p.mutable_xla_op_sharding()->add_tile_assignment_dimensions(2);
  p.mutable_xla_op_sharding()->add_iota_reshape_dims(2);
  p.mutable_xla_op_sharding()->add_iota_transpose_perm(0);
  const Sharding s = ParseSharding(Wire("HloSharding", p)).value();
  EXPECT_THAT(s.devices(), ElementsAre(DeviceId{7}, DeviceId{3}));
  EXPECT_THAT(s.ShardBox({8}, 1).start, ElementsAre(4));
}

TEST(ShardingsTest, ConcreteShardingsOfEqualShardsAreEvenOnes) {
  xla::ifrt::ConcreteEvenShardingProto even;
  *even.mutable_devices() = Devices({0, 1});
  *even.mutable_shape() = DimsToWire({4, 6});
  *even.mutable_shard_shape() = DimsToWire({4, 3});
  EXPECT_THAT(ParseSharding(Wire("ConcreteEvenSharding", even)).value().ShardBox({4, 6}, 1).size, ElementsAre(4, 3));

  xla::ifrt::ConcreteShardingProto concrete;
  *concrete.mutable_devices() = Devices({0, 1});
  *concrete.mutable_shape() = DimsToWire({4, 6});
  *concrete.add_shard_shapes() = DimsToWire({4, 3});
  *concrete.add_shard_shapes() = DimsToWire({4, 3});
  EXPECT_THAT(ParseSharding(Wire("ConcreteSharding", concrete)).value().ShardBox({4, 6}, 1).size, ElementsAre(4, 3));
  *concrete.mutable_shard_shapes(1) = DimsToWire({4, 2});
  EXPECT_EQ(ParseSharding(Wire("ConcreteSharding", concrete)).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(ShardingsTest, ShardingParamsDealTilesAlongThePermutedMesh) {
  xla::ifrt::ShardingParamShardingProto p;
  *p.mutable_devices() = Devices({0, 1, 2, 3});
  p.mutable_sharding_param()->add_dim_shards(2);
  p.mutable_sharding_param()->add_dim_shards(2);
  for (int axis : {0, 1}) {
    p.mutable_sharding_param()->add_axis_sizes(2);
    p.mutable_sharding_param()->add_permutation(axis);
  }
  const Sharding row_major = ParseSharding(Wire("ShardingParamSharding", p)).value();
  EXPECT_THAT(row_major.ShardBox({2, 2}, 1).start, ElementsAre(0, 1));
  p.mutable_sharding_param()->set_permutation(0, 1);
  p.mutable_sharding_param()->set_permutation(1, 0);
  const Sharding column_major = ParseSharding(Wire("ShardingParamSharding", p)).value();
  EXPECT_THAT(column_major.ShardBox({2, 2}, 1).start, ElementsAre(1, 0));
}

TEST(ShardingsTest, AMeshOfThousandsOfAxesIsRefused) {
  xla::ifrt::ShardingParamShardingProto p;
  *p.mutable_devices() = Devices({0});
  for (int axis = 0; axis < 10'000; ++axis) {
    p.mutable_sharding_param()->add_axis_sizes(1);
    p.mutable_sharding_param()->add_permutation(axis);
  }
  EXPECT_EQ(ParseSharding(Wire("ShardingParamSharding", p)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ShardingsTest, OpaqueShardingsOverSeveralDevicesAreRefused) {
  xla::ifrt::OpaqueShardingProto p;
  *p.mutable_devices() = Devices({2});
  EXPECT_EQ(ParseSharding(Wire("OpaqueSharding", p)).value().num_shards(), 1);
  *p.mutable_devices() = Devices({2, 3});
  EXPECT_EQ(ParseSharding(Wire("OpaqueSharding", p)).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(ShardingsTest, NonsenseIsRefusedWhateverItIs) {
  for (const char* type : {"SingleDeviceSharding", "HloSharding", "ConcreteEvenSharding", "ConcreteSharding",
                           "ShardingParamSharding", "OpaqueSharding"}) {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
      xla::ifrt::ShardingProto wire;
      wire.mutable_serialized_sharding()->set_type_name(std::string("xla::ifrt::") + type);
      std::string data(random() % 40, '\0');
      for (char& c : data) c = static_cast<char>(random() % (round % 2 ? 256 : 12));
      wire.mutable_serialized_sharding()->set_data(data);
      (void)ParseSharding(wire);  // must come back, with whatever
    }
  }
  EXPECT_EQ(ParseSharding(xla::ifrt::ShardingProto()).status().code(), absl::StatusCode::kUnimplemented);
  xla::ifrt::HloShardingProto none;
  EXPECT_EQ(ParseSharding(Wire("HloSharding", none)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ShardingsTest, WhatIsSentBackMeansTheSame) {
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  op.add_tile_assignment_dimensions(2);
  op.add_tile_assignment_devices(1);
  op.add_tile_assignment_devices(0);
  const std::vector<DeviceId> two = {DeviceId{4}, DeviceId{5}};
  const std::string tiles = op.SerializeAsString();
  const Sharding tiled = ParseSharding(OutputShardingToWire(two, "device", &tiles, {3})).value();
  EXPECT_THAT(tiled.ShardBox({6}, 0).start, ElementsAre(3));
  EXPECT_EQ(tiled.memory_kind(), "device");
  const std::string replicated = xla::OpSharding().SerializeAsString();
  const auto wire = OutputShardingToWire(two, "", &replicated, {3});
  EXPECT_EQ(wire.serialized_sharding().type_name(), "xla::ifrt::HloSharding");
  EXPECT_TRUE(ParseSharding(wire).value().fully_replicated());
  EXPECT_TRUE(ParseSharding(OutputShardingToWire(two, "", nullptr, {3})).value().fully_replicated());
  EXPECT_EQ(ParseSharding(OutputShardingToWire({DeviceId{4}}, "", nullptr, {3})).value().num_shards(), 1);
}

TEST(ShardingsTest, EqualShardingsAreShared) {
  ShardingCache cache;
  xla::ifrt::SingleDeviceShardingProto p;
  p.set_device_id(5);
  const auto first = cache.Get(Wire("SingleDeviceSharding", p)).value();
  EXPECT_EQ(cache.Get(Wire("SingleDeviceSharding", p)).value(), first);
  p.set_device_id(6);
  EXPECT_NE(cache.Get(Wire("SingleDeviceSharding", p)).value(), first);
}

}  // namespace
}  // namespace causeway
