// For tests of the worker core: an actor that notes what the core wants done, and checks that it never wants nonsense.
//
//   Harness h(/*devices=*/2);
//   h.Compile(kProgram, {0});                        // and the compiler is through at once
//   h.Launch(1, kProgram, {}, {kX});
//   h.Return(h.executes.back(), 16);  h.Finish(h.executes.back());
//   EXPECT_THAT(h.Done(), ...);
//
// Every key is followed from birth to end: a key that is used before it exists or after it was dropped fails the test.
#ifndef CAUSEWAY_WORKER_CORE_TEST_HARNESS_H_
#define CAUSEWAY_WORKER_CORE_TEST_HARNESS_H_

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "worker/context.h"
#include "worker/core.h"

namespace causeway::worker {

inline constexpr SessionId kSession{1};
inline constexpr SessionId kOtherSession{2};

constexpr uint64_t Array(int n, SessionId session = kSession) { return Raw(MakeArrayId(session, n)); }
constexpr uint64_t ProgramNumber(int n, SessionId session = kSession) { return Raw(MakeProgramId(session, n)); }

class Harness : public WorkerActions {
 public:
  struct Compiling {
    ProgramKey program;
    CompileRequest request;
    std::optional<GangProgram> gang = std::nullopt;
  };
  struct Made {
    BufferKey buffer;
    std::optional<HostKey> host;      // made from it
    std::optional<BufferKey> source;  // or copied from it
    int device;
  };
  struct ReadingBack {
    HostKey host;
    BufferKey buffer;
    std::vector<int64_t> byte_strides;
  };
  struct Piece {
    PieceKey piece;
    HostKey source;
    HostKey target;
    int64_t bytes;
  };
  struct Stream {
    StreamKey stream;
    PeerId peer;
    StreamId id;
    HostKey host;
    int64_t bytes;
  };
  struct Refusal {
    PeerId peer;
    StreamId id;
    absl::Status status;
  };

  explicit Harness(int devices, int64_t staging_bytes = 1 << 30, bool link = true, int gangs_ahead = 1)
      : core_(CoreOptions{staging_bytes, gangs_ahead}, Hello(devices)) {
    if (!link) return;
    Do(LinkUp{});
    proto::ToWorker welcome;
    welcome.mutable_welcome()->set_worker(0);
    Frame(welcome);
    sent.clear();
  }

  static proto::Hello Hello(int devices) {
    proto::Hello hello;
    hello.set_name("test");
    for (int i = 0; i < devices; ++i) hello.add_devices();
    return hello;
  }

  // ---- events

  void Do(Event event) { core_.Handle(std::move(event), now, *this); }

  void Frame(proto::ToWorker message) { Do(FrameIn{std::move(message)}); }

  void StartCompile(uint64_t program, const std::vector<int>& devices) {
    proto::ToWorker message;
    message.mutable_compile()->set_program(program);
    for (int device : devices) message.mutable_compile()->add_devices(device);
    Frame(message);
  }

  void Compile(uint64_t program, const std::vector<int>& devices, const proto::ProgramInfo& info = {}) {
    StartCompile(program, devices);
    Do(CompileDone{compiles.back().program, info, absl::ZeroDuration()});
    sent.pop_back();
  }

  void Launch(uint64_t number, uint64_t program, const std::vector<uint64_t>& arguments,
              const std::vector<uint64_t>& outputs, const std::vector<int>& non_donatable = {}, uint64_t origin = 0) {
    proto::ToWorker message;
    proto::Launch& launch = *message.mutable_launch();
    launch.set_number(number);
    launch.set_program(program);
    for (uint64_t a : arguments) launch.add_arguments(a);
    for (uint64_t a : outputs) launch.add_outputs(a);
    for (int p : non_donatable) launch.add_non_donatable(p);
    launch.set_origin(origin);
    Frame(message);
  }

  void Return(const ExecuteRequest& request, int64_t bytes_each, std::optional<absl::Status> finished = std::nullopt) {
    Do(ExecuteReturned{request.launch, std::vector<int64_t>(request.outputs.size(), bytes_each), finished});
  }
  void Finish(const ExecuteRequest& request, absl::Status status = absl::OkStatus()) {
    Do(LaunchFinished{request.launch, std::move(status)});
  }

  // A float vector of `elements` on each (shard, device).
  static proto::Put PutMessage(uint64_t array, const std::vector<std::pair<int, int>>& shards, int64_t elements) {
    proto::Put put;
    put.set_array(array);
    for (auto [index, device] : shards) {
      proto::Shard& shard = *put.add_shards();
      shard.set_index(index);
      shard.set_device(device);
    }
    put.mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    put.mutable_type()->add_dims(elements);
    return put;
  }

  void Put(uint64_t array, const std::vector<std::pair<int, int>>& shards, int64_t elements = 4) {
    proto::ToWorker message;
    *message.mutable_put() = PutMessage(array, shards, elements);
    message.mutable_put()->set_data(std::string(elements * 4, 'x'));
    Frame(message);
  }

  void Receive(uint64_t array, uint64_t stream, int64_t elements) {
    proto::ToWorker message;
    *message.mutable_receive_host()->mutable_put() = PutMessage(array, {{0, 0}}, elements);
    message.mutable_receive_host()->set_stream(stream);
    message.mutable_receive_host()->set_total_bytes(elements * 4);
    Frame(message);
  }

  // The device runtime has made the buffer, and it is ready.
  void MakeReady(const Made& made, int64_t bytes) {
    const BufferKey key = made.buffer;
    Do(BufferMade{key, bytes});
    Do(BufferReady{key, absl::OkStatus()});
  }

  // An array of one shard on device 0, there and ready.
  void PutReady(uint64_t array, int64_t elements = 4, int device = 0) {
    Put(array, {{0, device}}, elements);
    MakeReady(made.back(), elements * 4);
    made.pop_back();
    sent.clear();
  }

  void Fetch(uint64_t fetch, uint64_t array, int shard, uint64_t stream, const std::vector<int64_t>& strides = {}) {
    proto::ToWorker message;
    message.mutable_fetch()->set_fetch(fetch);
    message.mutable_fetch()->set_array(array);
    message.mutable_fetch()->set_shard(shard);
    message.mutable_fetch()->set_stream(stream);
    for (int64_t s : strides) message.mutable_fetch()->add_byte_strides(s);
    Frame(message);
  }

  void Delete(const std::vector<uint64_t>& arrays) {
    proto::ToWorker message;
    for (uint64_t a : arrays) message.mutable_delete_()->add_arrays(a);
    Frame(message);
  }

  void Alias(uint64_t array, int shard, uint64_t source, int source_shard) {
    proto::ToWorker message;
    proto::Alias::Entry& entry = *message.mutable_alias()->add_entries();
    entry.set_array(array);
    entry.set_shard(shard);
    entry.set_source_array(source);
    entry.set_source_shard(source_shard);
    Frame(message);
  }

  void Fail(uint64_t array, const absl::Status& status) {
    proto::ToWorker message;
    message.mutable_fail()->set_array(array);
    *message.mutable_fail()->mutable_status() = ToProto(status);
    Frame(message);
  }

  void DropSession(SessionId session) {
    proto::ToWorker message;
    message.mutable_drop_session()->set_session(Raw(session));
    Frame(message);
  }

  void DropProgramNamed(uint64_t program) {
    proto::ToWorker message;
    message.mutable_drop_programs()->add_programs(program);
    Frame(message);
  }

  proto::Pong Ping() {
    proto::ToWorker message;
    message.mutable_ping()->set_number(7);
    Frame(message);
    const proto::Pong pong = sent.back().pong();
    sent.pop_back();
    return pong;
  }

  // ---- what was reported

  // Launches reported done since the last call, by number.
  std::map<uint64_t, absl::Status> Done() {
    std::map<uint64_t, absl::Status> done;
    for (const proto::ToController& message : std::exchange(sent, {})) {
      for (const proto::LaunchDone& launch : message.launches_done().done()) {
        EXPECT_TRUE(done.emplace(launch.number(), FromProto(launch.status())).second) << "reported twice";
      }
    }
    return done;
  }

  // The one report since the last look.
  proto::ToController Only() {
    EXPECT_EQ(sent.size(), 1u);
    proto::ToController only = sent.empty() ? proto::ToController() : sent.front();
    sent.clear();
    return only;
  }

  // ---- what the core did

  void Send(const proto::ToController& message) override { sent.push_back(message); }
  void SendFetched(proto::FetchDone done, HostKey data) override {
    EXPECT_TRUE(hosts.contains(data));
    proto::ToController message;
    *message.mutable_fetch_done() = std::move(done);
    message.mutable_fetch_done()->set_data("bytes");
    sent.push_back(message);
  }
  void SetSelf(WorkerId self) override { net.push_back("self " + std::to_string(Raw(self))); }
  void SetPeer(PeerId peer, const std::string& address, uint64_t key) override {
    net.push_back("set " + std::to_string(static_cast<int>(peer)) + " " + address + " " + std::to_string(key));
  }
  void DropPeer(PeerId peer) override { net.push_back("drop " + std::to_string(static_cast<int>(peer))); }
  void CompileGang(ProgramKey program, GangProgram request) override {
    programs.insert(program);
    compiles.push_back({program, request.compile, std::move(request)});
  }
  void AnnounceGang(uint64_t launch, std::shared_ptr<const collectives::Gang>) override { announced.push_back(launch); }
  void AbortGang(uint64_t launch, const absl::Status& why) override { aborted.emplace_back(launch, why); }
  collectives::Traffic EndGang(uint64_t launch) override {
    ended.push_back(launch);
    return {.worker_bytes = 8, .island_bytes = 4};
  }
  void Compile(ProgramKey program, CompileRequest request) override {
    programs.insert(program);
    compiles.push_back({program, std::move(request)});
  }
  void DropProgram(ProgramKey program) override { programs.erase(program); }
  void Execute(ExecuteRequest request) override {
    EXPECT_TRUE(programs.contains(request.program));
    for (BufferKey argument : request.arguments) EXPECT_FALSE(dropped.contains(argument));
    executes.push_back(std::move(request));
  }
  void Ask(Life, const proto::Query& query, std::optional<ProgramKey>) override { asked.push_back(query); }
  void BufferFromHost(BufferKey buffer, HostKey host, const HostShape&, int device, const std::string&,
                      const std::string&) override {
    EXPECT_TRUE(hosts.contains(host));
    made.push_back({buffer, host, std::nullopt, device});
  }
  void BufferFromBuffer(BufferKey buffer, BufferKey source, int device, const std::string&) override {
    EXPECT_FALSE(dropped.contains(source));
    made.push_back({buffer, std::nullopt, source, device});
  }
  void DropBuffer(BufferKey buffer) override { EXPECT_TRUE(dropped.insert(buffer).second) << "dropped twice"; }
  void AdoptHost(HostKey host, std::string) override { EXPECT_TRUE(hosts.insert(host).second); }
  void AllocateHost(HostKey host, int64_t bytes) override {
    EXPECT_TRUE(hosts.insert(host).second);
    allocated[host] = bytes;
  }
  void DropHost(HostKey host) override { hosts.erase(host); }
  void View(HostKey host, BufferKey buffer) override {
    EXPECT_FALSE(dropped.contains(buffer));
    hosts.insert(host);
    views.emplace_back(host, buffer);
  }
  void ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) override {
    EXPECT_TRUE(hosts.contains(host));
    EXPECT_FALSE(dropped.contains(buffer));
    read_backs.push_back({host, buffer, byte_strides});
  }
  void CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target, const ByteRuns& to) override {
    EXPECT_TRUE(hosts.contains(source));
    EXPECT_TRUE(hosts.contains(target));
    EXPECT_EQ(from.total_bytes(), to.total_bytes());
    pieces.push_back({piece, source, target, to.total_bytes()});
  }
  void Receive(StreamKey stream, PeerId peer, StreamId id, HostKey target, const ByteRuns& place) override {
    EXPECT_TRUE(hosts.contains(target));
    EXPECT_LE(place.memory_bytes(), allocated.at(target));
    receives.push_back({stream, peer, id, target, place.total_bytes()});
  }
  void SendStream(StreamKey stream, PeerId peer, StreamId id, HostKey source, const ByteRuns& place) override {
    EXPECT_TRUE(hosts.contains(source));
    sends.push_back({stream, peer, id, source, place.total_bytes()});
  }
  void CancelStream(StreamKey stream, const absl::Status& status) override { cancels.emplace_back(stream, status); }
  void RefuseToSend(PeerId peer, StreamId id, int64_t, const absl::Status& status) override {
    send_refusals.push_back({peer, id, status});
  }
  void RefuseToReceive(PeerId peer, StreamId id, int64_t, const absl::Status& status) override {
    receive_refusals.push_back({peer, id, status});
  }

  absl::Time now = absl::UnixEpoch();
  std::vector<proto::ToController> sent;
  std::vector<std::string> net;
  std::vector<uint64_t> announced;  // launches of gangs
  std::vector<std::pair<uint64_t, absl::Status>> aborted;
  std::vector<uint64_t> ended;
  std::vector<Compiling> compiles;
  std::vector<ExecuteRequest> executes;
  std::vector<proto::Query> asked;
  std::vector<Made> made;
  std::vector<std::pair<HostKey, BufferKey>> views;
  std::vector<ReadingBack> read_backs;
  std::vector<Piece> pieces;
  std::vector<Stream> receives;
  std::vector<Stream> sends;
  std::vector<std::pair<StreamKey, absl::Status>> cancels;
  std::vector<Refusal> send_refusals;
  std::vector<Refusal> receive_refusals;
  std::set<ProgramKey> programs;  // compiling or compiled, and not dropped
  std::set<HostKey> hosts;        // there
  std::set<BufferKey> dropped;
  std::map<HostKey, int64_t> allocated;

 private:
  WorkerCore core_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_CORE_TEST_HARNESS_H_
