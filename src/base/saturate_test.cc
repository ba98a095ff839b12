#include "base/saturate.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

TEST(Saturate, WhatFitsIsExact) {
  EXPECT_EQ(SaturatingAdd(2, 3), 5);
  EXPECT_EQ(SaturatingAdd(kMax - 1, 1), kMax);
  EXPECT_EQ(SaturatingAdd(kMin, kMax), -1);
  EXPECT_EQ(SaturatingSubtract(2, 3), -1);
  EXPECT_EQ(SaturatingSubtract(kMin, kMin), 0);
  EXPECT_EQ(SaturatingSubtract(-1, kMin), kMax);
  EXPECT_EQ(SaturatingMultiply(-4, 5), -20);
  EXPECT_EQ(SaturatingMultiply(kMax, 1), kMax);
}

TEST(Saturate, WhatDoesNotFitStopsAtTheLimit) {
  EXPECT_EQ(SaturatingAdd(kMax, 1), kMax);
  EXPECT_EQ(SaturatingAdd(kMin, -1), kMin);
  EXPECT_EQ(SaturatingSubtract(0, kMin), kMax);
  EXPECT_EQ(SaturatingSubtract(kMax, -1), kMax);
  EXPECT_EQ(SaturatingSubtract(kMin, 1), kMin);
  EXPECT_EQ(SaturatingMultiply(kMax, 2), kMax);
  EXPECT_EQ(SaturatingMultiply(kMin, 2), kMin);
  EXPECT_EQ(SaturatingMultiply(kMin, -1), kMax);
}

}  // namespace
}  // namespace causeway
