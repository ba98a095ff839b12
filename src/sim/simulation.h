// One seeded run: the real controller core and worker cores in a simulated world, asked for random things while
// workers, links and the controller break, and checked all the way.
//
//   SimulationResult result = RunSimulation({.seed = 7, .steps = 300});
//   EXPECT_THAT(result.findings, IsEmpty()) << ReplayCommand(...);
//
// The same seed and steps give the same run, down to the last frame: `trace_hash` says so.
//
// Threading: runs on the calling thread; several may run at once.
#ifndef CAUSEWAY_SIM_SIMULATION_H_
#define CAUSEWAY_SIM_SIMULATION_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace causeway::sim {

struct SimulationOptions {
  uint64_t seed = 1;
  int steps = 300;  // things that clients and bad luck do
  std::ostream* trace = nullptr;
};

struct SimulationResult {
  std::vector<std::string> findings;  // empty: all was well
  uint64_t trace_hash = 0;
  std::string profile;

  // How much happened.
  int64_t events = 0;    // calls in simulated time
  int64_t answers = 0;   // to clients
  int64_t launches = 0;  // run by devices
  int64_t faults = 0;    // inflicted on workers, links and the controller
};

SimulationResult RunSimulation(const SimulationOptions& options);

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_SIMULATION_H_
