#include "net/socket_data_plane.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "net/data_codec.h"
#include "net/data_plane_cts.h"
#include "net/message_reader.h"
#include "net/sockets.h"
#include "net/test_messages.h"
#include "net/test_relay.h"

namespace causeway {
namespace {

struct SocketPair final : DataPlanePair {
  explicit SocketPair(const std::string& low_listens, const std::string& high_listens, int connections = 1) {
    SocketDataPlaneOptions options;
    options.connections = connections;
    options.large_stream_bytes = 1;  // all are
    options.self = kLow;
    options.listen_address = low_listens;
    auto low_plane = SocketDataPlane::Start(options);
    options.self = kHigh;
    options.listen_address = high_listens;
    auto high_plane = SocketDataPlane::Start(options);
    low_address = (*low_plane)->listen_address();
    high_address = (*high_plane)->listen_address();
    low = *std::move(low_plane);
    high = *std::move(high_plane);
  }

  bool RunUntil(const std::function<bool()>& done) override {
    for (int i = 0; i < 20'000; ++i) {
      if (done()) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }
  void Settle() override { absl::SleepFor(absl::Milliseconds(100)); }
};

std::unique_ptr<DataPlanePair> OverTcp() { return std::make_unique<SocketPair>("127.0.0.1:0", "127.0.0.1:0"); }
std::unique_ptr<DataPlanePair> OverUnix() {
  const std::string path = absl::StrCat("unix:", ::testing::TempDir(), "/causeway-data-", getpid());
  return std::make_unique<SocketPair>(path + "-low", path + "-high");
}

std::unique_ptr<DataPlanePair> OverTcpOn4() { return std::make_unique<SocketPair>("127.0.0.1:0", "127.0.0.1:0", 4); }

INSTANTIATE_TEST_SUITE_P(TcpOn4, DataPlaneContract, ::testing::Values(&OverTcpOn4));
INSTANTIATE_TEST_SUITE_P(Tcp, DataPlaneContract, ::testing::Values(&OverTcp));
INSTANTIATE_TEST_SUITE_P(Unix, DataPlaneContract, ::testing::Values(&OverUnix));

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 20'000; ++i) {
    if (done()) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

// A plane, a peer of it that is honest, and a connection that is not.
class SocketDataPlaneTest : public ::testing::Test {
 protected:
  SocketDataPlaneTest() {
    SocketDataPlaneOptions options;
    options.self = kLow;
    options.patience = absl::Milliseconds(100);
    options.hello_timeout = absl::Milliseconds(200);
    options.max_waiting = 4;
    low_ = *SocketDataPlane::Start(options);
    options.self = kHigh;
    high_ = *SocketDataPlane::Start(options);
  }

  void Introduce() {
    low_->SetPeer(kHigh, high_->listen_address(), kPairKey);
    high_->SetPeer(kLow, low_->listen_address(), kPairKey);
  }
  std::shared_ptr<TestSink> Transfer(StreamId id, int64_t total, int64_t window) {
    auto sink = std::make_shared<TestSink>(total);
    low_->Receive(kHigh, id, total, window, sink);
    high_->Send(kLow, id, total, std::make_shared<TestSource>(id, total));
    return sink;
  }
  void ExpectWhole(const std::shared_ptr<TestSink>& sink) {
    ASSERT_TRUE(WaitUntil([&] { return sink->done(); }));
    EXPECT_THAT(sink->results(), ::testing::ElementsAre(absl::OkStatus()));
  }

  // A connection to `low_`, on which nothing was said.
  Socket RawConnect() {
    std::promise<absl::StatusOr<Socket>> connected;
    Connect(&io_, low_->listen_address(), absl::Seconds(10),
            [&](absl::StatusOr<Socket> socket) { connected.set_value(std::move(socket)); });
    Socket socket = *connected.get_future().get();
    socket.native_non_blocking(false);
    return socket;
  }
  static std::string HelloBytes(uint64_t key, PeerId from = kHigh, DataLane lane = DataLane::kStreams) {
    return HelloBytes({.from = from, .to = kLow, .key = key, .lane = lane});
  }
  static std::string HelloBytes(const DataHello& hello) {
    std::string bytes(kDataHelloBytes, '\0');
    WriteDataHello(hello, bytes.data());
    return bytes;
  }
  static DataHello ReadHello(Socket& socket) {
    std::array<char, kDataHelloBytes> bytes{};
    EXPECT_EQ(recv(socket.native_handle(), bytes.data(), bytes.size(), MSG_WAITALL),
              static_cast<ssize_t>(bytes.size()));
    const absl::StatusOr<DataHello> hello = ParseDataHello(bytes.data());
    EXPECT_TRUE(hello.ok()) << hello.status();
    return hello.ok() ? *hello : DataHello{};
  }
  static void RawSend(Socket& socket, const std::string& bytes) {
    ASSERT_EQ(send(socket.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // All that comes until the other side closes.
  static std::string ReadToEnd(Socket& socket) {
    std::string all;
    char bytes[4096];
    for (ssize_t n; (n = recv(socket.native_handle(), bytes, sizeof(bytes), 0)) > 0;) all.append(bytes, n);
    return all;
  }

  IoThread io_{"raw"};
  std::unique_ptr<SocketDataPlane> low_;
  std::unique_ptr<SocketDataPlane> high_;
};

TEST_F(SocketDataPlaneTest, GarbageClosesItsConnectionAndDisturbsNobody) {
  Introduce();
  const auto sink = Transfer(StreamId{1}, 2000, 1000);
  ASSERT_TRUE(WaitUntil([&] { return sink->received() == 1000; }));
  Socket raw = RawConnect();
  RawSend(raw, "GET / HTTP/1.1\r\nHost: example\r\n\r\n");
  EXPECT_EQ(ReadToEnd(raw), "");
  low_->Grant(kHigh, StreamId{1}, 1000);
  ExpectWhole(sink);
}

TEST_F(SocketDataPlaneTest, AConnectionThatSaysNothingIsClosed) {
  Socket raw = RawConnect();
  EXPECT_EQ(ReadToEnd(raw), "");
}

TEST_F(SocketDataPlaneTest, TheOldestOfTooManyThatWaitIsClosed) {
  std::vector<Socket> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(RawConnect());
  EXPECT_EQ(ReadToEnd(waiting[0]), "");
  Introduce();
  ExpectWhole(Transfer(StreamId{1}, 1000, 1000));
}

TEST_F(SocketDataPlaneTest, AWrongKeyIsRefusedInTheEndAndNotToldTheRightOne) {
  Introduce();
  Socket raw = RawConnect();
  RawSend(raw, HelloBytes(kPairKey + 1));
  const std::string answer = ReadToEnd(raw);
  ASSERT_EQ(answer.size(), kDataHelloBytes);
  const absl::StatusOr<DataHello> hello = ParseDataHello(answer.data());
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(hello->refusal, absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(hello->key, 0u);
}

TEST_F(SocketDataPlaneTest, AWrongKeyFailsTheStreamsOfTheSideThatDials) {
  low_->SetPeer(kHigh, high_->listen_address(), kPairKey);
  high_->SetPeer(kLow, low_->listen_address(), kPairKey + 1);
  auto source = std::make_shared<TestSource>(StreamId{1}, 10);
  high_->Send(kLow, StreamId{1}, 10, source);
  ASSERT_TRUE(WaitUntil([&] { return source->done(); }));
  EXPECT_THAT(source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
}

TEST_F(SocketDataPlaneTest, AKeyThatBecomesRightInTimeIsLetIn) {
  low_->SetPeer(kHigh, high_->listen_address(), kPairKey - 1);
  high_->SetPeer(kLow, low_->listen_address(), kPairKey);
  auto source = std::make_shared<TestSource>(StreamId{1}, 10);
  high_->Send(kLow, StreamId{1}, 10, source);
  absl::SleepFor(absl::Milliseconds(20));
  low_->SetPeer(kHigh, high_->listen_address(), kPairKey);
  auto sink = std::make_shared<TestSink>(10);
  low_->Receive(kHigh, StreamId{1}, 10, 10, sink);
  ExpectWhole(sink);
}

TEST_F(SocketDataPlaneTest, APeerThatBreaksTheProtocolLosesItsConnectionOnly) {
  Introduce();
  const auto sink = Transfer(StreamId{1}, 2000, 1000);
  ASSERT_TRUE(WaitUntil([&] { return sink->received() == 1000; }));
  constexpr PeerId kRogue{7};
  low_->SetPeer(kRogue, "127.0.0.1:1", kPairKey);
  Socket raw = RawConnect();
  std::string message(kDataHeaderBytes, '\0');
  WriteDataHeader({.type = DataType::kData, .length = 5, .stream = StreamId{99}, .value = 0, .total = 5},
                  message.data());
  RawSend(raw, HelloBytes(kPairKey, kRogue) + message + "bytes");
  EXPECT_EQ(ReadToEnd(raw).size(), kDataHelloBytes) << "it was welcome first";
  low_->Grant(kHigh, StreamId{1}, 1000);
  ExpectWhole(sink);
}

TEST_F(SocketDataPlaneTest, ALostConnectionFailsTheStreamsAndIsMadeAgainWhenNeeded) {
  Introduce();
  const auto sink = Transfer(StreamId{1}, 2000, 1000);
  ASSERT_TRUE(WaitUntil([&] { return sink->received() == 1000; }));
  // Somebody with the right key takes the place of the connection.
  Socket raw = RawConnect();
  RawSend(raw, HelloBytes(kPairKey));
  ASSERT_TRUE(WaitUntil([&] { return sink->done(); }));
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  raw.close();
  // The next streams may still meet the end of the old connection; they end, and then one comes through.
  for (uint64_t id = 2; id < 100; ++id) {
    const auto next = Transfer(StreamId{id}, 1000, 1000);
    ASSERT_TRUE(WaitUntil([&] { return next->done(); })) << "stream " << id;
    if (next->results()[0].ok()) return;
  }
  FAIL() << "no stream came through";
}

TEST_F(SocketDataPlaneTest, AProcessThatLearnsItsNameLaterIsReachedUnderIt) {
  auto late = *SocketDataPlane::Start({});
  constexpr PeerId kLate{8};
  low_->SetPeer(kLate, late->listen_address(), kPairKey);
  late->SetSelf(kLate);
  late->SetPeer(kLow, low_->listen_address(), kPairKey);
  auto sink = std::make_shared<TestSink>(10);
  low_->Receive(kLate, StreamId{1}, 10, 10, sink);
  late->Send(kLow, StreamId{1}, 10, std::make_shared<TestSource>(StreamId{1}, 10));
  ExpectWhole(sink);
}

// ---------------------------------------------------------------- several connections

// A controller and a worker, who have no lane of messages, and a relay in the way of the worker's connections.
class SocketDataPlaneOnSeveral : public ::testing::Test {
 protected:
  void Begin(int controllers, int workers, double bytes_per_second = 0) {
    SocketDataPlaneOptions options;
    options.large_stream_bytes = kLargeBytes;
    options.self = kControllerPeer;
    options.connections = controllers;
    controller_ = *SocketDataPlane::Start(options);
    options.self = kWorker;
    options.connections = workers;
    worker_ = *SocketDataPlane::Start(options);
    relay_ = std::make_unique<TestRelay>(controller_->listen_address(), bytes_per_second);
    controller_->SetPeer(kWorker, worker_->listen_address(), kPairKey);
    worker_->SetPeer(kControllerPeer, relay_->address(), kPairKey);
  }

  struct Stream {
    std::shared_ptr<TestSink> sink;
    std::shared_ptr<TestSource> source;
  };
  Stream Transfer(bool upwards, int64_t total, int64_t window) {
    const StreamId id{++last_id_};
    Stream stream{std::make_shared<TestSink>(total), std::make_shared<TestSource>(id, total)};
    if (upwards) {
      controller_->Receive(kWorker, id, total, window, stream.sink);
      worker_->Send(kControllerPeer, id, total, stream.source);
    } else {
      worker_->Receive(kControllerPeer, id, total, window, stream.sink);
      controller_->Send(kWorker, id, total, stream.source);
    }
    return stream;
  }
  void ExpectWhole(const Stream& stream) {
    ASSERT_TRUE(WaitUntil([&] { return stream.sink->done() && stream.source->done(); }));
    EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(absl::OkStatus()));
    EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(absl::OkStatus()));
    EXPECT_TRUE(stream.sink->Holds(StreamId{last_id_}));
  }

  static constexpr PeerId kWorker{3};
  static constexpr int64_t kLargeBytes = 1 << 20;

  uint64_t last_id_ = 0;
  std::unique_ptr<SocketDataPlane> controller_;
  std::unique_ptr<SocketDataPlane> worker_;
  std::unique_ptr<TestRelay> relay_;  // goes first
};

TEST_F(SocketDataPlaneOnSeveral, TheyAreMadeForTheFirstLargeStreamAndItsBytesGoOnAllOfThem) {
  for (const bool upwards : {true, false}) {
    // Slow enough that no connection takes all of the stream while the others are made.
    Begin(/*controllers=*/3, /*workers=*/3, /*bytes_per_second=*/50e6);
    ExpectWhole(Transfer(upwards, kLargeBytes - 1, kLargeBytes));
    EXPECT_EQ(relay_->connections(), 1);
    ExpectWhole(Transfer(upwards, 48 << 20, 48 << 20));
    ASSERT_EQ(relay_->connections(), 3);
    for (int i = 0; i < 3; ++i) EXPECT_GT(relay_->forwarded(i), kChunkBytes) << "connection " << i;
    // And when they have all been idle.
    std::array<int64_t, 3> before;
    for (int i = 0; i < 3; ++i) before[i] = relay_->forwarded(i);
    ExpectWhole(Transfer(upwards, 48 << 20, 48 << 20));
    EXPECT_EQ(relay_->connections(), 3) << "they are there already";
    for (int i = 0; i < 3; ++i) EXPECT_GT(relay_->forwarded(i) - before[i], kChunkBytes) << "connection " << i;
  }
}

TEST_F(SocketDataPlaneOnSeveral, ThePairHasAsManyAsTheSideThatWantsFewer) {
  for (const auto& [controllers, workers] : {std::pair(2, 5), std::pair(5, 2)}) {
    Begin(controllers, workers);
    ExpectWhole(Transfer(/*upwards=*/true, 4 * kLargeBytes, 4 * kLargeBytes));
    ASSERT_TRUE(WaitUntil([&] { return relay_->connections() == 2; }));
    ExpectWhole(Transfer(/*upwards=*/false, 4 * kLargeBytes, 4 * kLargeBytes));
    EXPECT_EQ(relay_->connections(), 2);
  }
}

TEST_F(SocketDataPlaneOnSeveral, TheLossOfOneEndsTheStreamsAndTheNextOnesFindThemMadeAnew) {
  for (int cut = 0; cut < 3; ++cut) {
    Begin(/*controllers=*/3, /*workers=*/3);
    const Stream up = Transfer(/*upwards=*/true, 4 * kLargeBytes, kLargeBytes);
    const Stream down = Transfer(/*upwards=*/false, 4 * kLargeBytes, kLargeBytes);
    ASSERT_TRUE(WaitUntil([&] {
      return up.sink->received() == kLargeBytes && down.sink->received() == kLargeBytes && relay_->connections() == 3;
    }));
    relay_->Cut(cut);
    for (const Stream& stream : {up, down}) {
      ASSERT_TRUE(WaitUntil([&] { return stream.sink->done() && stream.source->done(); }));
      EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
      EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
    }
    ExpectWhole(Transfer(/*upwards=*/true, 4 * kLargeBytes, 4 * kLargeBytes));
    ASSERT_TRUE(WaitUntil([&] { return relay_->connections() == 6; })) << relay_->connections();
  }
}

TEST_F(SocketDataPlaneOnSeveral, ANumberOfThemThatCannotBeIsAnError) {
  for (const int connections : {0, -1, kMaxDataConnections + 1}) {
    EXPECT_EQ(SocketDataPlane::Start({.connections = connections}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(SocketDataPlaneTest, AConnectionThatAddsToNoneOrIsOneTooManyIsRefused) {
  SocketDataPlaneOptions options;
  options.self = kLow;
  options.patience = absl::Milliseconds(100);
  options.connections = 2;
  low_ = *SocketDataPlane::Start(options);
  low_->SetPeer(kHigh, "127.0.0.1:1", kPairKey);
  const DataHello hello{.from = kHigh, .to = kLow, .key = kPairKey, .connections = 4, .set = 7};
  const auto say = [&](int index, uint32_t set) {
    DataHello other = hello;
    other.index = index;
    other.set = set;
    Socket socket = RawConnect();
    RawSend(socket, HelloBytes(other));
    return socket;
  };
  Socket early = say(1, 7);
  EXPECT_EQ(ReadHello(early).refusal, absl::StatusCode::kNotFound);

  Socket first = say(0, 7);
  const DataHello welcome = ReadHello(first);
  EXPECT_EQ(welcome.refusal, absl::StatusCode::kOk);
  EXPECT_EQ(welcome.connections, 2);
  EXPECT_EQ(welcome.set, 7u);
  Socket of_another_set = say(1, 8);
  EXPECT_EQ(ReadHello(of_another_set).refusal, absl::StatusCode::kNotFound);
  Socket third = say(2, 7);
  EXPECT_EQ(ReadHello(third).refusal, absl::StatusCode::kResourceExhausted);
  Socket second = say(1, 7);
  EXPECT_EQ(ReadHello(second).index, 1);
  Socket second_again = say(1, 7);
  EXPECT_EQ(ReadHello(second_again).refusal, absl::StatusCode::kResourceExhausted);

  // What they bring belongs together.
  auto sink = std::make_shared<TestSink>(200);
  low_->Receive(kHigh, StreamId{1}, 200, 200, sink);
  std::array<char, kDataHeaderBytes> grant;
  ASSERT_EQ(recv(first.native_handle(), grant.data(), grant.size(), MSG_WAITALL), static_cast<ssize_t>(grant.size()));
  const auto data = [](int64_t offset) {
    std::string bytes(kDataHeaderBytes + 100, '\0');
    WriteDataHeader({.type = DataType::kData, .length = 100, .stream = StreamId{1}, .value = offset, .total = 200},
                    bytes.data());
    for (int i = 0; i < 100; ++i) bytes[kDataHeaderBytes + i] = ByteOf(StreamId{1}, offset + i);
    return bytes;
  };
  RawSend(second, data(100));
  RawSend(first, data(0));
  ExpectWhole(sink);
  EXPECT_TRUE(sink->Holds(StreamId{1}));
  // And they are lost together.
  second.close();
  EXPECT_GT(ReadToEnd(first).size(), 0u) << "the stream's last word, and then the end";
}

// ---------------------------------------------------------------- messages

TEST_F(SocketDataPlaneTest, MessagesPassBulkDataThatNobodyTakes) {
  TestMessages at_low;
  low_->SetMessageHandler(&at_low);
  Introduce();
  const auto sink = Transfer(StreamId{1}, 64 << 20, 1000);
  ASSERT_TRUE(WaitUntil([&] { return sink->received() == 1000; }));
  SendText(*high_, kLow, "urgent");
  ASSERT_TRUE(WaitUntil([&] { return at_low.count() == 1; }));
  low_->SetMessageHandler(nullptr);
}

TEST_F(SocketDataPlaneTest, ALostLaneIsToldOnceAndMadeAgain) {
  SocketDataPlaneOptions options;
  options.self = kHigh;
  options.redial_delay = absl::Milliseconds(20);
  high_ = *SocketDataPlane::Start(options);
  TestMessages at_low;
  TestMessages at_high;
  low_->SetMessageHandler(&at_low);
  high_->SetMessageHandler(&at_high);
  Introduce();
  SendText(*high_, kLow, "first");
  ASSERT_TRUE(WaitUntil([&] { return at_low.count() == 1; }));
  {
    // Somebody with the right key takes the place of the connection, and leaves.
    Socket raw = RawConnect();
    RawSend(raw, HelloBytes(kPairKey, kHigh, DataLane::kMessages));
    ASSERT_TRUE(WaitUntil([&] { return !at_high.lost().empty(); }));
  }
  ASSERT_TRUE(WaitUntil([&] { return at_low.lost().size() == 2; }));
  for (const auto& [peer, why] : at_low.lost()) {
    EXPECT_EQ(peer, kHigh);
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  }
  SendText(*high_, kLow, "second");
  SendText(*low_, kHigh, "second");
  ASSERT_TRUE(WaitUntil([&] { return at_low.count() == 2 && at_high.count() == 1; }));
  EXPECT_EQ(at_high.lost().size(), 1u);
  low_->SetMessageHandler(nullptr);
  high_->SetMessageHandler(nullptr);
}

TEST_F(SocketDataPlaneTest, APeerThatSendsNoMessagesOnItsLaneLosesIt) {
  TestMessages at_low;
  low_->SetMessageHandler(&at_low);
  constexpr PeerId kRogue{7};
  low_->SetPeer(kRogue, "127.0.0.1:1", kPairKey);
  Socket raw = RawConnect();
  std::string header(kMessageHeaderBytes, '\0');
  WriteMessageHeader(2, header.data());
  RawSend(raw, HelloBytes(kPairKey, kRogue, DataLane::kMessages) + header + "ok" + "GET / HTTP/1.1\r\n");
  EXPECT_EQ(ReadToEnd(raw).size(), kDataHelloBytes) << "it was welcome first";
  ASSERT_TRUE(WaitUntil([&] { return at_low.lost().size() == 1; }));
  EXPECT_EQ(at_low.count(), 1u);
  low_->SetMessageHandler(nullptr);
}

TEST_F(SocketDataPlaneTest, APeerThatTakesNoMessagesLosesThemWhenTooManyWait) {
  SocketDataPlaneOptions options;
  options.self = kLow;
  options.max_waiting_message_bytes = 1 << 20;
  low_ = *SocketDataPlane::Start(options);
  TestMessages at_low;
  low_->SetMessageHandler(&at_low);
  low_->SetPeer(kHigh, "127.0.0.1:1", kPairKey);
  // Before it is connected, and then too.
  const std::string message(100'000, 'x');
  for (int i = 0; i < 11; ++i) SendText(*low_, kHigh, message);
  ASSERT_TRUE(WaitUntil([&] { return at_low.lost().size() == 1; }));
  EXPECT_EQ(at_low.lost()[0].second.code(), absl::StatusCode::kResourceExhausted);

  Socket raw = RawConnect();
  RawSend(raw, HelloBytes(kPairKey, kHigh, DataLane::kMessages));
  std::string welcome(kDataHelloBytes, '\0');
  ASSERT_EQ(recv(raw.native_handle(), welcome.data(), welcome.size(), MSG_WAITALL),
            static_cast<ssize_t>(welcome.size()));
  // It is welcome a little before its lane takes messages.
  SendText(*low_, kHigh, "x");
  std::string first(kMessageHeaderBytes + 1, '\0');
  ASSERT_EQ(recv(raw.native_handle(), first.data(), first.size(), MSG_WAITALL), static_cast<ssize_t>(first.size()));
  for (int i = 0; i < 1000 && at_low.lost().size() < 2; ++i) SendText(*low_, kHigh, message);
  ASSERT_TRUE(WaitUntil([&] { return at_low.lost().size() == 2; }));
  EXPECT_EQ(at_low.lost()[1].second.code(), absl::StatusCode::kResourceExhausted);
  // What was sent arrives, and then the end.
  EXPECT_GT(ReadToEnd(raw).size(), message.size());
  low_->SetMessageHandler(nullptr);
}

TEST_F(SocketDataPlaneTest, WhatASlowPeerLeavesWaitsAndArrivesInOrder) {
  struct Slow final : MessageHandler {
    void OnMessage(PeerId, absl::Span<const char> message) override {
      if (next == 0) absl::SleepFor(absl::Milliseconds(200));
      if (message != absl::MakeConstSpan(TestMessage(next, message.size()))) ++wrong;
      ++next;
    }
    void OnMessagesLost(PeerId, const absl::Status&) override { ++wrong; }
    std::atomic<int> next = 0;
    std::atomic<int> wrong = 0;
  } slow;
  low_->SetMessageHandler(&slow);
  Introduce();
  constexpr int kMessages = 400;
  for (int i = 0; i < kMessages; ++i) SendText(*high_, kLow, TestMessage(i, i % 3 == 0 ? 200'000 : 1000 + i), 3);
  ASSERT_TRUE(WaitUntil([&] { return slow.next == kMessages; })) << slow.next;
  EXPECT_EQ(slow.wrong, 0);
  low_->SetMessageHandler(nullptr);
}

TEST_F(SocketDataPlaneTest, TakingTheHandlerAwayWaitsUntilItIsNotCalled) {
  struct Busy final : MessageHandler {
    void OnMessage(PeerId, absl::Span<const char>) override {
      inside = true;
      absl::SleepFor(absl::Milliseconds(20));
      inside = false;
      ++calls;
    }
    void OnMessagesLost(PeerId, const absl::Status&) override {}
    std::atomic<bool> inside = false;
    std::atomic<int> calls = 0;
  } busy;
  low_->SetMessageHandler(&busy);
  Introduce();
  for (int i = 0; i < 50; ++i) SendText(*high_, kLow, "message");
  ASSERT_TRUE(WaitUntil([&] { return busy.inside.load(); }));
  low_->SetMessageHandler(nullptr);
  EXPECT_FALSE(busy.inside);
  const int calls = busy.calls;
  absl::SleepFor(absl::Milliseconds(60));
  EXPECT_EQ(busy.calls, calls);
}

TEST_F(SocketDataPlaneTest, ThreadsSendAtOnceWhilePeersComeAndGo) {
  TestMessages at_low;
  low_->SetMessageHandler(&at_low);
  Introduce();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) SendText(*high_, kLow, TestMessage(i, 100 * t + 10), 2);
    });
  }
  for (int i = 0; i < 20; ++i) {
    low_->DropPeer(kHigh);
    low_->SetPeer(kHigh, high_->listen_address(), kPairKey);
    absl::SleepFor(absl::Milliseconds(1));
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& [peer, message] : at_low.messages()) {
    ASSERT_TRUE(message.size() % 100 == 10 && message.size() <= 310) << message.size();
  }
  low_->SetMessageHandler(nullptr);
}

TEST(SocketDataPlane, AnAddressThatCannotBeBoundIsAnError) {
  EXPECT_EQ(SocketDataPlane::Start({.listen_address = "nonsense"}).status().code(), absl::StatusCode::kInvalidArgument);
  auto first = SocketDataPlane::Start({});
  EXPECT_EQ(SocketDataPlane::Start({.listen_address = (*first)->listen_address()}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(SocketDataPlane, AnEndThatNobodyCouldBeToldIsToldOnceSomebodyListens) {
  const std::string address = absl::StrCat("unix:", ::testing::TempDir(), "/causeway-data-late-", getpid());
  const auto high = *SocketDataPlane::Start({.self = kHigh, .redial_delay = absl::Milliseconds(20)});
  high->SetPeer(kLow, address, kPairKey);
  auto source = std::make_shared<TestSource>(StreamId{1}, 1000);
  high->Send(kLow, StreamId{1}, 1000, source);
  ASSERT_TRUE(WaitUntil([&] { return source->done(); })) << "nobody listens";

  const auto low = *SocketDataPlane::Start({.self = kLow, .listen_address = address});
  low->SetPeer(kHigh, high->listen_address(), kPairKey);
  auto sink = std::make_shared<TestSink>(1000);
  low->Receive(kHigh, StreamId{1}, 1000, 1000, sink);
  ASSERT_TRUE(WaitUntil([&] { return sink->done(); })) << "it would wait for ever";
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
}

TEST(SocketDataPlaneMessagesTest, ThatFindNoConnectionAreLost) {
  TestMessages messages;
  SocketDataPlaneOptions options;
  options.self = kHigh;
  options.message_patience = absl::Milliseconds(100);
  const auto plane = *SocketDataPlane::Start(options);
  plane->SetMessageHandler(&messages);
  plane->SetPeer(kLow, "127.0.0.1:1", kPairKey);
  SendText(*plane, kLow, "hello");
  EXPECT_TRUE(WaitUntil([&] { return !messages.lost().empty(); }));
  plane->SetMessageHandler(nullptr);
}

}  // namespace
}  // namespace causeway
