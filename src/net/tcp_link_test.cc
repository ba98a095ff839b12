#include "net/tcp_link.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <future>

#include "net/frame_reader.h"
#include "net/link_cts.h"
#include "net/sockets.h"
#include "net/test_unix_socket.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 20'000; ++i) {
    if (done()) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

absl::StatusOr<std::unique_ptr<Link>> DialAndWait(IoThread& io, const std::string& address, LinkOptions options = {}) {
  std::promise<absl::StatusOr<std::unique_ptr<Link>>> dialled;
  DialLink(
      &io, address, absl::Seconds(10),
      [&](absl::StatusOr<std::unique_ptr<Link>> link) { dialled.set_value(std::move(link)); }, options);
  return dialled.get_future().get();
}

// Listens, and keeps the links that come.
struct Server {
  Server(IoThread& io, const std::string& address, LinkOptions options = {}) {
    absl::StatusOr<std::unique_ptr<LinkListener>> started = LinkListener::Listen(
        &io, address,
        [this](std::unique_ptr<Link> link) {
          MutexLock lock(&mu);
          links.push_back(std::move(link));
        },
        options);
    EXPECT_TRUE(started.ok()) << started.status();
    listener = *std::move(started);
  }
  std::unique_ptr<Link> Take() {
    EXPECT_TRUE(WaitUntil([&] {
      MutexLock lock(&mu);
      return !links.empty();
    }));
    MutexLock lock(&mu);
    std::unique_ptr<Link> link = std::move(links.front());
    links.erase(links.begin());
    return link;
  }

  Mutex mu;
  std::vector<std::unique_ptr<Link>> links;
  std::unique_ptr<LinkListener> listener;
};

// Connects without saying anything.
Socket RawConnect(IoThread& io, const std::string& address) {
  std::promise<absl::StatusOr<Socket>> connected;
  Connect(&io, address, absl::Seconds(10),
          [&](absl::StatusOr<Socket> socket) { connected.set_value(std::move(socket)); });
  return *connected.get_future().get();
}

void RawSend(Socket& socket, const std::string& bytes) {
  ASSERT_EQ(send(socket.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

std::string UnixAddress(const std::string& name) {
  return absl::StrCat("unix:", ::testing::TempDir(), "/causeway-link-", getpid(), "-", name);
}

struct SocketEnds final : LinkEnds {
  explicit SocketEnds(const std::string& address) : io("links") {
    LinkOptions options;
    options.max_queued_bytes = kContractQueueBytes;
    options.full_bytes = kContractFullBytes;
    options.linger = absl::Milliseconds(200);
    Server server(io, address, options);
    a = *DialAndWait(io, server.listener->address(), options);
    b = server.Take();
  }
  ~SocketEnds() override {
    a = nullptr;
    b = nullptr;
  }

  bool RunUntil(const std::function<bool()>& done) override { return WaitUntil(done); }
  void Settle() override { absl::SleepFor(absl::Milliseconds(50)); }

  IoThread io;
};

std::unique_ptr<LinkEnds> OverTcp() { return std::make_unique<SocketEnds>("127.0.0.1:0"); }
std::unique_ptr<LinkEnds> OverUnix() { return std::make_unique<SocketEnds>(UnixAddress("cts")); }

INSTANTIATE_TEST_SUITE_P(Tcp, LinkContract, ::testing::Values(&OverTcp));
INSTANTIATE_TEST_SUITE_P(Unix, LinkContract, ::testing::Values(&OverUnix));

// A server and one raw connection to it, whose link is started.
class RawPeer : public ::testing::Test {
 protected:
  void Begin(LinkOptions options = {}) {
    server_.emplace(io_, "127.0.0.1:0", options);
    socket_.emplace(RawConnect(io_, server_->listener->address()));
    link_ = server_->Take();
    link_->Start(&handler_);
  }
  bool Closed() {
    return WaitUntil([&] { return handler_.is_closed(); });
  }
  void TearDown() override {
    if (link_ != nullptr) link_->Close(absl::CancelledError("the test is over"));
    EXPECT_TRUE(Closed());
    socket_.reset();
  }
  static std::string Preamble() { return std::string(kLinkPreamble.begin(), kLinkPreamble.end()); }
  static std::string Framed(const std::string& frame) {
    const auto header = FrameHeader(static_cast<uint32_t>(frame.size()));
    return std::string(header.begin(), header.end()) + frame;
  }

  IoThread io_{"links"};
  std::optional<Server> server_;
  std::optional<Socket> socket_;
  TestHandler handler_;
  std::unique_ptr<Link> link_;
};

TEST_F(RawPeer, GarbageClosesTheLinkAndNamesThePeer) {
  Begin();
  RawSend(*socket_, "GET / HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Closed());
  EXPECT_THAT(handler_.closed(), IsClosedWith(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(handler_.closed()[0].message()), StartsWith("127.0.0.1:"));
  EXPECT_EQ(handler_.frame_count(), 0u);
}

TEST_F(RawPeer, GarbageAfterGoodFramesClosesTheLinkAfterThem) {
  Begin();
  RawSend(*socket_, Preamble() + Framed("one") + Framed("two") + "\xff\xff\xff\xff");
  ASSERT_TRUE(Closed());
  EXPECT_THAT(handler_.frames(), ::testing::ElementsAre("one", "two"));
  EXPECT_THAT(handler_.closed(), IsClosedWith(absl::StatusCode::kInvalidArgument));
}

TEST_F(RawPeer, APeerThatVanishesWithinAFrameIsUnavailable) {
  Begin();
  RawSend(*socket_, Preamble() + Framed("whole") + Framed("cut off").substr(0, 7));
  socket_->close();
  ASSERT_TRUE(Closed());
  EXPECT_THAT(handler_.frames(), ::testing::ElementsAre("whole"));
  EXPECT_THAT(handler_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_F(RawPeer, AConnectionThatSaysNothingIsClosed) {
  LinkOptions options;
  options.first_frame_timeout = absl::Milliseconds(30);
  Begin(options);
  RawSend(*socket_, Preamble());
  ASSERT_TRUE(Closed());
  EXPECT_THAT(handler_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_F(RawPeer, AConnectionThatHasSaidSomethingStaysOpen) {
  LinkOptions options;
  options.first_frame_timeout = absl::Milliseconds(500);
  Begin(options);
  RawSend(*socket_, Preamble() + Framed("hello"));
  absl::SleepFor(absl::Seconds(1));
  EXPECT_FALSE(handler_.is_closed());
}

TEST_F(RawPeer, TheOldestOfTooManySilentConnectionsIsClosed) {
  LinkOptions options;
  options.max_waiting_for_first_frame = 3;
  Begin(options);
  std::vector<Socket> more;
  for (int i = 0; i < 2; ++i) more.push_back(RawConnect(io_, server_->listener->address()));
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_FALSE(handler_.is_closed());
  more.push_back(RawConnect(io_, server_->listener->address()));
  ASSERT_TRUE(Closed());
}

TEST_F(RawPeer, ClosingDoesNotWaitForEverForAPeerThatDoesNotClose) {
  LinkOptions options;
  options.linger = absl::Milliseconds(50);
  Begin(options);
  link_->Send("goodbye");
  link_->Close(absl::OkStatus());
  ASSERT_TRUE(Closed());
  EXPECT_THAT(handler_.closed(), IsClosedWith(absl::StatusCode::kOk));
}

TEST(LinkListener, APortIsChosenAndTold) {
  IoThread io("links");
  Server server(io, "127.0.0.1:0");
  EXPECT_THAT(server.listener->address(), StartsWith("127.0.0.1:"));
  EXPECT_NE(server.listener->address(), "127.0.0.1:0");
}

TEST(LinkListener, AnIpv6AddressWorks) {
  IoThread io("links");
  absl::StatusOr<std::unique_ptr<LinkListener>> listener = LinkListener::Listen(&io, "[::1]:0", [](auto) {});
  if (!listener.ok()) GTEST_SKIP() << "this machine has no IPv6: " << listener.status();
  EXPECT_THAT((*listener)->address(), StartsWith("[::1]:"));
  EXPECT_TRUE(DialAndWait(io, (*listener)->address()).ok());
}

TEST(LinkListener, AHostNameIsResolved) {
  IoThread io("links");
  Server server(io, "localhost:0");
  const std::string address = server.listener->address();
  EXPECT_TRUE(DialAndWait(io, "localhost" + address.substr(address.rfind(':'))).ok());
}

TEST(LinkListener, AnAddressInUseIsUnavailableAndNamed) {
  IoThread io("links");
  Server server(io, "127.0.0.1:0");
  const auto second = LinkListener::Listen(&io, server.listener->address(), [](auto) {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server.listener->address()));
}

TEST(LinkListener, WhatIsNoAddressIsAnInvalidArgument) {
  IoThread io("links");
  EXPECT_EQ(LinkListener::Listen(&io, "nonsense", [](auto) {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LinkListener, AUnixSocketIsOnlyForThisUserAndIsRemovedAtTheEnd) {
  IoThread io("links");
  const std::string address = UnixAddress("mode");
  const std::string path = address.substr(5);
  {
    Server server(io, address);
    EXPECT_EQ(access(path.c_str(), F_OK), 0);
    struct stat info {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    const auto second = LinkListener::Listen(&io, address, [](auto) {});
    EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable) << "somebody listens there";
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST(LinkListener, ASocketFileThatADeadProcessLeftIsReplaced) {
  IoThread io("links");
  const std::string address = UnixAddress("dead");
  const int fd = BindUnixSocket(address.substr(5));
  ASSERT_GE(fd, 0);
  close(fd);
  Server server(io, address);
  EXPECT_TRUE(DialAndWait(io, address).ok());
}

TEST(LinkListener, AFileThatIsNoSocketIsNotTouched) {
  IoThread io("links");
  const std::string address = UnixAddress("file");
  const std::string path = address.substr(5);
  FILE* const file = fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  fclose(file);
  EXPECT_EQ(LinkListener::Listen(&io, address, [](auto) {}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  unlink(path.c_str());
}

TEST(DialLink, WhereNobodyListensItIsUnavailableAndTheAddressIsNamed) {
  IoThread io("links");
  std::string address;
  {
    Server server(io, "127.0.0.1:0");
    address = server.listener->address();
  }
  const auto link = DialAndWait(io, address);
  EXPECT_EQ(link.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(link.status().message()), HasSubstr(address));
  EXPECT_EQ(DialAndWait(io, UnixAddress("nobody")).status().code(), absl::StatusCode::kUnavailable);
}

TEST(DialLink, WhatIsNoAddressIsAnInvalidArgument) {
  IoThread io("links");
  EXPECT_EQ(DialAndWait(io, "nonsense").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(IoThread, LinksThatAreOpenWhenItEndsAreReportedCancelledAndMayGoLater) {
  TestHandler handler;
  std::unique_ptr<Link> link;
  std::unique_ptr<Link> never_started;
  {
    IoThread io("links");
    Server server(io, "127.0.0.1:0");
    link = *DialAndWait(io, server.listener->address());
    never_started = server.Take();
    link->Start(&handler);
  }
  EXPECT_THAT(handler.closed(), IsClosedWith(absl::StatusCode::kCancelled));
  link->Send("into the void");
  link->Close(absl::OkStatus());
}

}  // namespace
}  // namespace causeway
