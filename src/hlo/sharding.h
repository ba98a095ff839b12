// A sharding says which device holds which part of an array.
//
//   Sharding s = *Sharding::FromOpSharding({DeviceId{0}, DeviceId{1}}, "device", op_sharding_proto);
//   Box part = s.ShardBox(/*dims=*/{8, 16}, /*shard=*/1);      // rows 4..8, all columns
//
// Immutable and cheap to copy by shared_ptr; arrays of one layout share one.
#ifndef CAUSEWAY_HLO_SHARDING_H_
#define CAUSEWAY_HLO_SHARDING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/ids.h"

namespace xla {
class OpSharding;
}

namespace causeway {

// A rectangle: size[i] elements from start[i] on in dimension i.
struct Box {
  std::vector<int64_t> start;
  std::vector<int64_t> size;

  int64_t NumElements() const;
  bool operator==(const Box&) const = default;
};

// What two boxes share; sizes are 0 where they do not meet. Both have the same rank.
Box Intersect(const Box& a, const Box& b);

class Sharding {
 public:
  // One shard, all of the array, on one device.
  static Sharding SingleDevice(DeviceId device, std::string memory_kind);

  // Every device holds all of the array.
  static Sharding Replicated(std::vector<DeviceId> devices, std::string memory_kind);

  // As XLA says: REPLICATED, MAXIMAL, MANUAL, UNREDUCED (each device holds a whole-sized shard), OTHER (tiles, listed
  // or iota, with subgroups in the last dimensions). INVALID_ARGUMENT where the tiles do not fit the number of devices,
  // UNIMPLEMENTED for TUPLE.
  static absl::StatusOr<Sharding> FromOpSharding(std::vector<DeviceId> devices, std::string memory_kind,
                                                 const xla::OpSharding& op);

  // Each of `devices` holds a shard of shape `shard_dims` of an array of shape `dims`; which one is not said.
  // INVALID_ARGUMENT where the shards do not divide the array, or would be more than the devices.
  static absl::StatusOr<Sharding> Even(std::vector<DeviceId> devices, std::string memory_kind,
                                       absl::Span<const int64_t> dims, absl::Span<const int64_t> shard_dims);

  int num_shards() const { return static_cast<int>(devices_.size()); }
  const std::vector<DeviceId>& devices() const { return devices_; }

  // Empty: each device's default.
  const std::string& memory_kind() const { return memory_kind_; }

  bool fully_replicated() const { return tiles_.empty(); }

  // Whether the sharding says which part of the array each shard is. If not (even, manual and unreduced shardings), the
  // array can be used shard by shard, but not be cut anew.
  bool placed() const { return placed_; }

  // The part of an array of shape `dims` that shard `shard` holds; its size only, where the sharding is not placed().
  // Tiles are of equal size, rounded up, so the last ones may be short or empty. `dims` has the rank the sharding was
  // made for (any, when replicated); 0 <= shard < num_shards().
  Box ShardBox(absl::Span<const int64_t> dims, int shard) const;

  // INVALID_ARGUMENT unless an array of shape `dims` can be laid out so.
  absl::Status CheckRank(absl::Span<const int64_t> dims) const;

  // Shape of the array whose every shard has shape `shard_dims`.
  std::vector<int64_t> GlobalDims(absl::Span<const int64_t> shard_dims) const;

  // The same partition over other devices, in the same order. As many devices as before.
  Sharding OnDevices(std::vector<DeviceId> devices, std::string memory_kind) const;

 private:
  Sharding(std::vector<DeviceId> devices, std::string memory_kind);

  std::vector<DeviceId> devices_;
  std::string memory_kind_;
  std::vector<int64_t> tiles_;    // tiles per dimension; empty: replicated
  std::vector<int64_t> tile_of_;  // by shard: its tile, row-major in tiles_. Empty where that is not said
  bool placed_ = true;
};

}  // namespace causeway

#endif  // CAUSEWAY_HLO_SHARDING_H_
