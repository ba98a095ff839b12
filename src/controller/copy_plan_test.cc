#include "controller/copy_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

// Two islands of two workers of two devices: devices 0..7.
Cluster MakeCluster() {
  Cluster cluster(/*key_seed=*/1);
  for (int w = 0; w < 4; ++w) {
    proto::Hello hello;
    hello.set_version(kControlVersion);
    hello.set_name("w" + std::to_string(w));
    hello.set_island("i" + std::to_string(w / 2));
    hello.set_platform("cpu");
    for (int d = 0; d < 2; ++d) hello.add_devices()->add_memories();
    EXPECT_TRUE(cluster.Join(hello, LinkId{static_cast<uint64_t>(w + 1)}, absl::UnixEpoch()).ok());
  }
  cluster.AssignDeviceIds();
  return cluster;
}

std::shared_ptr<const Sharding> Tiled(std::vector<int> devices, std::vector<int64_t> tiles) {
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  std::vector<DeviceId> ids;
  int64_t product = 1;
  for (int64_t t : tiles) {
    op.add_tile_assignment_dimensions(t);
    product *= t;
  }
  if (product < static_cast<int64_t>(devices.size())) {
    op.add_tile_assignment_dimensions(static_cast<int64_t>(devices.size()) / product);
    op.set_replicate_on_last_tile_dim(true);
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    op.add_tile_assignment_devices(static_cast<int64_t>(i));
    ids.push_back(DeviceId{devices[i]});
  }
  auto sharding = Sharding::FromOpSharding(ids, "", op);
  EXPECT_TRUE(sharding.ok()) << sharding.status();
  return std::make_shared<const Sharding>(*std::move(sharding));
}

using Shards = std::vector<std::vector<int>>;  // by shard: its elements, row-major

int At(const std::vector<int64_t>& dims, const std::vector<int64_t>& index) {
  int at = 0;
  for (size_t i = 0; i < dims.size(); ++i) at = at * static_cast<int>(dims[i]) + static_cast<int>(index[i]);
  return at;
}

// Calls visit(index) for every index in a box of the given size.
template <typename F>
void ForEach(const std::vector<int64_t>& size, F visit) {
  std::vector<int64_t> index(size.size(), 0);
  const int64_t n = std::accumulate(size.begin(), size.end(), int64_t{1}, std::multiplies<int64_t>());
  for (int64_t k = 0; k < n; ++k) {
    visit(index);
    for (int i = static_cast<int>(size.size()) - 1; i >= 0 && ++index[i] == size[i]; --i) index[i] = 0;
  }
}

Shards Cut(const std::vector<int64_t>& dims, const Sharding& sharding) {
  Shards shards;
  for (int s = 0; s < sharding.num_shards(); ++s) {
    const Box box = sharding.ShardBox(dims, s);
    std::vector<int> elements;
    ForEach(box.size, [&](std::vector<int64_t> index) {
      for (size_t i = 0; i < index.size(); ++i) index[i] += box.start[i];
      elements.push_back(At(dims, index));
    });
    shards.push_back(std::move(elements));
  }
  return shards;
}

// Carries the plan out, element by element, and counts how often each element of a target is written.
Shards Execute(const CopyPlan& plan, const std::vector<int64_t>& dims, const Sharding& from, const Sharding& to) {
  const Shards source = Cut(dims, from);
  Shards target;
  for (int s = 0; s < to.num_shards(); ++s) target.emplace_back(to.ShardBox(dims, s).NumElements(), -1);
  for (const auto& [worker, copy] : plan.messages) {
    for (const proto::Copy::Part& part : copy.parts()) {
      if (part.target_worker() != Raw(worker)) continue;
      const Box from_box = from.ShardBox(dims, part.source_shard());
      const Box to_box = to.ShardBox(dims, part.target_shard());
      const auto box_or_all = [](const proto::Box& box, const Box& all) {
        if (box.size_size() == 0) return Box{std::vector<int64_t>(all.size.size(), 0), all.size};
        return Box{{box.start().begin(), box.start().end()}, {box.size().begin(), box.size().end()}};
      };
      const Box a = box_or_all(part.source_box(), from_box);
      const Box b = box_or_all(part.target_box(), to_box);
      EXPECT_EQ(a.size, b.size);
      EXPECT_EQ(part.bytes(), a.NumElements() * 4);
      ForEach(a.size, [&](const std::vector<int64_t>& index) {
        std::vector<int64_t> at_a = index;
        std::vector<int64_t> at_b = index;
        for (size_t i = 0; i < index.size(); ++i) {
          at_a[i] += a.start[i];
          at_b[i] += b.start[i];
        }
        int& cell = target[part.target_shard()][At(to_box.size, at_b)];
        EXPECT_EQ(cell, -1) << "written twice";
        cell = source[part.source_shard()][At(from_box.size, at_a)];
      });
    }
  }
  return target;
}

TEST(CopyPlan, ReshardingPutsEveryElementInItsPlaceOnce) {
  const Cluster cluster = MakeCluster();
  const std::vector<std::shared_ptr<const Sharding>> shardings = {
      Tiled({0, 1, 2, 3, 4, 5, 6, 7}, {4, 2}),
      Tiled({7, 6, 5, 4, 3, 2, 1, 0}, {2, 4}),
      Tiled({0, 4}, {2, 1}),
      Tiled({2, 3, 6, 7}, {1, 4}),
      Tiled({0, 1, 2, 3}, {2, 1}),
      Tiled({5}, {1, 1}),
      Tiled({1, 3, 5, 7}, {4, 1}),
  };
  for (const std::vector<int64_t>& dims : {std::vector<int64_t>{8, 8}, {5, 7}, {1, 3}, {0, 4}}) {
    for (const auto& from : shardings) {
      for (const auto& to : shardings) {
        ArraySpec spec{DType::kF32, dims, from, ""};
        uint64_t streams = 0;
        const CopyPlan plan =
            PlanReshard(ArrayId{1}, spec, ArrayId{2}, *to, cluster, [&] { return StreamId{++streams}; });
        EXPECT_EQ(Execute(plan, dims, *from, *to), Cut(dims, *to));
      }
    }
  }
}

TEST(CopyPlan, TheNearestHolderOfAReplicatedPieceIsTaken) {
  const Cluster cluster = MakeCluster();
  ArraySpec spec{DType::kF32, {4}, Tiled({0, 3, 4}, {1}), ""};
  const auto to = Tiled({0, 2, 6}, {1});
  uint64_t streams = 0;
  const CopyPlan plan = PlanReshard(ArrayId{1}, spec, ArrayId{2}, *to, cluster, [&] { return StreamId{++streams}; });
  std::map<int, int> source_of;
  for (const auto& [worker, copy] : plan.messages) {
    for (const proto::Copy::Part& part : copy.parts()) source_of[part.target_shard()] = part.source_shard();
  }
  EXPECT_EQ(source_of[0], 0) << "the same device";
  EXPECT_EQ(source_of[1], 1) << "the same worker";
  EXPECT_EQ(source_of[2], 2) << "the same island";
  EXPECT_EQ(streams, 1u) << "only the last one leaves its worker";
}

TEST(CopyPlan, MakersAndSendersAreNamed) {
  const Cluster cluster = MakeCluster();
  ArraySpec spec{DType::kF32, {8}, Tiled({0, 1}, {2}), ""};
  const Sharding to = spec.sharding->OnDevices({DeviceId{4}, DeviceId{6}}, "");
  uint64_t streams = 0;
  const CopyPlan plan = PlanCopy(ArrayId{1}, spec, ArrayId{2}, to, cluster, [&] { return StreamId{++streams}; });
  EXPECT_EQ(plan.senders, std::vector<WorkerId>{WorkerId{0}});
  EXPECT_EQ(plan.makers, (std::vector<WorkerId>{WorkerId{2}, WorkerId{3}}));
  EXPECT_EQ(streams, 2u);
}

}  // namespace
}  // namespace causeway
