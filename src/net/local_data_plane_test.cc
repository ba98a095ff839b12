#include "net/local_data_plane.h"

#include "net/data_plane_cts.h"
#include "net/io_thread.h"

namespace causeway {
namespace {

// Pumped by hand, so that whatever does not come by itself never comes.
struct PumpedPair final : DataPlanePair {
  explicit PumpedPair(int connections = 1) : hub(executor) {
    auto low_plane = hub.Add(kLow, connections);
    auto high_plane = hub.Add(kHigh, connections + 1);  // the smaller number counts
    low_address = low_plane->listen_address();
    high_address = high_plane->listen_address();
    low = std::move(low_plane);
    high = std::move(high_plane);
  }
  // The executor goes before the planes otherwise.
  ~PumpedPair() override {
    high = nullptr;
    low = nullptr;
  }

  bool RunUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!executor.RunOne()) return false;
    }
    return true;
  }
  void Settle() override { executor.RunUntilIdle(); }

  ManualExecutor executor;
  LocalDataHub hub;
};

struct ThreadedPair final : DataPlanePair {
  ThreadedPair() : io("hub"), hub(io) {
    auto low_plane = hub.Add(kLow);
    auto high_plane = hub.Add(kHigh);
    low_address = low_plane->listen_address();
    high_address = high_plane->listen_address();
    low = std::move(low_plane);
    high = std::move(high_plane);
  }
  ~ThreadedPair() override {
    high = nullptr;
    low = nullptr;
  }

  bool RunUntil(const std::function<bool()>& done) override {
    for (int i = 0; i < 20'000; ++i) {
      if (done()) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }
  void Settle() override { absl::SleepFor(absl::Milliseconds(50)); }

  IoThread io;
  LocalDataHub hub;
};

INSTANTIATE_TEST_SUITE_P(Pumped, DataPlaneContract, ::testing::Values(+[]() -> std::unique_ptr<DataPlanePair> {
                           return std::make_unique<PumpedPair>();
                         }));
INSTANTIATE_TEST_SUITE_P(PumpedOn3, DataPlaneContract, ::testing::Values(+[]() -> std::unique_ptr<DataPlanePair> {
                           return std::make_unique<PumpedPair>(/*connections=*/3);
                         }));
INSTANTIATE_TEST_SUITE_P(Threaded, DataPlaneContract, ::testing::Values(+[]() -> std::unique_ptr<DataPlanePair> {
                           return std::make_unique<ThreadedPair>();
                         }));

TEST(LocalDataPlane, TheSameCallsTakeTheSameNumberOfTasks) {
  const auto run = [] {
    PumpedPair pair;
    pair.low->SetPeer(kHigh, pair.high_address, kPairKey);
    pair.high->SetPeer(kLow, pair.low_address, kPairKey);
    std::vector<std::shared_ptr<TestSink>> sinks;
    for (uint64_t i = 0; i < 20; ++i) {
      sinks.push_back(std::make_shared<TestSink>(100'000));
      pair.low->Receive(kHigh, StreamId{i}, 100'000, 100'000, sinks.back());
      pair.high->Send(kLow, StreamId{i}, 100'000, std::make_shared<TestSource>(StreamId{i}, 100'000));
    }
    int tasks = 0;
    while (pair.executor.RunOne()) ++tasks;
    for (const auto& sink : sinks) EXPECT_TRUE(sink->done());
    return tasks;
  };
  EXPECT_EQ(run(), run());
}

}  // namespace
}  // namespace causeway
