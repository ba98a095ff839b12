#include "sim/gangs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway::sim {
namespace {

using ::testing::IsEmpty;

// Thousands of seeds are `make sim`.
constexpr int kSeeds = 1000;

TEST(Gangs, NoSeedFindsAnythingWrong) {
  GangsResult total;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const GangsResult result = RunGangs({.seed = seed});
    EXPECT_THAT(result.findings, IsEmpty())
        << "replay it: build/release/tools/causeway_sim --gangs --seed " << seed << " --trace\n"
        << result.profile;
    if (HasFailure()) break;
    total.launches += result.launches;
    total.gangs += result.gangs;
    total.faults += result.faults;
    total.worst_share = std::max(total.worst_share, result.worst_share);
  }
  EXPECT_GT(total.launches, kSeeds * 200) << "hardly anything runs";
  EXPECT_GT(total.gangs, kSeeds * 50) << "hardly anything runs on several islands";
  EXPECT_GT(total.faults, kSeeds / 2) << "hardly anything breaks";
  EXPECT_GT(total.worst_share, 0) << "no shares were looked at";
}

TEST(Gangs, TheSameSeedGivesTheSameRun) {
  for (uint64_t seed = 1001; seed <= 1010; ++seed) {
    EXPECT_EQ(RunGangs({.seed = seed}).trace_hash, RunGangs({.seed = seed}).trace_hash) << "seed " << seed;
  }
}

}  // namespace
}  // namespace causeway::sim
