#include "net/arrived_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace causeway {
namespace {

TEST(ArrivedBytes, RangesInOrderAreOnePrefix) {
  ArrivedBytes arrived;
  EXPECT_TRUE(arrived.Add(0, 10));
  EXPECT_TRUE(arrived.Add(10, 11));
  EXPECT_EQ(arrived.prefix(), 11);
  EXPECT_EQ(arrived.bytes(), 11);
  EXPECT_EQ(arrived.islands(), 0u);
}

TEST(ArrivedBytes, WhatFillsAGapJoinsWhatIsBehindIt) {
  ArrivedBytes arrived;
  EXPECT_TRUE(arrived.Add(20, 30));
  EXPECT_TRUE(arrived.Add(40, 50));
  EXPECT_EQ(arrived.islands(), 2u);
  EXPECT_TRUE(arrived.Add(30, 40));
  EXPECT_EQ(arrived.islands(), 1u);
  EXPECT_EQ(arrived.prefix(), 0);
  EXPECT_TRUE(arrived.Add(0, 20));
  EXPECT_EQ(arrived.prefix(), 50);
  EXPECT_EQ(arrived.islands(), 0u);
}

TEST(ArrivedBytes, WhatHasComeDoesNotComeAgain) {
  ArrivedBytes arrived;
  EXPECT_TRUE(arrived.Add(0, 10));
  EXPECT_TRUE(arrived.Add(20, 30));
  for (const auto& [begin, end] :
       std::vector<std::pair<int, int>>{{0, 1}, {9, 12}, {20, 30}, {15, 21}, {29, 31}, {12, 40}}) {
    EXPECT_FALSE(arrived.Add(begin, end)) << begin;
  }
  EXPECT_EQ(arrived.bytes(), 20);
}

TEST(ArrivedBytes, AgreesWithOneFlagForEachByte) {
  std::mt19937 random(1);
  constexpr int kBytes = 60;
  for (int round = 0; round < 500; ++round) {
    ArrivedBytes arrived;
    std::vector<bool> flags(kBytes, false);
    for (int step = 0; step < 60; ++step) {
      const int begin = static_cast<int>(random() % kBytes);
      const int end = begin + 1 + static_cast<int>(random() % std::min(kBytes - begin, 6));
      const bool is_new = std::none_of(flags.begin() + begin, flags.begin() + end, [](bool flag) { return flag; });
      EXPECT_EQ(arrived.Add(begin, end), is_new);
      if (is_new) std::fill(flags.begin() + begin, flags.begin() + end, true);
      const auto gap = std::find(flags.begin(), flags.end(), false);
      EXPECT_EQ(arrived.prefix(), gap - flags.begin());
      EXPECT_EQ(arrived.bytes(), std::count(flags.begin(), flags.end(), true));
      size_t islands = 0;
      for (auto at = gap; at != flags.end(); ++at) islands += *at && !*std::prev(at) ? 1 : 0;
      EXPECT_EQ(arrived.islands(), islands);
    }
  }
}

}  // namespace
}  // namespace causeway
