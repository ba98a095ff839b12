// Takes the collectives out of a partitioned module, so that what is left runs on one device alone and somebody else
// can carry them out.
//
//   ASSIGN_OR_RETURN(proto::Collectives table, TakeOutCollectives(module, /*replicas=*/1, /*partitions=*/8));
//
// Each becomes a custom call of the typed FFI, "causeway_collective", with the operands and results of the collective
// and one attribute, its index in the table; partition-id and replica-id become "causeway_partition_id" and
// "causeway_replica_id". What devices meet, how operands are reduced or cut: all that is in the table, and no two
// devices differ in their code.
//
// Operands and results are dense and row-major, whatever the layouts around them: the calls constrain them so.
//
// Threading: pure functions.
#ifndef CAUSEWAY_HLO_COLLECTIVES_H_
#define CAUSEWAY_HLO_COLLECTIVES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/collectives.pb.h"
#include "xla/service/hlo.pb.h"

namespace causeway {

// The module is one of `replicas` x `partitions`, and becomes one of a single device. UNIMPLEMENTED, naming the
// instruction: it talks to other devices or the host in a way that nobody here carries out. INVALID_ARGUMENT: it is
// malformed. After an error the module is of no use.
absl::StatusOr<proto::Collectives> TakeOutCollectives(xla::HloModuleProto& module, int64_t replicas,
                                                      int64_t partitions);

// For people: gives the custom calls of a module, optimised or not, the names of what they stand for. It is not to be
// compiled any more.
void ShowCollectives(const proto::Collectives& table, xla::HloModuleProto& module);

}  // namespace causeway

#endif  // CAUSEWAY_HLO_COLLECTIVES_H_
