#include "hlo/sharding.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/limits.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

// Dimensions of a tile assignment: the array's and a few of subgroups. Walking an assignment costs its rank a device.
constexpr int kMaxTileRank = kMaxArrayRank + 8;

// Product of positive factors, or nothing where one is not positive or the product passes `limit`.
template <typename Range>
std::optional<int64_t> BoundedProduct(const Range& factors, int64_t limit) {
  int64_t product = 1;
  for (int64_t f : factors) {
    if (f < 1 || f > limit / product) return std::nullopt;
    product *= f;
  }
  return product;
}

absl::Status BadTiles(const xla::OpSharding& op, int devices, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("a sharding with tiles [",
                                                 absl::StrJoin(op.tile_assignment_dimensions(), ","), "] over ",
                                                 devices, " devices: ", why));
}

// The device position that stands at each place of the tile assignment, in row-major order of its dimensions.
absl::StatusOr<std::vector<int64_t>> TileAssignment(const xla::OpSharding& op, int devices) {
  if (op.tile_assignment_dimensions_size() > kMaxTileRank || op.iota_reshape_dims_size() > kMaxTileRank) {
    return absl::InvalidArgumentError(absl::StrCat("a sharding with tiles of more than ", kMaxTileRank, " dimensions"));
  }
  const std::optional<int64_t> tiles = BoundedProduct(op.tile_assignment_dimensions(), devices);
  if (!tiles || *tiles != devices) return BadTiles(op, devices, "the tiles are not as many as the devices");
  std::vector<int64_t> order(devices);
  if (op.iota_reshape_dims().empty()) {
    if (op.tile_assignment_devices_size() != devices)
      return BadTiles(op, devices, "the device list is of another length");
    std::copy(op.tile_assignment_devices().begin(), op.tile_assignment_devices().end(), order.begin());
  } else {
    // iota(reshape_dims) transposed by perm: walk the transposed array in row-major order.
    const auto& reshape = op.iota_reshape_dims();
    const auto& perm = op.iota_transpose_perm();
    const int rank = reshape.size();
    std::vector<bool> seen(rank, false);
    if (perm.size() != rank) return BadTiles(op, devices, "iota permutation and reshape differ in rank");
    for (int32_t p : perm) {
      if (p < 0 || p >= rank || seen[p]) return BadTiles(op, devices, "the iota permutation is none");
      seen[p] = true;
    }
    const std::optional<int64_t> total = BoundedProduct(reshape, devices);
    if (!total || *total != devices) return BadTiles(op, devices, "the iota is not as large as the devices are many");
    std::vector<int64_t> stride(rank, 1);
    for (int i = rank - 2; i >= 0; --i) stride[i] = stride[i + 1] * reshape[i + 1];
    std::vector<int64_t> at(rank, 0);
    for (int64_t n = 0; n < devices; ++n) {
      int64_t value = 0;
      for (int i = 0; i < rank; ++i) value += at[i] * stride[perm[i]];
      order[n] = value;
      for (int i = rank - 1; i >= 0 && ++at[i] == reshape[perm[i]]; --i) at[i] = 0;
    }
  }
  std::vector<bool> used(devices, false);
  for (int64_t d : order) {
    if (d < 0 || d >= devices || used[d]) return BadTiles(op, devices, "a device stands twice or is out of range");
    used[d] = true;
  }
  return order;
}

}  // namespace

int64_t Box::NumElements() const {
  return std::accumulate(size.begin(), size.end(), int64_t{1}, std::multiplies<int64_t>());
}

Box Intersect(const Box& a, const Box& b) {
  Box both;
  for (size_t i = 0; i < a.start.size(); ++i) {
    const int64_t start = std::max(a.start[i], b.start[i]);
    const int64_t end = std::min(a.start[i] + a.size[i], b.start[i] + b.size[i]);
    both.start.push_back(start);
    both.size.push_back(std::max<int64_t>(0, end - start));
  }
  return both;
}

Sharding::Sharding(std::vector<DeviceId> devices, std::string memory_kind)
    : devices_(std::move(devices)), memory_kind_(std::move(memory_kind)) {}

Sharding Sharding::SingleDevice(DeviceId device, std::string memory_kind) {
  return Sharding({device}, std::move(memory_kind));
}

Sharding Sharding::Replicated(std::vector<DeviceId> devices, std::string memory_kind) {
  return Sharding(std::move(devices), std::move(memory_kind));
}

absl::StatusOr<Sharding> Sharding::FromOpSharding(std::vector<DeviceId> devices, std::string memory_kind,
                                                  const xla::OpSharding& op) {
  Sharding sharding(std::move(devices), std::move(memory_kind));
  switch (op.type()) {
    case xla::OpSharding::REPLICATED:
    case xla::OpSharding::MAXIMAL:
      return sharding;
    case xla::OpSharding::MANUAL:
    case xla::OpSharding::UNREDUCED:
    case xla::OpSharding::UNKNOWN:
      sharding.placed_ = false;
      return sharding;
    case xla::OpSharding::OTHER:
      break;
    default:
      return absl::UnimplementedError(
          absl::StrCat("a sharding of type ", xla::OpSharding::Type_Name(op.type()), " cannot lay out one array"));
  }
  const int devices_count = sharding.num_shards();
  ASSIGN_OR_RETURN(const std::vector<int64_t> order, TileAssignment(op, devices_count));
  const int subgroups = (op.replicate_on_last_tile_dim() ? 1 : 0) + op.last_tile_dims_size();
  const int rank = op.tile_assignment_dimensions_size() - subgroups;
  if (rank < 0 || rank > kMaxArrayRank)
    return BadTiles(op, devices_count, "more subgroups than dimensions, or too many");
  for (int type : op.last_tile_dims()) {
    if (type != xla::OpSharding::REPLICATED) sharding.placed_ = false;
  }
  const auto& dims = op.tile_assignment_dimensions();
  sharding.tiles_.assign(dims.begin(), dims.begin() + rank);
  const int64_t tiles =
      std::accumulate(sharding.tiles_.begin(), sharding.tiles_.end(), int64_t{1}, std::multiplies<int64_t>());
  if (tiles == 1) {
    sharding.tiles_.clear();
    return sharding;
  }
  // The last dimensions are subgroups: neighbours in the assignment that hold the same tile.
  const int64_t copies = devices_count / tiles;
  sharding.tile_of_.resize(devices_count);
  for (int64_t n = 0; n < devices_count; ++n) sharding.tile_of_[order[n]] = n / copies;
  return sharding;
}

absl::StatusOr<Sharding> Sharding::Even(std::vector<DeviceId> devices, std::string memory_kind,
                                        absl::Span<const int64_t> dims, absl::Span<const int64_t> shard_dims) {
  Sharding sharding(std::move(devices), std::move(memory_kind));
  const auto misfit = [&] {
    return absl::InvalidArgumentError(absl::StrCat("shards of shape [", absl::StrJoin(shard_dims, ","),
                                                   "] do not make up an array of shape [", absl::StrJoin(dims, ","),
                                                   "] over ", sharding.num_shards(), " devices"));
  };
  if (dims.size() != shard_dims.size()) return misfit();
  int64_t tiles = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    const bool whole = dims[i] == shard_dims[i];
    // A shard is no larger than the array: of an empty one no part is other than empty.
    if (!whole && (shard_dims[i] <= 0 || shard_dims[i] > dims[i] || dims[i] % shard_dims[i] != 0)) return misfit();
    sharding.tiles_.push_back(whole ? 1 : dims[i] / shard_dims[i]);
    if (sharding.tiles_.back() > sharding.num_shards() / tiles) return misfit();
    tiles *= sharding.tiles_.back();
  }
  if (tiles == 1) {
    sharding.tiles_.clear();
    return sharding;
  }
  sharding.placed_ = false;
  return sharding;
}

Box Sharding::ShardBox(absl::Span<const int64_t> dims, int shard) const {
  Box box;
  box.start.assign(dims.size(), 0);
  box.size.assign(dims.begin(), dims.end());
  if (tiles_.empty()) return box;
  int64_t tile = tile_of_.empty() ? 0 : tile_of_[shard];
  for (int i = static_cast<int>(tiles_.size()) - 1; i >= 0; --i) {
    const int64_t at = tile % tiles_[i];
    tile /= tiles_[i];
    const int64_t per_tile = (dims[i] + tiles_[i] - 1) / tiles_[i];
    box.start[i] = std::min(at * per_tile, dims[i]);
    box.size[i] = std::min(per_tile, dims[i] - box.start[i]);
  }
  return box;
}

absl::Status Sharding::CheckRank(absl::Span<const int64_t> dims) const {
  if (tiles_.empty() || tiles_.size() == dims.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a sharding of ", tiles_.size(),
                                                 " dimensions cannot lay out an array of shape [",
                                                 absl::StrJoin(dims, ","), "]"));
}

std::vector<int64_t> Sharding::GlobalDims(absl::Span<const int64_t> shard_dims) const {
  std::vector<int64_t> dims(shard_dims.begin(), shard_dims.end());
  for (size_t i = 0; i < std::min(dims.size(), tiles_.size()); ++i) dims[i] = SaturatingMultiply(dims[i], tiles_[i]);
  return dims;
}

Sharding Sharding::OnDevices(std::vector<DeviceId> devices, std::string memory_kind) const {
  Sharding moved = *this;
  moved.devices_ = std::move(devices);
  moved.memory_kind_ = std::move(memory_kind);
  return moved;
}

}  // namespace causeway
