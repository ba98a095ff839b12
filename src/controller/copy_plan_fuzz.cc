// PlanReshard and PlanCopy over two shardings and a cluster: the pieces of every target shard are the array's own and
// make it up without a gap or an overlap, and both workers of a piece that travels are told the same.
#include "controller/copy_plan.h"

#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "hlo/fuzz_sharding.h"
#include "hlo/sharding.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

constexpr ArrayId kSource{1};
constexpr ArrayId kTarget{2};

// Three workers on two islands: 3, 4 and 5 devices.
const Cluster& TestCluster() {
  static const Cluster& cluster = *[] {
    auto* cluster = new Cluster(/*key_seed=*/1);
    for (int w = 0; w < 3; ++w) {
      proto::Hello hello;
      hello.set_version(kControlVersion);
      hello.set_name("w" + std::to_string(w));
      hello.set_island(w < 2 ? "a" : "b");
      for (int d = 0; d < 3 + w; ++d) hello.add_devices()->add_memories();
      FUZZ_CHECK(cluster->Join(hello, LinkId{static_cast<uint64_t>(w + 1)}, absl::UnixEpoch()).ok());
    }
    cluster->AssignDeviceIds();
    return cluster;
  }();
  return cluster;
}

constexpr int kDevices = 12;

// Distinct devices of the cluster, `count` of them.
std::vector<DeviceId> FuzzDevices(FuzzInput& in, int count) {
  std::vector<DeviceId> devices;
  const int first = in.Below(kDevices);
  for (int i = 0; i < count; ++i) devices.push_back(DeviceId{(first + i) % kDevices});
  FuzzShuffle(in, devices);
  return devices;
}

absl::StatusOr<Sharding> FuzzSharding(FuzzInput& in, const std::vector<int64_t>& dims) {
  const int count = 1 + in.Below(kDevices);
  const std::vector<DeviceId> devices = FuzzDevices(in, count);
  absl::StatusOr<Sharding> sharding = Sharding::FromOpSharding(devices, "", FuzzOpSharding(in, count));
  if (sharding.ok() && !sharding->CheckRank(dims).ok()) return Sharding::Replicated(devices, "");
  return sharding;
}

// `box` of a message, which lies in a shard that is `within` of the array, as a box of the array.
Box InArray(const proto::Box& box, const Box& within) {
  if (box.start_size() == 0 && box.size_size() == 0) return within;
  FUZZ_CHECK(box.start_size() == static_cast<int>(within.start.size()) && box.size_size() == box.start_size());
  Box out;
  for (int i = 0; i < box.start_size(); ++i) {
    FUZZ_CHECK(box.start(i) >= 0 && box.size(i) >= 0 && box.start(i) <= within.size[i] - box.size(i));
    out.start.push_back(within.start[i] + box.start(i));
    out.size.push_back(box.size(i));
  }
  return out;
}

void CheckPlan(const CopyPlan& plan, const ArraySpec& source, const Sharding& target, const std::vector<Box>& boxes) {
  const Cluster& cluster = TestCluster();
  std::vector<int> made(target.num_shards(), -1);
  std::vector<std::vector<Box>> pieces(target.num_shards());
  std::map<uint64_t, std::vector<std::string>> told;  // by stream: what each worker was told
  std::set<WorkerId> makers;
  std::set<WorkerId> senders;
  for (const auto& [worker, copy] : plan.messages) {
    FUZZ_CHECK(copy.array() == Raw(kTarget));
    for (const proto::Copy::Made& m : copy.made()) {
      const int shard = m.shard().index();
      FUZZ_CHECK(shard >= 0 && shard < target.num_shards() && made[shard] == -1);
      made[shard] = m.part_count();
      const Cluster::Place& place = *cluster.Find(target.devices()[shard]);
      FUZZ_CHECK(place.worker == worker && place.local_index == m.shard().device());
      FUZZ_CHECK(std::equal(m.dims().begin(), m.dims().end(), boxes[shard].size.begin(), boxes[shard].size.end()));
      makers.insert(worker);
    }
    for (const proto::Copy::Part& part : copy.parts()) {
      const WorkerId from{part.source_worker()};
      const WorkerId to{part.target_worker()};
      FUZZ_CHECK(worker == from || worker == to);
      FUZZ_CHECK(cluster.Find(source.sharding->devices()[part.source_shard()])->worker == from);
      FUZZ_CHECK(cluster.Find(target.devices()[part.target_shard()])->worker == to);
      senders.insert(from);
      if (from != to) told[part.stream()].push_back(part.SerializeAsString());
      if (worker != to) continue;
      const Box taken = InArray(part.source_box(), source.sharding->ShardBox(source.dims, part.source_shard()));
      const Box placed = InArray(part.target_box(), boxes[part.target_shard()]);
      FUZZ_CHECK(taken == placed);
      FUZZ_CHECK(part.bytes() == placed.NumElements() * HostByteWidth(source.dtype));
      for (const Box& other : pieces[part.target_shard()]) FUZZ_CHECK(Intersect(other, placed).NumElements() == 0);
      pieces[part.target_shard()].push_back(placed);
    }
  }
  for (int i = 0; i < target.num_shards(); ++i) {
    FUZZ_CHECK(made[i] == static_cast<int>(pieces[i].size()));
    int64_t elements = 0;
    for (const Box& piece : pieces[i]) elements += piece.NumElements();
    FUZZ_CHECK(elements == boxes[i].NumElements());
  }
  for (const auto& [stream, messages] : told) FUZZ_CHECK(messages.size() == 2 && messages[0] == messages[1]);
  FUZZ_CHECK(std::set<WorkerId>(plan.makers.begin(), plan.makers.end()) == makers);
  FUZZ_CHECK(std::set<WorkerId>(plan.senders.begin(), plan.senders.end()) == senders);
}

void Feed(FuzzInput in) {
  ArraySpec source;
  source.dtype = in.Flag() ? DType::kF32 : DType::kS8;
  source.dims = FuzzDims(in);
  absl::StatusOr<Sharding> from = FuzzSharding(in, source.dims);
  if (!from.ok()) return;
  source.sharding = std::make_shared<const Sharding>(*std::move(from));
  uint64_t streams = 0;
  const auto next_stream = [&] { return StreamId{++streams}; };
  std::vector<Box> boxes;
  if (in.Flag()) {
    const Sharding target = source.sharding->OnDevices(FuzzDevices(in, source.sharding->num_shards()), "");
    for (int i = 0; i < target.num_shards(); ++i) boxes.push_back(source.sharding->ShardBox(source.dims, i));
    CheckPlan(PlanCopy(kSource, source, kTarget, target, TestCluster(), next_stream), source, target, boxes);
    return;
  }
  const absl::StatusOr<Sharding> target = FuzzSharding(in, source.dims);
  if (!target.ok()) return;
  for (int i = 0; i < target->num_shards(); ++i) boxes.push_back(target->ShardBox(source.dims, i));
  CheckPlan(PlanReshard(kSource, source, kTarget, *target, TestCluster(), next_stream), source, *target, boxes);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
