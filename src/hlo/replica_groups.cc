#include "hlo/replica_groups.h"

#include <google/protobuf/reflection.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status_macros.h"

namespace causeway {
namespace {

using Ids = std::vector<int64_t>;
using Groups = std::vector<Ids>;

// More than any cluster has, and few enough to write out.
constexpr int64_t kMaxIds = 1 << 22;

absl::Status Malformed(const xla::HloInstructionProto& instruction, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the replica groups of ", instruction.name(), " (", instruction.opcode(), "): ", what));
}

// The numbers 0, 1, ... as an array of `dims`, transposed by `perm`, row-major. Nothing if that is no array.
std::optional<Ids> TransposedIota(absl::Span<const int64_t> dims, absl::Span<const int64_t> perm) {
  int64_t count = 1;
  for (int64_t dim : dims) {
    if (dim < 1 || dim > kMaxIds / count) return std::nullopt;
    count *= dim;
  }
  const auto rank = static_cast<int64_t>(dims.size());
  Ids sorted(perm.begin(), perm.end());
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < static_cast<int64_t>(sorted.size()); ++i) {
    if (sorted[i] != i) return std::nullopt;
  }
  if (static_cast<int64_t>(perm.size()) != rank) return std::nullopt;

  Ids strides(rank, 1);  // of the untransposed array
  for (int64_t i = rank - 2; i >= 0; --i) strides[i] = strides[i + 1] * dims[i + 1];
  Ids ids(count);
  Ids index(rank, 0);  // in the transposed one
  for (int64_t& id : ids) {
    id = 0;
    for (int64_t i = 0; i < rank; ++i) id += index[i] * strides[perm[i]];
    for (int64_t i = rank - 1; i >= 0 && ++index[i] == dims[perm[i]]; --i) index[i] = 0;
  }
  return ids;
}

Groups Cut(const Ids& ids, int64_t group_size) {
  Groups groups;
  for (size_t i = 0; i < ids.size(); i += group_size) {
    groups.emplace_back(ids.begin() + i, ids.begin() + i + group_size);
  }
  return groups;
}

absl::StatusOr<Groups> FromIota(const xla::HloInstructionProto& instruction) {
  const auto& list = instruction.iota_collective_device_list();
  Ids perm(list.iota_transpose_perm().begin(), list.iota_transpose_perm().end());
  if (perm.empty()) {
    perm.resize(list.iota_reshape_dims_size());
    std::iota(perm.begin(), perm.end(), 0);
  }
  const auto ids = TransposedIota(list.iota_reshape_dims(), perm);
  const int64_t size = list.num_devices_per_group();
  if (!ids || size < 1 || static_cast<int64_t>(ids->size()) % size != 0 ||
      static_cast<int64_t>(ids->size()) / size != list.num_replica_groups()) {
    return Malformed(instruction, "an iota of another size");
  }
  return Cut(*ids, size);
}

// The devices of a mesh in its order.
absl::StatusOr<Ids> DevicesOf(const xla::HloInstructionProto& instruction, const xla::MeshProto& mesh, int64_t count) {
  Ids devices(mesh.device_ids().begin(), mesh.device_ids().end());
  if (mesh.has_iota_transform()) {
    const auto& transform = mesh.iota_transform();
    Ids perm(transform.transpose_perm().begin(), transform.transpose_perm().end());
    const auto ids = TransposedIota(transform.reshape_dims(), perm);
    if (!ids) return Malformed(instruction, "a mesh whose iota is none");
    devices = *ids;
  }
  if (devices.empty()) {
    devices.resize(count);
    std::iota(devices.begin(), devices.end(), 0);
  }
  if (static_cast<int64_t>(devices.size()) != count) return Malformed(instruction, "a mesh with too few devices");
  return devices;
}

absl::StatusOr<Groups> FromMesh(const xla::HloInstructionProto& instruction) {
  const auto& list = instruction.mesh_axes_replica_group_list();
  const xla::MeshProto& mesh = list.mesh();
  // Each axis is up to three: before, within and behind the part that an AxisRef names.
  struct Part {
    int64_t axis, begin, size;  // `begin`: product of the sizes ahead of it within its axis
  };
  std::vector<Part> wanted;
  for (const auto& ref : list.axes()) {
    if (ref.mesh_axis_index() < 0 || ref.mesh_axis_index() >= mesh.axes_size()) {
      return Malformed(instruction, "an axis that the mesh has not");
    }
    const int64_t whole = mesh.axes(static_cast<int>(ref.mesh_axis_index())).size();
    Part part{ref.mesh_axis_index(), 1, whole};
    if (ref.has_sub_axis_info()) {
      part.begin = ref.sub_axis_info().pre_size();
      part.size = ref.sub_axis_info().size();
    }
    if (part.begin < 1 || part.size < 1 || part.begin > kMaxIds || part.size > kMaxIds || whole < 1 ||
        whole % (part.begin * part.size) != 0) {
      return Malformed(instruction, "a part of an axis that does not divide it");
    }
    wanted.push_back(part);
  }
  Ids dims;
  std::vector<Part> parts;  // of each of `dims`
  for (int64_t axis = 0; axis < mesh.axes_size(); ++axis) {
    std::vector<Part> of_axis;
    std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(of_axis),
                 [axis](const Part& part) { return part.axis == axis; });
    std::sort(of_axis.begin(), of_axis.end(), [](const Part& a, const Part& b) { return a.begin < b.begin; });
    const int64_t whole = mesh.axes(static_cast<int>(axis)).size();
    if (whole < 1) return Malformed(instruction, "an empty axis");
    int64_t done = 1;
    for (const Part& part : of_axis) {
      if (part.begin % done != 0) return Malformed(instruction, "parts of an axis that overlap");
      if (part.begin > done) parts.push_back({axis, done, part.begin / done});
      parts.push_back(part);
      done = part.begin * part.size;
    }
    if (whole % done != 0) return Malformed(instruction, "parts of an axis that do not divide it");
    if (done < whole) parts.push_back({axis, done, whole / done});
  }
  Ids perm;  // the others first, then the wanted ones in the order in which they are named
  const auto is_wanted = [&wanted](const Part& part) {
    return std::find_if(wanted.begin(), wanted.end(), [&part](const Part& w) {
      return w.axis == part.axis && w.begin == part.begin && w.size == part.size;
    });
  };
  int64_t group_size = 1;
  std::vector<std::pair<int64_t, int64_t>> in_order;
  for (size_t i = 0; i < parts.size(); ++i) {
    dims.push_back(parts[i].size);
    const auto found = is_wanted(parts[i]);
    if (found == wanted.end()) {
      perm.push_back(static_cast<int64_t>(i));
    } else {
      in_order.emplace_back(found - wanted.begin(), i);
      group_size *= parts[i].size;
    }
  }
  std::sort(in_order.begin(), in_order.end());
  for (const auto& [order, i] : in_order) perm.push_back(i);
  const auto places = TransposedIota(dims, perm);
  if (!places) return Malformed(instruction, "a mesh of too many devices");
  ASSIGN_OR_RETURN(const Ids devices, DevicesOf(instruction, mesh, static_cast<int64_t>(places->size())));
  Ids ids;
  for (int64_t place : *places) ids.push_back(devices[place]);
  return Cut(ids, group_size);
}

// Before it is known what the numbers mean. Empty: all in one group.
absl::StatusOr<Groups> Written(const xla::HloInstructionProto& instruction) {
  if (instruction.has_mesh_axes_replica_group_list()) return FromMesh(instruction);
  if (instruction.has_iota_collective_device_list()) return FromIota(instruction);
  Groups groups;
  const auto add = [&groups](const auto& list) {
    for (const xla::ReplicaGroup& group : list)
      groups.emplace_back(group.replica_ids().begin(), group.replica_ids().end());
  };
  add(instruction.collective_device_list().replica_groups());
  // The oldest spelling has no accessor that may be used: it is deprecated.
  const auto* field =
      instruction.GetDescriptor()->FindFieldByNumber(xla::HloInstructionProto::kReplicaGroupsFieldNumber);
  if (groups.empty() && field != nullptr) {
    add(instruction.GetReflection()->GetRepeatedFieldRef<xla::ReplicaGroup>(instruction, field));
  }
  return groups;
}

enum class Meaning { kReplicas, kPartitions, kReplicasOfAllPartitions, kDevices };

Meaning MeaningOf(const xla::HloInstructionProto& instruction) {
  if (instruction.channel_id() <= 0) return Meaning::kReplicas;
  const std::string& opcode = instruction.opcode();
  if (opcode == "all-reduce" || opcode == "all-gather" || opcode == "reduce-scatter") {
    return instruction.use_global_device_ids() ? Meaning::kDevices : Meaning::kReplicasOfAllPartitions;
  }
  return Meaning::kPartitions;
}

}  // namespace

absl::StatusOr<DeviceGroups> GroupsOf(const xla::HloInstructionProto& instruction, const ProgramSize& size) {
  ASSIGN_OR_RETURN(Groups written, Written(instruction));
  const Meaning meaning = MeaningOf(instruction);
  const int64_t limit = meaning == Meaning::kDevices      ? size.devices()
                        : meaning == Meaning::kPartitions ? size.partitions
                                                          : size.replicas;
  if (written.empty()) {
    written.emplace_back(limit);
    std::iota(written[0].begin(), written[0].end(), 0);
  }
  for (const Ids& group : written) {
    for (int64_t id : group) {
      if (id < 0 || id >= limit) return Malformed(instruction, absl::StrCat(id, " is none of the ", limit));
    }
  }
  DeviceGroups groups;
  const auto device = [&size](int64_t replica, int64_t partition) {
    return static_cast<int32_t>(replica * size.partitions + partition);
  };
  for (const Ids& group : written) {
    switch (meaning) {
      case Meaning::kReplicas:
        for (int64_t p = 0; p < size.partitions; ++p) {
          groups.emplace_back();
          for (int64_t r : group) groups.back().push_back(device(r, p));
        }
        break;
      case Meaning::kPartitions:
        for (int64_t r = 0; r < size.replicas; ++r) {
          groups.emplace_back();
          for (int64_t p : group) groups.back().push_back(device(r, p));
        }
        break;
      case Meaning::kReplicasOfAllPartitions:
        groups.emplace_back();
        for (int64_t r : group) {
          for (int64_t p = 0; p < size.partitions; ++p) groups.back().push_back(device(r, p));
        }
        break;
      case Meaning::kDevices:
        groups.emplace_back(group.begin(), group.end());
    }
  }
  std::vector<bool> seen(size.devices());
  int64_t count = 0;
  for (const auto& group : groups) {
    for (int32_t member : group) {
      if (seen[member]) return Malformed(instruction, absl::StrCat("device ", member, " is named twice"));
      seen[member] = true;
      ++count;
    }
  }
  if (count != size.devices()) return Malformed(instruction, "a device is in no group");
  return groups;
}

absl::StatusOr<std::vector<std::pair<int32_t, int32_t>>> PairsOf(const xla::HloInstructionProto& instruction,
                                                                 const ProgramSize& size) {
  const bool of_partitions = instruction.channel_id() > 0;
  const int64_t limit = of_partitions ? size.partitions : size.replicas;
  const int64_t others = of_partitions ? size.replicas : size.partitions;
  std::vector<bool> is_source(size.devices());
  std::vector<bool> is_target(size.devices());
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (const xla::SourceTarget& pair : instruction.source_target_pairs()) {
    if (pair.source() < 0 || pair.source() >= limit || pair.target() < 0 || pair.target() >= limit) {
      return Malformed(instruction, absl::StrCat(pair.source(), " to ", pair.target(), " with only ", limit));
    }
    for (int64_t other = 0; other < others; ++other) {
      const auto device = [&](int64_t id) {
        return static_cast<int32_t>(of_partitions ? other * size.partitions + id : id * size.partitions + other);
      };
      const int32_t source = device(pair.source());
      const int32_t target = device(pair.target());
      if (is_source[source] || is_target[target]) return Malformed(instruction, "a device is named twice");
      is_source[source] = is_target[target] = true;
      pairs.emplace_back(source, target);
    }
  }
  return pairs;
}

}  // namespace causeway
