#include "hlo/replica_groups.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::Pair;

xla::HloInstructionProto Instruction(const std::string& text) {
  xla::HloInstructionProto instruction;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &instruction));
  return instruction;
}

DeviceGroups Groups(const std::string& text, const ProgramSize& size) {
  const auto groups = GroupsOf(Instruction(text), size);
  EXPECT_TRUE(groups.ok()) << groups.status();
  return groups.value_or(DeviceGroups());
}

TEST(ReplicaGroupsTest, Lists) {
  const std::string op = "opcode: 'all-reduce' channel_id: 1 use_global_device_ids: true ";
  const std::string lists = "{ replica_ids: [0, 2] } replica_groups { replica_ids: [3, 1] }";
  EXPECT_THAT(Groups(op + "replica_groups " + lists, {1, 4}), ElementsAre(ElementsAre(0, 2), ElementsAre(3, 1)));
  EXPECT_THAT(Groups(op + "collective_device_list { replica_groups " + lists + "}", {1, 4}),
              ElementsAre(ElementsAre(0, 2), ElementsAre(3, 1)));
}

TEST(ReplicaGroupsTest, AnIotaTransposed) {
  EXPECT_THAT(Groups("opcode: 'all-reduce' channel_id: 1 use_global_device_ids: true iota_collective_device_list { "
                     "num_replica_groups: 2 num_devices_per_group: 4 iota_reshape_dims: [4, 2] iota_transpose_perm: "
                     "[1, 0] }",
                     {1, 8}),
              ElementsAre(ElementsAre(0, 2, 4, 6), ElementsAre(1, 3, 5, 7)));
}

TEST(ReplicaGroupsTest, AxesOfAMesh) {
  const std::string op =
      "opcode: 'all-gather' channel_id: 1 use_global_device_ids: true mesh_axes_replica_group_list { mesh { axes { "
      "name: 'x' size: 2 } axes { name: 'y' size: 4 } } ";
  EXPECT_THAT(Groups(op + "axes { mesh_axis_index: 0 } }", {1, 8}),
              ElementsAre(ElementsAre(0, 4), ElementsAre(1, 5), ElementsAre(2, 6), ElementsAre(3, 7)));
  EXPECT_THAT(Groups(op + "axes { mesh_axis_index: 1 } }", {1, 8}),
              ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4, 5, 6, 7)));
  EXPECT_THAT(Groups(op + "axes { mesh_axis_index: 1 } axes { mesh_axis_index: 0 } }", {1, 8}),
              ElementsAre(ElementsAre(0, 4, 1, 5, 2, 6, 3, 7)));
  // The inner half of y.
  EXPECT_THAT(Groups(op + "axes { mesh_axis_index: 1 sub_axis_info { pre_size: 2 size: 2 } } }", {1, 8}),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4, 5), ElementsAre(6, 7)));
  // The outer half of y.
  EXPECT_THAT(Groups(op + "axes { mesh_axis_index: 1 sub_axis_info { pre_size: 1 size: 2 } } }", {1, 8}),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3), ElementsAre(4, 6), ElementsAre(5, 7)));
}

TEST(ReplicaGroupsTest, AMeshOfPermutedDevices) {
  EXPECT_THAT(
      Groups("opcode: 'all-reduce' channel_id: 1 use_global_device_ids: true mesh_axes_replica_group_list { "
             "mesh { axes { size: 2 } axes { size: 2 } device_ids: [3, 1, 2, 0] } axes { mesh_axis_index: 1 } }",
             {1, 4}),
      ElementsAre(ElementsAre(3, 1), ElementsAre(2, 0)));
}

TEST(ReplicaGroupsTest, TheMeaningOfTheNumbers) {
  const std::string groups = "replica_groups { replica_ids: [0, 1] }";
  // 2 replicas of 2 partitions: devices 0 and 1 are the partitions of replica 0.
  EXPECT_THAT(Groups("opcode: 'all-reduce' " + groups, {2, 2}), ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3)));
  EXPECT_THAT(Groups("opcode: 'all-to-all' channel_id: 1 " + groups, {2, 2}),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(Groups("opcode: 'all-reduce' channel_id: 1 " + groups, {2, 2}), ElementsAre(ElementsAre(0, 1, 2, 3)));
  EXPECT_THAT(Groups("opcode: 'all-reduce'", {4, 1}), ElementsAre(ElementsAre(0, 1, 2, 3)));
}

TEST(ReplicaGroupsTest, Pairs) {
  const std::string pairs = "source_target_pairs { source: 0 target: 1 }";
  EXPECT_THAT(*PairsOf(Instruction("opcode: 'collective-permute' channel_id: 1 " + pairs), {2, 2}),
              ElementsAre(Pair(0, 1), Pair(2, 3)));
  EXPECT_THAT(*PairsOf(Instruction("opcode: 'collective-permute' " + pairs), {2, 2}),
              ElementsAre(Pair(0, 2), Pair(1, 3)));
  EXPECT_FALSE(PairsOf(Instruction("opcode: 'collective-permute' " + pairs + pairs), {2, 1}).ok());
  EXPECT_FALSE(PairsOf(Instruction("opcode: 'collective-permute' " + pairs), {1, 1}).ok());
}

TEST(ReplicaGroupsTest, Malformed) {
  const ProgramSize four{1, 4};
  const std::string op = "opcode: 'all-reduce' channel_id: 1 use_global_device_ids: true ";
  for (const std::string groups : {
           "replica_groups { replica_ids: [0, 1, 2, 4] }",
           "replica_groups { replica_ids: [0, 1, 2, -1] }",
           "replica_groups { replica_ids: [0, 1, 2, 2] }",
           "replica_groups { replica_ids: [0, 1] }",
           "iota_collective_device_list { num_replica_groups: 1 num_devices_per_group: 0 iota_reshape_dims: 4 }",
           "iota_collective_device_list { num_replica_groups: 1 num_devices_per_group: 4 iota_reshape_dims: "
           "9223372036854775807 iota_reshape_dims: 4 }",
           "iota_collective_device_list { num_replica_groups: 1 num_devices_per_group: 4 iota_reshape_dims: 4 "
           "iota_transpose_perm: 1 }",
           "mesh_axes_replica_group_list { mesh { axes { size: 4 } } axes { mesh_axis_index: 1 } }",
           "mesh_axes_replica_group_list { mesh { axes { size: 4 } } axes { sub_axis_info { pre_size: 3 size: 2 } } }",
           "mesh_axes_replica_group_list { mesh { axes { size: 4 } device_ids: [0, 1] } axes { mesh_axis_index: 0 } }",
           "mesh_axes_replica_group_list { mesh { axes { size: 0 } } axes { mesh_axis_index: 0 } }",
       }) {
    EXPECT_EQ(GroupsOf(Instruction(op + groups), four).status().code(), absl::StatusCode::kInvalidArgument) << groups;
  }
}

}  // namespace
}  // namespace causeway
