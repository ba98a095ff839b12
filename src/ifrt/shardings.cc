#include "ifrt/shardings.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "ifrt/types.h"
#include "xla/python/ifrt/sharding_serdes.pb.h"
#include "xla/python/pjrt_ifrt/xla_sharding.pb.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

// No cluster has more; a list that is longer is an attack on memory.
constexpr int kMaxDevicesInSharding = 1 << 20;

// A program has a few hundred; past this the cache starts anew.
constexpr size_t kMaxCachedShardings = 4096;

// And past so many devices in all of them.
constexpr size_t kMaxCachedDevices = 1 << 22;

absl::StatusOr<std::vector<DeviceId>> ParseDevices(const xla::ifrt::DeviceListProto& list) {
  if (list.device_ids_size() == 0) return absl::InvalidArgumentError("a sharding without devices");
  if (list.device_ids_size() > kMaxDevicesInSharding) {
    return absl::InvalidArgumentError(absl::StrCat("a sharding over ", list.device_ids_size(), " devices"));
  }
  std::vector<DeviceId> devices;
  devices.reserve(list.device_ids_size());
  for (int32_t id : list.device_ids()) devices.push_back(DeviceId{id});
  return devices;
}

template <typename Proto>
absl::StatusOr<Proto> Parse(const std::string& data) {
  Proto parsed;
  if (!parsed.ParseFromString(data)) {
    return absl::InvalidArgumentError(absl::StrCat("a ", Proto::descriptor()->name(), " that cannot be parsed"));
  }
  return parsed;
}

absl::StatusOr<Sharding> FromConcrete(const xla::ifrt::ConcreteShardingProto& p) {
  ASSIGN_OR_RETURN(std::vector<DeviceId> devices, ParseDevices(p.devices()));
  if (devices.size() == 1) return Sharding::SingleDevice(devices[0], p.memory_kind());
  if (!p.has_shape() || static_cast<size_t>(p.shard_shapes_size()) != devices.size()) {
    return absl::UnimplementedError("shardings with shapes that change at run time");
  }
  ASSIGN_OR_RETURN(const std::vector<int64_t> dims, ParseDims(p.shape()));
  ASSIGN_OR_RETURN(const std::vector<int64_t> shard, ParseDims(p.shard_shapes(0)));
  for (const auto& other : p.shard_shapes()) {
    if (!std::equal(shard.begin(), shard.end(), other.dims().begin(), other.dims().end())) {
      return absl::UnimplementedError("shardings whose shards differ in shape");
    }
  }
  return Sharding::Even(std::move(devices), p.memory_kind(), dims, shard);
}

// The positions of a mesh in the order in which the tiles are dealt out: `permutation` names the axes from minor to
// major.
absl::StatusOr<std::vector<int64_t>> MeshOrder(const xla::ifrt::ShardingParamProto& param, size_t devices) {
  const int rank = param.axis_sizes_size();
  const auto misfit = [&] {
    return absl::InvalidArgumentError(absl::StrCat("a mesh whose axes do not make up its ", devices, " devices"));
  };
  // Dealing out the tiles costs the rank for each device.
  if (param.permutation_size() != rank || rank > kMaxArrayRank) return misfit();
  std::vector<bool> seen(rank, false);
  std::vector<int64_t> stride(rank, 1);
  int64_t total = 1;
  for (int i = 0; i < rank; ++i) {
    const int axis = param.permutation(i);
    if (axis < 0 || axis >= rank || seen[axis]) return misfit();
    seen[axis] = true;
    stride[i] = total;
    if (param.axis_sizes(i) < 1 || param.axis_sizes(i) > static_cast<int64_t>(devices) / total) return misfit();
    total *= param.axis_sizes(i);
  }
  if (total != static_cast<int64_t>(devices)) return misfit();
  std::vector<int64_t> order(devices);
  std::vector<int64_t> at(rank, 0);  // by axis
  for (int64_t& position : order) {
    position = 0;
    for (int i = 0; i < rank; ++i) position += at[i] * stride[i];
    for (int i = 0; i < rank && ++at[param.permutation(i)] == param.axis_sizes(param.permutation(i)); ++i) {
      at[param.permutation(i)] = 0;
    }
  }
  return order;
}

absl::StatusOr<Sharding> FromParam(const xla::ifrt::ShardingParamShardingProto& p) {
  ASSIGN_OR_RETURN(std::vector<DeviceId> devices, ParseDevices(p.devices()));
  const auto& param = p.sharding_param();
  if (param.unreduced_axes_size() > 0) return absl::UnimplementedError("shardings with unreduced axes");
  ASSIGN_OR_RETURN(const std::vector<int64_t> order, MeshOrder(param, devices.size()));
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  int64_t tiles = 1;
  for (int64_t shards : param.dim_shards()) {
    if (shards < 1 || shards > static_cast<int64_t>(devices.size()) / tiles) {
      return absl::InvalidArgumentError("a sharding with more shards than devices");
    }
    tiles *= shards;
    op.add_tile_assignment_dimensions(shards);
  }
  const int64_t copies = static_cast<int64_t>(devices.size()) / tiles;
  if (copies > 1) {
    op.add_tile_assignment_dimensions(copies);
    op.set_replicate_on_last_tile_dim(true);
  }
  op.mutable_tile_assignment_devices()->Add(order.begin(), order.end());
  return Sharding::FromOpSharding(std::move(devices), p.memory_kind(), op);
}

template <typename Proto>
xla::ifrt::ShardingProto Wrap(absl::string_view type, const Proto& p) {
  xla::ifrt::ShardingProto wire;
  wire.mutable_serialized_sharding()->set_type_name(absl::StrCat("xla::ifrt::", type));
  wire.mutable_serialized_sharding()->set_data(p.SerializeAsString());
  return wire;
}

template <typename Proto>
void SetDevices(absl::Span<const DeviceId> devices, const std::string& memory_kind, Proto& p) {
  for (DeviceId d : devices) p.mutable_devices()->add_device_ids(Raw(d));
  if (!memory_kind.empty()) p.set_memory_kind(memory_kind);
}

}  // namespace

absl::StatusOr<Sharding> ParseSharding(const xla::ifrt::ShardingProto& sharding) {
  const std::string& type = sharding.serialized_sharding().type_name();
  const std::string& data = sharding.serialized_sharding().data();
  if (absl::EndsWith(type, "::SingleDeviceSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::SingleDeviceShardingProto>(data));
    return Sharding::SingleDevice(DeviceId{p.device_id()}, p.memory_kind());
  }
  if (absl::EndsWith(type, "::HloSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::HloShardingProto>(data));
    ASSIGN_OR_RETURN(std::vector<DeviceId> devices, ParseDevices(p.devices()));
    return Sharding::FromOpSharding(std::move(devices), p.memory_kind(), p.xla_op_sharding());
  }
  if (absl::EndsWith(type, "::ConcreteEvenSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::ConcreteEvenShardingProto>(data));
    ASSIGN_OR_RETURN(std::vector<DeviceId> devices, ParseDevices(p.devices()));
    ASSIGN_OR_RETURN(const std::vector<int64_t> dims, ParseDims(p.shape()));
    ASSIGN_OR_RETURN(const std::vector<int64_t> shard, ParseDims(p.shard_shape()));
    return Sharding::Even(std::move(devices), p.memory_kind(), dims, shard);
  }
  if (absl::EndsWith(type, "::ConcreteSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::ConcreteShardingProto>(data));
    return FromConcrete(p);
  }
  if (absl::EndsWith(type, "::ShardingParamSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::ShardingParamShardingProto>(data));
    return FromParam(p);
  }
  if (absl::EndsWith(type, "::OpaqueSharding")) {
    ASSIGN_OR_RETURN(const auto p, Parse<xla::ifrt::OpaqueShardingProto>(data));
    ASSIGN_OR_RETURN(const std::vector<DeviceId> devices, ParseDevices(p.devices()));
    if (devices.size() == 1) return Sharding::SingleDevice(devices[0], p.memory_kind());
    return absl::UnimplementedError("an opaque sharding over several devices does not say what each of them holds");
  }
  return absl::UnimplementedError(absl::StrCat("shardings of type '", type, "' are not known"));
}

xla::ifrt::ShardingProto OutputShardingToWire(absl::Span<const DeviceId> devices, const std::string& memory_kind,
                                              const std::string* op_sharding, absl::Span<const int64_t> shard_dims) {
  if (devices.size() == 1) {
    xla::ifrt::SingleDeviceShardingProto p;
    p.set_device_id(Raw(devices[0]));
    if (!memory_kind.empty()) p.set_memory_kind(memory_kind);
    return Wrap("SingleDeviceSharding", p);
  }
  xla::ifrt::HloShardingProto hlo;
  if (op_sharding != nullptr && hlo.mutable_xla_op_sharding()->ParseFromString(*op_sharding)) {
    SetDevices(devices, memory_kind, hlo);
    return Wrap("HloSharding", hlo);
  }
  xla::ifrt::ConcreteEvenShardingProto even;
  SetDevices(devices, memory_kind, even);
  *even.mutable_shape() = DimsToWire(shard_dims);
  *even.mutable_shard_shape() = DimsToWire(shard_dims);
  return Wrap("ConcreteEvenSharding", even);
}

absl::StatusOr<std::shared_ptr<const Sharding>> ShardingCache::Get(const xla::ifrt::ShardingProto& sharding) {
  key_ = sharding.serialized_sharding().type_name();
  key_.push_back('\0');
  key_.append(sharding.serialized_sharding().data());
  if (auto it = known_.find(key_); it != known_.end()) return it->second;
  ASSIGN_OR_RETURN(Sharding parsed, ParseSharding(sharding));
  known_devices_ += parsed.devices().size();
  if (known_.size() >= kMaxCachedShardings || known_devices_ > kMaxCachedDevices) {
    known_.clear();
    known_devices_ = parsed.devices().size();
  }
  return known_[key_] = std::make_shared<const Sharding>(std::move(parsed));
}

}  // namespace causeway
