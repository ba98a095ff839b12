#include "controller/clock_offset.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <random>

namespace causeway {
namespace {

TEST(ClockOffset, IsInTheMiddleOfWhatIsPossible) {
  ClockOffset clock;
  EXPECT_EQ(clock.error_ns(), -1) << "nothing is known";
  EXPECT_EQ(clock.offset_ns(), 0);
  clock.Add(1000, 500'000, 1400);
  EXPECT_EQ(clock.offset_ns(), 498'800);
  EXPECT_NEAR(clock.error_ns(), 200, 1);
}

TEST(ClockOffset, TheQuickestAnswerCounts) {
  ClockOffset clock;
  clock.Add(0, 1'000'500, 1000);
  clock.Add(2000, 1'002'010, 2020);
  clock.Add(4000, 1'004'900, 5000);
  EXPECT_EQ(clock.offset_ns(), 1'000'000);
  EXPECT_LT(clock.error_ns(), 20);
}

TEST(ClockOffset, OneClockIsNotMovedByUnevenWays) {
  // On one machine: an answer that takes long one way only would seem to be off.
  ClockOffset clock;
  clock.Add(1000, 1900, 2000);
  EXPECT_EQ(clock.offset_ns(), 0);
  EXPECT_EQ(clock.error_ns(), 900);
  clock.Add(3000, 3050, 3100);
  EXPECT_EQ(clock.error_ns(), 50);
  clock.Add(4000, 3990, 4010);
  EXPECT_EQ(clock.offset_ns(), -15) << "a time before it was asked: it is not the same";
}

TEST(ClockOffset, TheTruthIsWithinTheError) {
  std::mt19937_64 random(7);
  const auto up_to = [&random](int64_t most) { return static_cast<int64_t>(random() % (most + 1)); };
  for (int round = 0; round < 1000; ++round) {
    const int64_t offset = up_to(2'000'000) - 1'000'000;
    ClockOffset clock;
    int64_t now = 0;
    for (int64_t answers = 1 + up_to(20); answers > 0; --answers) {
      now += up_to(1'000'000);
      const int64_t there = now + up_to(100'000);
      const int64_t back = there + up_to(100'000);
      clock.Add(now, there + offset, back);
      now = back;
    }
    EXPECT_LE(std::abs(clock.offset_ns() - offset), clock.error_ns());
  }
}

TEST(ClockOffset, DriftMakesTheErrorGrow) {
  ClockOffset clock;
  clock.Add(0, 1'000'005, 10);
  clock.Add(60'000'000'000, 61'000'000'000, 60'000'100'000);
  EXPECT_GE(clock.error_ns(), 3'000'000) << "50 millionths of a minute";
}

TEST(ClockOffset, AnyNumbersAreBorne) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  for (int64_t asked : {kLeast, int64_t{0}, kMost}) {
    for (int64_t said : {kLeast, int64_t{0}, kMost}) {
      for (int64_t answered : {kLeast, int64_t{0}, kMost}) {
        ClockOffset clock;
        clock.Add(asked, said, answered);
        clock.Add(answered, said, asked);
        clock.offset_ns();
        clock.error_ns();
      }
    }
  }
}

}  // namespace
}  // namespace causeway
