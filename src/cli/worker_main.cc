#include "cli/worker_main.h"

#include <linux/close_range.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "cli/shutdown.h"
#include "net/address.h"
#include "net/io_thread.h"
#include "net/socket_data_plane.h"
#include "net/tcp_link.h"
#include "pjrt/pjrt_runtime.h"
#include "timed/timed_runtime.h"
#include "worker/key_value_link.h"
#include "worker/shell.h"

namespace causeway {
namespace {

constexpr absl::Duration kDialTimeout = absl::Seconds(10);
constexpr absl::Duration kExitPatience = absl::Seconds(5);

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

absl::Status CheckDataAddress(const WorkerOptions& options) {
  ASSIGN_OR_RETURN(const Address address, ParseAddress(options.data_address));
  if (IsLocal(address) || !options.token.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("other machines can reach ", options.data_address, ": give the cluster's token with --token-file"));
}

// Replaces this process by one like it, with the same number. Nothing but the process itself is sure to end a launch.
[[noreturn]] void StartAnew() {
  std::ifstream file("/proc/self/cmdline");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<char*> arguments;
  for (size_t at = 0; at < text.size(); at = text.find('\0', at) + 1) arguments.push_back(text.data() + at);
  arguments.push_back(nullptr);
  close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  execv("/proc/self/exe", arguments.data());
  Log(LogLevel::kError, absl::StrCat("cannot start anew: ", strerror(errno)));
  _exit(1);
}

// Ends the process if it is not over in time, with what the devices are doing and nobody can stop.
void ExitAfter(absl::Duration patience) {
  std::thread([patience] {
    absl::SleepFor(patience);
    Log(LogLevel::kWarning, "the devices are still busy: leaving them");
    _exit(0);
  }).detach();
}

// The controller's service as the plugin's callbacks want it.
class LinkStore final : public KeyValueStore {
 public:
  explicit LinkStore(worker::KeyValueLink& link) : link_(link) {}

  absl::Status Put(const std::string& key, const std::string& value) override { return link_.Put(key, value); }
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration patience) override {
    return link_.Get(key, patience);
  }

 private:
  worker::KeyValueLink& link_;
};

absl::Status CheckGroup(const WorkerOptions& options) {
  if (options.nodes == 1) return absl::OkStatus();
  if (options.group.empty() || options.node_id < 0 || options.node_id >= options.nodes) {
    return absl::InvalidArgumentError(
        "--num-nodes needs --group, the same on all of them, and on each its own --node-id, from 0 on");
  }
  return absl::OkStatus();
}

// The plugin's devices, on which launches run or, where that is asked for, only take their time.
absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeRuntime(const PjrtRuntimeOptions& plugin,
                                                           const std::string& launch_time) {
  if (launch_time.empty()) return CreatePjrtRuntime(plugin);
  TimedRuntimeOptions timed;
  ASSIGN_OR_RETURN(timed.times, LaunchTimes::Parse(launch_time));
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceRuntime> runtime, CreatePjrtRuntime(plugin));
  Log(LogLevel::kWarning,
      absl::StrCat("timed: nothing is computed, the results of all programs are zeros (--launch-time ", launch_time,
                   ")"));
  return MakeTimedRuntime(std::move(runtime), std::move(timed));
}

}  // namespace

absl::Status RunWorker(const WorkerOptions& options) {
  Shutdown shutdown;
  RETURN_IF_ERROR(CheckDataAddress(options));

  PjrtRuntimeOptions plugin;
  plugin.plugin = options.plugin;
  plugin.device_count = options.devices;
  RETURN_IF_ERROR(CheckGroup(options));
  std::unique_ptr<worker::KeyValueLink> link;  // outlives the plugin's client
  std::optional<LinkStore> store;
  if (options.nodes > 1) {
    Log(LogLevel::kInfo, absl::StrCat("node ", options.node_id, " of ", options.nodes, " of group ", options.group,
                                      " waits for the others"));
    ASSIGN_OR_RETURN(link, worker::KeyValueLink::Connect({options.controller, options.token, options.group}));
    plugin.store = &store.emplace(*link);
    plugin.node_id = options.node_id;
    plugin.nodes = options.nodes;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceRuntime> runtime, MakeRuntime(plugin, options.launch_time));
  SocketDataPlaneOptions data;
  data.listen_address = options.data_address;
  data.connections = options.data.connections;
  ASSIGN_OR_RETURN(const std::unique_ptr<SocketDataPlane> plane, SocketDataPlane::Start(std::move(data)));

  const RealClock clock;
  IoThread io("cw-control");
  worker::ShellOptions shell;
  shell.host = HostName();
  shell.name = options.name.empty() ? shell.host : options.name;
  shell.island = options.island;
  shell.token = options.token;
  if (options.nodes > 1) shell.group = options.group;
  shell.device_memory_bytes = options.device_memory_bytes;
  shell.data_address = plane->listen_address();
  shell.on_identity = [&plane](WorkerId self) { plane->SetSelf(PeerOf(self)); };
  shell.start_anew = StartAnew;
  shell.link.controller = options.controller;
  const worker::Dial dial = [&io, &options](auto done) {
    DialLink(&io, options.controller, kDialTimeout, std::move(done));
  };

  Log(LogLevel::kInfo,
      absl::StrCat("worker ", shell.name, " of ", shell.island, ": ", runtime->Describe().devices_size(), " ",
                   runtime->Describe().platform(), " device(s), data at ", shell.data_address));
  {
    const worker::WorkerShell worker(*runtime, *plane, dial, clock, shell);
    Log(LogLevel::kInfo, absl::StrCat("stopping: ", shutdown.Wait(/*exit_with_stdin=*/false)));
    Shutdown::LetSignalsKill();
    ExitAfter(kExitPatience);
  }
  return absl::OkStatus();
}

}  // namespace causeway
