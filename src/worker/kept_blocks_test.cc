#include "worker/kept_blocks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "worker/host_block.h"

namespace causeway::worker {
namespace {

constexpr int64_t kMiB = 1 << 20;

class KeptBlocksTest : public ::testing::Test {
 protected:
  // Memory that `kept_` is given, every byte of it written.
  void* Given(int64_t bytes) {
    void* memory = std::malloc(bytes);
    std::memset(memory, 1, bytes);
    kept_.Keep(memory, bytes);
    return memory;
  }

  KeptBlocks kept_{10 * kMiB};
  int64_t capacity_ = 0;
};

TEST_F(KeptBlocksTest, WhatWasGivenBackIsTakenAgainAndMayBeWritten) {
  EXPECT_EQ(kept_.Take(4 * kMiB, capacity_), nullptr);
  void* given = Given(4 * kMiB);
  EXPECT_EQ(kept_.kept_bytes(), 4 * kMiB);
  void* taken = kept_.Take(4 * kMiB, capacity_);
  EXPECT_EQ(taken, given);
  EXPECT_EQ(capacity_, 4 * kMiB);
  EXPECT_EQ(kept_.kept_bytes(), 0);
  EXPECT_EQ(kept_.Take(4 * kMiB, capacity_), nullptr) << "once";
  std::memset(taken, 2, 4 * kMiB);
  std::free(taken);
}

TEST_F(KeptBlocksTest, TheSmallestThatFitsIsTakenAndNothingMuchTooLarge) {
  Given(5 * kMiB);
  void* best = Given(3 * kMiB);
  EXPECT_EQ(kept_.Take(2 * kMiB, capacity_), nullptr) << "half as much again would be wasted";
  EXPECT_EQ(kept_.Take(6 * kMiB, capacity_), nullptr);
  EXPECT_EQ(kept_.Take(3 * kMiB - 100, capacity_), best);
  EXPECT_EQ(capacity_, 3 * kMiB);
  kept_.Keep(best, capacity_);
}

TEST_F(KeptBlocksTest, KeepsNoMoreThanItsLimitAndTheNewestOfThat) {
  Given(11 * kMiB);
  EXPECT_EQ(kept_.kept_bytes(), 0);
  Given(3 * kMiB);
  Given(4 * kMiB);
  Given(5 * kMiB);
  EXPECT_EQ(kept_.kept_bytes(), 9 * kMiB);
  EXPECT_EQ(kept_.Take(3 * kMiB, capacity_), nullptr);
}

TEST_F(KeptBlocksTest, ManyThreadsNeverHaveTheSameMemory) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 500; ++i) {
        const int64_t bytes = kMiB + static_cast<int64_t>(random() % 4) * kMiB;
        int64_t capacity = bytes;
        void* memory = kept_.Take(bytes, capacity);
        if (memory == nullptr) memory = std::malloc(bytes);
        char* const last = static_cast<char*>(memory) + bytes - 1;
        *static_cast<char*>(memory) = *last = static_cast<char>(t);
        std::this_thread::yield();
        EXPECT_EQ(*static_cast<char*>(memory), t);
        EXPECT_EQ(*last, t);
        kept_.Keep(memory, capacity);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(kept_.kept_bytes(), 10 * kMiB);
}

TEST(HostBlockTest, LargeMemoryIsUsedAgain) {
  const char* first = HostBlock::Allocate(32 * kMiB)->bytes.data();
  const auto second = HostBlock::Allocate(32 * kMiB);
  EXPECT_EQ(second->bytes.data(), first);
  EXPECT_NE(HostBlock::Allocate(32 * kMiB)->bytes.data(), first) << "it is in use";
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
}

}  // namespace
}  // namespace causeway::worker
