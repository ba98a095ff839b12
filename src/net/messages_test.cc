// Messages between two data planes over sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "net/socket_data_plane.h"

namespace causeway {
namespace {

constexpr PeerId kLow{0};
constexpr PeerId kHigh{1};
constexpr uint64_t kKey = 77;

class Mailbox final : public MessageHandler {
 public:
  void OnMessage(PeerId peer, absl::Span<const char> message) override {
    MutexLock lock(&mu_);
    EXPECT_FALSE(closed_);
    messages_[peer].emplace_back(message.data(), message.size());
  }
  void OnMessagesLost(PeerId peer, const absl::Status& why) override {
    MutexLock lock(&mu_);
    EXPECT_FALSE(closed_);
    losses_[peer].push_back(why);
  }
  std::vector<std::string> From(PeerId peer) {
    MutexLock lock(&mu_);
    return messages_[peer];
  }
  size_t LossesOf(PeerId peer) {
    MutexLock lock(&mu_);
    return losses_[peer].size();
  }
  void Close() {
    MutexLock lock(&mu_);
    closed_ = true;
  }

 private:
  Mutex mu_;
  std::map<PeerId, std::vector<std::string>> messages_ ABSL_GUARDED_BY(mu_);
  std::map<PeerId, std::vector<absl::Status>> losses_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 20'000; ++i) {
    if (done()) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

void Send(DataPlane& plane, PeerId peer, const std::vector<std::string>& parts) {
  std::vector<absl::Span<const char>> spans(parts.begin(), parts.end());
  plane.SendMessage(peer, spans);
}

class MessagesTest : public testing::TestWithParam<bool> {
 protected:
  MessagesTest() {
    const std::string path = absl::StrCat("unix:", testing::TempDir(), "/causeway-messages-", getpid());
    SocketDataPlaneOptions options;
    options.redial_delay = absl::Milliseconds(20);
    options.message_patience = absl::Seconds(2);
    options.self = kLow;
    options.listen_address = GetParam() ? path + "-low" : "127.0.0.1:0";
    low_ = *SocketDataPlane::Start(options);
    options.self = kHigh;
    options.listen_address = GetParam() ? path + "-high" : "127.0.0.1:0";
    high_ = *SocketDataPlane::Start(options);
    low_->SetMessageHandler(&at_low_);
    high_->SetMessageHandler(&at_high_);
  }

  void Introduce() {
    low_->SetPeer(kHigh, high_->listen_address(), kKey);
    high_->SetPeer(kLow, low_->listen_address(), kKey);
  }

  Mailbox at_low_;
  Mailbox at_high_;
  std::unique_ptr<SocketDataPlane> low_;
  std::unique_ptr<SocketDataPlane> high_;
};

TEST_P(MessagesTest, GoBothWaysInOrder) {
  Introduce();
  ASSERT_TRUE(WaitUntil([&] {  // known on both sides
    Send(*low_, kHigh, {"ping"});
    Send(*high_, kLow, {"ping"});
    return !at_high_.From(kLow).empty() && !at_low_.From(kHigh).empty();
  }));
  const size_t before = at_high_.From(kLow).size();
  for (int i = 0; i < 1000; ++i) Send(*low_, kHigh, {"a", absl::StrCat(i)});
  ASSERT_TRUE(WaitUntil([&] { return at_high_.From(kLow).size() >= before + 1000; }));
  const std::vector<std::string> got = at_high_.From(kLow);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(got[got.size() - 1000 + i], absl::StrCat("a", i));
}

TEST_P(MessagesTest, OfAllSizes) {
  Introduce();
  std::vector<std::string> sent;
  for (size_t size : {1, 7, 8, 4096, 65528, 65536, 65537, 200000, 262144}) sent.push_back(std::string(size, 'x'));
  ASSERT_TRUE(WaitUntil([&] {
    Send(*high_, kLow, {"?"});
    return !at_low_.From(kHigh).empty();
  }));
  const size_t before = at_low_.From(kHigh).size();
  for (const std::string& message : sent)
    Send(*high_, kLow, {message.substr(0, 3), message.substr(std::min<size_t>(3, message.size()))});
  ASSERT_TRUE(WaitUntil([&] { return at_low_.From(kHigh).size() >= before + sent.size(); }));
  std::vector<std::string> got = at_low_.From(kHigh);
  got.erase(got.begin(), got.end() - static_cast<ptrdiff_t>(sent.size()));
  EXPECT_EQ(got, sent);
}

TEST_P(MessagesTest, ThousandsToAPeerThatIsSlow) {
  Introduce();
  ASSERT_TRUE(WaitUntil([&] {
    Send(*low_, kHigh, {"?"});
    return !at_high_.From(kLow).empty();
  }));
  const size_t before = at_high_.From(kLow).size();
  const std::string large(100000, 'y');
  for (int i = 0; i < 500; ++i) Send(*low_, kHigh, {large});
  ASSERT_TRUE(WaitUntil([&] { return at_high_.From(kLow).size() >= before + 500; }));
  EXPECT_EQ(at_high_.From(kLow).back(), large);
  EXPECT_EQ(at_high_.LossesOf(kLow), 0);
}

TEST_P(MessagesTest, ToStrangersAreLost) {
  Send(*low_, PeerId{9}, {"hello"});
  EXPECT_TRUE(WaitUntil([&] { return at_low_.LossesOf(PeerId{9}) == 1; }));
}

TEST_P(MessagesTest, ThatFindNoConnectionAreLost) {
  low_->SetPeer(kHigh, "127.0.0.1:1", kKey);
  ASSERT_TRUE(WaitUntil([&] {
    Send(*low_, kHigh, {"hello"});
    return at_low_.LossesOf(kHigh) > 0;
  }));
}

TEST_P(MessagesTest, ADroppedPeerIsToldOnBothSides) {
  Introduce();
  ASSERT_TRUE(WaitUntil([&] {
    Send(*low_, kHigh, {"?"});
    return !at_high_.From(kLow).empty();
  }));
  const size_t before = at_low_.LossesOf(kHigh);
  high_->DropPeer(kLow);
  EXPECT_TRUE(WaitUntil([&] { return at_high_.LossesOf(kLow) > 0 && at_low_.LossesOf(kHigh) > before; }));
  // And when they know each other again, messages go again.
  high_->SetPeer(kLow, low_->listen_address(), kKey);
  const size_t had = at_high_.From(kLow).size();
  EXPECT_TRUE(WaitUntil([&] {
    Send(*low_, kHigh, {"again"});
    return at_high_.From(kLow).size() > had;
  }));
  EXPECT_EQ(at_high_.From(kLow).back(), "again");
}

TEST_P(MessagesTest, NobodyIsCalledWithoutAHandler) {
  Introduce();
  ASSERT_TRUE(WaitUntil([&] {
    Send(*low_, kHigh, {"?"});
    return !at_high_.From(kLow).empty();
  }));
  high_->SetMessageHandler(nullptr);
  at_high_.Close();
  for (int i = 0; i < 100; ++i) Send(*low_, kHigh, {"unheard"});
  absl::SleepFor(absl::Milliseconds(20));
}

INSTANTIATE_TEST_SUITE_P(TcpAndUnix, MessagesTest, testing::Bool());

}  // namespace
}  // namespace causeway
