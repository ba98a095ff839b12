#include "sim/contents.h"

#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "base/dtype.h"
#include "hlo/sharding.h"
#include "sim/mixing.h"
#include "worker/shapes.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

using sim::Mix;

// Calls visit(offset in the dense bytes, offset in memory) for each element.
void ForEachElement(const HostShape& shape, const std::function<void(int64_t dense, int64_t strided)>& visit) {
  const int64_t width = HostByteWidth(shape.dtype);
  const int64_t count = worker::DenseBytes(shape.dtype, shape.dims) / width;
  std::vector<int64_t> at(shape.dims.size(), 0);
  for (int64_t n = 0; n < count; ++n) {
    visit(n * width, std::inner_product(at.begin(), at.end(), shape.byte_strides.begin(), int64_t{0}));
    for (size_t i = at.size(); i-- > 0 && ++at[i] == shape.dims[i];) at[i] = 0;
  }
}

}  // namespace

Contents::Contents(std::string held) : bytes(std::move(held)), digest(sim::MixBytes(0, bytes)) {}

uint64_t LaunchDigest(absl::string_view program, absl::Span<const ContentsRef> arguments) {
  uint64_t digest = sim::MixBytes(0, program);
  for (const ContentsRef& argument : arguments) digest = Mix(digest, argument->digest);
  return digest;
}

ContentsRef OutputContents(uint64_t launch_digest, int output, int64_t tile, int64_t bytes) {
  const uint64_t seed = Mix(Mix(launch_digest, output), tile);
  std::string held(bytes, '\0');
  for (int64_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = Mix(seed, at);
    std::memcpy(held.data() + at, &word, std::min<int64_t>(sizeof(word), bytes - at));
  }
  return std::make_shared<const Contents>(std::move(held));
}

std::vector<int64_t> TilesOf(const proto::OutputInfo& output, int devices) {
  std::vector<int64_t> tiles(devices, 0);
  xla::OpSharding op;
  if (devices == 1 || !output.has_sharding() || !op.ParseFromString(output.sharding())) return tiles;
  std::vector<DeviceId> ids(devices);
  for (int i = 0; i < devices; ++i) ids[i] = DeviceId{i};
  const absl::StatusOr<Sharding> sharding = Sharding::FromOpSharding(ids, "", op);
  if (!sharding.ok()) return tiles;
  const std::vector<int64_t> dims = sharding->GlobalDims(output.type().dims());
  for (int i = 0; i < devices; ++i) {
    const Box box = sharding->ShardBox(dims, i);
    for (size_t d = 0; d < dims.size(); ++d) tiles[i] = tiles[i] * (dims[d] + 1) + box.start[d];
  }
  return tiles;
}

std::string Gather(const HostShape& shape, const char* memory) {
  std::string dense(worker::DenseBytes(shape.dtype, shape.dims), '\0');
  if (worker::IsDense(shape)) {
    if (!dense.empty()) std::memcpy(dense.data(), memory, dense.size());
    return dense;
  }
  const int width = HostByteWidth(shape.dtype);
  ForEachElement(shape, [&](int64_t at, int64_t strided) { std::memcpy(dense.data() + at, memory + strided, width); });
  return dense;
}

void Scatter(absl::string_view dense, const HostShape& shape, char* memory) {
  if (worker::IsDense(shape)) {
    if (!dense.empty()) std::memcpy(memory, dense.data(), dense.size());
    return;
  }
  const int width = HostByteWidth(shape.dtype);
  ForEachElement(shape, [&](int64_t at, int64_t strided) { std::memcpy(memory + strided, dense.data() + at, width); });
}

}  // namespace causeway
