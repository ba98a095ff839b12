// The `causeway` binary: one program, a subcommand for each part of a cluster.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "cli/controller_main.h"
#include "cli/options.h"
#include "cli/status_command.h"
#include "cli/top_command.h"
#include "cli/trace_command.h"
#include "cli/up.h"
#include "cli/version.h"
#include "cli/worker_main.h"
#include "net/data_codec.h"
#include "pjrt/plugin_report.h"

namespace causeway {
namespace {

void AddPressure(CLI::App& sub, PressureFlags& flags) {
  sub.add_option("--launches-in-flight", flags.launches_in_flight,
                 "Launches of one client that may wait on one device; then it has to wait itself")
      ->envname("CAUSEWAY_LAUNCHES_IN_FLIGHT")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  sub.add_option("--work-in-flight", flags.work_in_flight,
                 "Launches, copies and uploads of one client that may be under way; then it has to wait itself")
      ->envname("CAUSEWAY_WORK_IN_FLIGHT")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  sub.add_option(
         "--upload-in-flight", flags.upload_in_flight_bytes,
         "Host data of one client that may be on their way to workers, such as 1GiB; then it has to wait itself")
      ->envname("CAUSEWAY_UPLOAD_IN_FLIGHT")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(int64_t{1} << 20, int64_t{1} << 50))
      ->capture_default_str();
  sub.add_option("--host-memory", flags.host_memory_bytes,
                 "Memory for all clients' data on their way through the controller, such as 1GiB; beside it the "
                 "controller needs some 100 MiB, more while several clients flood it or data go to disk")
      ->envname("CAUSEWAY_HOST_MEMORY")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(int64_t{32} << 20, int64_t{1} << 50))
      ->capture_default_str();
  sub.add_option("--spill", flags.spill_bytes,
                 "Disk for data that come ahead of the request that takes them, where memory has no room; 0: none")
      ->envname("CAUSEWAY_SPILL")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50))
      ->capture_default_str();
  sub.add_option("--spill-dir", flags.spill_directory, "Folder of a file system with that much room")
      ->envname("CAUSEWAY_SPILL_DIR")
      ->capture_default_str();
}

void AddTimeouts(CLI::App& sub, TimeoutFlags& flags) {
  sub.add_option("--heartbeat", flags.heartbeat_s, "Seconds between pings of a worker")
      ->envname("CAUSEWAY_HEARTBEAT")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  sub.add_option("--heartbeat-timeout", flags.heartbeat_timeout_s, "Seconds of silence after which a worker is lost")
      ->envname("CAUSEWAY_HEARTBEAT_TIMEOUT")
      ->check(CLI::Range(0.2, 86400.0))
      ->capture_default_str();
  sub.add_option("--client-timeout", flags.client_timeout_s,
                 "Seconds of silence after which a client's session ends and all it owns is freed")
      ->envname("CAUSEWAY_CLIENT_TIMEOUT")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
}

void AddPrograms(CLI::App& sub, ProgramFlags& flags) {
  sub.add_option("--program-cache", flags.cache_directory,
                 "Folder where compiled programs of several workers are kept for later controllers; none: nowhere")
      ->envname("CAUSEWAY_PROGRAM_CACHE")
      ->capture_default_str();
  sub.add_option("--program-cache-size", flags.cache_bytes, "How much it may hold, such as 4GiB")
      ->envname("CAUSEWAY_PROGRAM_CACHE_SIZE")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50))
      ->capture_default_str();
  sub.add_option("--collectives", flags.collectives,
                 "Who carries out a program's collectives: auto (the plugin within a worker or --group, else the "
                 "workers), host (always the workers), plugin (or the program is refused)")
      ->envname("CAUSEWAY_COLLECTIVES")
      ->check(CLI::IsMember({"auto", "host", "plugin"}))
      ->capture_default_str();
}

void AddLaunchTime(CLI::App& sub, std::string& spec) {
  sub.add_option("--launch-time", spec,
                 "To time schedules: launches take a set time and no core, and all results are zeros. "
                 "NAME=TIME[,NAME=TIME...]; NAME: a program's, * for any characters; TIME: 300us, 5ms, 1s, or "
                 "cost:FLOPS_PER_S for what the plugin's cost analysis counts; the first NAME that matches counts")
      ->envname("CAUSEWAY_LAUNCH_TIME");
}

void AddDeviceMemory(CLI::App& sub, std::optional<int64_t>& bytes) {
  sub.add_option("--device-memory", bytes,
                 "What clients' arrays may take on each device, such as 16GiB; 0: no limit (default: as the plugin "
                 "says, where it does)")
      ->envname("CAUSEWAY_DEVICE_MEMORY")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50));
}

void AddScheduling(CLI::App& sub, SchedulingFlags& flags) {
  sub.add_option("--policy", flags.policy,
                 "Whose launch is next where several sessions wait for a device: fair (by device time used, and the "
                 "sessions' weights), fcfs (first come, first served)")
      ->envname("CAUSEWAY_POLICY")
      ->check(CLI::IsMember({"fair", "fcfs"}))
      ->capture_default_str();
  sub.add_option("--credits", flags.credits,
                 "Launches of each device that are handed to its worker ahead: more keep it busier, fewer let "
                 "newcomers in sooner")
      ->envname("CAUSEWAY_CREDITS")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub.add_option("--ahead", flags.ahead_ms,
                 "Or so many launches as take this many milliseconds, where those are more: for tiny ones")
      ->envname("CAUSEWAY_AHEAD")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  sub.add_option("--dispatch", flags.dispatch,
                 "parallel: launches and transfers are set up before what they need is computed; sequential: after "
                 "(slower, to see what it is worth)")
      ->envname("CAUSEWAY_DISPATCH")
      ->check(CLI::IsMember({"parallel", "sequential"}))
      ->capture_default_str();
  sub.add_option("--memory-wait", flags.memory_wait_s,
                 "Seconds for which what does not fit into a device's memory waits for others to free some, before it "
                 "is refused; a quarter of that where only its own session can")
      ->envname("CAUSEWAY_MEMORY_WAIT")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
}

void AddData(CLI::App& sub, DataFlags& flags) {
  sub.add_option("--data-connections", flags.connections,
                 "Connections for the bulk data of two processes, where one does not fill the path between them; each "
                 "pair has as many as the side that wants fewer")
      ->envname("CAUSEWAY_DATA_CONNECTIONS")
      ->check(CLI::Range(1, kMaxDataConnections))
      ->capture_default_str();
}

void AddController(CLI::App& app, ControllerFlags& flags) {
  CLI::App* sub = app.add_subcommand("controller", "Run a cluster's controller");
  sub->footer(
      "Examples:\n"
      "  causeway controller\n"
      "  causeway controller --client-address 0.0.0.0:29000 --control-address 0.0.0.0:29001 \\\n"
      "      --data-address 0.0.0.0:29002 --allow-remote --token-file ~/.causeway/token\n"
      "\nJAX's client speaks plaintext and shows no token: whoever reaches the client address may use the cluster. "
      "Across\n"
      "machines, put it behind an ssh tunnel or a TLS side-car.");
  sub->add_option("--client-address", flags.client_addresses,
                  "Where JAX clients connect: HOST:PORT or unix:PATH; repeatable")
      ->envname("CAUSEWAY_CLIENT_ADDRESS")
      ->capture_default_str();
  sub->add_option("--control-address", flags.control_address, "Where workers and tools connect")
      ->envname("CAUSEWAY_CONTROL_ADDRESS")
      ->capture_default_str();
  sub->add_option("--data-address", flags.data_address, "Where workers' bulk data arrive; port 0: any free one")
      ->envname("CAUSEWAY_DATA_ADDRESS")
      ->capture_default_str();
  sub->add_flag("--allow-remote", flags.allow_remote, "Allow addresses that other machines can reach; needs a token")
      ->envname("CAUSEWAY_ALLOW_REMOTE");
  sub->add_option("--token-file", flags.token_file,
                  "File with the cluster's token, which workers must show (or CAUSEWAY_TOKEN)")
      ->envname("CAUSEWAY_TOKEN_FILE");
  sub->add_flag("--slices", flags.slices,
                "Give devices a slice_index (their island), for elastic and multi-slice programs")
      ->envname("CAUSEWAY_SLICES");
  sub->add_option(
         "--workers", flags.workers,
         "Let clients wait until so many workers have joined (a minute after the start they get what is there)")
      ->envname("CAUSEWAY_WORKERS")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  AddTimeouts(*sub, flags.timeouts);
  sub->add_option("--large-transfer-dir", flags.large_transfer_directory,
                  "Folder shared with clients through which they may hand over large arrays")
      ->envname("IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY");
  AddPressure(*sub, flags.pressure);
  AddPrograms(*sub, flags.programs);
  AddScheduling(*sub, flags.scheduling);
  AddData(*sub, flags.data);
}

void AddWorker(CLI::App& app, WorkerOptions& flags, std::string& token_file) {
  CLI::App* sub = app.add_subcommand("worker", "Run the worker of one host");
  sub->footer(
      "Examples:\n"
      "  causeway worker --controller 127.0.0.1:29001 --name host0 --devices 4\n"
      "  causeway worker --controller head:29001 --data-address $(hostname):0 --plugin cuda --island rack7 \\\n"
      "      --token-file ~/.causeway/token\n"
      "\nIt keeps trying to reach its controller, and joins again by itself when the connection is lost.");
  sub->add_option("--controller", flags.controller, "The controller's control address")
      ->envname("CAUSEWAY_CONTROL_ADDRESS")
      ->capture_default_str();
  sub->add_option("--name", flags.name,
                  "Names this worker's place in the cluster, also after a restart (default: the host's name)")
      ->envname("CAUSEWAY_WORKER_NAME");
  sub->add_option("--island", flags.island, "Devices of one island share a fast interconnect")
      ->envname("CAUSEWAY_ISLAND")
      ->capture_default_str();
  sub->add_option("--plugin", flags.plugin, "PJRT plugin: cpu, cuda, tpu, or the path of a shared library")
      ->envname("CAUSEWAY_PLUGIN")
      ->capture_default_str();
  sub->add_option("--devices", flags.devices, "Devices to make, where the plugin can make any number (cpu)")
      ->envname("CAUSEWAY_DEVICES")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  AddDeviceMemory(*sub, flags.device_memory_bytes);
  sub->add_option("--data-address", flags.data_address, "Where other workers' data arrive; port 0: any free one")
      ->envname("CAUSEWAY_DATA_ADDRESS")
      ->capture_default_str();
  AddData(*sub, flags.data);
  sub->add_option("--token-file", token_file, "File with the cluster's token (or CAUSEWAY_TOKEN)")
      ->envname("CAUSEWAY_TOKEN_FILE");
  sub->add_option("--group", flags.group,
                  "Processes whose plugin makes one client of them all (cuda): the same name on each")
      ->envname("CAUSEWAY_GROUP");
  sub->add_option("--node-id", flags.node_id, "This one's number in its group, from 0 on")
      ->envname("CAUSEWAY_NODE_ID")
      ->capture_default_str();
  sub->add_option("--num-nodes", flags.nodes, "How many they are; 1: the plugin is not told of others")
      ->envname("CAUSEWAY_NUM_NODES")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  AddLaunchTime(*sub, flags.launch_time);
}

void AddUp(CLI::App& app, UpFlags& flags) {
  CLI::App* sub = app.add_subcommand("up", "Run a whole cluster on this machine");
  sub->footer(
      "Examples:\n"
      "  causeway up                                    # 1 island, 1 worker, 4 CPU devices\n"
      "  causeway up --islands 2 --hosts 2 --devices 2  # 8 devices on 4 workers\n"
      "  JAX_PLATFORMS=causeway CAUSEWAY_ADDRESS=127.0.0.1:29000 python prog.py");
  sub->add_option("--islands", flags.islands, "Islands")->envname("CAUSEWAY_ISLANDS")->capture_default_str();
  sub->add_option("--hosts", flags.hosts, "Workers per island")->envname("CAUSEWAY_HOSTS")->capture_default_str();
  sub->add_option("--devices", flags.devices, "Devices per worker")->envname("CAUSEWAY_DEVICES")->capture_default_str();
  sub->add_option("--client-address", flags.client_address, "Where JAX clients connect: HOST:PORT or unix:PATH")
      ->envname("CAUSEWAY_CLIENT_ADDRESS")
      ->capture_default_str();
  sub->add_option("--plugin", flags.plugin, "PJRT plugin: cpu, cuda, tpu, or the path of a shared library")
      ->envname("CAUSEWAY_PLUGIN")
      ->capture_default_str();
  AddLaunchTime(*sub, flags.launch_time);
  AddDeviceMemory(*sub, flags.device_memory_bytes);
  sub->add_option("--dir", flags.dir, "Folder for sockets and logs (default: a private one, removed at the end)")
      ->envname("CAUSEWAY_DIR");
  sub->add_flag("--slices", flags.slices, "Give devices a slice_index (their island)")->envname("CAUSEWAY_SLICES");
  sub->add_flag("!--no-restart", flags.restart,
                "Do not start workers again that died, and end when the controller dies");
  AddTimeouts(*sub, flags.timeouts);
  sub->add_flag("--exit-with-stdin", flags.exit_with_stdin, "Stop when stdin closes (for a parent process)");
  sub->add_option("--ready-fd", flags.ready_fd,
                  "Write one JSON line to this file descriptor when ready (for a parent process)");
  sub->add_option("--timeout", flags.timeout_s, "Seconds to wait for all workers")->capture_default_str();
  AddPressure(*sub, flags.pressure);
  AddPrograms(*sub, flags.programs);
  AddScheduling(*sub, flags.scheduling);
  AddData(*sub, flags.data);
}

void AddStatus(CLI::App& app, StatusFlags& flags) {
  CLI::App* sub = app.add_subcommand("status", "Show islands, workers, devices, sessions and memory");
  sub->footer(
      "Examples:\n"
      "  causeway status\n"
      "  causeway status --controller unix:/tmp/causeway-x/control.sock --json | jq .sessions");
  sub->add_option("--controller", flags.control_address, "The controller's control address")
      ->envname("CAUSEWAY_CONTROL_ADDRESS")
      ->capture_default_str();
  sub->add_option("--token-file", flags.token_file, "File with the cluster's token (or CAUSEWAY_TOKEN)")
      ->envname("CAUSEWAY_TOKEN_FILE");
  sub->add_flag("--json", flags.json, "For scripts");
  sub->add_flag("--programs", flags.programs,
                "Also each program: launches, and what its collectives sent between workers and islands");
  sub->add_option("--timeout", flags.timeout_s, "Seconds to wait for an answer")->capture_default_str();
}

void AddTool(CLI::App& sub, std::string& control_address, std::string& token_file, double& timeout_s) {
  sub.add_option("--controller", control_address, "The controller's control address")
      ->envname("CAUSEWAY_CONTROL_ADDRESS")
      ->capture_default_str();
  sub.add_option("--token-file", token_file, "File with the cluster's token (or CAUSEWAY_TOKEN)")
      ->envname("CAUSEWAY_TOKEN_FILE");
  sub.add_option("--timeout", timeout_s, "Seconds to wait for an answer")->capture_default_str();
}

void AddTop(CLI::App& app, TopFlags& flags) {
  CLI::App* sub = app.add_subcommand("top", "Show who uses how much of the cluster, again and again");
  sub->footer(
      "Examples:\n"
      "  causeway top                                   # q or Ctrl-C leaves\n"
      "  causeway top --once --interval 10              # one page, over ten seconds\n"
      "  causeway top --json | jq '.sessions[] | {name, share, queued}'\n"
      "\nWhere stdout is no terminal it prints one page.");
  sub->add_option("--interval", flags.interval_s, "Seconds between pages, over which rates and shares are taken")
      ->envname("CAUSEWAY_TOP_INTERVAL")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  sub->add_flag("--once", flags.once, "Print one page and leave");
  sub->add_flag("--json", flags.json, "Print one JSON object and leave");
  AddTool(*sub, flags.control_address, flags.token_file, flags.timeout_s);
}

void AddTrace(CLI::App& app, TraceFlags& flags) {
  CLI::App* sub = app.add_subcommand("trace", "Record what the cluster does, for ui.perfetto.dev");
  sub->footer(
      "Examples:\n"
      "  causeway trace -o trace.json                   # 5 seconds; Ctrl-C ends it earlier\n"
      "  causeway trace --seconds 30 -o - | gzip > trace.json.gz\n"
      "\nOpen the file at https://ui.perfetto.dev or chrome://tracing: a track for each device with its launches, for "
      "each\n"
      "pair of processes with what they sent, for each session with what it asked for, and for the controller.");
  sub->add_option("--seconds", flags.seconds, "How long to record")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  sub->add_option("-o,--output", flags.output, "The file to write; - for stdout")->required();
  AddTool(*sub, flags.control_address, flags.token_file, flags.timeout_s);
}

absl::Status RunPlugin(const std::string& plugin) {
  const absl::StatusOr<std::string> report = DescribePlugin(plugin);
  if (!report.ok()) return report.status();
  std::fputs(report->c_str(), stdout);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("Causeway: one JAX program drives every accelerator of a cluster.\n", "causeway");
  app.require_subcommand(1);
  app.set_version_flag("--version", CAUSEWAY_VERSION);
  app.failure_message(CLI::FailureMessage::simple);
  ControllerFlags controller;
  WorkerOptions worker;
  std::string worker_token_file;
  UpFlags up;
  StatusFlags status;
  TopFlags top;
  TraceFlags trace;
  std::string plugin = "cpu";
  AddUp(app, up);
  AddController(app, controller);
  AddWorker(app, worker, worker_token_file);
  AddStatus(app, status);
  AddTop(app, top);
  AddTrace(app, trace);
  app.add_subcommand("plugin", "Show what a PJRT plugin is and has")
      ->footer("Examples:\n  causeway plugin cpu\n  causeway plugin /opt/vendor/libpjrt.so")
      ->add_option("plugin", plugin, "cpu, cuda, tpu, or the path of a shared library")
      ->capture_default_str();
  app.add_subcommand("version", "Show this release and the client versions that it serves");
  CLI11_PARSE(app, argc, argv);

  absl::Status result;
  if (app.got_subcommand("up")) {
    result = RunUp(up);
  } else if (app.got_subcommand("controller")) {
    result = RunController(controller);
  } else if (app.got_subcommand("worker")) {
    absl::StatusOr<std::string> token = ReadToken(worker_token_file);
    result = token.status();
    if (result.ok()) {
      worker.token = *std::move(token);
      result = RunWorker(worker);
    }
  } else if (app.got_subcommand("status")) {
    result = RunStatus(status);
  } else if (app.got_subcommand("top")) {
    result = RunTop(top);
  } else if (app.got_subcommand("trace")) {
    result = RunTrace(trace);
  } else if (app.got_subcommand("plugin")) {
    result = RunPlugin(plugin);
  } else {
    std::fputs(VersionText().c_str(), stdout);
  }
  if (result.ok()) return 0;
  std::fprintf(stderr, "causeway: %s\n", std::string(result.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace causeway

int main(int argc, char** argv) { return causeway::Main(argc, argv); }
