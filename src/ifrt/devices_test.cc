#include "ifrt/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace causeway {
namespace {

using ::testing::ElementsAre;

DeviceView Device(int id, int worker, int island) {
  DeviceView view;
  view.id = DeviceId{id};
  view.worker = WorkerId{worker};
  view.island = IslandId{island};
  view.alive = true;
  view.platform = "cpu";
  view.device.set_kind("cpu");
  view.device.add_memories()->set_kind("unpinned_host");
  view.device.add_memories()->set_kind("device");
  view.device.set_default_memory(1);
  return view;
}

ClusterView Cluster(std::vector<DeviceView> devices) { return ClusterView{std::move(devices), "cpu", "1", {1, 9, 0}}; }

TEST(DevicesTest, ADeviceSaysItsIslandAndWorkerButNoSlice) {
  const auto init = InitResponseFor(Cluster({Device(3, 1, 2)}), 99, /*slices=*/false);
  EXPECT_EQ(init.session_id(), 99u);
  ASSERT_EQ(init.all_devices_size(), 1);
  const auto& attributes = init.all_devices(0).attributes().attributes();
  EXPECT_EQ(attributes.at("island").int64_value(), 2);
  EXPECT_EQ(attributes.at("virtual_task_index").int64_value(), 1);
  EXPECT_FALSE(attributes.contains("slice_index"));
  EXPECT_FALSE(attributes.contains("coords"));
  EXPECT_EQ(init.all_devices(0).to_string(), "CpuDevice(id=3)");
}

TEST(DevicesTest, SlicesAreIslandsWhereAskedForWhateverThePluginSays) {
  DeviceView device = Device(3, 1, 2);
  proto::Attribute& slice = *device.device.add_attributes();
  slice.set_name("slice_index");
  slice.set_int_value(7);
  const auto init = InitResponseFor(Cluster({device}), 1, /*slices=*/true);
  EXPECT_EQ(init.all_devices(0).attributes().attributes().at("slice_index").int64_value(), 2);
  EXPECT_FALSE(
      InitResponseFor(Cluster({device}), 1, false).all_devices(0).attributes().attributes().contains("slice_index"));
}

TEST(DevicesTest, AttributesOfThePluginPassThrough) {
  DeviceView device = Device(0, 0, 0);
  proto::Attribute& coords = *device.device.add_attributes();
  coords.set_name("coords");
  for (int i : {1, 2, 0}) coords.mutable_ints()->add_values(i);
  const auto init = InitResponseFor(Cluster({device}), 1, false);
  EXPECT_THAT(init.all_devices(0).attributes().attributes().at("coords").int64_list_value().elements(),
              ElementsAre(1, 2, 0));
}

TEST(DevicesTest, MemoriesHaveIdsOfTheirOwn) {
  const auto init = InitResponseFor(Cluster({Device(0, 0, 0), Device(1, 0, 0)}), 1, false);
  std::set<int> ids;
  for (const auto& memory : init.memories()) ids.insert(memory.id());
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_EQ(init.all_devices(1).default_memory_id(), init.all_devices(1).memory_ids(1));
  EXPECT_EQ(init.memories(3).memory_space_kind(), "device");
}

TEST(DevicesTest, DeadDevicesAreNotOffered) {
  DeviceView dead = Device(1, 1, 0);
  dead.alive = false;
  const auto init = InitResponseFor(Cluster({Device(0, 0, 0), dead}), 1, false);
  EXPECT_THAT(init.primary_device_ids(), ElementsAre(0));
  EXPECT_EQ(init.all_devices_size(), 1);
}

TEST(DevicesTest, WhatJaxExportNeedsIsThere) {
  const auto init = InitResponseFor(Cluster({Device(0, 0, 0)}), 1, false);
  const auto& client = init.client_attributes().attributes();
  EXPECT_TRUE(client.at("serialize_with_sdy").bool_value());
  EXPECT_THAT(client.at("stablehlo_current_version").int64_list_value().elements(), ElementsAre(1, 9, 0));
}

}  // namespace
}  // namespace causeway
