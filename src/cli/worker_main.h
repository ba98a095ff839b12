// `causeway worker`: the process of one host.
#ifndef CAUSEWAY_CLI_WORKER_MAIN_H_
#define CAUSEWAY_CLI_WORKER_MAIN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "cli/options.h"

namespace causeway {

struct WorkerOptions {
  std::string controller = kDefaultControlAddress;
  std::string name;  // empty: the host's name
  std::string island = "island0";
  std::string plugin = "cpu";
  int devices = 0;                             // to make, where the plugin can make any number; 0: all that it finds
  std::optional<int64_t> device_memory_bytes;  // of each; empty: as the plugin says; 0: no limit
  std::string data_address = kDefaultDataAddress;
  DataFlags data;
  std::string token;
  // What launches take instead of running, as timed/launch_times.h says; empty: they run.
  std::string launch_time;
  // A plugin that makes one client of several processes (cuda): their group, and this one's place in it.
  std::string group;
  int node_id = 0;
  int nodes = 1;
};

// Runs a worker until SIGINT or SIGTERM; a second one ends the process at once. INVALID_ARGUMENT, NOT_FOUND: the plugin
// or the options are wrong; FAILED_PRECONDITION: a data address that other machines can reach, without a token;
// UNAVAILABLE: that address cannot be bound. A controller that is not there is waited for.
absl::Status RunWorker(const WorkerOptions& options);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_WORKER_MAIN_H_
