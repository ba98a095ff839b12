#include "cli/up.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "cli/child.h"
#include "cli/shutdown.h"
#include "cli/status_command.h"
#include "timed/launch_times.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kLastBackoff = absl::Seconds(10);
// A unix socket's path has at most 107 characters; the longest of ours is "worker-0000-0000.data".
constexpr size_t kMaxDirLength = 80;

// A folder that only this user can enter. Removed at the end if it was made here.
class PrivateDir {
 public:
  static absl::StatusOr<PrivateDir> Make(const std::string& wanted) {
    if (!wanted.empty()) {
      if (mkdir(wanted.c_str(), 0700) != 0 && errno != EEXIST) {
        return absl::UnavailableError(absl::StrCat("cannot make the folder ", wanted, ": ", strerror(errno)));
      }
      return Check(wanted, /*remove=*/false);
    }
    const char* base = std::getenv("XDG_RUNTIME_DIR");
    std::string path = absl::StrCat(base != nullptr && access(base, W_OK) == 0 ? base : "/tmp", "/causeway-XXXXXX");
    if (mkdtemp(path.data()) == nullptr) {
      return absl::UnavailableError(absl::StrCat("cannot make a folder like ", path, ": ", strerror(errno)));
    }
    return Check(path, /*remove=*/true);
  }
  PrivateDir(PrivateDir&& other) noexcept : path_(std::exchange(other.path_, "")), remove_(other.remove_) {}
  ~PrivateDir() {
    std::error_code ignored;
    if (remove_ && !path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

  // Leaves the folder, with its logs, for whoever looks into a failure.
  void Keep() { remove_ = false; }

 private:
  PrivateDir(std::string path, bool remove) : path_(std::move(path)), remove_(remove) {}

  static absl::StatusOr<PrivateDir> Check(const std::string& path, bool remove) {
    if (path.size() > kMaxDirLength) {
      return absl::InvalidArgumentError(
          absl::StrCat("the path ", path, " is too long for unix sockets: give a shorter --dir"));
    }
    return PrivateDir(fs::absolute(path).string(), remove);
  }

  std::string path_;
  bool remove_;
};

// A child that is started again when it dies.
struct Part {
  std::string name;  // for people
  std::vector<std::string> arguments;
  Child child;
  absl::Duration backoff = kFirstBackoff;
  absl::Time started;
  bool dead = false;                               // its end was noticed
  absl::Time restart_at = absl::InfiniteFuture();  // when to start it again
};

// Flags that controllers under `up` share with it.
std::vector<std::string> ControllerArguments(const UpFlags& flags, const std::string& client_address,
                                             const std::string& control_address, const std::string& dir) {
  std::vector<std::string> arguments = {"controller",
                                        "--client-address",
                                        client_address,
                                        "--control-address",
                                        control_address,
                                        "--data-address",
                                        "unix:" + dir + "/controller.data",
                                        "--workers",
                                        absl::StrCat(flags.islands * flags.hosts),
                                        "--heartbeat",
                                        absl::StrCat(flags.timeouts.heartbeat_s),
                                        "--heartbeat-timeout",
                                        absl::StrCat(flags.timeouts.heartbeat_timeout_s),
                                        "--client-timeout",
                                        absl::StrCat(flags.timeouts.client_timeout_s),
                                        "--ahead",
                                        absl::StrCat(flags.scheduling.ahead_ms),
                                        "--memory-wait",
                                        absl::StrCat(flags.scheduling.memory_wait_s)};
  if (flags.slices) arguments.push_back("--slices");
  const std::pair<const char*, int64_t> limits[] = {
      {"--launches-in-flight", flags.pressure.launches_in_flight},
      {"--work-in-flight", flags.pressure.work_in_flight},
      {"--upload-in-flight", flags.pressure.upload_in_flight_bytes},
      {"--host-memory", flags.pressure.host_memory_bytes},
      {"--spill", flags.pressure.spill_bytes},
      {"--program-cache-size", flags.programs.cache_bytes},
      {"--credits", flags.scheduling.credits},
      {"--data-connections", flags.data.connections},
  };
  for (const auto& [flag, value] : limits) {
    arguments.push_back(flag);
    arguments.push_back(absl::StrCat(value));
  }
  for (const auto& [flag, value] :
       {std::pair("--spill-dir", flags.pressure.spill_directory),
        std::pair("--program-cache", flags.programs.cache_directory),
        std::pair("--collectives", flags.programs.collectives), std::pair("--policy", flags.scheduling.policy),
        std::pair("--dispatch", flags.scheduling.dispatch)}) {
    arguments.push_back(flag);
    arguments.push_back(value);
  }
  return arguments;
}

class Up {
 public:
  Up(const UpFlags& flags, const std::string& dir)
      : flags_(flags), dir_(dir), control_("unix:" + dir + "/control.sock") {}

  absl::Status Start() {
    RETURN_IF_ERROR(Add("the controller", ControllerArguments(flags_, flags_.client_address, control_, dir_),
                        dir_ + "/controller.log"));
    for (int island = 0; island < flags_.islands; ++island) {
      for (int host = 0; host < flags_.hosts; ++host) {
        // Names sort as the islands and hosts are numbered: device ids follow them.
        const std::string name = absl::StrFormat("island%02d-host%02d", island, host);
        std::vector<std::string> worker = {"worker",
                                           "--controller",
                                           control_,
                                           "--name",
                                           name,
                                           "--island",
                                           absl::StrFormat("island%02d", island),
                                           "--devices",
                                           absl::StrCat(flags_.devices),
                                           "--plugin",
                                           flags_.plugin,
                                           "--data-connections",
                                           absl::StrCat(flags_.data.connections),
                                           "--data-address",
                                           absl::StrFormat("unix:%s/worker-%d-%d.data", dir_, island, host)};
        if (!flags_.launch_time.empty()) {
          worker.push_back("--launch-time");
          worker.push_back(flags_.launch_time);
        }
        if (flags_.device_memory_bytes.has_value()) {
          worker.insert(worker.end(), {"--device-memory", absl::StrCat(*flags_.device_memory_bytes)});
        }
        RETURN_IF_ERROR(Add("worker " + name, std::move(worker), absl::StrCat(dir_, "/", name, ".log")));
      }
    }
    return absl::OkStatus();
  }

  // Waits until every worker has joined. OK with `stop` set: asked to end before that.
  absl::StatusOr<proto::ClusterStatus> WaitUntilReady(Shutdown& shutdown, std::string& stop) {
    const absl::Time deadline = absl::Now() + absl::Seconds(flags_.timeout_s);
    while (true) {
      for (Part& part : parts_) {
        if (auto ended = part.child.Ended()) return Dead(part, *ended);
      }
      const auto status = QueryStatus(control_, /*token=*/"", absl::Seconds(1));
      size_t alive = 0;
      if (status.ok()) {
        for (const auto& island : status->islands()) {
          for (const auto& worker : island.workers()) alive += worker.alive() ? 1 : 0;
        }
        if (alive == worker_count()) {
          // Should it have to be started again, clients must find it where it was.
          controller().arguments = ControllerArguments(flags_, status->client_address(), control_, dir_);
          return *status;
        }
      }
      if (absl::Now() > deadline) {
        return absl::DeadlineExceededError(absl::StrCat(alive, " of ", worker_count(), " workers have joined after ",
                                                        flags_.timeout_s, " s; the logs are in ", dir_,
                                                        ": look there, or give more --timeout"));
      }
      stop = shutdown.WaitFor(kPoll, flags_.exit_with_stdin);
      if (!stop.empty()) return proto::ClusterStatus();
    }
  }

  // Keeps the cluster up. Returns OK when asked to stop.
  absl::Status Watch(Shutdown& shutdown) {
    while (true) {
      const std::string stop = shutdown.WaitFor(kPoll, flags_.exit_with_stdin);
      if (!stop.empty()) {
        std::fprintf(stderr, "causeway: stopping (%s)\n", stop.c_str());
        return absl::OkStatus();
      }
      if (!flags_.restart) {
        if (auto ended = controller().child.Ended()) return Dead(controller(), *ended);
      }
      for (Part& part : parts_) KeepUp(part);
    }
  }

  // Workers first, so that the controller does not report them lost.
  void Stop() {
    for (size_t i = 1; i < parts_.size(); ++i) parts_[i].child.Terminate();
    for (size_t i = 1; i < parts_.size(); ++i) parts_[i].child.Reap(absl::Seconds(3));
    if (parts_.empty()) return;
    controller().child.Terminate();
    controller().child.Reap(absl::Seconds(3));
  }

  const std::string& control_address() const { return control_; }

 private:
  absl::Status Add(std::string name, std::vector<std::string> arguments, std::string log) {
    ASSIGN_OR_RETURN(Child child, Child::Start(arguments, std::move(log)));
    parts_.push_back(Part{std::move(name), std::move(arguments), std::move(child), kFirstBackoff, absl::Now()});
    return absl::OkStatus();
  }

  static absl::Status Dead(const Part& part, const std::string& how) {
    return absl::UnavailableError(absl::StrCat(part.name, " has ended (", how, "). The end of its log ",
                                               part.child.log_path(), ":\n", part.child.LogTail()));
  }

  void KeepUp(Part& part) {
    if (part.restart_at == absl::InfiniteFuture()) {
      if (part.dead) return;
      const auto ended = part.child.Ended();
      if (!ended) return;
      part.dead = true;
      if (absl::Now() - part.started > absl::Minutes(1)) part.backoff = kFirstBackoff;
      std::fprintf(stderr, "causeway: %s has ended (%s)%s\n", part.name.c_str(), ended->c_str(),
                   flags_.restart ? ", starting it again" : "");
      if (flags_.restart) part.restart_at = absl::Now() + part.backoff;
      part.backoff = std::min(2 * part.backoff, kLastBackoff);
      return;
    }
    if (absl::Now() < part.restart_at) return;
    part.restart_at = absl::InfiniteFuture();
    part.started = absl::Now();
    absl::StatusOr<Child> child = Child::Start(part.arguments, part.child.log_path());
    if (!child.ok()) {
      part.restart_at = absl::Now() + part.backoff;
      return;
    }
    part.child = *std::move(child);
    part.dead = false;
  }

  Part& controller() { return parts_.front(); }
  size_t worker_count() const { return parts_.size() - 1; }

  const UpFlags flags_;
  const std::string dir_;
  const std::string control_;
  std::vector<Part> parts_;  // the controller, then the workers
};

absl::Status CheckFlags(const UpFlags& flags) {
  constexpr int kMaxProcesses = 1024;
  RETURN_IF_ERROR(CheckTimeouts(flags.timeouts));
  if (!flags.launch_time.empty()) RETURN_IF_ERROR(LaunchTimes::Parse(flags.launch_time).status());
  if (flags.islands < 1 || flags.hosts < 1 || flags.devices < 1 || flags.islands * flags.hosts > kMaxProcesses) {
    return absl::InvalidArgumentError(
        absl::StrCat("--islands, --hosts and --devices must be at least 1, and at most ", kMaxProcesses, " workers"));
  }
  return absl::OkStatus();
}

void SayReady(const UpFlags& flags, const proto::ClusterStatus& status, const Up& up, const std::string& dir) {
  const int workers = flags.islands * flags.hosts;
  const int devices = workers * flags.devices;
  if (flags.ready_fd >= 0) {
    const nlohmann::json line = {{"client_address", status.client_address()},
                                 {"control_address", up.control_address()},
                                 {"devices", devices},
                                 {"workers", workers}};
    const std::string text = line.dump() + "\n";
    if (write(flags.ready_fd, text.data(), text.size()) < 0) std::perror("causeway: --ready-fd");
    close(flags.ready_fd);
    return;
  }
  std::printf(
      "causeway: ready: %d island%s, %d worker%s, %d devices\n"
      "  run a program:   JAX_PLATFORMS=causeway CAUSEWAY_ADDRESS=%s python prog.py\n"
      "  look at it:      causeway status --controller %s\n"
      "  logs:            %s\n"
      "  Ctrl-C stops it\n",
      flags.islands, flags.islands == 1 ? "" : "s", workers, workers == 1 ? "" : "s", devices,
      status.client_address().c_str(), up.control_address().c_str(), dir.c_str());
  std::fflush(stdout);
}

}  // namespace

absl::Status RunUp(const UpFlags& flags) {
  RETURN_IF_ERROR(CheckFlags(flags));
  Shutdown shutdown;
  if (flags.ready_fd >= 0) fcntl(flags.ready_fd, F_SETFD, FD_CLOEXEC);
  ASSIGN_OR_RETURN(PrivateDir dir, PrivateDir::Make(flags.dir));
  Up up(flags, dir.path());
  const auto run = [&]() -> absl::Status {
    RETURN_IF_ERROR(up.Start());
    std::string stop;
    ASSIGN_OR_RETURN(const proto::ClusterStatus status, up.WaitUntilReady(shutdown, stop));
    if (!stop.empty()) return absl::OkStatus();
    SayReady(flags, status, up, dir.path());
    return up.Watch(shutdown);
  };
  absl::Status status = run();
  up.Stop();
  if (!status.ok()) dir.Keep();
  return status;
}

}  // namespace causeway
