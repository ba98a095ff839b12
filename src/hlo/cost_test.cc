#include "hlo/cost.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

std::map<std::string, double> CostOf(const std::string& text) {
  xla::HloModuleProto module;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &module)) << text;
  return EstimateCost(module);
}

TEST(EstimateCost, AMatrixProductCountsMultipliesAndAdds) {
  auto cost = CostOf(R"pb(
    entry_computation_id: 1
    computations {
      id: 1
      instructions {
        id: 1
        opcode: "parameter"
        shape {
          element_type: F32
          dimensions: [ 4, 8 ]
        }
      }
      instructions {
        id: 2
        opcode: "parameter"
        shape {
          element_type: F32
          dimensions: [ 8, 16 ]
        }
      }
      instructions {
        id: 3
        opcode: "dot"
        shape {
          element_type: F32
          dimensions: [ 4, 16 ]
        }
        operand_ids: [ 1, 2 ]
        dot_dimension_numbers { lhs_contracting_dimensions: 1 rhs_contracting_dimensions: 0 }
      }
    }
  )pb");
  EXPECT_EQ(cost["flops"], 2 * 4 * 8 * 16);
  EXPECT_EQ(cost["transcendentals"], 0);
  EXPECT_EQ(cost["bytes accessed"], 4 * (4 * 8 + 8 * 16 + 4 * 16));
}

// A fusion of exp(x) + 1 over 10 doubles in a loop, beside it the sum of 10.
constexpr char kLoop[] = R"pb(
  entry_computation_id: 9
  computations {
    id: 1
    instructions {
      id: 1
      opcode: "parameter"
      shape { element_type: F64 dimensions: 10 }
    }
    instructions {
      id: 2
      opcode: "exponential"
      shape { element_type: F64 dimensions: 10 }
      operand_ids: 1
    }
    instructions {
      id: 3
      opcode: "add"
      shape { element_type: F64 dimensions: 10 }
      operand_ids: [ 2, 2 ]
    }
  }
  computations {
    id: 2
    instructions {
      id: 4
      opcode: "parameter"
      shape { element_type: F64 dimensions: 10 }
    }
    instructions {
      id: 5
      opcode: "fusion"
      shape { element_type: F64 dimensions: 10 }
      operand_ids: 4
      called_computation_ids: 1
    }
  }
  computations {
    id: 3
    instructions {
      id: 6
      opcode: "parameter"
      shape { element_type: F64 }
    }
    instructions {
      id: 7
      opcode: "add"
      shape { element_type: F64 }
      operand_ids: [ 6, 6 ]
    }
  }
  computations {
    id: 9
    instructions {
      id: 10
      opcode: "parameter"
      shape { element_type: F64 dimensions: 10 }
    }
    instructions {
      id: 11
      opcode: "while"
      shape { element_type: F64 dimensions: 10 }
      operand_ids: 10
      called_computation_ids: 2
    }
    instructions {
      id: 12
      opcode: "constant"
      shape { element_type: F64 }
    }
    instructions {
      id: 13
      opcode: "reduce"
      shape { element_type: F64 }
      operand_ids: [ 11, 12 ]
      called_computation_ids: 3
    }
  }
)pb";

TEST(EstimateCost, FusionsAndLoopsCountWhatIsInsideThemAndTheirOwnBytes) {
  auto cost = CostOf(kLoop);
  EXPECT_EQ(cost["flops"], 10 + 9) << "one turn of the loop, nine additions of the sum";
  EXPECT_EQ(cost["transcendentals"], 10);
  EXPECT_EQ(cost["bytes accessed"], 8 * (10 + 10) + 8 * (10 + 1 + 1));
}

TEST(EstimateCost, TheDearestBranchCounts) {
  auto cost = CostOf(R"pb(
    entry_computation_id: 3
    computations {
      id: 1
      instructions {
        id: 1
        opcode: "parameter"
        shape { element_type: F32 dimensions: 5 }
      }
      instructions {
        id: 2
        opcode: "negate"
        shape { element_type: F32 dimensions: 5 }
        operand_ids: 1
      }
    }
    computations {
      id: 2
      instructions {
        id: 3
        opcode: "parameter"
        shape { element_type: F32 dimensions: 5 }
      }
    }
    computations {
      id: 3
      instructions {
        id: 4
        opcode: "conditional"
        shape { element_type: F32 dimensions: 5 }
        called_computation_ids: [ 1, 2 ]
      }
    }
  )pb");
  EXPECT_EQ(cost["flops"], 5);
}

TEST(EstimateCost, AModuleThatContradictsItselfEnds) {
  auto cost = CostOf(R"pb(
    entry_computation_id: 1
    computations {
      id: 1
      instructions {
        id: 1
        opcode: "call"
        called_computation_ids: [ 1, 7 ]
      }
      instructions {
        id: 2
        opcode: "dot"
        operand_ids: [ 8, 9 ]
        dot_dimension_numbers { lhs_contracting_dimensions: 5 }
      }
    }
  )pb");
  EXPECT_EQ(cost["flops"], 2);
  EXPECT_EQ(CostOf("")["flops"], 0);
}

}  // namespace
}  // namespace causeway
