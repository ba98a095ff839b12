#include "pjrt/program_info.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "pjrt/hlo_text.h"
#include "xla/xla.pb.h"

namespace causeway {
namespace {

xla::HloModuleProto Module(const char* text) {
  xla::HloModuleProto module;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &module));
  return module;
}

constexpr char kTwoParameters[] = R"pb(
  name: "step"
  entry_computation_id: 1
  host_program_shape {
    parameters {
      element_type: F32
      dimensions: 4
      layout { minor_to_major: 0 }
    }
    parameters {
      element_type: F32
      dimensions: [ 2, 2 ]
      layout { minor_to_major: [ 0, 1 ] }
    }
    result {
      element_type: TUPLE
      tuple_shapes {
        element_type: F32
        dimensions: 4
        layout { minor_to_major: 0 }
      }
    }
  }
)pb";

TEST(DescribeModule, ParametersAndOutputsHaveTheEntrysLayouts) {
  const proto::ProgramInfo info = DescribeModule(Module(kTwoParameters), false, 1);
  EXPECT_EQ(info.name(), "step");
  ASSERT_EQ(info.parameters_size(), 2);
  xla::LayoutProto layout;
  ASSERT_TRUE(layout.ParseFromString(info.parameters(1).layout()));
  EXPECT_THAT(layout.minor_to_major(), testing::ElementsAre(0, 1));
  EXPECT_EQ(info.outputs_size(), 1);
}

TEST(DescribeModule, DonatedAreAliasedParametersAndNotDonorsThatNothingUsed) {
  xla::HloModuleProto module = Module(kTwoParameters);
  module.mutable_buffer_donor()->add_entries()->set_parameter_number(0);
  module.mutable_input_output_alias()->add_entries()->set_parameter_number(1);
  EXPECT_THAT(DescribeModule(module, false, 1).donated_parameters(), testing::ElementsAre(1));
  module.mutable_input_output_alias()->add_entries()->set_parameter_number(99);
  EXPECT_THAT(DescribeModule(module, false, 1).donated_parameters(), testing::ElementsAre(1)) << "there is no 99";
}

TEST(DescribeModule, ATupleOfArgumentsIsTakenApart) {
  const proto::ProgramInfo info = DescribeModule(Module(R"pb(
                                                   host_program_shape {
                                                     parameters {
                                                       element_type: TUPLE
                                                       tuple_shapes { element_type: F32 }
                                                       tuple_shapes { element_type: S32 }
                                                       tuple_shapes { element_type: S8 }
                                                     }
                                                     result { element_type: F32 }
                                                   }
                                                   input_output_alias { entries { parameter_shape_index: 2 } }
                                                 )pb"),
                                                 true, 1);
  EXPECT_EQ(info.parameters_size(), 3);
  EXPECT_THAT(info.donated_parameters(), testing::ElementsAre(2));
}

TEST(DescribeModule, ShardingsAreGivenOnlyWhereTheyFit) {
  xla::HloModuleProto module = Module(kTwoParameters);
  module.add_spmd_parameters_shardings()->set_type(xla::OpSharding::REPLICATED);
  EXPECT_EQ(DescribeModule(module, false, 1).parameters(0).sharding(), "") << "one sharding for two parameters";

  module.add_spmd_parameters_shardings()->set_type(xla::OpSharding::MAXIMAL);
  module.mutable_spmd_output_sharding()->set_type(xla::OpSharding::TUPLE);
  module.mutable_spmd_output_sharding()->add_tuple_shardings()->set_type(xla::OpSharding::MANUAL);
  const proto::ProgramInfo info = DescribeModule(module, false, 1);
  xla::OpSharding sharding;
  ASSERT_TRUE(sharding.ParseFromString(info.parameters(1).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::MAXIMAL);
  ASSERT_TRUE(sharding.ParseFromString(info.outputs(0).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::MANUAL);

  module.mutable_spmd_output_sharding()->set_type(xla::OpSharding::REPLICATED);
  ASSERT_TRUE(sharding.ParseFromString(DescribeModule(module, false, 1).outputs(0).sharding()));
  EXPECT_EQ(sharding.type(), xla::OpSharding::REPLICATED);
}

TEST(DescribeModule, ACollectiveAnywhereIsACollective) {
  xla::HloModuleProto module = Module(kTwoParameters);
  module.add_computations()->add_instructions()->set_opcode("reduce");
  EXPECT_FALSE(DescribeModule(module, false, 1).has_collectives());
  module.add_computations()->add_instructions()->set_opcode("all-gather-start");
  EXPECT_TRUE(DescribeModule(module, false, 1).has_collectives());
}

TEST(ParseOptimizedProgram, BothFormsOfHloAreRead) {
  xla::HloModuleProtoWithConfig with_config;
  with_config.mutable_hlo_module()->set_name("m");
  EXPECT_EQ(ParseOptimizedProgram("hlo_with_config", with_config.SerializeAsString())->name(), "m");
  EXPECT_EQ(ParseOptimizedProgram("hlo", with_config.hlo_module().SerializeAsString())->name(), "m");
  EXPECT_EQ(ParseOptimizedProgram("mlir", "").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ParseOptimizedProgram("hlo", "\xff").status().code(), absl::StatusCode::kInternal);
}

TEST(HloText, AModuleReadsAsXlaWritesIt) {
  const std::string text = HloText(Module(R"pb(
    name: "m"
    entry_computation_id: 2
    input_output_alias { entries { output_shape_index: 0 parameter_number: 0 } }
    computations { id: 1 name: "body" root_id: 1 }
    computations {
      id: 2
      name: "main"
      root_id: 12
      program_shape {
        parameters { element_type: F32 dimensions: 4 }
        parameter_names: "x"
        result { element_type: F32 dimensions: 4 }
      }
      instructions {
        id: 10
        name: "x.1"
        opcode: "parameter"
        shape {
          element_type: F32
          dimensions: 4
          layout { minor_to_major: 0 }
        }
      }
      instructions {
        id: 11
        name: "c"
        opcode: "constant"
        shape { element_type: S32 }
        literal {
          shape { element_type: S32 }
          s32s: 7
        }
      }
      instructions {
        id: 12
        name: "r"
        opcode: "all-reduce"
        shape {
          element_type: F32
          dimensions: 4
          layout { minor_to_major: 0 }
        }
        operand_ids: 10
        called_computation_ids: 1
        channel_id: 3
        collective_device_list { replica_groups { replica_ids: [ 0, 1 ] } }
        metadata { op_name: "jit(f)/psum" }
      }
    }
  )pb"));
  EXPECT_EQ(text, absl::StrCat(R"(HloModule m, input_output_alias={ {0}: (0, {}) }

%body () -> primitive_type_invalid[] {
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x.1 = f32[4]{0} parameter(0)
  %c = s32[] constant(7)
  ROOT %r = f32[4]{0} all-reduce(f32[4]{0} %x.1), channel_id=3,)",
                               R"( replica_groups={{0,1}}, to_apply=%body, metadata={op_name="jit(f)/psum"}
}
)"));
}

TEST(HloText, WhatRefersToNothingDoesNoHarm) {
  EXPECT_THAT(HloText(Module(R"pb(
                name: "m"
                computations { instructions { opcode: "while" operand_ids: 5 called_computation_ids: 6 } }
              )pb")),
              testing::HasSubstr("while()"));
}

}  // namespace
}  // namespace causeway
