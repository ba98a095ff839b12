// ParseSharding: whatever is accepted lays out every array of its rank, and is the same whether or not it was cached.
#include "ifrt/shardings.h"

#include <string>
#include <vector>

#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ifrt/fuzz_messages.h"
#include "ifrt/types.h"

namespace causeway {
namespace {

void CheckBoxes(const Sharding& sharding, const std::vector<int64_t>& dims) {
  if (!sharding.CheckRank(dims).ok()) return;
  for (int i = 0; i < sharding.num_shards(); ++i) {
    const Box box = sharding.ShardBox(dims, i);
    for (size_t d = 0; d < dims.size(); ++d) {
      FUZZ_CHECK(box.start[d] >= 0 && box.size[d] >= 0 && box.start[d] <= dims[d] - box.size[d]);
    }
  }
}

void FeedParse(FuzzInput& in) {
  const std::vector<int64_t> dims = FuzzDims(in);
  xla::ifrt::ShardingProto wire;
  if (in.OneIn(4)) {
    if (!wire.ParseFromString(in.Rest())) return;
  } else {
    wire = FuzzShardingProto(in, dims);
  }
  const absl::StatusOr<Sharding> sharding = ParseSharding(wire);
  ShardingCache cache;
  const auto cached = cache.Get(wire);
  FUZZ_CHECK(cached.ok() == sharding.ok());
  if (!sharding.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(sharding.status()) || absl::IsUnimplemented(sharding.status()));
    return;
  }
  FUZZ_CHECK(*cache.Get(wire) == *cached);
  FUZZ_CHECK((*cached)->devices() == sharding->devices());
  FUZZ_CHECK(sharding->num_shards() >= 1);
  CheckBoxes(*sharding, dims);
}

// What we say of a program's output, a client (here: we) can read.
void FeedOutput(FuzzInput& in) {
  std::vector<DeviceId> devices;
  for (int i = 1 + in.Below(kFuzzDevices); i > 0; --i) devices.push_back(DeviceId{i});
  const std::vector<int64_t> dims = FuzzDims(in);
  const bool has_sharding = in.Flag();
  const std::string op =
      in.Flag() ? in.Bytes(64) : FuzzOpSharding(in, static_cast<int>(devices.size())).SerializeAsString();
  const auto wire = OutputShardingToWire(devices, "device", has_sharding ? &op : nullptr, dims);
  const absl::StatusOr<Sharding> sharding = ParseSharding(wire);
  if (!sharding.ok()) return;  // it is what the plugin said
  FUZZ_CHECK(sharding->devices() == devices);
  CheckBoxes(*sharding, dims);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  in.OneIn(8) ? causeway::FeedOutput(in) : causeway::FeedParse(in);
  return 0;
}
