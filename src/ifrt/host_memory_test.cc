#include "ifrt/host_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace causeway {
namespace {

constexpr SessionId kFirst{1};
constexpr SessionId kSecond{2};

// 448 bytes may be staged, 64 may be on their way to disk.
class HostMemoryTest : public ::testing::Test {
 protected:
  int64_t TakeAll(SessionId session, int64_t step = 1) {
    int64_t taken = 0;
    while (memory_.TryTake(HostPool::kStaged, session, step)) taken += step;
    return taken;
  }

  HostMemory memory_{{.bytes = 1024, .spill_bytes = 1000}};
};

TEST_F(HostMemoryTest, OneThatTakesAllItCanGetsHalf) {
  EXPECT_EQ(TakeAll(kFirst), 224);
  EXPECT_EQ(memory_.used_bytes(HostPool::kStaged), 224);
}

TEST_F(HostMemoryTest, WhoeverComesLaterAlwaysGetsSomething) {
  for (uint32_t session = 1; session <= 8; ++session) EXPECT_GT(TakeAll(SessionId{session}), 0) << session;
  EXPECT_LE(memory_.used_bytes(HostPool::kStaged), 448);
}

TEST_F(HostMemoryTest, SharesEvenOutAsMemoryComesBack) {
  TakeAll(kFirst);
  TakeAll(kSecond);
  for (int i = 0; i < 1000; ++i) {
    for (SessionId session : {kFirst, kSecond}) {
      memory_.Give(HostPool::kStaged, session, 1);
      TakeAll(session);
    }
  }
  EXPECT_NEAR(memory_.used_bytes(HostPool::kStaged, kFirst), 448 / 3, 2);
  EXPECT_NEAR(memory_.used_bytes(HostPool::kStaged, kSecond), 448 / 3, 2);
}

TEST_F(HostMemoryTest, PoolsDoNotTakeFromEachOther) {
  TakeAll(kFirst);
  EXPECT_TRUE(memory_.TryTake(HostPool::kPassing, kFirst, 64));
  EXPECT_FALSE(memory_.TryTake(HostPool::kPassing, kFirst, 1));
  EXPECT_TRUE(memory_.TryTake(HostPool::kFetched, kFirst, 64));
  EXPECT_TRUE(memory_.TryTake(HostPool::kSpilled, kFirst, 500));
}

TEST_F(HostMemoryTest, WhatIsTakenWithoutAskingCounts) {
  memory_.Take(HostPool::kStaged, kFirst, 300);
  EXPECT_TRUE(memory_.IsOver(HostPool::kStaged, kFirst));
  EXPECT_FALSE(memory_.IsOver(HostPool::kStaged, kSecond)) << "it holds nothing";
  EXPECT_FALSE(memory_.TryTake(HostPool::kStaged, kFirst, 1));
  EXPECT_TRUE(memory_.TryTake(HostPool::kStaged, kSecond, 100));
  memory_.Give(HostPool::kStaged, kFirst, 150);
  EXPECT_FALSE(memory_.IsOver(HostPool::kStaged, kFirst));
}

TEST_F(HostMemoryTest, TheWaitingAreServedInTurnAsRoomComes) {
  TakeAll(kFirst);
  std::vector<int> served;
  for (int i = 0; i < 3; ++i) {
    memory_.TakeOrWait({HostPool::kStaged}, kFirst, 100, [&served, i](HostPool pool) {
      EXPECT_EQ(pool, HostPool::kStaged);
      served.push_back(i);
      return true;
    });
  }
  memory_.Give(HostPool::kStaged, kFirst, 60);
  EXPECT_EQ(served, (std::vector<int>{0}));
  EXPECT_EQ(memory_.used_bytes(HostPool::kStaged), 224 - 60 + 100) << "it was taken for them";
}

TEST_F(HostMemoryTest, OneSessionsWaitingDoNotHoldUpAnothers) {
  TakeAll(kFirst);
  TakeAll(kSecond);
  std::vector<uint32_t> served;
  for (SessionId session : {kFirst, kSecond}) {
    memory_.TakeOrWait({HostPool::kStaged}, session, 10, [&served, session](HostPool) {
      served.push_back(Raw(session));
      return true;
    });
  }
  memory_.Give(HostPool::kStaged, kSecond, 30);
  EXPECT_EQ(served, (std::vector<uint32_t>{2})) << "the first holds more than is left";
}

TEST_F(HostMemoryTest, WhatNobodyWantsAnyMoreGoesToTheNext) {
  TakeAll(kFirst);
  bool served = false;
  memory_.TakeOrWait({HostPool::kStaged}, kFirst, 100, [](HostPool) { return false; });
  memory_.TakeOrWait({HostPool::kStaged}, kFirst, 100, [&](HostPool) { return served = true; });
  memory_.Give(HostPool::kStaged, kFirst, 60);
  EXPECT_TRUE(served);
  EXPECT_EQ(memory_.used_bytes(HostPool::kStaged), 224 - 60 + 100);
}

TEST_F(HostMemoryTest, AnyOfSeveralPoolsWillDo) {
  TakeAll(kFirst);
  ASSERT_TRUE(memory_.TryTake(HostPool::kSpilled, kFirst, 500));
  memory_.Give(HostPool::kReading, kFirst, 500);
  HostPool got = HostPool::kStaged;
  memory_.TakeOrWait({HostPool::kStaged, HostPool::kSpilled}, kFirst, 100, [&](HostPool pool) {
    got = pool;
    return true;
  });
  memory_.Give(HostPool::kSpilled, kFirst, 200);
  EXPECT_EQ(got, HostPool::kSpilled);
}

TEST_F(HostMemoryTest, WhatGoesToDiskTakesTurnsInMemory) {
  ASSERT_TRUE(memory_.TryTake(HostPool::kSpilled, kFirst, 20));
  EXPECT_EQ(memory_.used_bytes(HostPool::kReading, kFirst), 20);
  std::vector<HostPool> served;
  EXPECT_FALSE(memory_.TakeOrWait({HostPool::kSpilled}, kFirst, 50, [&](HostPool pool) {
    served.push_back(pool);
    return true;
  }));
  EXPECT_TRUE(memory_.TryTake(HostPool::kSpilled, kSecond, 100)) << "each session may always read one chunk";
  memory_.Give(HostPool::kReading, kSecond, 100);
  EXPECT_TRUE(served.empty());
  memory_.Give(HostPool::kReading, kFirst, 20);
  EXPECT_EQ(served, (std::vector<HostPool>{HostPool::kSpilled}));
  EXPECT_EQ(memory_.used_bytes(HostPool::kSpilled), 170);
}

TEST_F(HostMemoryTest, RoomOnTheWayToDiskComesBackFromThoseWhoDoNotWantIt) {
  ASSERT_TRUE(memory_.TryTake(HostPool::kSpilled, kFirst, 20));
  memory_.TakeOrWait({HostPool::kSpilled}, kFirst, 50, [](HostPool) { return false; });
  memory_.Give(HostPool::kReading, kFirst, 20);
  EXPECT_EQ(memory_.used_bytes(HostPool::kReading), 0);
  EXPECT_EQ(memory_.used_bytes(HostPool::kSpilled), 20);
}

TEST_F(HostMemoryTest, AFullDiskTakesNothingUntilItIsTriedAgain) {
  memory_.CloseDisk(absl::ResourceExhaustedError("No space left on device"));
  EXPECT_FALSE(memory_.TryTake(HostPool::kSpilled, kFirst, 1));
  EXPECT_THAT(memory_.DescribeDisk(), ::testing::HasSubstr("No space left"));
  bool served = false;
  memory_.TakeOrWait({HostPool::kSpilled}, kFirst, 1, [&](HostPool) { return served = true; });
  memory_.Take(HostPool::kStaged, kFirst, 1);
  memory_.Give(HostPool::kStaged, kFirst, 1);
  EXPECT_FALSE(served);
  memory_.ReopenDisk();
  EXPECT_TRUE(served);
}

TEST_F(HostMemoryTest, TheForgottenAreNotServed) {
  TakeAll(kFirst);
  memory_.TakeOrWait({HostPool::kStaged}, kFirst, 1, [](HostPool) {
    ADD_FAILURE() << "it was forgotten";
    return true;
  });
  memory_.Forget(kFirst);
  memory_.Give(HostPool::kStaged, kFirst, 224);
  EXPECT_EQ(memory_.used_bytes(HostPool::kStaged), 0);
}

// Several threads, each of a session, that take, wait and give: all are served, nothing is lost, the limit holds.
TEST_F(HostMemoryTest, ManyThreadsAreAllServed) {
  constexpr int kThreads = 6;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      const SessionId session{static_cast<uint32_t>(t / 2 + 1)};
      std::mt19937 random(t);
      std::deque<int64_t> held;
      for (int i = 0; i < 2000; ++i) {
        const int64_t bytes = 1 + random() % 30;
        const auto served = std::make_shared<std::atomic<bool>>(false);
        const auto taken = memory_.TakeOrWait({HostPool::kStaged}, session, bytes, [served](HostPool) {
          *served = true;
          return true;
        });
        if (!taken) {
          // Its own memory comes back bit by bit; in the end it holds nothing, and must be served.
          while (!*served && !held.empty()) {
            memory_.Give(HostPool::kStaged, session, held.front());
            held.pop_front();
          }
          while (!*served) {
            memory_.Take(HostPool::kStaged, session, 1);
            memory_.Give(HostPool::kStaged, session, 1);
            std::this_thread::yield();
          }
        }
        EXPECT_LE(memory_.used_bytes(HostPool::kStaged), 448 + kThreads);
        held.push_back(bytes);
      }
      for (int64_t bytes : held) memory_.Give(HostPool::kStaged, session, bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(memory_.used_bytes(HostPool::kStaged), 0);
}

}  // namespace
}  // namespace causeway
