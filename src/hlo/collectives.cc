#include "hlo/collectives.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "hlo/replica_groups.h"

namespace causeway {
namespace {

using xla::HloComputationProto;
using xla::HloInstructionProto;
using xla::HloModuleProto;

constexpr int64_t kMaxDevices = 1 << 20;

struct Opcode {
  absl::string_view name;
  proto::Collective::Kind kind;
};
constexpr std::array<Opcode, 7> kCollectives = {{
    {"all-reduce", proto::Collective::ALL_REDUCE},
    {"all-gather", proto::Collective::ALL_GATHER},
    {"reduce-scatter", proto::Collective::REDUCE_SCATTER},
    {"all-to-all", proto::Collective::ALL_TO_ALL},
    {"collective-permute", proto::Collective::COLLECTIVE_PERMUTE},
    {"collective-broadcast", proto::Collective::COLLECTIVE_BROADCAST},
    {"ragged-all-to-all", proto::Collective::RAGGED_ALL_TO_ALL},
}};

// What talks to others without being a collective. The asynchronous forms come from passes behind the partitioner.
constexpr std::array<absl::string_view, 6> kRefused = {"send", "send-done", "recv", "recv-done", "infeed", "outfeed"};

absl::Status Refuse(const HloInstructionProto& instruction, absl::string_view why) {
  std::string where;
  if (!instruction.metadata().op_name().empty()) where = absl::StrCat(", from ", instruction.metadata().op_name());
  if (!instruction.metadata().source_file().empty()) {
    absl::StrAppend(&where, " at ", instruction.metadata().source_file(), ":", instruction.metadata().source_line());
  }
  return absl::UnimplementedError(absl::StrCat("a program over several workers cannot have ", instruction.opcode(),
                                               " (", instruction.name(), where, "): ", why));
}

std::optional<proto::Collective::Kind> KindOf(const HloInstructionProto& instruction) {
  for (const Opcode& opcode : kCollectives) {
    if (opcode.name == instruction.opcode()) return opcode.kind;
  }
  return std::nullopt;
}

proto::Collective::Reduction ReductionOf(absl::string_view opcode) {
  if (opcode == "add") return proto::Collective::SUM;
  if (opcode == "multiply") return proto::Collective::PRODUCT;
  if (opcode == "minimum") return proto::Collective::MIN;
  if (opcode == "maximum") return proto::Collective::MAX;
  if (opcode == "and") return proto::Collective::AND;
  if (opcode == "or") return proto::Collective::OR;
  if (opcode == "xor") return proto::Collective::XOR;
  return proto::Collective::NONE;
}

// What is looked up by number in a module.
class Index {
 public:
  explicit Index(const HloModuleProto& module) {
    for (const HloComputationProto& computation : module.computations()) {
      computations_[computation.id()] = &computation;
      for (const HloInstructionProto& instruction : computation.instructions()) {
        shapes_[instruction.id()] = instruction.shape();
      }
    }
  }

  const HloComputationProto* Computation(int64_t id) const {
    const auto found = computations_.find(id);
    return found == computations_.end() ? nullptr : found->second;
  }
  const xla::ShapeProto* ShapeOf(int64_t instruction) const {
    const auto found = shapes_.find(instruction);
    return found == shapes_.end() ? nullptr : &found->second;
  }

 private:
  absl::flat_hash_map<int64_t, const HloComputationProto*> computations_;
  absl::flat_hash_map<int64_t, xla::ShapeProto> shapes_;
};

// The one operation of a reducer's two parameters; around it there may be copies, and conversions, as passes make that
// reduce narrow floats in wider ones.
absl::StatusOr<proto::Collective::Reduction> ReductionOf(const HloInstructionProto& instruction, const Index& index) {
  const HloComputationProto* reducer = instruction.called_computation_ids_size() == 1
                                           ? index.Computation(instruction.called_computation_ids(0))
                                           : nullptr;
  if (reducer == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(instruction.name(), " (", instruction.opcode(), ") has no reducer"));
  }
  proto::Collective::Reduction reduction = proto::Collective::NONE;
  for (const HloInstructionProto& step : reducer->instructions()) {
    if (step.opcode() == "parameter" || step.opcode() == "convert" || step.opcode() == "copy") continue;
    const proto::Collective::Reduction found = ReductionOf(step.opcode());
    const bool is_first = reduction == proto::Collective::NONE;
    if (found == proto::Collective::NONE || !is_first || step.operand_ids_size() != 2 ||
        step.operand_ids(0) == step.operand_ids(1)) {
      return Refuse(instruction, absl::StrCat("its reduction does ", step.opcode(),
                                              "; sum, product, min, max, and, or and xor are known"));
    }
    reduction = found;
  }
  if (reduction == proto::Collective::NONE) return Refuse(instruction, "its reduction does nothing");
  return reduction;
}

void MakeRowMajor(xla::ShapeProto& shape) {
  if (shape.element_type() == xla::TUPLE) {
    for (xla::ShapeProto& element : *shape.mutable_tuple_shapes()) MakeRowMajor(element);
    return;
  }
  shape.clear_layout();
  for (int i = shape.dimensions_size() - 1; i >= 0; --i) shape.mutable_layout()->add_minor_to_major(i);
  if (shape.dimensions().empty()) shape.mutable_layout();
}

// Leaves of an instruction what every instruction has, and makes a custom call of it.
absl::Status MakeCall(HloInstructionProto& instruction, const Index& index, absl::string_view target,
                      std::string attributes) {
  HloInstructionProto call;
  call.set_name(instruction.name());
  call.set_opcode("custom-call");
  *call.mutable_shape() = instruction.shape();
  *call.mutable_metadata() = instruction.metadata();
  call.set_id(instruction.id());
  *call.mutable_operand_ids() = instruction.operand_ids();
  *call.mutable_control_predecessor_ids() = instruction.control_predecessor_ids();
  *call.mutable_frontend_attributes() = instruction.frontend_attributes();
  call.set_custom_call_target(std::string(target));
  call.set_custom_call_api_version(xla::API_VERSION_TYPED_FFI);
  call.set_backend_config(std::move(attributes));
  call.set_constrain_layout(true);
  MakeRowMajor(*call.mutable_shape());
  for (int64_t operand : call.operand_ids()) {
    const xla::ShapeProto* shape = index.ShapeOf(operand);
    if (shape == nullptr) return absl::InvalidArgumentError(absl::StrCat(call.name(), " has an unknown operand"));
    xla::ShapeProto& constrained = *call.add_operand_shapes_with_layout();
    constrained = *shape;
    MakeRowMajor(constrained);
  }
  instruction = std::move(call);
  return absl::OkStatus();
}

absl::StatusOr<proto::Collective> Describe(const HloInstructionProto& instruction, proto::Collective::Kind kind,
                                           const Index& index, const ProgramSize& size) {
  proto::Collective collective;
  collective.set_name(instruction.name());
  collective.set_kind(kind);
  if (kind == proto::Collective::COLLECTIVE_PERMUTE) {
    ASSIGN_OR_RETURN(const auto pairs, PairsOf(instruction, size));
    for (const auto& [source, target] : pairs) {
      proto::Collective::Pair& pair = *collective.add_pairs();
      pair.set_source(source);
      pair.set_target(target);
    }
    return collective;
  }
  ASSIGN_OR_RETURN(const DeviceGroups groups, GroupsOf(instruction, size));
  for (const auto& group : groups) collective.add_groups()->mutable_devices()->Add(group.begin(), group.end());
  if (kind == proto::Collective::ALL_REDUCE || kind == proto::Collective::REDUCE_SCATTER) {
    ASSIGN_OR_RETURN(const proto::Collective::Reduction reduction, ReductionOf(instruction, index));
    collective.set_reduction(reduction);
  }
  if (kind == proto::Collective::ALL_TO_ALL && instruction.shape().element_type() == xla::TUPLE) {
    collective.set_tuple(true);
  } else if (kind == proto::Collective::ALL_GATHER || kind == proto::Collective::REDUCE_SCATTER ||
             kind == proto::Collective::ALL_TO_ALL) {
    if (instruction.dimensions_size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(instruction.name(), " has no dimension"));
    }
    collective.set_dimension(instruction.dimensions(0));
  }
  return collective;
}

absl::Status TakeOut(HloInstructionProto& instruction, const Index& index, const ProgramSize& size,
                     proto::Collectives& table) {
  instruction.clear_sharding();
  const std::string& opcode = instruction.opcode();
  if (opcode == "partition-id" || opcode == "replica-id") {
    const bool partition = opcode == "partition-id";
    return MakeCall(instruction, index, partition ? "causeway_partition_id" : "causeway_replica_id", "{}");
  }
  if (std::find(kRefused.begin(), kRefused.end(), opcode) != kRefused.end()) {
    return Refuse(instruction, "it talks to a device or to the host outside the program's collectives");
  }
  const auto kind = KindOf(instruction);
  if (!kind) {
    for (const Opcode& known : kCollectives) {
      if (absl::StartsWith(opcode, known.name)) return Refuse(instruction, "only the synchronous form is known");
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(*table.add_collectives(), Describe(instruction, *kind, index, size));
  RETURN_IF_ERROR(MakeCall(instruction, index, "causeway_collective",
                           absl::StrCat("{collective = ", table.collectives_size() - 1, " : i64}")));
  // Nobody may leave it out where its result is not used, or do it once for two: the other devices count on it.
  instruction.set_custom_call_has_side_effect(true);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<proto::Collectives> TakeOutCollectives(HloModuleProto& module, int64_t replicas, int64_t partitions) {
  if (replicas < 1 || partitions < 1 || replicas > kMaxDevices || partitions > kMaxDevices / replicas) {
    return absl::InvalidArgumentError(absl::StrCat("a program of ", replicas, " x ", partitions, " devices"));
  }
  const ProgramSize size{replicas, partitions};
  const Index index(module);
  proto::Collectives table;
  table.set_replicas(static_cast<int32_t>(replicas));
  table.set_partitions(static_cast<int32_t>(partitions));
  for (HloComputationProto& computation : *module.mutable_computations()) {
    for (HloInstructionProto& instruction : *computation.mutable_instructions()) {
      RETURN_IF_ERROR(TakeOut(instruction, index, size, table));
    }
  }
  module.clear_device_assignment();
  module.clear_spmd_output_sharding();
  module.clear_spmd_parameters_shardings();
  module.clear_use_auto_spmd_partitioning();
  return table;
}

void ShowCollectives(const proto::Collectives& table, HloModuleProto& module) {
  for (HloComputationProto& computation : *module.mutable_computations()) {
    for (HloInstructionProto& instruction : *computation.mutable_instructions()) {
      if (instruction.custom_call_target() == "causeway_partition_id") {
        instruction.set_opcode("partition-id");
      } else if (instruction.custom_call_target() == "causeway_replica_id") {
        instruction.set_opcode("replica-id");
      } else if (instruction.custom_call_target() == "causeway_collective") {
        int index = -1;
        absl::string_view text = instruction.backend_config();
        if (!absl::ConsumePrefix(&text, "{collective = ") ||
            !absl::SimpleAtoi(text.substr(0, text.find(' ')), &index) || index < 0 ||
            index >= table.collectives_size()) {
          continue;
        }
        for (const Opcode& opcode : kCollectives) {
          if (opcode.kind == table.collectives(index).kind()) instruction.set_opcode(std::string(opcode.name));
        }
      } else {
        continue;
      }
      instruction.clear_custom_call_target();
      instruction.clear_custom_call_has_side_effect();
    }
  }
}

}  // namespace causeway
