#include "controller/memory_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MemoryQueueTest : public ::testing::Test {
 protected:
  MemoryQueueTest() { memory_.SetLimits(std::vector<int64_t>(4, 100)); }

  static std::shared_ptr<const Placement> On(int first, int last) {
    auto placement = std::make_shared<Placement>();
    for (int i = first; i < last; ++i) placement->devices.push_back(DeviceId{i});
    placement->ranges.emplace_back(first, last);
    return placement;
  }

  MemoryQueue::Ask Ask(uint64_t order, const DeviceMemory::Account& account, int64_t bytes, int first = 0,
                       int last = 1) const {
    return {.order = order, .account = &account, .placement = On(first, last), .need = {.arrays = bytes}};
  }

  DeviceMemory memory_;
  DeviceMemory::Account& one_ = memory_.OpenSession(SessionId{1}, "one");
  DeviceMemory::Account& two_ = memory_.OpenSession(SessionId{2}, "two");
  DeviceMemory::Account& three_ = memory_.OpenSession(SessionId{3}, "three");
  MemoryQueue queue_{memory_};
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(MemoryQueueTest, WhatFitsGoesAndWhatDoesNotWaits) {
  DeviceMemory::Claim held = memory_.Add(one_, On(0, 1), {60});
  EXPECT_TRUE(queue_.Admits(Ask(1, one_, 40), now_));
  EXPECT_TRUE(queue_.empty());
  EXPECT_FALSE(queue_.Admits(Ask(2, one_, 41), now_));
  EXPECT_TRUE(queue_.is_waiting(2));
  EXPECT_EQ(queue_.FirstOf(SessionId{1}), 2);
  EXPECT_THAT(queue_.TakeChanged(), ElementsAre(SessionId{1}));
  held = {};
  EXPECT_TRUE(memory_.TakeFreed());
  EXPECT_TRUE(queue_.Admits(Ask(2, one_, 41), now_));
  EXPECT_TRUE(queue_.empty());
  EXPECT_THAT(queue_.TakeChanged(), ElementsAre(SessionId{1}));
  EXPECT_THAT(queue_.TakeChanged(), IsEmpty());
}

TEST_F(MemoryQueueTest, NewcomersDoNotPassWhoeverWaits) {
  const DeviceMemory::Claim held = memory_.Add(one_, On(0, 4), {60});
  EXPECT_FALSE(queue_.Admits(Ask(1, two_, 50, 0, 2), now_));
  EXPECT_FALSE(queue_.Admits(Ask(2, three_, 10), now_)) << "it fits, but would be in the way";
  EXPECT_TRUE(queue_.Admits(Ask(3, three_, 10, 2, 4), now_)) << "there, nobody waits";
  EXPECT_TRUE(queue_.Admits(Ask(4, three_, 0), now_)) << "it takes nothing";
  EXPECT_FALSE(queue_.Admits(Ask(1, two_, 50, 0, 2), now_)) << "those behind do not hold it up either";
  queue_.Forget(1);
  EXPECT_TRUE(queue_.Admits(Ask(2, three_, 10), now_));
}

TEST_F(MemoryQueueTest, WhoHoldsSomeOrHadAsMuchBeforePassesSoThatItCanLetGo) {
  memory_.Add(three_, On(0, 1), {20});  // and gone again
  const DeviceMemory::Claim held = memory_.Add(one_, On(0, 1), {60});
  EXPECT_FALSE(queue_.Admits(Ask(1, two_, 50), now_));
  EXPECT_TRUE(queue_.Admits(Ask(2, one_, 30), now_));
  EXPECT_FALSE(queue_.Admits(Ask(3, three_, 21), now_)) << "more than it ever had";
  queue_.Forget(3);
  EXPECT_TRUE(queue_.Admits(Ask(4, three_, 20), now_));
}

TEST_F(MemoryQueueTest, WhoeverWaitsHasATurnEverySoOften) {
  memory_.Add(one_, On(0, 1), {70});
  const DeviceMemory::Claim held = memory_.Add(one_, On(0, 1), {60});
  EXPECT_FALSE(queue_.Admits(Ask(1, two_, 50), now_));
  EXPECT_TRUE(queue_.Admits(Ask(2, one_, 10), now_ + absl::Milliseconds(999)));
  EXPECT_FALSE(queue_.Admits(Ask(3, one_, 10), now_ + absl::Milliseconds(1001)));
  EXPECT_FALSE(queue_.Admits(Ask(3, one_, 10), now_ + absl::Milliseconds(1249)));
  EXPECT_TRUE(queue_.Admits(Ask(3, one_, 10), now_ + absl::Milliseconds(1251)));
  EXPECT_FALSE(queue_.Admits(Ask(4, one_, 10), now_ + absl::Milliseconds(2400)));
}

// Four sessions that together never leave room of themselves: each takes as soon as another lets go.
TEST_F(MemoryQueueTest, ManySmallOnesDoNotStarveALargeOne) {
  std::vector<DeviceMemory::Account*> small;
  std::vector<DeviceMemory::Claim> steps(4);
  for (int i = 0; i < 4; ++i) {
    small.push_back(&memory_.OpenSession(SessionId(10 + i), "small"));
    steps[i] = memory_.Add(*small[i], On(0, 1), {20});
  }
  uint64_t order = 0;
  const MemoryQueue::Ask large = Ask(++order, two_, 50);
  EXPECT_FALSE(queue_.Admits(large, now_));
  bool admitted = false;
  for (int ms = 1; ms < 2000 && !admitted; ++ms) {
    DeviceMemory::Claim& step = steps[ms % 4];
    step = {};
    admitted = queue_.Admits(large, now_ + absl::Milliseconds(ms));
    if (admitted) break;
    if (queue_.Admits(Ask(++order, *small[ms % 4], 20), now_ + absl::Milliseconds(ms))) {
      step = memory_.Add(*small[ms % 4], On(0, 1), {20});
    } else {
      queue_.Forget(order);
    }
    EXPECT_EQ(ms < 1000, !step.empty());
  }
  EXPECT_TRUE(admitted);
}

TEST_F(MemoryQueueTest, OfOneSessionItIsFirstComeFirstServed) {
  const DeviceMemory::Claim held = memory_.Add(one_, On(0, 1), {60});
  EXPECT_FALSE(queue_.Admits(Ask(5, one_, 50), now_));
  MemoryQueue::Ask put = Ask(6, one_, 10);
  put.leaves_room = true;
  EXPECT_FALSE(queue_.Admits(put, now_));
  EXPECT_TRUE(queue_.Admits(Ask(4, one_, 10), now_)) << "it came before";
}

TEST_F(MemoryQueueTest, APutLeavesRoomForWhatIsPlannedBeforeIt) {
  memory_.TakeFreed();
  queue_.Plan(Ask(1, one_, 50));
  queue_.Plan(Ask(2, one_, 20));
  queue_.Plan(Ask(4, one_, 100));
  MemoryQueue::Ask put = Ask(3, one_, 31);
  put.leaves_room = true;
  EXPECT_FALSE(queue_.Admits(put, now_));
  EXPECT_FALSE(memory_.TakeFreed());
  EXPECT_THAT(queue_.Stuck(now_ + absl::Seconds(59), absl::Seconds(60)), IsEmpty());
  EXPECT_FALSE(queue_.Admits(put, now_ + absl::Seconds(59)));
  EXPECT_THAT(queue_.Stuck(now_ + absl::Seconds(100), absl::Seconds(60)), IsEmpty()) << "it is not stuck";
  queue_.Forget(2);
  EXPECT_TRUE(queue_.Admits(put, now_));
}

TEST_F(MemoryQueueTest, WhatHasWaitedTooLongIsStuck) {
  const DeviceMemory::Claim held = memory_.Add(one_, On(0, 1), {60});
  EXPECT_FALSE(queue_.Admits(Ask(1, two_, 50), now_));
  EXPECT_FALSE(queue_.Admits(Ask(2, one_, 50), now_ + absl::Seconds(1)));
  EXPECT_THAT(queue_.Stuck(now_ + absl::Seconds(15), absl::Seconds(60)), IsEmpty());
  EXPECT_THAT(queue_.Stuck(now_ + absl::Seconds(16), absl::Seconds(60)), ElementsAre(2)) << "it holds all of it";
  EXPECT_THAT(queue_.Stuck(now_ + absl::Seconds(60), absl::Seconds(60)), ElementsAre(1, 2));
  EXPECT_EQ(queue_.WhyNot(1, "x"),
            "x needs 50 bytes on device 0, which has 100 bytes in all; held now: session 1 (one) 60 bytes");
  queue_.CloseSession(SessionId{1});
  EXPECT_THAT(queue_.orders(), ElementsAre(1));
}

}  // namespace
}  // namespace causeway
