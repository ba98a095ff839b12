// What collectives make of arrays, against whole arrays computed at once.
#include "collectives/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "collectives/test_world.h"

namespace causeway::collectives {
namespace {

using ::testing::ElementsAre;

TEST(Engine, DevicesOfOneWorkerMeetWithoutAnyMessage) {
  World world({.workers = {0, 0}});
  const Outcome outcome = world.Run(MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1}}, proto::Collective::SUM),
                                    {{Floats({1, 2})}, {Floats({10, 20})}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(Values<float>(outcome.results[0][0]), ElementsAre(11, 22));
  EXPECT_THAT(Values<float>(outcome.results[1][0]), ElementsAre(11, 22));
  EXPECT_EQ(world.net().messages(), 0);
}

TEST(Engine, WorkersExchangeOnePartialEach) {
  World world({.workers = {0, 0, 1, 1}});
  const Outcome outcome =
      world.Run(MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3}}, proto::Collective::SUM),
                {{Floats({1, 2})}, {Floats({10, 20})}, {Floats({100, 200})}, {Floats({1000, 2000})}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (int i = 0; i < 4; ++i) EXPECT_THAT(Values<float>(outcome.results[i][0]), ElementsAre(1111, 2222));
  EXPECT_EQ(world.net().messages(), 2);
  EXPECT_EQ(outcome.traffic.worker_bytes, 2 * 8);
  EXPECT_EQ(outcome.traffic.island_bytes, 0);
}

// Everything about one collective, chosen by a seed.
struct Case {
  WorldOptions world;
  proto::Collective collective;
  DeviceArrays inputs;
};

class Chooser {
 public:
  explicit Chooser(uint64_t seed) : random_(seed) {}

  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % n); }
  template <typename T>
  T Of(const std::vector<T>& values) {
    return values[Below(static_cast<int64_t>(values.size()))];
  }
  template <typename T>
  void Shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), random_);
  }

  Array Contents(DType dtype, const std::vector<int64_t>& dims) {
    Array array = Zeros(dtype, dims);
    const int64_t n = Elements(dims);
    // Small whole numbers, so that no order of floats matters; others of any bits.
    for (int64_t i = 0; i < n; ++i) {
      const auto small = static_cast<float>(Below(4));
      if (dtype == DType::kF32) {
        std::memcpy(&array.bytes[i * 4], &small, 4);
      } else if (dtype == DType::kF64) {
        const double number = small;
        std::memcpy(&array.bytes[i * 8], &number, 8);
      } else if (dtype == DType::kBF16) {
        std::memcpy(&array.bytes[i * 2], reinterpret_cast<const char*>(&small) + 2, 2);
      } else {
        for (int b = 0; b < HostByteWidth(dtype); ++b) {
          array.bytes[i * HostByteWidth(dtype) + b] = static_cast<char>(dtype == DType::kPred ? Below(2) : Below(256));
        }
      }
    }
    return array;
  }

  Case Choose() {
    Case c;
    const int workers = static_cast<int>(1 + Below(4));
    const int each = static_cast<int>(1 + Below(3));
    const int devices = workers * each;
    for (int i = 0; i < devices; ++i) c.world.workers.push_back(i % workers);
    if (Below(2) == 0) Shuffle(c.world.workers);
    if (Below(2) == 0) std::sort(c.world.workers.begin(), c.world.workers.end());
    for (int i = 0; i < workers; ++i) c.world.islands.push_back(static_cast<int>(Below(2)));
    c.world.near = Below(2) == 0;
    c.world.seed = random_();
    c.world.engine = Of<EngineOptions>({kTiny, kSmallDirect, EngineOptions{}});

    std::vector<int> all(devices);
    std::iota(all.begin(), all.end(), 0);
    if (Below(2) == 0) Shuffle(all);
    std::vector<int> sizes;
    for (int size = 1; size <= devices; ++size) {
      if (devices % size == 0) sizes.push_back(size);
    }
    const int ranks = Below(2) == 0 ? devices : Of(sizes);
    std::vector<std::vector<int>> groups(devices / ranks);
    for (int i = 0; i < devices; ++i) groups[i / ranks].push_back(all[i]);

    const auto kind = static_cast<proto::Collective::Kind>(Below(7));
    c.collective =
        MakeCollective(kind, groups, static_cast<proto::Collective::Reduction>(proto::Collective::SUM + Below(4)));
    std::vector<DType> dtypes{DType::kF32, DType::kF64, DType::kBF16, DType::kS8,
                              DType::kU32, DType::kS64, DType::kPred, DType::kU4};
    int operands = static_cast<int>(1 + Below(3));
    std::vector<std::vector<int64_t>> shapes;
    std::vector<DType> types;
    for (int i = 0; i < operands; ++i) {
      std::vector<int64_t> dims;
      for (int64_t n = 1 + Below(3); n > 0; --n) dims.push_back(Below(8) == 0 ? 0 : 1 + Below(6));
      if (Below(8) == 0) dims.back() *= 300;
      shapes.push_back(dims);
      types.push_back(Of(dtypes));
    }
    size_t least = 9;
    for (const auto& dims : shapes) least = std::min(least, dims.size());
    c.collective.set_dimension(Below(static_cast<int64_t>(least)));
    switch (kind) {
      case proto::Collective::REDUCE_SCATTER:
        for (auto& dims : shapes) dims[c.collective.dimension()] *= ranks;
        break;
      case proto::Collective::ALL_TO_ALL:
        if (Below(2) == 0) {
          c.collective.set_tuple(true);
          shapes.assign(ranks, shapes[0]);
          types.assign(ranks, types[0]);
        } else {
          for (auto& dims : shapes) dims[c.collective.dimension()] *= ranks;
        }
        break;
      case proto::Collective::COLLECTIVE_PERMUTE: {
        c.collective.clear_groups();
        std::vector<int> targets = all;
        Shuffle(targets);
        for (int i = 0; i < devices; ++i) {
          if (Below(4) == 0) continue;
          auto* pair = c.collective.add_pairs();
          pair->set_source(all[i]);
          pair->set_target(targets[i]);
        }
        break;
      }
      case proto::Collective::RAGGED_ALL_TO_ALL:
        Ragged(c, groups, types[0]);
        return c;
      default:
        break;
    }
    c.inputs.resize(devices);
    for (Arrays& arrays : c.inputs) {
      for (size_t i = 0; i < shapes.size(); ++i) arrays.push_back(Contents(types[i], shapes[i]));
    }
    return c;
  }

 private:
  void Ragged(Case& c, const std::vector<std::vector<int>>& groups, DType dtype) {
    const int ranks = static_cast<int>(groups[0].size());
    const int64_t each = 1 + Below(3);
    const int64_t most = 1 + Below(4);  // rows an entry
    const int64_t input_rows = 5 + Below(20), columns = 1 + Below(Below(2) == 0 ? 300 : 5);
    const int64_t output_rows = ranks * each * most + Below(3);
    c.inputs.resize(c.world.workers.size());
    for (const auto& group : groups) {
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<int32_t> from, rows, to;
        for (int target = 0; target < ranks; ++target) {
          for (int64_t e = 0; e < each; ++e) {
            rows.push_back(static_cast<int32_t>(Below(most + 1)));
            from.push_back(static_cast<int32_t>(Below(input_rows - rows.back() + 1)));
            // Every source has rows of its own in every output.
            to.push_back(static_cast<int32_t>((rank * each + e) * most));
          }
        }
        const auto n = static_cast<int64_t>(rows.size());
        c.inputs[group[rank]] = {Contents(dtype, {input_rows, columns}),
                                 Contents(dtype, {output_rows, columns}),
                                 Make(DType::kS32, {n}, from),
                                 Make(DType::kS32, {n}, rows),
                                 Make(DType::kS32, {n}, to),
                                 Make(DType::kS32, {n}, rows)};
      }
    }
  }

  std::mt19937_64 random_;
};

TEST(Engine, EveryKindGivesWhatWholeArraysGive) {
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Chooser chooser(seed);
    const Case c = chooser.Choose();
    SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", c.collective.ShortDebugString()));
    World world(c.world);
    std::vector<int> order(c.inputs.size());
    std::iota(order.begin(), order.end(), 0);
    chooser.Shuffle(order);
    const Outcome outcome = world.Run(c.collective, c.inputs, order);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    const DeviceArrays expected = Expected(c.collective, c.inputs);
    for (size_t d = 0; d < expected.size(); ++d) {
      for (size_t i = 0; i < expected[d].size(); ++i) {
        ASSERT_TRUE(outcome.results[d][i] == expected[d][i]) << "device " << d << " result " << i;
      }
    }
  }
}

// Many launches of several programs at once, from several threads: what meets is decided by names alone.
TEST(Engine, LaunchesInterleaveAsTheyLike) {
  constexpr int kLaunches = 60, kDevices = 4;
  constexpr uint32_t kOccurrences = 3;
  for (const EngineOptions& options : {EngineOptions{}, kTiny}) {
    World world({.workers = {0, 1, 0, 1}, .seed = 3, .engine = options});
    const auto table =
        World::TableOf({MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3}}, proto::Collective::SUM),
                        MakeCollective(proto::Collective::ALL_GATHER, {{0, 1}, {2, 3}})});
    struct Step {
      Array operand, result;
    };
    constexpr size_t kSteps = kLaunches * kOccurrences * 2;
    std::vector<std::vector<Step>> steps(kDevices, std::vector<Step>(kSteps));
    Ends ends(static_cast<int>(kDevices * kSteps));
    for (uint64_t launch = 1; launch <= kLaunches; ++launch) world.Announce(launch);
    std::vector<std::thread> threads;
    for (int d = 0; d < kDevices; ++d) {
      threads.emplace_back([&, d] {
        std::vector<size_t> order(kSteps);
        std::iota(order.begin(), order.end(), size_t{0});
        std::shuffle(order.begin(), order.end(), std::mt19937(d));
        for (const size_t s : order) {
          Step& step = steps[d][s];
          const auto x = static_cast<float>(s * 10 + d);
          step.operand = Floats(std::vector<float>(20, x));
          const int collective = static_cast<int>(s % 2);
          step.result = Floats(std::vector<float>(collective == 0 ? 20 : 40));
          Arrival arrival{.launch = 1 + s / 2 / kOccurrences,
                          .device = d,
                          .table = table,
                          .collective = collective,
                          .occurrence = static_cast<uint32_t>(s / 2 % kOccurrences),
                          .operands = {BufferOf(step.operand)},
                          .results = {BufferOf(step.result)},
                          .done = ends.Of(static_cast<int>(d * kSteps + s))};
          world.engine_of(d).Arrive(std::move(arrival));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(ends.Wait(static_cast<int>(kDevices * kSteps)));
    ASSERT_TRUE(ends.All().ok()) << ends.All();
    for (size_t s = 0; s < kSteps; ++s) {
      const auto x = static_cast<float>(s * 10);
      for (int d = 0; d < kDevices; ++d) {
        const std::vector<float> values = Values<float>(steps[d][s].result);
        if (s % 2 == 0) {
          EXPECT_EQ(values, std::vector<float>(20, 4 * x + 6));
        } else {
          EXPECT_EQ(values.front(), x + static_cast<float>(d / 2 * 2));
          EXPECT_EQ(values.back(), x + static_cast<float>(d / 2 * 2 + 1));
        }
      }
    }
  }
}

TEST(Engine, TheBitsOfASumDoNotDependOnWhoComesFirst) {
  for (const std::vector<int>& islands : {std::vector<int>{}, {0, 0, 1, 1}, {0, 1, 1, 1}}) {
    for (const EngineOptions& options : {EngineOptions{}, kTiny}) {
      std::mt19937 random(5);
      std::vector<int> order{0, 1, 2, 3, 4, 5, 6, 7};
      DeviceArrays inputs;
      for (int d = 0; d < 8; ++d) {
        std::vector<float> values;
        for (int i = 0; i < 100; ++i) values.push_back(std::ldexp(static_cast<float>(random()), random() % 40));
        inputs.push_back({Floats(values)});
      }
      for (const auto kind : {proto::Collective::ALL_REDUCE, proto::Collective::REDUCE_SCATTER}) {
        DeviceArrays first;
        for (uint64_t seed = 0; seed < 20; ++seed) {
          DeviceArrays in = inputs;
          if (kind == proto::Collective::REDUCE_SCATTER) {
            for (Arrays& arrays : in) arrays[0].bytes.resize(96 * 4), arrays[0].dims = {96};
          }
          World world({.workers = {0, 1, 2, 3, 0, 1, 2, 3}, .islands = islands, .seed = seed, .engine = options});
          const Outcome outcome =
              world.Run(MakeCollective(kind, {{0, 1, 2, 3, 4, 5, 6, 7}}, proto::Collective::SUM), in, order);
          ASSERT_TRUE(outcome.status.ok()) << outcome.status;
          if (first.empty()) first = outcome.results;
          ASSERT_EQ(outcome.results, first);
          std::shuffle(order.begin(), order.end(), random);
        }
        if (kind == proto::Collective::REDUCE_SCATTER) continue;
        for (const Arrays& arrays : first) ASSERT_EQ(arrays, first[0]) << "all devices have the same bits";
      }
    }
  }
}

TEST(Engine, LargeAndSmallGiveTheSameBitsWithinAnIsland) {
  DeviceArrays inputs;
  std::mt19937 random(5);
  for (int d = 0; d < 6; ++d) {
    std::vector<float> values;
    for (int i = 0; i < 500; ++i) values.push_back(std::ldexp(static_cast<float>(random()), random() % 40));
    inputs.push_back({Floats(values)});
  }
  const auto collective = MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3, 4, 5}}, proto::Collective::SUM);
  World small({.workers = {0, 0, 1, 1, 2, 2}});
  World large({.workers = {0, 0, 1, 1, 2, 2}, .engine = kTiny});
  EXPECT_EQ(small.Run(collective, inputs).results, large.Run(collective, inputs).results);
}

// The members of two groups with the same numbers, whose ranks lie on workers in different ways.
TEST(Engine, GroupsOfTheSameNumbersGetTheSameBitsWhereverTheyAre) {
  std::mt19937 random(5);
  DeviceArrays inputs(8);
  const std::vector<std::vector<int>> groups{{6, 7, 1, 3}, {2, 5, 0, 4}};
  for (int rank = 0; rank < 4; ++rank) {
    std::vector<float> values;
    for (int i = 0; i < 400; ++i) values.push_back(std::ldexp(static_cast<float>(random()), random() % 40));
    for (const std::vector<int>& group : groups) inputs[group[rank]] = {Floats(values)};
  }
  for (const auto kind : {proto::Collective::ALL_REDUCE, proto::Collective::REDUCE_SCATTER}) {
    for (const std::vector<int>& islands : {std::vector<int>{}, {0, 0, 1, 1}}) {
      for (const EngineOptions& options : {EngineOptions{}, kSmallDirect, kTiny}) {
        World world({.workers = {0, 0, 1, 1, 2, 2, 3, 3}, .islands = islands, .engine = options});
        const Outcome outcome = world.Run(MakeCollective(kind, groups, proto::Collective::SUM), inputs);
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        for (int rank = 0; rank < 4; ++rank) {
          EXPECT_EQ(outcome.results[groups[0][rank]], outcome.results[groups[1][rank]]);
        }
      }
    }
  }
}

// Bytes of the payload of one all-reduce (or other) of `elements` floats over workers {0, 1 | 2, 3} of one device each,
// in two islands.
Traffic TrafficOf(const proto::Collective& collective, int64_t elements, const EngineOptions& options) {
  World world({.workers = {0, 1, 2, 3}, .islands = {0, 0, 1, 1}, .engine = options});
  const Outcome outcome = world.Run(collective, DeviceArrays(4, {Zeros(DType::kF32, {elements})}));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  return outcome.traffic;
}

TEST(Engine, EachByteCrossesBetweenTwoIslandsOnce) {
  constexpr EngineOptions kLarge{.message_bytes = 48, .direct_bytes = 48};
  const std::vector<std::vector<int>> all{{0, 1, 2, 3}};
  for (const EngineOptions& options : {EngineOptions{}, kLarge}) {
    const bool large = options.message_bytes == 48;
    SCOPED_TRACE(large);
    const Traffic reduce =
        TrafficOf(MakeCollective(proto::Collective::ALL_REDUCE, all, proto::Collective::SUM), 1000, options);
    EXPECT_EQ(reduce.island_bytes, 2 * 4000) << "to the other island and back";
    // Within an island: to the leader and back. Large ones have two leaders, each of which has a half already.
    EXPECT_EQ(reduce.worker_bytes, 2 * 4000 + 2 * (large ? 2 * 2 * 2000 : 2 * 4000));

    const Traffic scatter =
        TrafficOf(MakeCollective(proto::Collective::REDUCE_SCATTER, all, proto::Collective::SUM), 1000, options);
    EXPECT_EQ(scatter.island_bytes, 4 * 1000);
    EXPECT_EQ(scatter.worker_bytes, 4 * 1000 + 4 * 1000 + 4 * 1000);

    const Traffic gather = TrafficOf(MakeCollective(proto::Collective::ALL_GATHER, all), 1000, options);
    EXPECT_EQ(gather.island_bytes, 4 * 4000);
    EXPECT_EQ(gather.worker_bytes, 4 * 3 * 4000);

    const Traffic broadcast = TrafficOf(MakeCollective(proto::Collective::COLLECTIVE_BROADCAST, all), 1000, options);
    EXPECT_EQ(broadcast.island_bytes, 4000);
    EXPECT_EQ(broadcast.worker_bytes, 3 * 4000);

    const Traffic exchange = TrafficOf(MakeCollective(proto::Collective::ALL_TO_ALL, all), 1000, options);
    EXPECT_EQ(exchange.island_bytes, 8 * 1000);
    EXPECT_EQ(exchange.worker_bytes, 12 * 1000);
  }
}

TEST(Engine, ASumOfNarrowFloatsIsRoundedOnce) {
  // In bf16, 256 + 1 is 256: only a sum in f32 sees the ones.
  DeviceArrays inputs(4, {Make<uint16_t>(DType::kBF16, {1}, {0x3f80})});
  inputs[0] = {Make<uint16_t>(DType::kBF16, {1}, {0x4380})};
  World world({.workers = {0, 0, 1, 1}});
  const Outcome outcome = world.Run(
      MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3}}, proto::Collective::SUM), std::move(inputs));
  ASSERT_TRUE(outcome.status.ok());
  // 259 lies between 258 and 260, and 260 is the even one.
  EXPECT_EQ(Values<uint16_t>(outcome.results[3][0])[0], 0x4382);
  EXPECT_EQ(outcome.traffic.worker_bytes, 2 * 4);
}

}  // namespace
}  // namespace causeway::collectives
