#include "net/socket_data_plane.h"

#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <optional>
#include <utility>

#include "net/data_codec.h"
#include "net/data_plane_cts.h"
#include "net/sockets.h"

namespace causeway {
namespace {

struct SocketPair final : DataPlanePair {
  explicit SocketPair(const std::string& low_listens, const std::string& high_listens) {
    auto low_plane = SocketDataPlane::Start({.self = kLow, .listen_address = low_listens});
    auto high_plane = SocketDataPlane::Start({.self = kHigh, .listen_address = high_listens});
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
  static std::string HelloBytes(uint64_t key, PeerId from = kHigh) {
    std::string bytes(kDataHelloBytes, '\0');
    WriteDataHello({.from = from, .to = kLow, .key = key}, bytes.data());
    return bytes;
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

}  // namespace
}  // namespace causeway
