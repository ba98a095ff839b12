// What clients choose: arrays that fit and some that do not, shapes, shardings, programs.
#include <algorithm>
#include <numeric>

#include "sim/client.h"
#include "worker/shapes.h"
#include "xla/xla_data.pb.h"

namespace causeway::sim {
namespace {

// `parts` tiles along the first of `rank` dimensions, each on `devices / parts` devices.
xla::OpSharding Tiled(int parts, int devices, size_t rank) {
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  op.add_tile_assignment_dimensions(parts);
  for (size_t i = 1; i < rank; ++i) op.add_tile_assignment_dimensions(1);
  if (parts < devices) {
    op.add_tile_assignment_dimensions(devices / parts);
    op.set_replicate_on_last_tile_dim(true);
  }
  for (int i = 0; i < devices; ++i) op.add_tile_assignment_devices(i);
  return op;
}

}  // namespace

SessionWishes Client::PickWishes() {
  SessionWishes wishes;
  if (random().Chance(50)) return wishes;
  wishes.weight = random().Of(std::vector<double>{kMinWeight, 0.5, 1, 3, kMaxWeight});
  if (context_.profile.caps) wishes.cap = random().Of(std::vector<double>{0.01, 0.5, 1});
  wishes.devices = static_cast<int>(random().Between(1, 4));
  wishes.one_island = random().Chance(30);
  wishes.exclusive = random().Chance(30);
  return wishes;
}

ArrayId Client::NewName() {
  if (Mistake()) {
    const auto& arrays = context_.model.arrays(session_);
    if (!arrays.empty() && random().Chance(80)) {
      return std::next(arrays.begin(), random().Pick(static_cast<int64_t>(arrays.size())))->first;
    }
    return MakeArrayId(SessionId{Raw(session_) + 1}, 1);
  }
  return NewArray();
}

ModelArrayRef Client::PickArray(const std::function<bool(const ModelArray&)>& fits) {
  std::vector<ModelArrayRef> fitting;
  for (const auto& [id, array] : context_.model.arrays(session_)) {
    if (!array->deleted && fits(*array)) fitting.push_back(array);
  }
  return fitting.empty() ? nullptr : random().Of(fitting);
}

ArrayId Client::PickName(const std::function<bool(const ModelArray&)>& fits, bool& found) {
  found = true;
  if (Mistake()) {
    const auto& arrays = context_.model.arrays(session_);
    if (!arrays.empty() && random().Chance(80)) {
      return std::next(arrays.begin(), random().Pick(static_cast<int64_t>(arrays.size())))->first;
    }
    return MakeArrayId(SessionId{Raw(session_) + static_cast<uint32_t>(random().Pick(2))}, 1 << 20);
  }
  const ModelArrayRef array = PickArray(fits);
  found = array != nullptr;
  return found ? array->id : ArrayId{0};
}

std::vector<ArrayId> Client::PickNames(int most) {
  std::vector<ArrayId> names;
  const int64_t count = random().Between(1, most);
  for (int64_t i = 0; i < count; ++i) {
    bool found = false;
    const ArrayId name = PickName([](const ModelArray&) { return true; }, found);
    if (found && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::vector<DeviceId> Client::PickDevices(bool one_worker) {
  std::vector<std::vector<DeviceId>> fitting;
  for (const std::vector<DeviceId>& mesh : meshes_) {
    const WorkerId first = context_.model.devices().at(mesh.front()).worker;
    const bool one = std::all_of(mesh.begin(), mesh.end(),
                                 [&](DeviceId device) { return context_.model.devices().at(device).worker == first; });
    if (one || !one_worker || Mistake()) fitting.push_back(mesh);
  }
  std::vector<DeviceId> devices = random().Of(fitting);
  if (random().Chance(5)) random().Shuffle(devices);
  return devices;
}

std::vector<int64_t> Client::PickDims(int devices) {
  if (random().Chance(context_.profile.large)) {
    // Up to 1.5 MiB a device: more than a frame takes, now and then more than a chunk.
    const int64_t rows = random().Chance(2) ? 384 : random().Between(17, 40);
    return {rows * std::min(devices, 4), 1000};
  }
  std::vector<int64_t> dims(random().Pick(4));
  for (int64_t& d : dims) d = random().Chance(5) ? 0 : random().Between(1, 6);
  return dims;
}

std::shared_ptr<const Sharding> Client::PickSharding(std::vector<DeviceId> devices, const std::vector<int64_t>& dims) {
  const std::string memory_kind = Mistake() ? "nowhere" : random().Chance(20) ? "device" : "";
  const auto count = static_cast<int>(devices.size());
  if (count == 1) return std::make_shared<const Sharding>(Sharding::SingleDevice(devices.front(), memory_kind));
  if (dims.empty() || random().Chance(30)) {
    return std::make_shared<const Sharding>(Sharding::Replicated(std::move(devices), memory_kind));
  }
  const int parts = count % 2 == 0 && random().Chance(30) ? count / 2 : count;
  return std::make_shared<const Sharding>(
      *Sharding::FromOpSharding(std::move(devices), memory_kind, Tiled(parts, count, dims.size())));
}

// None mostly; else dense in another order of dimensions, or with gaps.
std::vector<int64_t> Client::PickStrides(const HostShape& shape) {
  if (shape.dims.empty() || !random().Chance(10)) return {};
  std::vector<size_t> order(shape.dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  random().Shuffle(order);
  std::vector<int64_t> strides(shape.dims.size());
  int64_t stride = worker::DenseBytes(shape.dtype, {}) * (random().Chance(30) ? 2 : 1);
  for (size_t d : order) {
    strides[d] = stride;
    stride *= std::max<int64_t>(shape.dims[d], 1);
  }
  return strides;
}

proto::ProgramInfo Client::PickProgram(int devices, ProgramKind& kind) {
  proto::ProgramInfo info;
  if (random().Chance(context_.profile.bad_programs)) kind = static_cast<ProgramKind>(random().Between(1, 4));
  info.set_name(NameProgram(kind, ++context_.last_program));
  const int64_t parameters = random().Pick(4);
  for (int i = 0; i < parameters; ++i) {
    info.add_parameters();
    if (random().Chance(25)) info.add_donated_parameters(i);
  }
  const int64_t outputs = random().Between(random().Chance(10) ? 0 : 1, 3);
  for (int64_t i = 0; i < outputs; ++i) {
    proto::OutputInfo& output = *info.add_outputs();
    output.mutable_type()->set_dtype(static_cast<int32_t>(random().Chance(50) ? DType::kF32 : DType::kBF16));
    const std::vector<int64_t> dims = PickDims(1);
    for (int64_t d : dims) output.mutable_type()->add_dims(d);
    if (dims.empty() || devices == 1 || random().Chance(30)) continue;
    const int parts = devices % 2 == 0 && random().Chance(30) ? devices / 2 : devices;
    output.set_sharding(Tiled(parts, devices, dims.size()).SerializeAsString());
  }
  info.set_has_collectives(random().Chance(30));
  return info;
}

// ---------------------------------------------------------------- aliases

void Client::Disassemble(AliasShards& e) {
  const ModelArrayRef array = PickArray([](const ModelArray& a) { return a.spec != nullptr; });
  if (array == nullptr) return;
  const Sharding& sharding = *array->spec->sharding;
  for (int shard = 0; shard < sharding.num_shards(); ++shard) {
    if (random().Chance(30)) continue;
    auto spec = std::make_shared<ArraySpec>(*array->spec);
    spec->dims = sharding.ShardBox(array->spec->dims, shard).size;
    spec->sharding =
        std::make_shared<const Sharding>(Sharding::SingleDevice(sharding.devices()[shard], sharding.memory_kind()));
    e.targets.push_back({NewName(), spec, {{array->id, shard}}});
  }
}

void Client::Assemble(AliasShards& e) {
  const auto single = [](const ModelArray& a) { return a.spec != nullptr && a.spec->sharding->num_shards() == 1; };
  const ModelArrayRef first = PickArray(single);
  if (first == nullptr) return;
  const ArraySpec& like = *first->spec;
  std::vector<DeviceId> devices = {like.sharding->devices().front()};
  std::vector<AliasShards::From> sources = {{first->id, 0}};
  const int64_t wanted = random().Between(1, 4);
  for (int64_t i = 1; i < wanted; ++i) {
    const ModelArrayRef next = PickArray([&](const ModelArray& a) {
      return single(a) && a.spec->dims == like.dims && a.spec->dtype == like.dtype &&
             std::find(devices.begin(), devices.end(), a.spec->sharding->devices().front()) == devices.end();
    });
    if (next == nullptr) break;
    devices.push_back(next->spec->sharding->devices().front());
    sources.push_back({next->id, 0});
  }
  auto spec = std::make_shared<ArraySpec>(like);
  const auto count = static_cast<int>(devices.size());
  if (count == 1 || like.dims.empty() || random().Chance(30)) {
    spec->sharding = std::make_shared<const Sharding>(Sharding::Replicated(devices, like.sharding->memory_kind()));
  } else {
    spec->dims[0] *= count;
    spec->sharding = std::make_shared<const Sharding>(
        *Sharding::FromOpSharding(devices, like.sharding->memory_kind(), Tiled(count, count, like.dims.size())));
  }
  e.targets.push_back({NewName(), spec, std::move(sources)});
}

// The same shards in another order.
void Client::Permute(AliasShards& e) {
  const ModelArrayRef array = PickArray([](const ModelArray& a) {
    if (a.spec == nullptr) return false;
    const std::vector<int64_t> size = a.spec->sharding->ShardBox(a.spec->dims, 0).size;
    for (int i = 1; i < a.spec->sharding->num_shards(); ++i) {
      if (a.spec->sharding->ShardBox(a.spec->dims, i).size != size) return false;
    }
    return true;
  });
  if (array == nullptr) return;
  const Sharding& sharding = *array->spec->sharding;
  std::vector<AliasShards::From> sources;
  for (int shard = 0; shard < sharding.num_shards(); ++shard) sources.push_back({array->id, shard});
  random().Shuffle(sources);
  std::vector<DeviceId> devices;
  for (const AliasShards::From& from : sources) devices.push_back(sharding.devices()[from.shard]);
  auto spec = std::make_shared<ArraySpec>(*array->spec);
  spec->sharding = std::make_shared<const Sharding>(sharding.OnDevices(devices, sharding.memory_kind()));
  e.targets.push_back({NewName(), spec, std::move(sources)});
}

}  // namespace causeway::sim
