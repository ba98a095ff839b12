// What the subcommands are told, after flags, environment and defaults. Every flag has an environment variable beside
// it.
#ifndef CAUSEWAY_CLI_OPTIONS_H_
#define CAUSEWAY_CLI_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/load.h"
#include "ifrt/host_memory.h"

namespace causeway {

// Where things listen when nothing is said. All on the loopback.
inline constexpr char kDefaultClientAddress[] = "127.0.0.1:29000";
inline constexpr char kDefaultControlAddress[] = "127.0.0.1:29001";
inline constexpr char kDefaultDataAddress[] = "127.0.0.1:0";

// What clients may have under way, of `causeway controller` and `causeway up` alike.
struct PressureFlags {
  int64_t launches_in_flight = LoadLimits().launches_per_device;
  int64_t work_in_flight = LoadLimits().items;
  int64_t upload_in_flight_bytes = LoadLimits().host_bytes;
  int64_t host_memory_bytes = HostMemoryLimits().bytes;
  int64_t spill_bytes = HostMemoryLimits().spill_bytes;
  std::string spill_directory = "/var/tmp";
};

// How long whoever is silent is waited for, of both as well.
struct TimeoutFlags {
  double heartbeat_s = 1;
  double heartbeat_timeout_s = 10;
  double client_timeout_s = 240;
};

// How programs are compiled, of both too.
struct ProgramFlags {
  std::string cache_directory = DefaultProgramCache();  // "none": nowhere
  int64_t cache_bytes = int64_t{4} << 30;
  std::string collectives = "auto";  // or "host" or "plugin"

  static std::string DefaultProgramCache();
};

// How bulk data travel, of `causeway worker` too.
struct DataFlags {
  int connections = 1;  // between two processes
};

// Whose launch is next, of both too.
struct SchedulingFlags {
  std::string policy = "fair";  // or "fcfs"
  int credits = 4;
  double ahead_ms = 1;
  std::string dispatch = "parallel";  // or "sequential"
  double memory_wait_s = 60;
};

// INVALID_ARGUMENT unless a worker is asked whether it is there before it is given up.
absl::Status CheckTimeouts(const TimeoutFlags& flags);

struct ControllerFlags {
  std::vector<std::string> client_addresses = {kDefaultClientAddress};
  std::string control_address = kDefaultControlAddress;
  std::string data_address = kDefaultDataAddress;
  bool allow_remote = false;  // needed for any bind but loopback and unix sockets
  std::string token_file;
  bool slices = false;
  int workers = 1;
  std::string large_transfer_directory;
  TimeoutFlags timeouts;
  PressureFlags pressure;
  ProgramFlags programs;
  SchedulingFlags scheduling;
  DataFlags data;
};

struct UpFlags {
  int islands = 1;
  int hosts = 1;
  int devices = 4;
  std::string client_address = kDefaultClientAddress;
  std::string plugin = "cpu";
  std::string launch_time;                     // empty: launches run
  std::optional<int64_t> device_memory_bytes;  // as WorkerOptions
  std::string dir;                             // empty: a private one is made, and removed at the end
  bool slices = false;
  bool restart = true;
  bool exit_with_stdin = false;
  int ready_fd = -1;
  double timeout_s = 120;
  TimeoutFlags timeouts;
  PressureFlags pressure;
  ProgramFlags programs;
  SchedulingFlags scheduling;
  DataFlags data;
};

struct StatusFlags {
  std::string control_address = kDefaultControlAddress;
  std::string token_file;
  bool json = false;
  bool programs = false;
  double timeout_s = 5;
};

struct TraceFlags {
  std::string control_address = kDefaultControlAddress;
  std::string token_file;
  double seconds = 5;
  std::string output;    // "-": stdout
  double timeout_s = 5;  // for an answer
};

struct TopFlags {
  std::string control_address = kDefaultControlAddress;
  std::string token_file;
  double interval_s = 1;
  bool json = false;
  bool once = false;
  double timeout_s = 5;
};

// The cluster's token: the file's contents without white space at its ends; without a file, CAUSEWAY_TOKEN, or nothing.
// NOT_FOUND where the file cannot be read; FAILED_PRECONDITION where others may read it too, or where it is empty, no
// text or longer than 4 KiB.
absl::StatusOr<std::string> ReadToken(const std::string& token_file);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_OPTIONS_H_
