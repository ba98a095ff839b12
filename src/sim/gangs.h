// The gang scheduler alone in a simulated world: random sessions, programs, sets of islands, caps and failures, in
// simulated time; far more launches a second than whole clusters (simulation.h) could run.
//
//   const GangsResult result = RunGangs({.seed = 7});
//   EXPECT_THAT(result.findings, IsEmpty());
//
// What is checked: a launch is handed over once, after what makes its inputs, in its session's order on each of its
// devices, and never beyond the credits; the devices, which run what they are handed in that order and gangs on all of
// their devices at once, come to the end of all of it; every future is resolved once; no credit is lost; sessions that
// always want the same devices get them by their weights, up to a few launches.
//
// Threading: runs on the calling thread; several may run at once.
#ifndef CAUSEWAY_SIM_GANGS_H_
#define CAUSEWAY_SIM_GANGS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace causeway::sim {

struct GangsOptions {
  uint64_t seed = 1;
  int launches = 500;
  std::ostream* trace = nullptr;
};

struct GangsResult {
  std::vector<std::string> findings;  // empty: all was well
  uint64_t trace_hash = 0;
  std::string profile;
  int64_t launches = 0;    // that ran to their end
  int64_t dropped = 0;     // lost with a device, or with their session
  int64_t gangs = 0;       // of more than one island
  int64_t faults = 0;      // devices lost, sessions closed
  double worst_share = 0;  // how far a session was from its share, in launches of the longest kind; 0: not measured
};

GangsResult RunGangs(const GangsOptions& options);

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_GANGS_H_
