// causeway_sim: runs the seeded simulator, one seed or many.
#include <chrono>
#include <iostream>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "sim/simulation.h"

namespace causeway::sim {
namespace {

constexpr int kMostFailuresShown = 10;

void Report(const SimulationOptions& options, const SimulationResult& result) {
  std::cout << absl::StrFormat("seed %u: %d events, %d answers, %d launches, %d faults, trace %016x\n", options.seed,
                               result.events, result.answers, result.launches, result.faults, result.trace_hash);
  std::cout << "  " << result.profile << "\n";
  for (const std::string& finding : result.findings) std::cout << "  WRONG: " << finding << "\n";
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Runs the controller and worker cores in a simulated world, and checks all that they do.\n"
      "\n"
      "  causeway_sim --seeds 1000                 a thousand seeds, from 1 on\n"
      "  causeway_sim --seed 17 --trace            one seed, with all that happens in it\n");
  SimulationOptions options;
  uint64_t seed = 0;
  uint64_t first = 1;
  int seeds = 100;
  bool trace = false;
  app.add_option("--seed", seed, "replay this one seed");
  app.add_option("--first", first, "of many seeds, the first")->capture_default_str();
  app.add_option("--seeds", seeds, "how many")->capture_default_str();
  app.add_option("--steps", options.steps, "requests and mishaps of a seed")->capture_default_str();
  app.add_flag("--trace", trace, "with --seed: print what happens");
  CLI11_PARSE(app, argc, argv);

  if (app.count("--seed") > 0) {
    options.seed = seed;
    options.trace = trace ? &std::cout : nullptr;
    const SimulationResult result = RunSimulation(options);
    Report(options, result);
    return result.findings.empty() ? 0 : 1;
  }

  SimulationResult total;
  int failures = 0;
  const auto begun = std::chrono::steady_clock::now();
  auto shown = begun;
  int done = 0;
  for (; done < seeds && failures < kMostFailuresShown; ++done) {
    options.seed = first + done;
    const SimulationResult result = RunSimulation(options);
    total.events += result.events;
    total.answers += result.answers;
    total.launches += result.launches;
    total.faults += result.faults;
    if (!result.findings.empty()) {
      ++failures;
      Report(options, result);
      std::cout << "  replay: causeway_sim --seed " << options.seed << " --steps " << options.steps << " --trace\n";
    }
    if (const auto now = std::chrono::steady_clock::now(); now - shown > std::chrono::seconds(5)) {
      shown = now;
      std::cout << absl::StrFormat("%d of %d seeds, %d failures\n", done + 1, seeds, failures) << std::flush;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  const nlohmann::json result = {{"seeds", done},
                                 {"steps", options.steps},
                                 {"events", total.events},
                                 {"answers", total.answers},
                                 {"launches", total.launches},
                                 {"faults", total.faults},
                                 {"failures", failures},
                                 {"seconds", took.count()}};
  std::cout << "RESULT " << result.dump() << std::endl;
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace causeway::sim

int main(int argc, char** argv) { return causeway::sim::Main(argc, argv); }
