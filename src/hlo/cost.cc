#include "hlo/cost.h"

#include <algorithm>
#include <unordered_map>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"

namespace causeway {
namespace {

using xla::HloComputationProto;
using xla::HloInstructionProto;
using xla::ShapeProto;

constexpr double kMultiplyAdd = 2;

struct Cost {
  double flops = 0;
  double transcendentals = 0;
  double bytes = 0;

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    transcendentals += other.transcendentals;
    bytes += other.bytes;
    return *this;
  }
  Cost Times(double n) const { return {flops * n, transcendentals * n, bytes * n}; }
};

using Opcodes = absl::flat_hash_set<absl::string_view>;

const Opcodes& Transcendental() {
  static const auto& opcodes =
      *new Opcodes{"atan2", "cbrt",  "cosine",       "erf",  "exponential", "exponential-minus-one",
                   "log",   "rsqrt", "log-plus-one", "sine", "logistic",    "power",
                   "sqrt",  "tan",   "tanh"};
  return opcodes;
}

const Opcodes& Elementwise() {
  static const auto& opcodes = *new Opcodes{"abs",
                                            "add",
                                            "and",
                                            "ceil",
                                            "clamp",
                                            "compare",
                                            "complex",
                                            "convert",
                                            "count-leading-zeros",
                                            "divide",
                                            "floor",
                                            "imag",
                                            "is-finite",
                                            "maximum",
                                            "minimum",
                                            "multiply",
                                            "negate",
                                            "not",
                                            "or",
                                            "popcnt",
                                            "real",
                                            "reduce-precision",
                                            "remainder",
                                            "round-nearest-afz",
                                            "round-nearest-even",
                                            "select",
                                            "shift-left",
                                            "shift-right-arithmetic",
                                            "shift-right-logical",
                                            "sign",
                                            "stochastic-convert",
                                            "subtract",
                                            "xor"};
  return opcodes;
}

// What is only another name for data that are there.
const Opcodes& Free() {
  static const auto& opcodes =
      *new Opcodes{"add-dependency",       "after-all", "bitcast",      "constant",   "domain", "get-tuple-element",
                   "optimization-barrier", "parameter", "partition-id", "replica-id", "tuple"};
  return opcodes;
}

double Elements(const ShapeProto& shape) {
  double elements = 1;
  for (int64_t d : shape.dimensions()) elements *= static_cast<double>(d);
  return elements;
}

double Bytes(const ShapeProto& shape) {
  double bytes = 0;
  for (const ShapeProto& part : shape.tuple_shapes()) bytes += Bytes(part);
  return bytes + Elements(shape) * HostByteWidth(static_cast<DType>(shape.element_type()));
}

// Elements of a window, given what its dimensions are.
double WindowElements(const xla::Window& window) {
  double elements = 1;
  for (const xla::WindowDimension& d : window.dimensions()) elements *= static_cast<double>(d.size());
  return elements;
}

class Estimator {
 public:
  explicit Estimator(const xla::HloModuleProto& module) {
    for (const HloComputationProto& computation : module.computations()) {
      computations_[computation.id()] = &computation;
      for (const HloInstructionProto& instruction : computation.instructions()) {
        instructions_[instruction.id()] = &instruction;
      }
    }
  }

  // Of everything in the computation; each is looked at once.
  Cost Computation(int64_t id) {
    const auto [known, fresh] = costs_.try_emplace(id);
    const auto found = computations_.find(id);
    if (!fresh || found == computations_.end()) return known->second;
    Cost cost;
    for (const HloInstructionProto& instruction : found->second->instructions()) cost += Instruction(instruction);
    return costs_[id] = cost;
  }

 private:
  const ShapeProto& OperandShape(const HloInstructionProto& i, int operand) const {
    if (operand >= i.operand_ids_size()) return ShapeProto::default_instance();
    const auto found = instructions_.find(i.operand_ids(operand));
    return found == instructions_.end() ? ShapeProto::default_instance() : found->second->shape();
  }

  Cost Called(const HloInstructionProto& i) {
    Cost cost;
    for (int64_t id : i.called_computation_ids()) cost += Computation(id);
    return cost;
  }

  // Of applying the computation that `i` names `times`, where its arguments are in registers.
  Cost Applied(const HloInstructionProto& i, double times) {
    Cost cost = Called(i).Times(std::max(0.0, times));
    cost.bytes = 0;
    return cost;
  }

  Cost Instruction(const HloInstructionProto& i) {
    const absl::string_view opcode = i.opcode();
    if (Free().contains(opcode)) return {};
    if (opcode == "while" || opcode == "call" || opcode == "async-start") return Called(i);
    if (opcode == "conditional") return Dearest(i);
    Cost cost = Arithmetic(i);
    cost.bytes = BytesAccessed(i);
    return cost;
  }

  Cost Dearest(const HloInstructionProto& i) {
    Cost dearest;
    for (int64_t id : i.called_computation_ids()) {
      const Cost branch = Computation(id);
      if (branch.flops + branch.transcendentals >= dearest.flops + dearest.transcendentals) dearest = branch;
    }
    return dearest;
  }

  Cost Arithmetic(const HloInstructionProto& i) {
    const absl::string_view opcode = i.opcode();
    const double elements = Elements(i.shape());
    if (Elementwise().contains(opcode)) return {.flops = elements};
    if (Transcendental().contains(opcode)) return {.transcendentals = elements};
    if (opcode == "dot") {
      double contracted = 1;
      const ShapeProto& lhs = OperandShape(i, 0);
      for (int64_t d : i.dot_dimension_numbers().lhs_contracting_dimensions()) {
        if (d >= 0 && d < lhs.dimensions_size()) contracted *= static_cast<double>(lhs.dimensions(static_cast<int>(d)));
      }
      return {.flops = kMultiplyAdd * elements * contracted};
    }
    if (opcode == "convolution") {
      // The kernel's input features are those of one group already.
      const ShapeProto& kernel = OperandShape(i, 1);
      const int64_t features = i.convolution_dimension_numbers().kernel_input_feature_dimension();
      const double depth = features >= 0 && features < kernel.dimensions_size()
                               ? static_cast<double>(kernel.dimensions(static_cast<int>(features)))
                               : 1;
      return {.flops = kMultiplyAdd * elements * WindowElements(i.window()) * depth};
    }
    if (opcode == "fusion") return Applied(i, 1);
    if (opcode == "map") return Applied(i, elements);
    if (opcode == "reduce") return Applied(i, Elements(OperandShape(i, 0)) - ReducedElements(i.shape()));
    if (opcode == "reduce-window" || opcode == "select-and-scatter") {
      return Applied(i, ReducedElements(i.shape()) * (WindowElements(i.window()) - 1));
    }
    if (opcode == "scatter") return Applied(i, Elements(OperandShape(i, i.operand_ids_size() - 1)));
    if (opcode == "all-reduce" || opcode == "reduce-scatter") return {.flops = ReducedElements(i.shape())};
    return {};
  }

  // Of one of the results, where several are reduced together.
  static double ReducedElements(const ShapeProto& shape) {
    return shape.tuple_shapes_size() > 0 ? Elements(shape.tuple_shapes(0)) : Elements(shape);
  }

  double BytesAccessed(const HloInstructionProto& i) const {
    const absl::string_view opcode = i.opcode();
    // Of a large operand these touch as much as they take or put.
    if (opcode == "slice" || opcode == "dynamic-slice" || opcode == "gather") return 2 * Bytes(i.shape());
    if (opcode == "dynamic-update-slice") return 2 * Bytes(OperandShape(i, 1));
    double bytes = Bytes(i.shape());
    for (int operand = 0; operand < i.operand_ids_size(); ++operand) bytes += Bytes(OperandShape(i, operand));
    return bytes;
  }

  std::unordered_map<int64_t, const HloComputationProto*> computations_;
  std::unordered_map<int64_t, const HloInstructionProto*> instructions_;
  std::unordered_map<int64_t, Cost> costs_;
};

}  // namespace

std::map<std::string, double> EstimateCost(const xla::HloModuleProto& module) {
  const Cost cost = Estimator(module).Computation(module.entry_computation_id());
  return {{"flops", cost.flops}, {"transcendentals", cost.transcendentals}, {"bytes accessed", cost.bytes}};
}

}  // namespace causeway
