#include "base/clock.h"

#include <gtest/gtest.h>
#include <time.h>

namespace causeway {
namespace {

TEST(RealClock, IsTheOneThatNobodySetsAndThatSleepsWithTheMachine) {
  timespec before{};
  timespec after{};
  ASSERT_EQ(clock_gettime(CLOCK_MONOTONIC, &before), 0);
  const absl::Time now = RealClock().Now();
  ASSERT_EQ(clock_gettime(CLOCK_MONOTONIC, &after), 0);
  EXPECT_GE(now - absl::UnixEpoch(), absl::DurationFromTimespec(before));
  EXPECT_LE(now - absl::UnixEpoch(), absl::DurationFromTimespec(after));
}

}  // namespace
}  // namespace causeway
