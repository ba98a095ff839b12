#include "pjrt/hlo_text.h"

#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace causeway {
namespace {

constexpr int kMaxPrintedElements = 8;

std::string LayoutText(const xla::ShapeProto& shape) {
  if (!shape.has_layout()) return "";
  return absl::StrCat("{", absl::StrJoin(shape.layout().minor_to_major(), ","), "}");
}

std::string ShapeText(const xla::ShapeProto& shape, bool with_layout = true) {
  if (shape.element_type() == xla::TUPLE) {
    return absl::StrCat("(",
                        absl::StrJoin(shape.tuple_shapes(), ", ",
                                      [&](std::string* out, const xla::ShapeProto& s) {
                                        absl::StrAppend(out, ShapeText(s, with_layout));
                                      }),
                        ")");
  }
  return absl::StrCat(absl::AsciiStrToLower(xla::PrimitiveType_Name(shape.element_type())), "[",
                      absl::StrJoin(shape.dimensions(), ","), "]", with_layout ? LayoutText(shape) : "");
}

// The elements of a small constant of one of the usual types; otherwise what stands for them.
std::string LiteralText(const xla::LiteralProto& literal) {
  const auto list = [](const auto& values) -> std::string {
    if (values.size() > kMaxPrintedElements) return "{...}";
    if (values.size() == 1) return absl::StrCat(values[0]);
    return absl::StrCat("{", absl::StrJoin(values, ", "), "}");
  };
  switch (literal.shape().element_type()) {
    case xla::PRED:
      return literal.preds_size() == 1 ? (literal.preds(0) ? "true" : "false") : "{...}";
    case xla::S32:
      return list(literal.s32s());
    case xla::S64:
      return list(literal.s64s());
    case xla::U32:
      return list(literal.u32s());
    case xla::U64:
      return list(literal.u64s());
    case xla::F32:
      return list(literal.f32s());
    case xla::F64:
      return list(literal.f64s());
    default:
      return "{...}";
  }
}

class Printer {
 public:
  explicit Printer(const xla::HloModuleProto& module) : module_(module) {
    for (const xla::HloComputationProto& computation : module.computations()) {
      computations_[computation.id()] = computation.name();
      for (const xla::HloInstructionProto& instruction : computation.instructions()) {
        instructions_[instruction.id()] = &instruction;
      }
    }
  }

  std::string Print() const {
    std::string out = absl::StrCat("HloModule ", module_.name());
    if (module_.is_dynamic()) absl::StrAppend(&out, ", is_dynamic=true");
    std::vector<std::string> aliases;
    for (const auto& alias : module_.input_output_alias().entries()) {
      aliases.push_back(absl::StrCat("{", absl::StrJoin(alias.output_shape_index(), ","), "}: (",
                                     alias.parameter_number(), ", {", absl::StrJoin(alias.parameter_shape_index(), ","),
                                     "})"));
    }
    if (!aliases.empty()) absl::StrAppend(&out, ", input_output_alias={ ", absl::StrJoin(aliases, ", "), " }");
    absl::StrAppend(&out, "\n");
    for (const xla::HloComputationProto& computation : module_.computations()) {
      absl::StrAppend(&out, "\n", Computation(computation));
    }
    return out;
  }

 private:
  std::string Computation(const xla::HloComputationProto& computation) const {
    const xla::ProgramShapeProto& shape = computation.program_shape();
    std::vector<std::string> parameters;
    for (int i = 0; i < shape.parameters_size(); ++i) {
      const std::string name = i < shape.parameter_names_size() ? shape.parameter_names(i) : absl::StrCat("p", i);
      parameters.push_back(absl::StrCat(name, ": ", ShapeText(shape.parameters(i), /*with_layout=*/false)));
    }
    std::string out = absl::StrCat(computation.id() == module_.entry_computation_id() ? "ENTRY " : "", "%",
                                   computation.name(), " (", absl::StrJoin(parameters, ", "), ") -> ",
                                   ShapeText(shape.result(), /*with_layout=*/false), " {\n");
    for (const xla::HloInstructionProto& instruction : computation.instructions()) {
      const bool root = instruction.id() == computation.root_id();
      absl::StrAppend(&out, "  ", root ? "ROOT " : "", Instruction(instruction), "\n");
    }
    return out + "}\n";
  }

  std::string Instruction(const xla::HloInstructionProto& i) const {
    return absl::StrCat("%", i.name(), " = ", ShapeText(i.shape()), " ", i.opcode(), "(", Operands(i), ")",
                        Attributes(i));
  }

  std::string Operands(const xla::HloInstructionProto& i) const {
    if (i.opcode() == "parameter") return absl::StrCat(i.parameter_number());
    if (i.opcode() == "constant") return LiteralText(i.literal());
    return absl::StrJoin(i.operand_ids(), ", ", [this](std::string* out, int64_t id) {
      const auto it = instructions_.find(id);
      if (it == instructions_.end()) return;
      absl::StrAppend(out, ShapeText(it->second->shape()), " %", it->second->name());
    });
  }

  // ", name={1,2}" for a list that is not empty.
  template <typename List>
  static void AppendList(std::string& out, absl::string_view name, const List& values) {
    if (!values.empty()) absl::StrAppend(&out, ", ", name, "={", absl::StrJoin(values, ","), "}");
  }

  std::string Attributes(const xla::HloInstructionProto& i) const {
    std::string out;
    AppendList(out, "dimensions", i.dimensions());
    if (i.opcode() == "get-tuple-element") absl::StrAppend(&out, ", index=", i.tuple_index());
    if (!i.comparison_direction().empty()) absl::StrAppend(&out, ", direction=", i.comparison_direction());
    if (i.slice_dimensions_size() > 0) {
      std::vector<std::string> slices;
      for (const auto& s : i.slice_dimensions()) {
        slices.push_back(absl::StrCat("[", s.start(), ":", s.limit(), ":", s.stride(), "]"));
      }
      AppendList(out, "slice", slices);
    }
    AppendList(out, "dynamic_slice_sizes", i.dynamic_slice_sizes());
    if (i.has_dot_dimension_numbers()) {
      const xla::DotDimensionNumbers& dot = i.dot_dimension_numbers();
      AppendList(out, "lhs_batch_dims", dot.lhs_batch_dimensions());
      AppendList(out, "lhs_contracting_dims", dot.lhs_contracting_dimensions());
      AppendList(out, "rhs_batch_dims", dot.rhs_batch_dimensions());
      AppendList(out, "rhs_contracting_dims", dot.rhs_contracting_dimensions());
    }
    if (i.channel_id() != 0) absl::StrAppend(&out, ", channel_id=", i.channel_id());
    absl::StrAppend(&out, ReplicaGroups(i));
    if (!i.custom_call_target().empty()) {
      absl::StrAppend(&out, ", custom_call_target=\"", absl::CEscape(i.custom_call_target()), "\"");
    }
    if (i.custom_call_has_side_effect()) absl::StrAppend(&out, ", custom_call_has_side_effect=true");
    if (!i.fusion_kind().empty()) absl::StrAppend(&out, ", kind=", i.fusion_kind());
    absl::StrAppend(&out, CalledComputations(i));
    if (!i.metadata().op_name().empty()) {
      absl::StrAppend(&out, ", metadata={op_name=\"", absl::CEscape(i.metadata().op_name()), "\"}");
    }
    return out;
  }

  static std::string ReplicaGroups(const xla::HloInstructionProto& i) {
    if (i.has_iota_collective_device_list()) {
      const xla::IotaReplicaGroupListProto& iota = i.iota_collective_device_list();
      std::string out = absl::StrCat(", replica_groups=[", iota.num_replica_groups(), ",", iota.num_devices_per_group(),
                                     "]<=[", absl::StrJoin(iota.iota_reshape_dims(), ","), "]");
      if (iota.iota_transpose_perm_size() > 1) {
        absl::StrAppend(&out, "T(", absl::StrJoin(iota.iota_transpose_perm(), ","), ")");
      }
      return out;
    }
    std::vector<std::string> groups;
    for (const xla::ReplicaGroup& group : i.collective_device_list().replica_groups()) {
      groups.push_back(absl::StrCat("{", absl::StrJoin(group.replica_ids(), ","), "}"));
    }
    std::string out;
    AppendList(out, "replica_groups", groups);
    return out;
  }

  std::string CalledComputations(const xla::HloInstructionProto& i) const {
    std::vector<std::string> names;
    for (int64_t id : i.called_computation_ids()) {
      const auto it = computations_.find(id);
      if (it != computations_.end()) names.push_back("%" + it->second);
    }
    if (names.empty()) return "";
    const std::string& opcode = i.opcode();
    if (opcode == "while" && names.size() == 2) {
      return absl::StrCat(", condition=", names[1], ", body=", names[0]);
    }
    if (opcode == "conditional") return absl::StrCat(", branch_computations={", absl::StrJoin(names, ", "), "}");
    if (names.size() > 1) return absl::StrCat(", called_computations={", absl::StrJoin(names, ", "), "}");
    const bool calls = opcode == "fusion" || opcode == "async-start";
    return absl::StrCat(calls ? ", calls=" : ", to_apply=", names[0]);
  }

  const xla::HloModuleProto& module_;
  std::map<int64_t, std::string> computations_;                      // names by id
  std::map<int64_t, const xla::HloInstructionProto*> instructions_;  // by id
};

}  // namespace

std::string HloText(const xla::HloModuleProto& module) { return Printer(module).Print(); }

}  // namespace causeway
