#include "sim/simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway::sim {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Thousands of seeds are `make sim`.
constexpr int kSeeds = 500;

TEST(Simulation, NoSeedFindsAnythingWrong) {
  int64_t launches = 0;
  int64_t faults = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SimulationOptions options{.seed = seed};
    const SimulationResult result = RunSimulation(options);
    EXPECT_THAT(result.findings, IsEmpty())
        << "replay it: build/release/tools/causeway_sim --seed " << seed << " --steps " << options.steps << " --trace\n"
        << result.profile;
    if (HasFailure()) break;
    launches += result.launches;
    faults += result.faults;
  }
  EXPECT_GT(launches, kSeeds * 10) << "the simulation does hardly anything";
  EXPECT_GT(faults, kSeeds) << "hardly anything breaks";
}

TEST(Simulation, TheSameSeedGivesTheSameRun) {
  for (uint64_t seed = 1001; seed <= 1010; ++seed) {
    const SimulationResult first = RunSimulation({.seed = seed});
    const SimulationResult second = RunSimulation({.seed = seed});
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
  }
}

TEST(Simulation, ATraceTellsWhatHappensAndChangesNothing) {
  std::ostringstream trace;
  const SimulationResult traced = RunSimulation({.seed = 1, .steps = 50, .trace = &trace});
  EXPECT_EQ(traced.trace_hash, RunSimulation({.seed = 1, .steps = 50}).trace_hash);
  EXPECT_THAT(trace.str(), HasSubstr("is up: worker"));
  EXPECT_THAT(trace.str(), HasSubstr(" asks "));
}

}  // namespace
}  // namespace causeway::sim
