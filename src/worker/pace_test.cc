#include "worker/pace.h"

#include "gtest/gtest.h"

namespace causeway::worker {
namespace {

void RunTimes(Pace& pace, int times, absl::Duration duration) {
  for (int i = 0; i < times; ++i) pace.Ran(duration);
}

TEST(PaceTest, AProgramIsNotQuickBeforeItHasShownIt) {
  Pace pace;
  EXPECT_FALSE(pace.quick());
  RunTimes(pace, Pace::kProof - 1, absl::Microseconds(3));
  EXPECT_FALSE(pace.quick());
  RunTimes(pace, 1, absl::Microseconds(3));
  EXPECT_TRUE(pace.quick());
}

TEST(PaceTest, OneSlowRunTakesTheRightAwayForLonger) {
  Pace pace;
  RunTimes(pace, Pace::kProof, absl::Microseconds(3));
  ASSERT_TRUE(pace.quick());
  pace.Ran(absl::Milliseconds(1));
  EXPECT_FALSE(pace.quick());
  RunTimes(pace, Pace::kProofAfterSlow - 1, absl::Microseconds(3));
  EXPECT_FALSE(pace.quick());
  RunTimes(pace, 1, absl::Microseconds(3));
  EXPECT_TRUE(pace.quick());
}

TEST(PaceTest, ASlowProgramNeverBecomesQuick) {
  Pace pace;
  RunTimes(pace, 1000, absl::Milliseconds(1));
  EXPECT_FALSE(pace.quick());
}

}  // namespace
}  // namespace causeway::worker
