// Shardings as the IFRT protocol sends them, to and from ours.
//
//   SHARDING type          becomes
//   SingleDeviceSharding   one shard
//   HloSharding            as its xla.OpSharding says
//   ConcreteEvenSharding   equal shards, in row-major order of the tiles
//   ConcreteSharding       the same, where all shards have one shape; otherwise UNIMPLEMENTED
//   ShardingParamSharding  tiles over a permuted mesh
//   OpaqueSharding         one shard; over several devices UNIMPLEMENTED: it does not say what they hold
//
// Threading: ShardingCache belongs to one thread; the functions are pure.
#ifndef CAUSEWAY_IFRT_SHARDINGS_H_
#define CAUSEWAY_IFRT_SHARDINGS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "hlo/sharding.h"
#include "xla/python/ifrt/sharding.pb.h"

namespace causeway {

absl::StatusOr<Sharding> ParseSharding(const xla::ifrt::ShardingProto& sharding);

// How a program's output lies, for a client that asks: `op_sharding` is an xla.OpSharding (null where the program
// has none, so that every device holds something of its own of shape `shard_dims`; replicated is empty on the wire).
xla::ifrt::ShardingProto OutputShardingToWire(absl::Span<const DeviceId> devices, const std::string& memory_kind,
                                              const std::string* op_sharding, absl::Span<const int64_t> shard_dims);

// Remembers the shardings of one session, so that equal ones are parsed once and shared.
class ShardingCache {
 public:
  absl::StatusOr<std::shared_ptr<const Sharding>> Get(const xla::ifrt::ShardingProto& sharding);

 private:
  absl::flat_hash_map<std::string, std::shared_ptr<const Sharding>> known_;  // by type name, NUL, data
  size_t known_devices_ = 0;                                                 // in all of them
  std::string key_;                                                          // kept for its memory
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_SHARDINGS_H_
