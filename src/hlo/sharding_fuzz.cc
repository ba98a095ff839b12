// Sharding::FromOpSharding and Even: whatever is accepted cuts every array of its rank into boxes that cover it, and
// that are the same or do not meet.
#include "hlo/sharding.h"

#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "hlo/fuzz_sharding.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

constexpr int kMaxDevices = 16;

int64_t Elements(const std::vector<int64_t>& dims) { return Box{dims, dims}.NumElements(); }

bool Meet(const Box& a, const Box& b) { return Intersect(a, b).NumElements() > 0; }

void CheckPartition(const Sharding& sharding, const std::vector<int64_t>& dims) {
  if (!sharding.CheckRank(dims).ok()) return;
  std::map<std::vector<int64_t>, Box> distinct;
  for (int i = 0; i < sharding.num_shards(); ++i) {
    const Box box = sharding.ShardBox(dims, i);
    FUZZ_CHECK(box.start.size() == dims.size() && box.size.size() == dims.size());
    for (size_t d = 0; d < dims.size(); ++d) {
      FUZZ_CHECK(box.start[d] >= 0 && box.size[d] >= 0 && box.start[d] <= dims[d] - box.size[d]);
    }
    if (sharding.fully_replicated()) FUZZ_CHECK(box.size == dims);
    if (box.NumElements() == 0) continue;
    const auto [entry, fresh] = distinct.emplace(box.start, box);
    FUZZ_CHECK(fresh || entry->second == box);
  }
  int64_t covered = 0;
  for (auto a = distinct.begin(); a != distinct.end(); ++a) {
    covered += a->second.NumElements();
    for (auto b = std::next(a); b != distinct.end(); ++b) FUZZ_CHECK(!Meet(a->second, b->second));
  }
  if (sharding.placed()) FUZZ_CHECK(covered == Elements(dims));

  // The other way round: an array of which every shard has this shape.
  const std::vector<int64_t> whole = sharding.GlobalDims(dims);
  FUZZ_CHECK(whole.size() == dims.size());
  for (int i = 0; i < sharding.num_shards(); ++i) FUZZ_CHECK(sharding.ShardBox(whole, i).size == dims);

  std::vector<DeviceId> others;
  for (int i = 0; i < sharding.num_shards(); ++i) others.push_back(DeviceId{100 + i});
  const Sharding moved = sharding.OnDevices(others, "pinned_host");
  FUZZ_CHECK(moved.devices() == others);
  for (int i = 0; i < sharding.num_shards(); ++i) FUZZ_CHECK(moved.ShardBox(dims, i) == sharding.ShardBox(dims, i));
}

void Feed(FuzzInput in) {
  const int kind = in.Below(3);
  std::vector<DeviceId> devices;
  for (int i = 1 + in.Below(kMaxDevices); i > 0; --i) devices.push_back(DeviceId{i});
  const std::vector<int64_t> dims = FuzzDims(in);
  absl::StatusOr<Sharding> sharding = absl::CancelledError();
  if (kind == 0) {
    sharding = Sharding::FromOpSharding(devices, "device", FuzzOpSharding(in, static_cast<int>(devices.size())));
  } else if (kind == 1) {
    std::vector<int64_t> shard = in.Flag() ? FuzzDims(in) : dims;
    for (int64_t& d : shard) d /= 1 + in.Below(4);
    sharding = Sharding::Even(devices, "device", dims, shard);
  } else {
    xla::OpSharding op;
    if (!op.ParseFromString(in.Rest())) return;
    sharding = Sharding::FromOpSharding(devices, "device", op);
  }
  if (!sharding.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(sharding.status()) || absl::IsUnimplemented(sharding.status()));
    return;
  }
  FUZZ_CHECK(sharding->num_shards() == static_cast<int>(devices.size()));
  CheckPartition(*sharding, dims);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
