#include "worker/pace.h"

#include "gtest/gtest.h"

namespace causeway::worker {
namespace {

void Run(Pace& pace, int times, absl::Duration duration) {
  for (int i = 0; i < times; ++i) pace.Ran(duration);
}

TEST(PaceTest, AProgramIsNotQuickBeforeItHasShownIt) {
  Pace pace;
  EXPECT_FALSE(pace.quick());
  Run(pace, Pace::kProof - 1, absl::Microseconds(3));
  EXPECT_FALSE(pace.quick());
  Run(pace, 1, absl::Microseconds(3));
  EXPECT_TRUE(pace.quick());
}

TEST(PaceTest, OneSlowRunTakesTheRightAwayForLonger) {
  Pace pace;
  Run(pace, Pace::kProof, absl::Microseconds(3));
  ASSERT_TRUE(pace.quick());
  pace.Ran(absl::Milliseconds(1));
  EXPECT_FALSE(pace.quick());
  Run(pace, Pace::kProofAfterSlow - 1, absl::Microseconds(3));
  EXPECT_FALSE(pace.quick());
  Run(pace, 1, absl::Microseconds(3));
  EXPECT_TRUE(pace.quick());
}

TEST(PaceTest, ASlowProgramNeverBecomesQuick) {
  Pace pace;
  Run(pace, 1000, absl::Milliseconds(1));
  EXPECT_FALSE(pace.quick());
}

}  // namespace
}  // namespace causeway::worker
