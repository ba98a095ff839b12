// For tests of the controller core: a fixture that plays clients and workers, and keeps what the core wanted done.
//
//   class MyTest : public CoreTest {};
//   TEST_F(MyTest, ...) {
//     TwoWorkers();
//     Put(A(1), {0});
//     ArrayDone(kLinkA, A(1));
//     EXPECT_TRUE(Answer(Wait(A(1))).ok());
//   }
#ifndef CAUSEWAY_CONTROLLER_CORE_TEST_HARNESS_H_
#define CAUSEWAY_CONTROLLER_CORE_TEST_HARNESS_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/cluster.h"
#include "controller/core.h"
#include "proto/control_version.h"
#include "proto/status.h"

namespace causeway {

// Who was held or let go, in order.
using Throttled = std::vector<std::pair<SessionId, bool>>;

// What the core wanted done, kept for the test to look at.
struct Recorder : ControllerActions {
  void ReplyDone(RequestHeader request, const absl::Status& status) override { done[Raw(request.ticket)] = status; }
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override {
    compiled.insert_or_assign(Raw(request.ticket), std::move(program));
  }
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> f) override {
    fetched.insert_or_assign(Raw(request.ticket), std::move(f));
  }
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override {
    queries.insert_or_assign(Raw(request.ticket), std::move(answer));
  }
  void WantHostData(SessionId, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t, bool in_frame,
                    bool) override {
    wanted.push_back({buffer, worker, stream, in_frame});
  }
  void OriginOpened(SessionId, uint64_t origin) override { ++open[origin]; }
  void OriginClosed(SessionId, uint64_t origin, bool failure) override {
    EXPECT_GE(--open[origin], 0);
    if (failure) failed.insert(origin);
  }
  void Throttle(SessionId session, bool hold) override { throttled.emplace_back(session, hold); }
  void Send(LinkId link, const proto::ToWorker& message) override { sent[Raw(link)].push_back(message); }
  void CloseLink(LinkId link, const absl::Status& why) override { closed[Raw(link)] = why; }
  void WorkerUp(LinkId, WorkerId worker, uint64_t, const std::string&) override { up.push_back(Raw(worker)); }
  void WorkerDown(WorkerId worker, const absl::Status&) override { down.push_back(Raw(worker)); }

  struct Wanted {
    HostBufferId buffer;
    WorkerId worker;
    StreamId stream;
    bool in_frame;
  };
  std::map<uint64_t, absl::Status> done;
  std::map<uint64_t, absl::StatusOr<std::shared_ptr<const ProgramView>>> compiled;
  std::map<uint64_t, absl::StatusOr<Fetched>> fetched;
  std::map<uint64_t, absl::StatusOr<proto::QueryDone>> queries;
  std::vector<Wanted> wanted;
  Throttled throttled;
  std::map<uint64_t, std::vector<proto::ToWorker>> sent;
  std::map<uint64_t, absl::Status> closed;
  std::vector<int> up;
  std::vector<int> down;
  std::map<uint64_t, int> open;  // of each origin
  std::set<uint64_t> failed;
};

inline constexpr SessionId kSession{1};
inline constexpr SessionId kOther{2};
inline constexpr LinkId kLinkA{10};
inline constexpr LinkId kLinkB{11};

inline ArrayId A(uint64_t n, SessionId session = kSession) { return MakeArrayId(session, n); }
inline ProgramId P(uint64_t n, SessionId session = kSession) { return MakeProgramId(session, n); }

class CoreTest : public ::testing::Test {
 protected:
  explicit CoreTest(const LoadLimits& limits = {}, Collectives collectives = Collectives::kAuto,
                    const Scheduler::Options& scheduling = {.credits = 1000})
      : core_(ControllerOptions{.token = "secret",
                                .data_address = "unix:/data",
                                .limits = limits,
                                .scheduling = scheduling,
                                .collectives = collectives}) {}

  void Handle(Event event) { core_.Handle(std::move(event), now_, out_); }

  static proto::ToController HelloFrom(const std::string& name, const std::string& island, int devices) {
    proto::ToController message;
    proto::Hello& hello = *message.mutable_hello();
    hello.set_version(kControlVersion);
    hello.set_name(name);
    hello.set_island(island);
    hello.set_token("secret");
    hello.set_platform("cpu");
    for (int i = 0; i < devices; ++i) hello.add_devices()->add_memories()->set_kind("device");
    return message;
  }

  void Join(LinkId link, const std::string& name, const std::string& island = "i0", int devices = 2) {
    Handle(WorkerFrame{link, HelloFrom(name, island, devices), "test"});
  }

  void Open(SessionId session = kSession) { Handle(OpenSession{{session, Ticket{900}}, "test", "peer"}); }

  // Two workers of one island with devices 0, 1 and 2, 3, and an open session.
  void TwoWorkers() {
    Join(kLinkA, "a");
    Join(kLinkB, "b");
    Open();
    out_.sent.clear();
  }

  RequestHeader Next(SessionId session = kSession) { return {session, Ticket{++ticket_}, origin_}; }
  absl::Status Done() const {
    const auto found = out_.done.find(ticket_);
    return found == out_.done.end() ? absl::UnknownError("not answered") : found->second;
  }

  static std::shared_ptr<const ArraySpec> On(std::vector<int> devices, std::vector<int64_t> dims = {4}) {
    std::vector<DeviceId> ids;
    for (int d : devices) ids.push_back(DeviceId{d});
    auto spec = std::make_shared<ArraySpec>();
    spec->dtype = DType::kF32;
    spec->dims = std::move(dims);
    spec->sharding = std::make_shared<const Sharding>(Sharding::Replicated(ids, ""));
    return spec;
  }

  // Makes an array from 16 bytes that are there.
  void Put(ArrayId id, std::vector<int> devices) {
    HostPiece piece{.buffer = HostBufferId{1}, .total_bytes = 16, .data = std::string(16, 'x')};
    for (size_t i = 0; i < devices.size(); ++i) piece.shards.push_back(static_cast<int>(i));
    Handle(PutArray{Next(SessionOf(id)), id, On(std::move(devices)), {piece}});
  }

  void ArrayDone(LinkId link, ArrayId id, const absl::Status& status = absl::OkStatus()) {
    proto::ToController message;
    message.mutable_array_done()->set_array(Raw(id));
    *message.mutable_array_done()->mutable_status() = ToProto(status);
    Handle(WorkerFrame{link, message, ""});
  }

  // Compiles a program of one argument and one output over `devices` of the worker at `link`.
  void Compile(ProgramId id, std::vector<int> devices, LinkId link, bool donates = false) {
    std::vector<DeviceId> ids;
    for (int d : devices) ids.push_back(DeviceId{d});
    Handle(CompileProgram{Next(SessionOf(id)), id, "mlir", "code", "options", ids});
    proto::ToController message;
    message.mutable_compiled()->set_program(Raw(id));
    proto::ProgramInfo& info = *message.mutable_compiled()->mutable_info();
    info.set_name("f");
    info.add_parameters();
    info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    info.mutable_outputs(0)->mutable_type()->add_dims(4);
    if (donates) info.add_donated_parameters(0);
    Handle(WorkerFrame{link, message, ""});
  }

  void Launch(ProgramId program, ArrayId argument, ArrayId output) {
    Handle(LaunchProgram{
        .request = Next(SessionOf(output)), .program = program, .arguments = {argument}, .outputs = {output}});
  }

  void LaunchDone(LinkId link, uint64_t number, const absl::Status& status = absl::OkStatus()) {
    proto::ToController message;
    proto::LaunchDone& done = *message.mutable_launches_done()->add_done();
    done.set_number(number);
    done.set_run_us(1000);
    *done.mutable_status() = ToProto(status);
    Handle(WorkerFrame{link, message, ""});
  }

  // The answer to a wait for `id`: UNKNOWN while it is not answered.
  uint64_t Wait(ArrayId id) {
    Handle(WaitReady{Next(SessionOf(id)), {id}});
    return ticket_;
  }
  absl::Status Answer(uint64_t ticket) const {
    const auto found = out_.done.find(ticket);
    return found == out_.done.end() ? absl::UnknownError("not answered") : found->second;
  }

  // Messages of one kind to one link.
  std::vector<proto::ToWorker> Sent(LinkId link, proto::ToWorker::MessageCase kind) {
    std::vector<proto::ToWorker> of_kind;
    for (const proto::ToWorker& m : out_.sent[Raw(link)]) {
      if (m.message_case() == kind) of_kind.push_back(m);
    }
    return of_kind;
  }

  ControllerCore core_;
  Recorder out_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  uint64_t ticket_ = 0;
  uint64_t origin_ = 0;  // of the next requests
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_CORE_TEST_HARNESS_H_
