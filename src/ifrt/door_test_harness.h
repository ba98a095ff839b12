// For tests of the door: the real gRPC service on a unix socket, in front of the real controller core. The cluster is
// scripted: a worker that the test plays, and a data plane that the test moves by hand.
//
//   class MyTest : public DoorTest {};
//   TEST_F(MyTest, ...) {
//     cluster_.Join();
//     Client client(*stub_, GoodMetadata());
//     const uint64_t session = client.Init().session_id();
//     MakeSmall(client, session, 1);
//   }
#ifndef CAUSEWAY_IFRT_DOOR_TEST_HARNESS_H_
#define CAUSEWAY_IFRT_DOOR_TEST_HARNESS_H_

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "controller/cluster.h"
#include "ifrt/door.h"
#include "ifrt/types.h"
#include "ifrt/versions.h"
#include "proto/status.h"
#include "xla/python/ifrt/sharding_serdes.pb.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.grpc.pb.h"
#include "xla/python/pjrt_ifrt/xla_compiler.pb.h"

namespace causeway {

namespace wire = ::xla::ifrt::proxy;

inline constexpr LinkId kLink{1};
inline constexpr absl::Duration kPatience = absl::Seconds(20);

// The core behind its lock, with one worker of two devices that the test plays.
class ScriptedCluster final : public CoreGate, private ControllerActions {
 public:
  explicit ScriptedCluster(const LoadLimits& limits)
      : core_(ControllerOptions{.limits = limits, .scheduling = {.credits = 1000}}) {}

  void Join() {
    proto::ToController message;
    proto::Hello& hello = *message.mutable_hello();
    hello.set_version(kControlVersion);
    hello.set_name("w0");
    hello.set_island("i0");
    hello.set_platform("cpu");
    for (int i = 0; i < 2; ++i) hello.add_devices()->add_memories()->set_kind("device");
    Say(std::move(message));
    (void)Hear(proto::ToWorker::kWelcome);
  }

  void SetDoor(ClientActions* door) {
    MutexLock lock(&mutex_);
    door_ = door;
  }

  void Handle(Event event) override {
    MutexLock lock(&mutex_);
    core_.Handle(std::move(event), absl::Now(), *this);
  }
  void Read(absl::FunctionRef<void(const ControllerCore&)> look) override {
    MutexLock lock(&mutex_);
    look(core_);
  }

  // What the worker says.
  void Say(proto::ToController message) { Handle(WorkerFrame{kLink, std::move(message), "test"}); }

  void Lose() { Handle(LinkClosed{kLink, absl::UnavailableError("it has gone")}); }

  // How many messages of this kind the worker was sent so far.
  int64_t CountSent(proto::ToWorker::MessageCase kind) {
    MutexLock lock(&mutex_);
    return counts_[kind];
  }

  // The next message of this kind to the worker; earlier ones of other kinds are dropped.
  proto::ToWorker Hear(proto::ToWorker::MessageCase kind) {
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (true) {
      while (!sent_.empty()) {
        proto::ToWorker message = std::move(sent_.front());
        sent_.pop_front();
        if (message.message_case() == kind) return message;
      }
      if (absl::Now() > deadline) {
        ADD_FAILURE() << "the worker was not told anything of kind " << kind;
        return {};
      }
      changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(100));
    }
  }

 private:
  void ReplyDone(RequestHeader request, const absl::Status& status) override {
    if (door_ != nullptr) door_->ReplyDone(request, status);
  }
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override {
    if (door_ != nullptr) door_->ReplyCompiled(request, std::move(program));
  }
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override {
    if (door_ != nullptr) door_->ReplyFetched(request, std::move(fetched));
  }
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override {
    if (door_ != nullptr) door_->ReplyQuery(request, std::move(answer));
  }
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override {
    if (door_ != nullptr) door_->WantHostData(session, buffer, worker, stream, total_bytes, in_frame, last);
  }
  void OriginOpened(SessionId session, uint64_t origin) override {
    if (door_ != nullptr) door_->OriginOpened(session, origin);
  }
  void OriginClosed(SessionId session, uint64_t origin, bool failed) override {
    if (door_ != nullptr) door_->OriginClosed(session, origin, failed);
  }
  void Throttle(SessionId session, bool hold) override {
    if (door_ != nullptr) door_->Throttle(session, hold);
  }
  void Send(LinkId, const proto::ToWorker& message) override {
    sent_.push_back(message);
    ++counts_[message.message_case()];
    changed_.SignalAll();
  }
  void CloseLink(LinkId, const absl::Status&) override {}
  void WorkerUp(LinkId, WorkerId, uint64_t, const std::string&) override {}
  void WorkerDown(WorkerId worker, const absl::Status& why) override {
    if (door_ != nullptr) door_->WorkerDown(worker, why);
  }

  Mutex mutex_;
  CondVar changed_;
  ControllerCore core_;
  ClientActions* door_ = nullptr;
  std::deque<proto::ToWorker> sent_;
  std::map<proto::ToWorker::MessageCase, int64_t> counts_;
};

// A data plane whose streams the test moves.
class ScriptedPlane final : public DataPlane {
 public:
  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId, int64_t, int64_t window_bytes, std::shared_ptr<StreamSink> sink) override {
    MutexLock lock(&mutex_);
    sink_ = std::move(sink);
    granted_ += window_bytes;
    changed_.SignalAll();
  }
  void Grant(PeerId, StreamId, int64_t bytes) override {
    MutexLock lock(&mutex_);
    granted_ += bytes;
    changed_.SignalAll();
  }
  void Send(PeerId, StreamId, int64_t, std::shared_ptr<StreamSource> source) override {
    MutexLock lock(&mutex_);
    source_ = std::move(source);
    changed_.SignalAll();
  }
  void SendMessage(PeerId /*peer*/, absl::Span<const absl::Span<const char>> /*parts*/) override {}
  void SetMessageHandler(MessageHandler* /*handler*/) override {}
  void Wake(PeerId, StreamId) override {
    MutexLock lock(&mutex_);
    ++wakes_;
    changed_.SignalAll();
  }
  void Cancel(PeerId, StreamId, absl::Status status) override {
    MutexLock lock(&mutex_);
    cancelled_ = status;
    changed_.SignalAll();
  }

  std::shared_ptr<StreamSource> WaitForSource() {
    Await([this] { return source_ != nullptr; });
    return source_;
  }
  std::shared_ptr<StreamSink> WaitForSink() {
    Await([this] { return sink_ != nullptr; });
    return sink_;
  }
  void WaitForGrant(int64_t bytes) {
    Await([this, bytes] { return granted_ >= bytes; });
  }
  absl::Status WaitForCancel() {
    Await([this] { return !cancelled_.ok(); });
    return cancelled_;
  }

  // All bytes of a source, as they come.
  std::string Drain(StreamSource& source, int64_t total) {
    std::string all;
    while (static_cast<int64_t>(all.size()) < total) {
      const int seen = [this] {
        MutexLock lock(&mutex_);
        return wakes_;
      }();
      const auto part = source.Read(all.size(), total);
      all.append(part.data(), part.size());
      if (part.empty() && !Await([this, seen] { return wakes_ > seen; })) break;
    }
    return all;
  }

 private:
  bool Await(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (!condition()) {
      if (absl::Now() > deadline) {
        ADD_FAILURE() << "nothing came";
        return false;
      }
      changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(100));
    }
    return true;
  }

  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<StreamSource> source_;
  std::shared_ptr<StreamSink> sink_;
  int64_t granted_ = 0;
  int wakes_ = 0;
  absl::Status cancelled_;
};

inline wire::GrpcIfrtSessionMetadata GoodMetadata() {
  wire::GrpcIfrtSessionMetadata metadata;
  metadata.mutable_version()->set_protocol_version(kMaxProtocolVersion);
  metadata.mutable_version()->set_ifrt_serdes_version_number(kMaxSerdesVersion);
  return metadata;
}

// One client's session stream.
class Client {
 public:
  Client(wire::GrpcIfrtService::Stub& stub, const wire::GrpcIfrtSessionMetadata& metadata) {
    context_.AddMetadata("ifrt-proxy-grpc-ifrt-session-metadata-bin", metadata.SerializeAsString());
    stream_ = stub.IfrtSession(&context_);
  }
  ~Client() {
    if (ended_) return;
    context_.TryCancel();
    (void)stream_->Finish();
  }

  // Sends `request` and returns its op id.
  uint64_t Send(wire::IfrtRequest request, uint64_t user_context = 0) {
    request.mutable_request_metadata()->set_op_id(++last_op_);
    request.mutable_request_metadata()->set_user_context_id(user_context);
    EXPECT_TRUE(stream_->Write(request));
    return last_op_;
  }

  // The response to `op`; others that come first are kept.
  wire::IfrtResponse Receive(uint64_t op) {
    while (!received_.contains(op)) {
      wire::IfrtResponse response;
      if (!stream_->Read(&response)) {
        ADD_FAILURE() << "the stream ended before op " << op << " was answered";
        return response;
      }
      received_[response.response_metadata().op_id()] = response;
    }
    return received_.at(op);
  }

  wire::IfrtResponse Call(const wire::IfrtRequest& request, uint64_t user_context = 0) {
    return Receive(Send(request, user_context));
  }

  wire::InitResponse Init() {
    wire::IfrtRequest request;
    request.mutable_init_request();
    return Call(request).init_response();
  }

  // How the stream ends, once it does.
  grpc::Status End() {
    wire::IfrtResponse response;
    while (stream_->Read(&response)) {
    }
    ended_ = true;
    return stream_->Finish();
  }

  // Sends without expecting to go on. For one thread at a time, as Send; while another one may receive.
  bool Write(wire::IfrtRequest request) {
    request.mutable_request_metadata()->set_op_id(++last_op_);
    return stream_->Write(request);
  }

  // The next response, whatever it answers. False: there is none.
  bool Read(wire::IfrtResponse* response) { return stream_->Read(response); }

  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriterInterface<wire::IfrtRequest, wire::IfrtResponse>> stream_;
  bool ended_ = false;
  uint64_t last_op_ = 0;
  std::map<uint64_t, wire::IfrtResponse> received_;
};

inline wire::IfrtRequest MakeArray(uint64_t handle, std::vector<int64_t> dims) {
  wire::IfrtRequest request;
  auto& r = *request.mutable_make_array_from_host_buffer_request();
  *r.mutable_dtype() = DTypeToWire(DType::kF32);
  *r.mutable_shape() = DimsToWire(dims);
  xla::ifrt::SingleDeviceShardingProto sharding;
  sharding.set_device_id(0);
  r.mutable_sharding()->mutable_serialized_sharding()->set_type_name("xla::ifrt::SingleDeviceSharding");
  r.mutable_sharding()->mutable_serialized_sharding()->set_data(sharding.SerializeAsString());
  r.set_host_buffer_handle(handle);
  r.set_array_handle(handle);
  return request;
}

inline wire::IfrtRequest CheckReady(uint64_t handle) {
  wire::IfrtRequest request;
  request.mutable_check_value_ready_request()->add_value_handles(handle);
  return request;
}

class DoorTest : public ::testing::Test {
 protected:
  explicit DoorTest(IfrtDoorOptions options = {}, const LoadLimits& limits = {})
      : cluster_(limits), door_(cluster_, plane_, std::move(options)) {
    std::string name = ::testing::TempDir() + "/doorXXXXXX";
    directory_ = mkdtemp(name.data());
    cluster_.SetDoor(&door_);
    const auto bound = door_.Start({"unix:" + directory_ + "/s", "127.0.0.1:0"});
    EXPECT_TRUE(bound.ok()) << bound.status();
    bound_ = *bound;
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(bound_[0], grpc::InsecureChannelCredentials(), arguments);
    stub_ = wire::GrpcIfrtService::NewStub(channel_);
  }
  ~DoorTest() override {
    door_.Stop();
    cluster_.SetDoor(nullptr);
    std::filesystem::remove_all(directory_);
  }

  // The worker has made the array of this handle of the first session, or has not.
  void ReportMade(uint64_t handle, const absl::Status& status = absl::OkStatus()) {
    proto::ToController message;
    message.mutable_array_done()->set_array(Raw(MakeArrayId(SessionId{1}, handle)));
    *message.mutable_array_done()->mutable_status() = ToProto(status);
    cluster_.Say(std::move(message));
  }

  grpc::Status Store(uint64_t session, uint64_t handle, const std::string& data, int64_t announced = -1) {
    wire::GrpcHostBufferStoreMetadata metadata;
    metadata.set_session_id(session);
    metadata.set_handle(handle);
    metadata.set_buffer_size(announced < 0 ? static_cast<int64_t>(data.size()) : announced);
    grpc::ClientContext context;
    context.AddMetadata("ifrt-proxy-grpc-host-buffer-store-metadata-bin", metadata.SerializeAsString());
    wire::GrpcHostBufferStoreResponse response;
    auto writer = stub_->HostBufferStore(&context, &response);
    for (size_t at = 0; at < data.size(); at += 1 << 20) {
      wire::GrpcHostBufferStoreRequest request;
      request.set_data(data.substr(at, 1 << 20));
      if (!writer->Write(request)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  std::pair<grpc::Status, std::string> Lookup(uint64_t session, uint64_t handle) {
    wire::GrpcHostBufferLookupRequest request;
    request.set_session_id(session);
    request.set_handle(handle);
    grpc::ClientContext context;
    auto reader = stub_->HostBufferLookup(&context, request);
    std::string data;
    wire::GrpcHostBufferLookupResponse response;
    while (reader->Read(&response)) data += response.data();
    return {reader->Finish(), data};
  }

  // Makes array `handle` of four floats on device 0.
  void MakeSmall(Client& client, uint64_t session, uint64_t handle) {
    ASSERT_TRUE(Store(session, handle, std::string(16, 'x')).ok());
    EXPECT_TRUE(client.Call(MakeArray(handle, {4})).has_make_array_from_host_buffer_response());
    proto::ToController done;
    done.mutable_array_done()->set_array(cluster_.Hear(proto::ToWorker::kPut).put().array());
    cluster_.Say(done);
  }

  // Compiles a program of one argument and one output on device 0, whose worker says what `info` says.
  uint64_t Compile(Client& client) {
    wire::IfrtRequest request;
    request.mutable_compile_request()->mutable_program()->set_type_name("xla::ifrt::XlaProgram");
    request.mutable_compile_request()->mutable_program()->set_data("code");
    xla::ifrt::XlaCompileOptionsProto options;
    auto& assignment =
        *options.mutable_compile_options()->mutable_executable_build_options()->mutable_device_assignment();
    assignment.add_computation_devices()->add_replica_device_ids(0);
    request.mutable_compile_request()->mutable_compile_options()->set_data(options.SerializeAsString());
    const uint64_t op = client.Send(request);
    const proto::Compile told = cluster_.Hear(proto::ToWorker::kCompile).compile();
    EXPECT_EQ(told.code(), "code");
    EXPECT_EQ(told.format(), "mlir");
    proto::ToController compiled;
    compiled.mutable_compiled()->set_program(told.program());
    proto::ProgramInfo& info = *compiled.mutable_compiled()->mutable_info();
    info.set_name("f");
    info.add_parameters();
    info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    info.mutable_outputs(0)->mutable_type()->add_dims(4);
    info.mutable_outputs(0)->set_memory_kind("device");
    info.add_donated_parameters(0);
    cluster_.Say(compiled);
    const wire::IfrtResponse response = client.Receive(op);
    EXPECT_EQ(response.compile_response().name(), "f");
    EXPECT_THAT(response.compile_response().device_ids(), ::testing::ElementsAre(0));
    return response.compile_response().loaded_executable_handle();
  }

  void WaitForSessions(int count) {
    for (int i = 0; i < 2000 && door_.session_count() != count; ++i) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_EQ(door_.session_count(), count);
  }

  ScriptedCluster cluster_;
  ScriptedPlane plane_;
  IfrtDoor door_;
  std::string directory_;
  std::vector<std::string> bound_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<wire::GrpcIfrtService::Stub> stub_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DOOR_TEST_HARNESS_H_
