#include "sim/data_network.h"

#include "net/data_plane_cts.h"

namespace causeway::sim {
namespace {

struct SimulatedPair final : DataPlanePair {
  explicit SimulatedPair(int connections = 1) : world(1), network(world, {.connections = connections}) {
    auto low_plane = network.Add(kLow);
    auto high_plane = network.Add(kHigh);
    low_address = low_plane->listen_address();
    high_address = high_plane->listen_address();
    low = std::move(low_plane);
    high = std::move(high_plane);
  }
  // The network goes before the planes otherwise.
  ~SimulatedPair() override {
    high = nullptr;
    low = nullptr;
  }

  bool RunUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!world.RunOne()) return false;
    }
    return true;
  }
  void Settle() override {
    // Less than the patience with strangers.
    bool over = false;
    world.After(absl::Seconds(1), [&over] { over = true; });
    while (!over) world.RunOne();
  }
  bool takes_threads() const override { return false; }

  World world;
  DataNetwork network;
};

INSTANTIATE_TEST_SUITE_P(Simulated, DataPlaneContract, ::testing::Values(+[]() -> std::unique_ptr<DataPlanePair> {
                           return std::make_unique<SimulatedPair>();
                         }));

INSTANTIATE_TEST_SUITE_P(SimulatedOn3, DataPlaneContract, ::testing::Values(+[]() -> std::unique_ptr<DataPlanePair> {
                           return std::make_unique<SimulatedPair>(/*connections=*/3);
                         }));

class DataNetworkOf : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Connections, DataNetworkOf, ::testing::Values(1, 3));

TEST_P(DataNetworkOf, ABrokenConnectionEndsItsStreamsOnBothSides) {
  SimulatedPair pair(GetParam());
  pair.low->SetPeer(kHigh, pair.high_address, kPairKey);
  pair.high->SetPeer(kLow, pair.low_address, kPairKey);
  const StreamId id{1};
  const int64_t total = 4 << 20;
  auto sink = std::make_shared<TestSink>(total);
  auto source = std::make_shared<TestSource>(id, total);
  pair.low->Receive(kHigh, id, total, total, sink);
  pair.high->Send(kLow, id, total, source);
  ASSERT_TRUE(pair.RunUntil([&] { return sink->received() > 0; }));
  ASSERT_TRUE(pair.network.Break(pair.low_address, pair.high_address));
  pair.Settle();
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));

  const StreamId next{2};
  auto next_sink = std::make_shared<TestSink>(1000);
  pair.low->Receive(kHigh, next, 1000, 1000, next_sink);
  pair.high->Send(kLow, next, 1000, std::make_shared<TestSource>(next, 1000));
  pair.Settle();
  EXPECT_THAT(next_sink->results(), ::testing::ElementsAre(absl::OkStatus())) << "the next connection carries on";
}

TEST_P(DataNetworkOf, AKilledPlaneIsNoticed) {
  SimulatedPair pair(GetParam());
  pair.low->SetPeer(kHigh, pair.high_address, kPairKey);
  pair.high->SetPeer(kLow, pair.low_address, kPairKey);
  auto sink = std::make_shared<TestSink>(4 << 20);
  pair.low->Receive(kHigh, StreamId{1}, 4 << 20, 4 << 20, sink);
  pair.high->Send(kLow, StreamId{1}, 4 << 20, std::make_shared<TestSource>(StreamId{1}, 4 << 20));
  ASSERT_TRUE(pair.RunUntil([&] { return sink->received() > 0; }));
  pair.high = nullptr;
  pair.Settle();
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
}

}  // namespace
}  // namespace causeway::sim
