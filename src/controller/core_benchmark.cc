// What one launch costs the controller core, by the number of devices of its gang. It must not grow with them.
//
//   build/release/benchmarks/controller_core_benchmark
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "controller/cluster.h"
#include "controller/core.h"

namespace causeway {
namespace {

// Takes everything, keeps the number of the last launch.
struct Sink : ControllerActions {
  void ReplyDone(RequestHeader, const absl::Status&) override {}
  void ReplyCompiled(RequestHeader, absl::StatusOr<std::shared_ptr<const ProgramView>>) override {}
  void ReplyFetched(RequestHeader, absl::StatusOr<Fetched>) override {}
  void ReplyQuery(RequestHeader, absl::StatusOr<proto::QueryDone>) override {}
  void WantHostData(SessionId, HostBufferId, WorkerId, StreamId, int64_t, bool, bool) override {}
  void Send(LinkId, const proto::ToWorker& message) override {
    if (message.has_launch()) last_launch = message.launch().number();
    benchmark::DoNotOptimize(bytes = message.SerializeAsString());
  }
  void CloseLink(LinkId, const absl::Status&) override {}
  void WorkerUp(LinkId, WorkerId, uint64_t, const std::string&) override {}
  void WorkerDown(WorkerId, const absl::Status&) override {}
  uint64_t last_launch = 0;
  std::string bytes;
};

// x = f(x): launch, the worker's report, and the client letting go of the old x.
void BM_Launch(benchmark::State& state) {
  const int devices = static_cast<int>(state.range(0));
  constexpr LinkId kLink{1};
  constexpr SessionId kSession{1};
  const absl::Time now = absl::UnixEpoch();
  ControllerCore core(ControllerOptions{});
  Sink sink;
  proto::ToController hello;
  hello.mutable_hello()->set_version(kControlVersion);
  hello.mutable_hello()->set_name("w");
  std::vector<DeviceId> ids;
  for (int i = 0; i < devices; ++i) {
    hello.mutable_hello()->add_devices()->add_memories();
    ids.push_back(DeviceId{i});
  }
  core.Handle(WorkerFrame{kLink, hello, ""}, now, sink);
  core.Handle(OpenSession{{kSession, Ticket{1}}, "", ""}, now, sink);
  const ProgramId program = MakeProgramId(kSession, 1);
  core.Handle(CompileProgram{{kSession, Ticket{2}}, program, "mlir", "", "", ids}, now, sink);
  proto::ToController compiled;
  compiled.mutable_compiled()->set_program(Raw(program));
  compiled.mutable_compiled()->mutable_info()->add_parameters();
  compiled.mutable_compiled()->mutable_info()->add_outputs()->mutable_type()->set_dtype(11);
  core.Handle(WorkerFrame{kLink, compiled, ""}, now, sink);
  auto spec = std::make_shared<ArraySpec>();
  spec->dtype = DType::kF32;
  spec->sharding = std::make_shared<const Sharding>(Sharding::Replicated(ids, ""));
  HostPiece piece{.buffer = HostBufferId{1}, .total_bytes = 4, .data = "1234"};
  for (int i = 0; i < devices; ++i) piece.shards.push_back(i);
  uint64_t last = 1;
  core.Handle(PutArray{{kSession, Ticket{3}}, MakeArrayId(kSession, last), spec, {piece}}, now, sink);
  uint64_t ticket = 4;
  for (auto _ : state) {
    const ArrayId x = MakeArrayId(kSession, last);
    core.Handle(LaunchProgram{.request = {kSession, Ticket{++ticket}},
                              .program = program,
                              .arguments = {x},
                              .outputs = {MakeArrayId(kSession, ++last)}},
                now, sink);
    core.Handle(DestructArrays{{kSession, Ticket{++ticket}}, {x}}, now, sink);
    proto::ToController done;
    done.mutable_launches_done()->add_done()->set_number(sink.last_launch);
    core.Handle(WorkerFrame{kLink, std::move(done), ""}, now, sink);
  }
}
BENCHMARK(BM_Launch)->Arg(1)->Arg(8)->Arg(64)->Arg(512)->Arg(4096);

}  // namespace
}  // namespace causeway
