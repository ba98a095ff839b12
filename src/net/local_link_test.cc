#include "net/local_link.h"

#include "net/io_thread.h"
#include "net/link_cts.h"

namespace causeway {
namespace {

LocalLinkOptions ContractOptions() {
  LocalLinkOptions options;
  options.max_queued_bytes = kContractQueueBytes;
  options.full_bytes = kContractFullBytes;
  return options;
}

struct PumpedEnds final : LinkEnds {
  PumpedEnds() { std::tie(a, b) = MakeLocalLinkPair(executor, ContractOptions()); }

  bool RunUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!executor.RunOne()) return false;
    }
    return true;
  }
  void Settle() override { executor.RunUntilIdle(); }

  ManualExecutor executor;
};

struct ThreadedEnds final : LinkEnds {
  ThreadedEnds() : io("links") { std::tie(a, b) = MakeLocalLinkPair(io, ContractOptions()); }
  ~ThreadedEnds() override {
    a = nullptr;
    b = nullptr;
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
};

INSTANTIATE_TEST_SUITE_P(Pumped, LinkContract, ::testing::Values(+[]() -> std::unique_ptr<LinkEnds> {
                           return std::make_unique<PumpedEnds>();
                         }));
INSTANTIATE_TEST_SUITE_P(Threaded, LinkContract, ::testing::Values(+[]() -> std::unique_ptr<LinkEnds> {
                           return std::make_unique<ThreadedEnds>();
                         }));

TEST(LocalLink, NothingHappensUntilItIsPumped) {
  ManualExecutor executor;
  auto [a, b] = MakeLocalLinkPair(executor);
  TestHandler on_b;
  b->Start(&on_b);
  a->Send("one");
  a->Send("two");
  EXPECT_EQ(on_b.frame_count(), 0u);
  EXPECT_TRUE(executor.RunOne());
  EXPECT_EQ(on_b.frame_count(), 1u);
  executor.RunUntilIdle();
  EXPECT_EQ(on_b.frame_count(), 2u);
  b->Close(absl::OkStatus());
  executor.RunUntilIdle();
  EXPECT_TRUE(on_b.is_closed());
}

}  // namespace
}  // namespace causeway
