#include "hlo/collectives.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A parameter, `op` on it as instruction 2, and a reducer that does `reduction`.
xla::HloModuleProto Module(const std::string& op, const std::string& reduction = "add") {
  xla::HloModuleProto module;
  const std::string text =
      "spmd_output_sharding { type: REPLICATED } "
      "computations { id: 7 instructions { id: 71 opcode: 'parameter' } instructions { id: 72 opcode: 'parameter' } "
      "instructions { id: 73 opcode: '" +
      reduction +
      "' operand_ids: [71, 72] } } "
      "computations { id: 1 instructions { id: 1 opcode: 'parameter' shape { element_type: F32 dimensions: [8, 4] "
      "layout { minor_to_major: [0, 1] } } sharding { type: REPLICATED } } instructions { id: 2 name: 'op.2' shape { "
      "element_type: F32 dimensions: [8, 4] } " +
      op + " } }";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &module)) << text;
  return module;
}

const xla::HloInstructionProto& Op(const xla::HloModuleProto& module) { return module.computations(1).instructions(1); }

TEST(CollectivesTest, BecomeCustomCalls) {
  xla::HloModuleProto module = Module(
      "opcode: 'all-reduce' operand_ids: 1 called_computation_ids: 7 channel_id: 1 use_global_device_ids: true "
      "replica_groups { replica_ids: [0, 1] } replica_groups { replica_ids: [2, 3] } control_predecessor_ids: 1");
  const auto table = TakeOutCollectives(module, 1, 4);
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_EQ(table->collectives_size(), 1);
  EXPECT_EQ(table->collectives(0).kind(), proto::Collective::ALL_REDUCE);
  EXPECT_EQ(table->collectives(0).reduction(), proto::Collective::SUM);
  EXPECT_EQ(table->collectives(0).name(), "op.2");
  EXPECT_THAT(table->collectives(0).groups(1).devices(), ElementsAre(2, 3));
  EXPECT_EQ(table->partitions(), 4);

  const xla::HloInstructionProto& call = Op(module);
  EXPECT_EQ(call.opcode(), "custom-call");
  EXPECT_EQ(call.custom_call_target(), "causeway_collective");
  EXPECT_EQ(call.backend_config(), "{collective = 0 : i64}");
  EXPECT_EQ(call.custom_call_api_version(), xla::API_VERSION_TYPED_FFI);
  EXPECT_TRUE(call.custom_call_has_side_effect());
  EXPECT_EQ(call.channel_id(), 0);
  EXPECT_TRUE(call.called_computation_ids().empty());
  EXPECT_THAT(call.operand_ids(), ElementsAre(1));
  EXPECT_THAT(call.control_predecessor_ids(), ElementsAre(1));
  // Row-major, whatever its operand is.
  ASSERT_EQ(call.operand_shapes_with_layout_size(), 1);
  EXPECT_THAT(call.operand_shapes_with_layout(0).layout().minor_to_major(), ElementsAre(1, 0));
  EXPECT_THAT(call.shape().layout().minor_to_major(), ElementsAre(1, 0));
  // Nothing of the partitioning is left.
  EXPECT_FALSE(module.has_spmd_output_sharding());
  EXPECT_FALSE(module.computations(1).instructions(0).has_sharding());
}

TEST(CollectivesTest, KindsWithADimension) {
  const std::string rest = " operand_ids: 1 channel_id: 1 dimensions: 1 called_computation_ids: 7";
  for (const auto& [opcode, kind] : {std::pair("all-gather", proto::Collective::ALL_GATHER),
                                     std::pair("reduce-scatter", proto::Collective::REDUCE_SCATTER),
                                     std::pair("all-to-all", proto::Collective::ALL_TO_ALL)}) {
    xla::HloModuleProto module = Module(std::string("opcode: '") + opcode + "'" + rest);
    const auto table = TakeOutCollectives(module, 1, 4);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->collectives(0).kind(), kind);
    EXPECT_EQ(table->collectives(0).dimension(), 1);
    EXPECT_FALSE(table->collectives(0).tuple());
  }
}

TEST(CollectivesTest, AllToAllOfTuples) {
  xla::HloModuleProto module = Module("opcode: 'all-to-all' operand_ids: [1, 1] channel_id: 1");
  xla::ShapeProto& shape = *module.mutable_computations(1)->mutable_instructions(1)->mutable_shape();
  const xla::ShapeProto element = shape;
  shape.Clear();
  shape.set_element_type(xla::TUPLE);
  *shape.add_tuple_shapes() = element;
  *shape.add_tuple_shapes() = element;
  const auto table = TakeOutCollectives(module, 1, 2);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_TRUE(table->collectives(0).tuple());
  EXPECT_EQ(Op(module).operand_shapes_with_layout_size(), 2);
}

TEST(CollectivesTest, Permutes) {
  xla::HloModuleProto module = Module(
      "opcode: 'collective-permute' operand_ids: 1 channel_id: 1 source_target_pairs { source: 0 target: 1 } "
      "source_target_pairs { source: 1 target: 0 }");
  const auto table = TakeOutCollectives(module, 1, 4);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->collectives(0).kind(), proto::Collective::COLLECTIVE_PERMUTE);
  ASSERT_EQ(table->collectives(0).pairs_size(), 2);
  EXPECT_EQ(table->collectives(0).pairs(1).source(), 1);
}

TEST(CollectivesTest, WhoADeviceIs) {
  for (const auto& [opcode, target] :
       {std::pair("partition-id", "causeway_partition_id"), std::pair("replica-id", "causeway_replica_id")}) {
    xla::HloModuleProto module = Module(std::string("opcode: '") + opcode + "'");
    const auto table = TakeOutCollectives(module, 1, 4);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->collectives_size(), 0);
    EXPECT_EQ(Op(module).custom_call_target(), target);
    EXPECT_FALSE(Op(module).custom_call_has_side_effect());
  }
}

TEST(CollectivesTest, Reductions) {
  const std::string op = "opcode: 'all-reduce' operand_ids: 1 called_computation_ids: 7";
  for (const auto& [opcode, reduction] :
       {std::pair("multiply", proto::Collective::PRODUCT), std::pair("minimum", proto::Collective::MIN),
        std::pair("maximum", proto::Collective::MAX), std::pair("and", proto::Collective::AND),
        std::pair("or", proto::Collective::OR), std::pair("xor", proto::Collective::XOR)}) {
    xla::HloModuleProto module = Module(op, opcode);
    const auto table = TakeOutCollectives(module, 4, 1);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->collectives(0).reduction(), reduction);
  }
  xla::HloModuleProto module = Module(op, "subtract");
  const absl::Status refused = TakeOutCollectives(module, 4, 1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(refused.message(), HasSubstr("subtract"));
}

TEST(CollectivesTest, WhatIsRefusedIsNamed) {
  for (const std::string opcode : {"send", "recv", "infeed", "outfeed", "all-reduce-start", "all-gather-done"}) {
    xla::HloModuleProto module =
        Module("opcode: '" + opcode + "' metadata { op_name: 'jit(f)/op' source_file: 'prog.py' source_line: 12 }");
    const absl::Status refused = TakeOutCollectives(module, 1, 4).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(refused.message(), HasSubstr(opcode + " (op.2, from jit(f)/op at prog.py:12)"));
  }
}

TEST(CollectivesTest, AreShownAsWhatTheyStandFor) {
  xla::HloModuleProto module = Module("opcode: 'all-reduce' operand_ids: 1 called_computation_ids: 7");
  const auto table = TakeOutCollectives(module, 4, 1);
  ASSERT_TRUE(table.ok()) << table.status();
  ShowCollectives(*table, module);
  EXPECT_EQ(Op(module).opcode(), "all-reduce");
  EXPECT_EQ(Op(module).custom_call_target(), "");
  // Calls that are none of ours stay what they are.
  xla::HloModuleProto other =
      Module("opcode: 'custom-call' custom_call_target: 'causeway_collective' backend_config: '{'");
  ShowCollectives(*table, other);
  EXPECT_EQ(Op(other).opcode(), "custom-call");
}

TEST(CollectivesTest, MalformedModules) {
  for (const std::string op : {"opcode: 'all-reduce' operand_ids: 1",
                               "opcode: 'all-reduce' operand_ids: 99 "
                               "called_computation_ids: 7",
                               "opcode: 'all-gather' operand_ids: 1"}) {
    xla::HloModuleProto module = Module(op);
    EXPECT_EQ(TakeOutCollectives(module, 1, 4).status().code(), absl::StatusCode::kInvalidArgument) << op;
  }
  xla::HloModuleProto module;
  EXPECT_FALSE(TakeOutCollectives(module, 0, 4).ok());
  EXPECT_FALSE(TakeOutCollectives(module, int64_t{1} << 40, int64_t{1} << 40).ok());
}

}  // namespace
}  // namespace causeway
