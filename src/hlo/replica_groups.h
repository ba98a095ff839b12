// Which devices meet in a collective, whichever of HLO's spellings says so.
//
//   ASSIGN_OR_RETURN(DeviceGroups groups, GroupsOf(instruction, {.replicas = 1, .partitions = 8}));
//   groups[0]     // logical devices (replica * partitions + partition), by rank
//
// The spellings are lists (replica_groups, collective_device_list), an iota that is reshaped and transposed
// (iota_collective_device_list), and axes of a mesh (mesh_axes_replica_group_list). What their numbers mean depends on
// whether the instruction has a channel and global ids: replicas, partitions, or both at once; as XLA's
// GetCollectiveOpGroupMode has it (xla/service/collective_ops_utils.h).
//
// Threading: pure functions.
#ifndef CAUSEWAY_HLO_REPLICA_GROUPS_H_
#define CAUSEWAY_HLO_REPLICA_GROUPS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "xla/service/hlo.pb.h"

namespace causeway {

using DeviceGroups = std::vector<std::vector<int32_t>>;

struct ProgramSize {
  int64_t replicas = 1;
  int64_t partitions = 1;

  int64_t devices() const { return replicas * partitions; }
};

// Of all collectives but collective-permute. INVALID_ARGUMENT: the groups do not hold every device exactly once.
absl::StatusOr<DeviceGroups> GroupsOf(const xla::HloInstructionProto& instruction, const ProgramSize& size);

// Of a collective-permute: sources and targets. INVALID_ARGUMENT: one is no device, or is named twice in its role.
absl::StatusOr<std::vector<std::pair<int32_t, int32_t>>> PairsOf(const xla::HloInstructionProto& instruction,
                                                                 const ProgramSize& size);

}  // namespace causeway

#endif  // CAUSEWAY_HLO_REPLICA_GROUPS_H_
