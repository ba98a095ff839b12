// causeway_sim: runs the seeded simulators, one seed or many.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "sim/gangs.h"
#include "sim/simulation.h"

namespace causeway::sim {
namespace {

constexpr int kMostFailuresShown = 10;

// What either simulator says of one seed.
struct Run {
  std::vector<std::string> findings;
  std::string profile;
  uint64_t trace_hash = 0;
  std::map<std::string, int64_t> counts;
  double worst_share = 0;
};

Run RunCluster(uint64_t seed, int steps, std::ostream* trace) {
  const SimulationResult result = RunSimulation({.seed = seed, .steps = steps, .trace = trace});
  return {result.findings,
          result.profile,
          result.trace_hash,
          {{"events", result.events},
           {"answers", result.answers},
           {"launches", result.launches},
           {"faults", result.faults}}};
}

Run RunScheduler(uint64_t seed, int launches, std::ostream* trace) {
  const GangsResult result = RunGangs({.seed = seed, .launches = launches, .trace = trace});
  return {
      result.findings,
      result.profile,
      result.trace_hash,
      {{"launches", result.launches}, {"dropped", result.dropped}, {"gangs", result.gangs}, {"faults", result.faults}},
      result.worst_share};
}

void Report(uint64_t seed, const Run& run) {
  std::cout << absl::StrFormat(
      "seed %u: %s, trace %016x\n", seed,
      absl::StrJoin(run.counts, ", ",
                    [](std::string* out, const auto& count) { absl::StrAppend(out, count.second, " ", count.first); }),
      run.trace_hash);
  std::cout << "  " << run.profile << "\n";
  for (const std::string& finding : run.findings) std::cout << "  WRONG: " << finding << "\n";
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Runs the controller and worker cores in a simulated world, and checks all that they do.\n"
      "\n"
      "  causeway_sim --seeds 1000                 a thousand seeds, from 1 on\n"
      "  causeway_sim --seed 17 --trace            one seed, with all that happens in it\n"
      "  causeway_sim --gangs --seeds 5000         the gang scheduler alone\n");
  uint64_t seed = 0;
  uint64_t first = 1;
  int seeds = 100;
  int steps = 0;
  bool gangs = false;
  bool trace = false;
  app.add_option("--seed", seed, "replay this one seed");
  app.add_option("--first", first, "of many seeds, the first")->capture_default_str();
  app.add_option("--seeds", seeds, "how many")->capture_default_str();
  app.add_option("--steps", steps, "requests and mishaps of a seed, or launches (300; with --gangs 500)");
  app.add_flag("--gangs", gangs, "the gang scheduler alone, with devices that take simulated time");
  app.add_flag("--trace", trace, "with --seed: print what happens");
  CLI11_PARSE(app, argc, argv);
  if (steps <= 0) steps = gangs ? GangsOptions().launches : SimulationOptions().steps;
  const auto run_seed = gangs ? RunScheduler : RunCluster;

  if (app.count("--seed") > 0) {
    const Run run = run_seed(seed, steps, trace ? &std::cout : nullptr);
    Report(seed, run);
    return run.findings.empty() ? 0 : 1;
  }

  std::map<std::string, int64_t> total;
  double worst_share = 0;
  int failures = 0;
  const auto begun = std::chrono::steady_clock::now();
  auto shown = begun;
  int done = 0;
  for (; done < seeds && failures < kMostFailuresShown; ++done) {
    const Run run = run_seed(first + done, steps, nullptr);
    for (const auto& [name, count] : run.counts) total[name] += count;
    worst_share = std::max(worst_share, run.worst_share);
    if (!run.findings.empty()) {
      ++failures;
      Report(first + done, run);
      std::cout << "  replay: causeway_sim " << (gangs ? "--gangs " : "") << "--seed " << first + done << " --steps "
                << steps << " --trace\n";
    }
    if (const auto now = std::chrono::steady_clock::now(); now - shown > std::chrono::seconds(5)) {
      shown = now;
      std::cout << absl::StrFormat("%d of %d seeds, %d failures\n", done + 1, seeds, failures) << std::flush;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  nlohmann::json result = total;
  result.update({{"seeds", done}, {"steps", steps}, {"failures", failures}, {"seconds", took.count()}});
  if (gangs) result["worst_share_launches"] = worst_share;
  std::cout << "RESULT " << result.dump() << std::endl;
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace causeway::sim

int main(int argc, char** argv) { return causeway::sim::Main(argc, argv); }
