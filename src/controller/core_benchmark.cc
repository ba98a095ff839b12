// What one launch costs the controller core, frames included. It must not grow with the devices, whether they are in
// the cluster (one program a worker, launched in turn) or in the gang (one program over all of a worker's).
//
//   build/release/benchmarks/controller_core_benchmark
//   build/release/benchmarks/controller_core_benchmark --benchmark_format=json      as `make bench` runs it
#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "controller/cluster.h"
#include "controller/core.h"

namespace causeway {
namespace {

constexpr SessionId kSession{1};
constexpr int kDevicesPerWorker = 4;

// Takes everything, keeps the number of the last launch.
struct Sink : ControllerActions {
  void ReplyDone(RequestHeader, const absl::Status&) override {}
  void ReplyCompiled(RequestHeader, absl::StatusOr<std::shared_ptr<const ProgramView>>) override {}
  void ReplyFetched(RequestHeader, absl::StatusOr<Fetched>) override {}
  void ReplyQuery(RequestHeader, absl::StatusOr<proto::QueryDone>) override {}
  void WantHostData(SessionId, HostBufferId, WorkerId, StreamId, int64_t, bool, bool) override {}
  void Throttle(SessionId, bool) override {}
  void Send(LinkId, const proto::ToWorker& message) override {
    if (message.has_launch()) last_launch = message.launch().number();
    bytes = message.SerializeAsString();
    benchmark::DoNotOptimize(bytes);
  }
  void CloseLink(LinkId, const absl::Status&) override {}
  void WorkerUp(LinkId, WorkerId, uint64_t, const std::string&) override {}
  void WorkerDown(WorkerId, const absl::Status&) override {}
  uint64_t last_launch = 0;
  std::string bytes;
};

// A session on a cluster, with one program and one array on the devices of each worker.
class Bench {
 public:
  Bench(int workers, int devices_per_worker) {
    for (int w = 0; w < workers; ++w) {
      proto::ToController hello;
      hello.mutable_hello()->set_version(kControlVersion);
      hello.mutable_hello()->set_name(absl::StrCat("worker", w + 1000));  // device ids go by name
      for (int d = 0; d < devices_per_worker; ++d) hello.mutable_hello()->add_devices()->add_memories();
      core_.Handle(WorkerFrame{Link(w), hello, ""}, now_, sink_);
    }
    core_.Handle(OpenSession{{kSession, NextTicket()}, "", ""}, now_, sink_);
    for (int w = 0; w < workers; ++w) {
      std::vector<DeviceId> devices;
      for (int d = 0; d < devices_per_worker; ++d) devices.push_back(DeviceId{w * devices_per_worker + d});
      lanes_.push_back({Link(w), Compile(w, devices), Put(devices)});
    }
  }

  // x = f(x) on the next worker: launch, the worker's report, and the client letting go of the old x.
  void Launch() {
    Lane& lane = lanes_[next_lane_];
    next_lane_ = (next_lane_ + 1) % lanes_.size();
    const ArrayId x = std::exchange(lane.x, NextArray());
    core_.Handle(
        LaunchProgram{
            .request = {kSession, NextTicket()}, .program = lane.program, .arguments = {x}, .outputs = {lane.x}},
        now_, sink_);
    core_.Handle(DestructArrays{{kSession, NextTicket()}, {x}}, now_, sink_);
    proto::ToController done;
    done.mutable_launches_done()->add_done()->set_number(sink_.last_launch);
    core_.Handle(WorkerFrame{lane.link, std::move(done), ""}, now_, sink_);
  }

 private:
  struct Lane {
    LinkId link;
    ProgramId program;
    ArrayId x;
  };

  static LinkId Link(int worker) { return LinkId{static_cast<uint64_t>(worker) + 1}; }
  Ticket NextTicket() { return Ticket{++last_ticket_}; }
  ArrayId NextArray() { return MakeArrayId(kSession, ++last_array_); }

  ProgramId Compile(int worker, const std::vector<DeviceId>& devices) {
    const ProgramId program = MakeProgramId(kSession, worker + 1);
    core_.Handle(CompileProgram{{kSession, NextTicket()}, program, "mlir", "", "", devices}, now_, sink_);
    proto::ToController compiled;
    compiled.mutable_compiled()->set_program(Raw(program));
    compiled.mutable_compiled()->mutable_info()->add_parameters();
    compiled.mutable_compiled()->mutable_info()->add_outputs()->mutable_type()->set_dtype(
        static_cast<int32_t>(DType::kF32));
    core_.Handle(WorkerFrame{Link(worker), compiled, ""}, now_, sink_);
    return program;
  }

  ArrayId Put(const std::vector<DeviceId>& devices) {
    auto spec = std::make_shared<ArraySpec>();
    spec->dtype = DType::kF32;
    spec->sharding = std::make_shared<const Sharding>(Sharding::Replicated(devices, ""));
    HostPiece piece{.buffer = HostBufferId{1}, .total_bytes = 4, .data = "1234"};
    for (int i = 0; i < spec->sharding->num_shards(); ++i) piece.shards.push_back(i);
    const ArrayId array = NextArray();
    core_.Handle(PutArray{{kSession, NextTicket()}, array, spec, {piece}}, now_, sink_);
    return array;
  }

  const absl::Time now_ = absl::UnixEpoch();
  ControllerCore core_{ControllerOptions{}};
  Sink sink_;
  std::vector<Lane> lanes_;
  size_t next_lane_ = 0;
  uint64_t last_ticket_ = 0;
  uint64_t last_array_ = 0;
};

// Made once for each size: the benchmark is entered again and again until it has run for long enough.
Bench& BenchOf(int workers, int devices_per_worker) {
  static auto& benches = *new std::map<std::pair<int, int>, std::unique_ptr<Bench>>;
  auto& bench = benches[{workers, devices_per_worker}];
  if (bench == nullptr) bench = std::make_unique<Bench>(workers, devices_per_worker);
  return *bench;
}

void BM_LaunchByWorkers(benchmark::State& state) {
  Bench& bench = BenchOf(static_cast<int>(state.range(0)), kDevicesPerWorker);
  for (auto _ : state) bench.Launch();
}
BENCHMARK(BM_LaunchByWorkers)->Arg(1)->Arg(8)->Arg(64)->Arg(512);

void BM_LaunchByGang(benchmark::State& state) {
  Bench& bench = BenchOf(1, static_cast<int>(state.range(0)));
  for (auto _ : state) bench.Launch();
}
BENCHMARK(BM_LaunchByGang)->Arg(1)->Arg(4)->Arg(32)->Arg(256)->Arg(2048)->Arg(4096);

}  // namespace
}  // namespace causeway
