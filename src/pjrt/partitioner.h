// Partitions programs for devices that are not all here.
//
//   Partitioner partitioner(api);
//   ASSIGN_OR_RETURN(xla::HloModuleProto module, partitioner.Partition("mlir", code, options, /*devices=*/64));
//
// The plugin's compiler does it: it is asked to compile for as many devices as the program has, with every optimisation
// switched off, and is stopped when it shows the partitioned module to our transform hook, before it makes any code.
// (To enable only the partitioner does not do: the hook's own name ends in a counter, and from the second compile on it
// would be filtered out.)
//
// It needs a client with that many devices, which costs a thread and some memory for each: made when first needed, kept
// for the next program, and made anew when one needs more.
//
// Threading: thread-safe; one program at a time. Lifetime: `api` lives for ever.
#ifndef CAUSEWAY_PJRT_PARTITIONER_H_
#define CAUSEWAY_PJRT_PARTITIONER_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "pjrt/pjrt_client.h"
#include "xla/service/hlo.pb.h"

namespace causeway {

class Partitioner {
 public:
  explicit Partitioner(const PjrtApi& api) : api_(api) {}

  // The module of one device of `devices`, with its collectives, not optimised. `options` is an
  // xla.CompileOptionsProto, whose device assignment does not matter. INVALID_ARGUMENT where its replicas and
  // partitions are not `devices`; UNIMPLEMENTED where the plugin shows nobody its modules; otherwise the compiler's
  // error.
  absl::StatusOr<xla::HloModuleProto> Partition(const std::string& format, const std::string& code,
                                                const std::string& options, int devices);

 private:
  absl::StatusOr<const PjrtClient*> ClientFor(int devices) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const PjrtApi& api_;
  Mutex mutex_;
  std::unique_ptr<PjrtClient> client_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PARTITIONER_H_
