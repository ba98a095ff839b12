#include "cli/controller_main.h"

#include <malloc.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "cli/shutdown.h"
#include "controller/shell.h"
#include "ifrt/door.h"
#include "net/address.h"

namespace causeway {
namespace {

constexpr int kKeptFreeBytes = 32 << 20;

// Nothing but this machine reaches the cluster unless somebody said so, and showed that workers will be checked.
absl::Status CheckExposure(const ControllerFlags& flags, const std::string& token) {
  std::vector<std::string> addresses = flags.client_addresses;
  addresses.push_back(flags.control_address);
  addresses.push_back(flags.data_address);
  for (const std::string& text : addresses) {
    ASSIGN_OR_RETURN(const Address address, ParseAddress(text));
    if (IsLocal(address)) continue;
    if (!flags.allow_remote) {
      return absl::FailedPreconditionError(absl::StrCat(
          text, " can be reached from other machines: give --allow-remote if that is meant, or use 127.0.0.1"));
    }
    if (token.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(text,
                       " can be reached from other machines: give --token-file (or CAUSEWAY_TOKEN), which workers "
                       "must show too"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunController(const ControllerFlags& flags) {
  // Buffers of megabytes come and go here all the time: what is free stays, instead of going back to the system for a
  // moment and costing a page fault every 4 KiB when it returns. A limit, not a reservation.
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  Shutdown shutdown;
  ASSIGN_OR_RETURN(const std::string token, ReadToken(flags.token_file));
  RETURN_IF_ERROR(CheckExposure(flags, token));
  RETURN_IF_ERROR(CheckTimeouts(flags.timeouts));
  ControllerShellOptions options;
  options.core.token = token;
  options.core.heartbeat = absl::Seconds(flags.timeouts.heartbeat_s);
  options.core.heartbeat_timeout = absl::Seconds(flags.timeouts.heartbeat_timeout_s);
  options.core.limits.launches_per_device = flags.pressure.launches_in_flight;
  options.core.limits.items = flags.pressure.work_in_flight;
  options.core.limits.host_bytes = flags.pressure.upload_in_flight_bytes;
  options.core.expected_workers = flags.workers;
  options.core.scheduling.credits = flags.scheduling.credits;
  options.core.scheduling.ahead = absl::Milliseconds(flags.scheduling.ahead_ms);
  options.core.memory_wait = absl::Seconds(flags.scheduling.memory_wait_s);
  options.core.scheduling.sequential = flags.scheduling.dispatch == "sequential";
  if (flags.scheduling.policy == "fcfs") options.core.scheduling.policy = Scheduler::Policy::kFirstCome;
  if (flags.programs.collectives == "host") options.core.collectives = Collectives::kHost;
  if (flags.programs.collectives == "plugin") options.core.collectives = Collectives::kPlugin;
  if (flags.programs.cache_directory != "none") options.program_directory = flags.programs.cache_directory;
  options.program_directory_bytes = flags.programs.cache_bytes;
  options.control_address = flags.control_address;
  options.data_address = flags.data_address;
  options.data_connections = flags.data.connections;
  ASSIGN_OR_RETURN(const std::unique_ptr<ControllerShell> shell, ControllerShell::Start(std::move(options)));
  IfrtDoorOptions door_options;
  door_options.slices = flags.slices;
  door_options.host_memory.bytes = flags.pressure.host_memory_bytes;
  door_options.host_memory.spill_bytes = flags.pressure.spill_bytes;
  if (flags.pressure.spill_bytes > 0) door_options.uploads.spill_directory = flags.pressure.spill_directory;
  door_options.client_timeout = absl::Seconds(flags.timeouts.client_timeout_s);
  door_options.large_transfer_directory = flags.large_transfer_directory;
  IfrtDoor door(*shell, shell->data_plane(), std::move(door_options));
  shell->SetDoor(&door);
  absl::StatusOr<std::vector<std::string>> bound = door.Start(flags.client_addresses);
  if (bound.ok()) {
    shell->SetClientAddress(absl::StrJoin(*bound, ", "));
    Log(LogLevel::kInfo,
        absl::StrCat("clients at ", absl::StrJoin(*bound, ", "), "; workers at ", shell->control_address()));
    Log(LogLevel::kInfo, absl::StrCat("stopping: ", shutdown.Wait(/*exit_with_stdin=*/false)));
  }
  door.Stop();
  shell->SetDoor(nullptr);
  shell->Stop();
  return bound.status();
}

}  // namespace causeway
