// A whole worker, with real links and streams and fake devices, against a controller played by the test.
#include "worker/shell.h"
#include "proto/control_version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <deque>
#include <functional>
#include <future>
#include <numeric>

#include "base/limits.h"
#include "net/io_thread.h"
#include "net/socket_data_plane.h"
#include "net/tcp_link.h"
#include "worker/context.h"
#include "worker/fake_runtime.h"
#include "worker/host_streams.h"

namespace causeway::worker {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kProgram = Raw(MakeProgramId(SessionId{1}, 1));
constexpr uint64_t kKey = 42;

constexpr uint64_t Array(int n) { return Raw(MakeArrayId(SessionId{1}, n)); }

std::string Floats(int first, int count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), static_cast<float>(first));
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

// One worker's connection, as its controller sees it.
class Conversation final : public LinkHandler {
 public:
  explicit Conversation(std::unique_ptr<Link> link) : link_(std::move(link)) { link_->Start(this); }
  ~Conversation() override {
    link_->Close(absl::CancelledError("the test ends"));
    MutexLock lock(&mu_);
    while (!closed_) changed_.Wait(&mu_);
  }

  void Send(const proto::ToWorker& message) { link_->Send(message.SerializeAsString()); }
  Link& link() { return *link_; }

  // The next message that is not a reply to nobody: blocks until it is there.
  proto::ToController Next() {
    MutexLock lock(&mu_);
    while (frames_.empty() && !closed_) changed_.Wait(&mu_);
    if (frames_.empty()) {
      ADD_FAILURE() << "the worker has left";
      return {};
    }
    proto::ToController message = std::move(frames_.front());
    frames_.pop_front();
    return message;
  }

  void WaitClosed() {
    MutexLock lock(&mu_);
    while (!closed_) changed_.Wait(&mu_);
  }

 private:
  void OnFrame(std::string frame) override {
    proto::ToController message;
    EXPECT_TRUE(message.ParseFromString(frame));
    MutexLock lock(&mu_);
    frames_.push_back(std::move(message));
    changed_.SignalAll();
  }
  void OnClosed(absl::Status) override {
    MutexLock lock(&mu_);
    closed_ = true;
    changed_.SignalAll();
  }

  const std::unique_ptr<Link> link_;
  Mutex mu_;
  CondVar changed_;
  std::deque<proto::ToController> frames_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

// The controller's process: a door for links, and a data plane.
class FakeController {
 public:
  FakeController() {
    listener_ = *LinkListener::Listen(&io_, "127.0.0.1:0", [this](std::unique_ptr<Link> link) {
      MutexLock lock(&mu_);
      links_.push_back(std::move(link));
      changed_.SignalAll();
    });
    plane_ = *SocketDataPlane::Start({});
  }
  ~FakeController() { listener_.reset(); }

  const std::string& address() const { return listener_->address(); }
  SocketDataPlane& plane() { return *plane_; }

  // The next worker that comes, and the Hello it says.
  std::unique_ptr<Conversation> Accept(proto::Hello* hello = nullptr) {
    std::unique_ptr<Link> link;
    {
      MutexLock lock(&mu_);
      while (links_.empty()) changed_.Wait(&mu_);
      link = std::move(links_.front());
      links_.pop_front();
    }
    auto conversation = std::make_unique<Conversation>(std::move(link));
    const proto::ToController first = conversation->Next();
    EXPECT_TRUE(first.has_hello());
    if (hello != nullptr) *hello = first.hello();
    return conversation;
  }

  // As Accept, and welcomes it as worker `id`.
  std::unique_ptr<Conversation> Welcome(int id, proto::Hello* hello_out = nullptr, int64_t timeout_ms = 60000) {
    proto::Hello hello;
    std::unique_ptr<Conversation> conversation = Accept(&hello);
    plane_->SetPeer(PeerOf(WorkerId{id}), hello.data_address(), kKey + id);
    proto::ToWorker message;
    proto::Welcome& welcome = *message.mutable_welcome();
    welcome.set_worker(id);
    welcome.set_data_address(plane_->listen_address());
    welcome.set_data_key(kKey + id);
    welcome.set_heartbeat_timeout_ms(timeout_ms);
    conversation->link().SetMaxFrameBytes(kMaxControlFrameBytes);
    conversation->Send(message);
    if (hello_out != nullptr) *hello_out = hello;
    return conversation;
  }

 private:
  IoThread io_{"controller"};
  Mutex mu_;
  CondVar changed_;
  std::deque<std::unique_ptr<Link>> links_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<LinkListener> listener_;
  std::unique_ptr<SocketDataPlane> plane_;
};

// A worker's process.
class WorkerProcess {
 public:
  explicit WorkerProcess(FakeController& controller, FakeRuntimeOptions devices = {},
                         absl::Duration old_work_patience = absl::Seconds(20))
      : runtime_(devices) {
    plane_ = *SocketDataPlane::Start({});
    ShellOptions options;
    options.name = "w";
    options.island = "i";
    options.data_address = plane_->listen_address();
    options.on_identity = [this](WorkerId self) { plane_->SetSelf(PeerOf(self)); };
    options.link.controller = controller.address();
    options.link.min_delay = absl::Milliseconds(5);
    options.link.max_delay = absl::Milliseconds(20);
    options.link.old_work_patience = old_work_patience;
    options.start_anew = [this] { ++started_anew_; };
    shell_ = std::make_unique<WorkerShell>(
        runtime_, *plane_,
        [this, address = controller.address()](auto done) { DialLink(&io_, address, absl::Seconds(5), done); }, clock_,
        options);
  }

  // Leaves the cluster.
  void Stop() { shell_.reset(); }

  int started_anew() const { return started_anew_; }

 private:
  std::atomic<int> started_anew_ = 0;
  RealClock clock_;
  FakeRuntime runtime_;
  std::unique_ptr<SocketDataPlane> plane_;
  IoThread io_{"worker"};
  std::unique_ptr<WorkerShell> shell_;
};

proto::ToWorker PutMessage(uint64_t array, const std::vector<int64_t>& dims, std::string data, int device = 0) {
  proto::ToWorker message;
  proto::Put& put = *message.mutable_put();
  put.set_array(array);
  put.add_shards()->set_device(device);
  put.mutable_type()->set_dtype(static_cast<int>(DType::kF32));
  for (int64_t d : dims) put.mutable_type()->add_dims(d);
  put.set_data(std::move(data));
  return message;
}

proto::ToWorker CompileMessage(const std::vector<int>& devices) {
  proto::ToWorker message;
  message.mutable_compile()->set_program(kProgram);
  message.mutable_compile()->set_code("copy");
  for (int device : devices) message.mutable_compile()->add_devices(device);
  return message;
}

proto::ToWorker LaunchMessage(uint64_t number, uint64_t argument, uint64_t output) {
  proto::ToWorker message;
  message.mutable_launch()->set_number(number);
  message.mutable_launch()->set_program(kProgram);
  message.mutable_launch()->add_arguments(argument);
  message.mutable_launch()->add_outputs(output);
  return message;
}

proto::ToWorker FetchMessage(uint64_t array, uint64_t stream = 0) {
  proto::ToWorker message;
  message.mutable_fetch()->set_array(array);
  message.mutable_fetch()->set_stream(stream);
  return message;
}

proto::Pong Ping(Conversation& worker) {
  proto::ToWorker message;
  message.mutable_ping();
  worker.Send(message);
  return worker.Next().pong();
}

// Takes a stream into memory; get() waits for it.
std::future<std::string> Take(DataPlane& plane, PeerId peer, StreamId id, int64_t bytes) {
  const auto block = HostBlock::Allocate(bytes);
  const auto result = std::make_shared<std::promise<std::string>>();
  std::future<std::string> future = result->get_future();
  plane.Receive(peer, id, bytes, bytes,
                MakeHostSink(block, ByteRuns::Whole(bytes), [block, result](absl::Status status) {
                  EXPECT_TRUE(status.ok()) << status;
                  result->set_value(std::string(block->bytes.data(), block->bytes.size()));
                }));
  return future;
}

TEST(WorkerShell, SaysWhoItIsAndAnswersPings) {
  FakeController controller;
  const WorkerProcess process(controller, {.devices = 3});
  proto::Hello hello;
  const auto worker = controller.Welcome(0, &hello);
  EXPECT_EQ(hello.name(), "w");
  EXPECT_EQ(hello.island(), "i");
  EXPECT_EQ(hello.version(), kControlVersion);
  EXPECT_EQ(hello.platform(), "fake");
  EXPECT_EQ(hello.devices_size(), 3);
  EXPECT_GT(hello.pid(), 0);
  EXPECT_EQ(Ping(*worker).device_bytes_size(), 3);
}

TEST(WorkerShell, RunsAProgramOnWhatWasPut) {
  for (const bool host_sees_devices : {true, false}) {
    for (const absl::Duration launch_time : {absl::ZeroDuration(), absl::Milliseconds(2)}) {
      FakeController controller;
      const WorkerProcess process(controller, {1, host_sees_devices, launch_time});
      const auto worker = controller.Welcome(0);
      worker->Send(CompileMessage({0}));
      EXPECT_EQ(worker->Next().compiled().info().name(), "copy");
      worker->Send(PutMessage(Array(1), {4}, Floats(7, 4)));
      EXPECT_EQ(worker->Next().array_done().array(), Array(1));
      constexpr int kLaunches = 20;
      for (int i = 1; i <= kLaunches; ++i) worker->Send(LaunchMessage(i, Array(i), Array(i + 1)));
      worker->Send(FetchMessage(Array(kLaunches + 1)));
      int done = 0;
      proto::ToController message;
      while (!message.has_fetch_done()) {
        message = worker->Next();
        done += message.launches_done().done_size();
      }
      EXPECT_EQ(message.fetch_done().data(), Floats(7, 4));
      while (done < kLaunches) done += worker->Next().launches_done().done_size();
      EXPECT_EQ(Ping(*worker).device_bytes(0), (kLaunches + 1) * 16);
    }
  }
}

TEST(WorkerShell, WhatThePluginRefusesIsReported) {
  FakeController controller;
  const WorkerProcess process(controller);
  const auto worker = controller.Welcome(0);
  proto::ToWorker message = CompileMessage({0});
  message.mutable_compile()->set_code("nonsense");
  worker->Send(message);
  EXPECT_EQ(worker->Next().compiled().status().message(), "no such program");
  worker->Send(LaunchMessage(1, Array(1), Array(2)));
  EXPECT_EQ(worker->Next().launches_done().done(0).status().message(), "no such program");
}

TEST(WorkerShell, LargeDataComeAndGoByTheDataPlane) {
  FakeController controller;
  const WorkerProcess process(controller);
  const auto worker = controller.Welcome(0);
  constexpr int kElements = 3 << 20;
  const std::string data = Floats(0, kElements);
  const int64_t bytes = static_cast<int64_t>(data.size());

  proto::ToWorker message;
  *message.mutable_receive_host()->mutable_put() = PutMessage(Array(1), {kElements}, "").put();
  message.mutable_receive_host()->set_stream(5);
  message.mutable_receive_host()->set_total_bytes(bytes);
  worker->Send(message);
  controller.plane().Send(PeerOf(WorkerId{0}), StreamId{5}, bytes,
                          MakeHostSource(HostBlock::Adopt(data), ByteRuns::Whole(bytes), [](absl::Status) {}));
  EXPECT_EQ(worker->Next().array_done().status().message(), "");

  worker->Send(FetchMessage(Array(1), /*stream=*/6));
  EXPECT_EQ(worker->Next().fetch_done().total_bytes(), bytes);
  EXPECT_TRUE(Take(controller.plane(), PeerOf(WorkerId{0}), StreamId{6}, bytes).get() == data);
}

TEST(WorkerShell, BetweenStridedBytesAreZerosNotOldMemory) {
  mallopt(M_PERTURB, 0x5a);  // new memory is full of what nobody wrote
  FakeController controller;
  const WorkerProcess process(controller);
  const auto worker = controller.Welcome(0);
  worker->Send(PutMessage(Array(1), {2}, Floats(1, 2)));
  worker->Next();
  proto::ToWorker message = FetchMessage(Array(1));
  message.mutable_fetch()->add_byte_strides(12);
  worker->Send(message);
  EXPECT_EQ(worker->Next().fetch_done().data(), Floats(1, 1) + std::string(8, '\0') + Floats(2, 1));
  mallopt(M_PERTURB, 0);
}

// Two workers that know each other.
class TwoWorkers : public testing::Test {
 protected:
  TwoWorkers() {
    proto::Hello hello[2];
    process_[0] = std::make_unique<WorkerProcess>(controller_);
    worker_[0] = controller_.Welcome(0, &hello[0]);
    process_[1] = std::make_unique<WorkerProcess>(controller_, FakeRuntimeOptions{.host_sees_devices = false});
    worker_[1] = controller_.Welcome(1, &hello[1]);
    proto::ToWorker peers;
    for (int i = 0; i < 2; ++i) {
      proto::Peers::Peer& peer = *peers.mutable_peers()->add_peers();
      peer.set_worker(i);
      peer.set_data_address(hello[i].data_address());
      peer.set_data_key(kKey);
    }
    worker_[0]->Send(peers);
    worker_[1]->Send(peers);
  }

  // Columns [0, 2) of the [4, 6] array 1 of worker `from` become columns [1, 3) of array 2, [4, 3], of the other
  // worker; its column 0 comes from its own array 1, [4, 1].
  void Copy(int from) {
    const int to = 1 - from;
    proto::ToWorker message;
    proto::Copy& copy = *message.mutable_copy();
    copy.set_array(Array(2));
    copy.mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    const auto box = [](proto::Box& b, int64_t row, int64_t column, int64_t rows, int64_t columns) {
      b.add_start(row);
      b.add_start(column);
      b.add_size(rows);
      b.add_size(columns);
    };
    proto::Copy::Part& remote = *copy.add_parts();
    remote.set_source_array(Array(1));
    remote.set_source_worker(from);
    remote.set_target_worker(to);
    remote.set_stream(7);
    remote.set_bytes(4 * 2 * 4);
    box(*remote.mutable_source_box(), 0, 0, 4, 2);
    box(*remote.mutable_target_box(), 0, 1, 4, 2);
    worker_[from]->Send(message);
    proto::Copy::Part& local = *copy.add_parts();
    local.set_source_array(Array(1));
    local.set_source_worker(to);
    local.set_target_worker(to);
    local.set_bytes(4 * 4);
    box(*local.mutable_target_box(), 0, 0, 4, 1);
    proto::Copy::Made& made = *copy.add_made();
    made.mutable_shard();
    made.add_dims(4);
    made.add_dims(3);
    made.set_part_count(2);
    worker_[to]->Send(message);
  }

  FakeController controller_;
  std::unique_ptr<WorkerProcess> process_[2];
  std::unique_ptr<Conversation> worker_[2];
};

TEST_F(TwoWorkers, PutPiecesTogetherFromEachOther) {
  for (const int from : {0, 1}) {
    SCOPED_TRACE(from);
    const int to = 1 - from;
    worker_[from]->Send(PutMessage(Array(1), {4, 6}, Floats(0, 24)));
    worker_[from]->Next();
    worker_[to]->Send(PutMessage(Array(1), {4, 1}, Floats(100, 4)));
    worker_[to]->Next();
    Copy(from);
    EXPECT_EQ(worker_[to]->Next().array_done().status().message(), "");
    worker_[to]->Send(FetchMessage(Array(2)));
    const float expected[] = {100, 0, 1, 101, 6, 7, 102, 12, 13, 103, 18, 19};
    EXPECT_EQ(worker_[to]->Next().fetch_done().data(),
              std::string(reinterpret_cast<const char*>(expected), sizeof(expected)));
    proto::ToWorker drop;
    drop.mutable_drop_session()->set_session(1);
    worker_[0]->Send(drop);
    worker_[1]->Send(drop);
    EXPECT_EQ(Ping(*worker_[to]).device_bytes(0), 0);
    EXPECT_EQ(Ping(*worker_[to]).host_bytes(), 0);
  }
}

TEST_F(TwoWorkers, ASourcesErrorReachesTheTarget) {
  worker_[1]->Send(PutMessage(Array(1), {4, 1}, Floats(100, 4)));
  worker_[1]->Next();
  Copy(/*from=*/0);
  const proto::Status status = worker_[1]->Next().array_done().status();
  EXPECT_EQ(status.code(), static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_THAT(status.message(), HasSubstr("holds no shard 0 of array 1"));
}

TEST_F(TwoWorkers, AWorkerThatVanishesIsLostData) {
  // The target waits for a piece whose sender never learns of the copy.
  proto::ToWorker message;
  proto::Copy& copy = *message.mutable_copy();
  copy.set_array(Array(2));
  copy.mutable_type()->set_dtype(static_cast<int>(DType::kF32));
  proto::Copy::Made& made = *copy.add_made();
  made.mutable_shard();
  made.add_dims(1);
  made.set_part_count(1);
  proto::Copy::Part& part = *copy.add_parts();
  part.set_source_worker(0);
  part.set_target_worker(1);
  part.set_stream(7);
  part.set_bytes(4);
  worker_[1]->Send(message);
  process_[0]->Stop();
  process_[0].reset();
  proto::ToWorker peers;
  peers.mutable_peers();
  worker_[1]->Send(peers);
  EXPECT_EQ(worker_[1]->Next().array_done().status().code(), static_cast<int>(absl::StatusCode::kDataLoss));
}

TEST(WorkerShell, ComesBackEmptyWhenTheLinkIsLost) {
  FakeController controller;
  const WorkerProcess process(controller);
  auto worker = controller.Welcome(0);
  worker->Send(PutMessage(Array(1), {4}, Floats(0, 4)));
  worker->Next();
  EXPECT_EQ(Ping(*worker).device_bytes(0), 16);
  worker.reset();
  worker = controller.Welcome(0);
  EXPECT_EQ(Ping(*worker).device_bytes(0), 0);
  EXPECT_EQ(FakeBuffer::live, 0);
}

// Has the worker begin a launch.
void BeginLaunch(Conversation& worker) {
  worker.Send(CompileMessage({0}));
  worker.Send(PutMessage(Array(1), {4}, Floats(0, 4)));
  worker.Next();
  worker.Next();
  worker.Send(LaunchMessage(1, Array(1), Array(2)));
  EXPECT_EQ(Ping(worker).queued_launches(), 1);
}

TEST(WorkerShell, ComesBackWhenWhatRanHasEnded) {
  FakeController controller;
  const WorkerProcess process(controller, {.launch_time = absl::Milliseconds(300)});
  auto worker = controller.Welcome(0);
  BeginLaunch(*worker);
  worker.reset();
  worker = controller.Welcome(0);
  EXPECT_EQ(FakeBuffer::live, 0) << "not before the launch of the old link was over";
  EXPECT_EQ(process.started_anew(), 0);
}

TEST(WorkerShell, StartsAnewWhenWhatRanDoesNotEnd) {
  FakeController controller;
  const WorkerProcess process(controller, {.launch_time = absl::Seconds(2)}, absl::Milliseconds(10));
  auto worker = controller.Welcome(0);
  BeginLaunch(*worker);
  worker.reset();
  worker = controller.Welcome(0);
  EXPECT_EQ(process.started_anew(), 1);
}

TEST(WorkerShell, TriesAgainWhenItIsRefused) {
  FakeController controller;
  const WorkerProcess process(controller);
  for (int i = 0; i < 3; ++i) {
    const auto worker = controller.Accept();
    proto::ToWorker message;
    *message.mutable_goodbye()->mutable_status() = ToProto(absl::UnauthenticatedError("wrong token"));
    worker->Send(message);
  }
  EXPECT_EQ(Ping(*controller.Welcome(0)).device_bytes_size(), 1);
}

TEST(WorkerShell, LeavesAControllerThatFallsSilent) {
  FakeController controller;
  const WorkerProcess process(controller);
  const auto silent = controller.Welcome(0, /*hello_out=*/nullptr, /*timeout_ms=*/50);
  silent->WaitClosed();
  EXPECT_EQ(Ping(*controller.Welcome(0)).device_bytes_size(), 1);
}

TEST(WorkerShell, LeavesAControllerThatTalksNonsense) {
  FakeController controller;
  const WorkerProcess process(controller);
  const auto worker = controller.Welcome(0);
  worker->link().Send("\xff\xff\xff nonsense");
  worker->WaitClosed();
  EXPECT_EQ(Ping(*controller.Welcome(0)).device_bytes_size(), 1);
}

TEST(WorkerShell, StopsInTheMiddleOfAnythingAndLeavesNothing) {
  {
    FakeController controller;
    WorkerProcess process(controller, {.devices = 2, .launch_time = absl::Milliseconds(20)});
    const auto worker = controller.Welcome(0);
    worker->Send(CompileMessage({0, 1}));
    proto::ToWorker put = PutMessage(Array(1), {4}, Floats(0, 4));
    proto::Shard& second = *put.mutable_put()->add_shards();
    second.set_index(1);
    second.set_device(1);
    worker->Send(put);
    for (int i = 1; i < 50; ++i) worker->Send(LaunchMessage(i, Array(i), Array(i + 1)));
    proto::ToWorker message;
    *message.mutable_receive_host()->mutable_put() = PutMessage(Array(99), {1 << 20}, "").put();
    message.mutable_receive_host()->set_stream(5);
    message.mutable_receive_host()->set_total_bytes(4 << 20);
    worker->Send(message);
    worker->Send(FetchMessage(Array(50)));
    while (!worker->Next().has_launches_done()) {
    }
    process.Stop();
    worker->WaitClosed();
    EXPECT_EQ(FakeBuffer::live, 0);
  }
}

TEST(WorkerShell, QuestionsAreAnsweredByThePlugin) {
  FakeController controller;
  const WorkerProcess process(controller);
  const auto worker = controller.Welcome(0);
  worker->Send(CompileMessage({0}));
  worker->Next();
  proto::ToWorker message;
  message.mutable_query()->mutable_default_layout();
  worker->Send(message);
  EXPECT_EQ(worker->Next().query_done().layout(), "layout");
  message.mutable_query()->set_cost_analysis(kProgram);
  worker->Send(message);
  EXPECT_EQ(worker->Next().query_done().values().at("flops"), 2);
  message.mutable_query()->set_program_text(kProgram);
  worker->Send(message);
  EXPECT_EQ(worker->Next().query_done().status().message(), "no text");
}

}  // namespace
}  // namespace causeway::worker
