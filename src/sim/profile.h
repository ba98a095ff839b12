// What kind of run a seed makes: how large the cluster is, what its clients are fond of, how often things break.
//
// Every seed draws its own, so that some runs are nothing but launches on one device, some break all the time, and some
// never do: what goes wrong only in an extreme is found sooner than by a mixture that is always the same.
#ifndef CAUSEWAY_SIM_PROFILE_H_
#define CAUSEWAY_SIM_PROFILE_H_

#include <string>
#include <vector>

#include "controller/load.h"
#include "controller/scheduler.h"
#include "sim/data_network.h"
#include "sim/worker_process.h"
#include "sim/world.h"

namespace causeway::sim {

// What a client may ask. The order is that of Profile::weights.
enum class Act {
  kPut,
  kCompile,
  kLaunch,
  kCopy,
  kReshard,
  kAlias,
  kMakeErrors,
  kDelete,
  kDestruct,
  kWait,
  kFetch,
  kQuery,
  kDropProgram,
};
inline constexpr int kActs = static_cast<int>(Act::kDropProgram) + 1;

struct Profile {
  // Draws one.
  static Profile Draw(Random& random);

  std::string Describe() const;

  std::vector<WorkerProcessOptions> workers;
  DataNetworkOptions data;
  absl::Duration link_delay;
  absl::Duration think_time;  // between two requests
  int max_sessions = 1;
  int max_arrays = 40;  // of a session, about

  LoadLimits limits;
  Scheduler::Options scheduling;
  bool caps = false;                // sessions wish them: their launches may wait for nothing but time
  int64_t device_memory_bytes = 0;  // 0: no limit
  absl::Duration memory_wait;
  int full_frames = 100;
  bool obedient = true;  // clients that are held ask for nothing

  std::vector<int> weights;  // by Act

  // Percentages.
  double mistakes = 0;  // requests that are wrong in some way
  double bad_data = 0;  // puts that fail on the device or break off
  double bad_programs = 0;
  double large = 0;     // arrays too large for a frame
  double opens = 1;     // steps that open a session
  double closes = 1;    // or close one
  double pauses = 1;    // or wait until all is quiet
  double crashes = 0;   // or kill a worker,
  double breaks = 0;    // cut its link,
  double stalls = 0;    // hold it up,
  double cuts = 0;      // cut a data connection,
  double restarts = 0;  // or kill the controller
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_PROFILE_H_
