#include "pjrt/program_info.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "xla/xla.pb.h"

namespace causeway {
namespace {

bool HasCollectives(const xla::HloModuleProto& module) {
  static constexpr std::array<absl::string_view, 7> kCollectives = {
      "all-gather",         "all-reduce",        "all-to-all",    "collective-broadcast",
      "collective-permute", "ragged-all-to-all", "reduce-scatter"};
  for (const xla::HloComputationProto& computation : module.computations()) {
    for (const xla::HloInstructionProto& instruction : computation.instructions()) {
      const absl::string_view opcode = absl::StripSuffix(instruction.opcode(), "-start");
      if (std::find(kCollectives.begin(), kCollectives.end(), opcode) != kCollectives.end()) return true;
    }
  }
  return false;
}

// The shapes of `count` things: one by itself, or a tuple of them.
std::vector<const xla::ShapeProto*> Flatten(const xla::ShapeProto& shape, int count) {
  std::vector<const xla::ShapeProto*> shapes;
  if (shape.element_type() == xla::TUPLE) {
    for (const xla::ShapeProto& element : shape.tuple_shapes()) shapes.push_back(&element);
  } else {
    shapes.push_back(&shape);
  }
  shapes.resize(count, &xla::ShapeProto::default_instance());
  return shapes;
}

void SetOutputShardings(const xla::OpSharding& sharding, proto::ProgramInfo& info) {
  const int count = info.outputs_size();
  if (sharding.type() == xla::OpSharding::TUPLE) {
    if (sharding.tuple_shardings_size() != count) return;
    for (int i = 0; i < count; ++i) {
      info.mutable_outputs(i)->set_sharding(sharding.tuple_shardings(i).SerializeAsString());
    }
  } else if (count == 1) {
    info.mutable_outputs(0)->set_sharding(sharding.SerializeAsString());
  }
}

template <typename Entries>
void AddDonated(const Entries& entries, bool tupled, std::set<int>& donated) {
  for (const auto& entry : entries) {
    if (!tupled) {
      donated.insert(static_cast<int>(entry.parameter_number()));
    } else if (entry.parameter_shape_index_size() > 0) {
      donated.insert(static_cast<int>(entry.parameter_shape_index(0)));
    }
  }
}

}  // namespace

absl::StatusOr<xla::HloModuleProto> ParseOptimizedProgram(absl::string_view format, const std::string& code) {
  if (format == "hlo") {
    xla::HloModuleProto module;
    if (!module.ParseFromString(code))
      return absl::InternalError("the plugin's optimised program is no HloModuleProto");
    return module;
  }
  if (format == "hlo_with_config") {
    xla::HloModuleProtoWithConfig with_config;
    if (!with_config.ParseFromString(code)) {
      return absl::InternalError("the plugin's optimised program is no HloModuleProtoWithConfig");
    }
    return std::move(*with_config.mutable_hlo_module());
  }
  return absl::UnimplementedError(
      absl::StrCat("the plugin shows its optimised programs as '", format, "', not as HLO"));
}

void SetShardings(const xla::HloModuleProto& module, proto::ProgramInfo& info) {
  const auto& shardings = module.spmd_parameters_shardings();
  if (shardings.size() == info.parameters_size()) {
    for (int i = 0; i < shardings.size(); ++i) {
      info.mutable_parameters(i)->set_sharding(shardings[i].SerializeAsString());
    }
  }
  if (module.has_spmd_output_sharding()) SetOutputShardings(module.spmd_output_sharding(), info);
}

proto::ProgramInfo DescribeModule(const xla::HloModuleProto& module, bool tupled_arguments, int num_outputs) {
  proto::ProgramInfo info;
  info.set_name(module.name());
  const xla::ProgramShapeProto& shape = module.host_program_shape();

  std::vector<const xla::ShapeProto*> parameters;
  if (tupled_arguments && shape.parameters_size() == 1) {
    parameters = Flatten(shape.parameters(0), shape.parameters(0).tuple_shapes_size());
  } else {
    for (const xla::ShapeProto& parameter : shape.parameters()) parameters.push_back(&parameter);
  }
  for (const xla::ShapeProto* parameter : parameters) {
    info.add_parameters()->set_layout(parameter->layout().SerializeAsString());
  }
  for (const xla::ShapeProto* output : Flatten(shape.result(), num_outputs)) {
    info.add_outputs()->set_layout(output->layout().SerializeAsString());
  }
  SetShardings(module, info);

  std::set<int> donated;
  // Buffer donors that the compiler had use for are among the aliases by now; a launch leaves the others alone.
  AddDonated(module.input_output_alias().entries(), tupled_arguments, donated);
  for (int parameter : donated) {
    if (parameter >= 0 && parameter < info.parameters_size()) info.add_donated_parameters(parameter);
  }
  info.set_has_collectives(HasCollectives(module));
  return info;
}

}  // namespace causeway
