#include "controller/range_accounts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace causeway {
namespace {

TEST(RangeAccountsTest, KnowsWhatEachNumberIsAndWas) {
  RangeAccounts bytes;
  bytes.Resize(3);
  bytes.Add(0, 3, 10);
  bytes.Add(1, 2, 5);
  EXPECT_EQ(bytes.At(0), 10);
  EXPECT_EQ(bytes.At(1), 15);
  EXPECT_EQ(bytes.Max(0, 3), 15);
  EXPECT_EQ(bytes.Max(2, 3), 10);
  bytes.Add(0, 3, -10);
  EXPECT_EQ(bytes.At(1), 5);
  EXPECT_EQ(bytes.Peak(1), 15);
  EXPECT_EQ(bytes.Peak(0), 10);
}

TEST(RangeAccountsTest, ThePastOfANumberKnowsTheOrderOfThings) {
  RangeAccounts bytes;
  bytes.Resize(4);
  bytes.Add(0, 4, 10);
  bytes.Add(0, 4, -10);
  bytes.Add(2, 3, 8);
  bytes.Add(0, 4, 1);
  EXPECT_EQ(bytes.Peak(2), 10) << "the 10 and the 8 were never there together";
  EXPECT_EQ(bytes.Peak(3), 10);
}

TEST(RangeAccountsTest, WhatCannotBeLeavesNoTrace) {
  RangeAccounts bytes;
  bytes.Resize(2);
  bytes.Add(0, 1, 7);
  for (int i = 0; i < 5; ++i) bytes.Add(0, 2, std::numeric_limits<int64_t>::max());
  for (int i = 0; i < 5; ++i) bytes.Add(0, 2, -std::numeric_limits<int64_t>::max());
  EXPECT_EQ(bytes.At(0), 7);
  EXPECT_EQ(bytes.Max(0, 2), 7);
}

TEST(RangeAccountsTest, IsWhatAPlainRowIsWhateverIsDone) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&random](int n) { return static_cast<int>(random() % n); };
    RangeAccounts bytes;
    std::vector<int64_t> row;
    std::vector<int64_t> peak;
    for (int step = 0; step < 200; ++step) {
      if (row.empty() || below(50) == 0) {
        const int size = static_cast<int>(row.size()) + 1 + below(9);
        bytes.Resize(size);
        row.resize(size);
        peak.resize(size);
      }
      const int size = static_cast<int>(row.size());
      const int first = below(3) == 0 ? 0 : below(size);
      const int last = below(3) == 0 ? size : first + 1 + below(size - first);
      if (below(4) > 0) {
        const int64_t amount = below(41) - 20;
        bytes.Add(first, last, amount);
        for (int i = first; i < last; ++i) peak[i] = std::max(peak[i], row[i] += amount);
      }
      ASSERT_EQ(bytes.Max(first, last), *std::max_element(row.begin() + first, row.begin() + last));
      const int at = below(size);
      ASSERT_EQ(bytes.At(at), row[at]);
      ASSERT_EQ(bytes.Peak(at), peak[at]);
    }
  }
}

}  // namespace
}  // namespace causeway
