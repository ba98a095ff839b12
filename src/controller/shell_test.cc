// The shell over real sockets: who may talk to the controller, and what becomes of those who may not.
#include "controller/shell.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/io_thread.h"
#include "net/tcp_link.h"
#include "proto/control_version.h"

namespace causeway {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

// One end of a control link, as a worker or tool has it.
class Peer final : public LinkHandler {
 public:
  Peer(IoThread& io, const std::string& address) {
    DialLink(&io, address, kPatience, [this](absl::StatusOr<std::unique_ptr<Link>> link) {
      MutexLock lock(&mu_);
      if (link.ok()) link_ = *std::move(link);
      changed_.SignalAll();
    });
    EXPECT_TRUE(WaitFor([this] { return link_ != nullptr; }));
    link_->SetMaxFrameBytes(1 << 20);
    link_->Start(this);
  }

  void OnFrame(std::string frame) override {
    proto::ToWorker message;
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

  void Say(const proto::ToController& message) { link_->Send(message.SerializeAsString()); }
  void SayBytes(std::string frame) { link_->Send(std::move(frame)); }
  void Leave() {
    link_->Close(absl::OkStatus());
    EXPECT_TRUE(WaitUntilClosed());
  }

  // The first frame of this kind; waits for it.
  proto::ToWorker Wait(proto::ToWorker::MessageCase kind) {
    proto::ToWorker found;
    EXPECT_TRUE(WaitFor([&] {
      for (const proto::ToWorker& m : frames_) {
        if (m.message_case() != kind) continue;
        found = m;
        return true;
      }
      return false;
    })) << "no message "
        << kind;
    return found;
  }
  bool WaitUntilClosed() {
    return WaitFor([this] { return closed_; });
  }

 private:
  bool WaitFor(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(&mu_);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      changed_.WaitWithTimeout(&mu_, absl::Milliseconds(100));
    }
    return true;
  }

  Mutex mu_;
  CondVar changed_;
  std::unique_ptr<Link> link_;
  std::vector<proto::ToWorker> frames_;
  bool closed_ = false;
};

class ShellTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "/shellXXXXXX";
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    dir_ = path;
    ControllerShellOptions options;
    options.core.token = "secret";
    options.control_address = "unix:" + dir_ + "/control";
    options.data_address = "unix:" + dir_ + "/data";
    auto shell = ControllerShell::Start(options);
    ASSERT_TRUE(shell.ok()) << shell.status();
    shell_ = *std::move(shell);
  }
  void TearDown() override {
    shell_.reset();
    io_.reset();  // before the peers, which it calls
    peers_.clear();
    rmdir(dir_.c_str());
  }

  Peer& NewPeer() {
    peers_.push_back(std::make_unique<Peer>(*io_, shell_->control_address()));
    return *peers_.back();
  }

  static proto::ToController Hello(const std::string& name) {
    proto::ToController message;
    proto::Hello& hello = *message.mutable_hello();
    hello.set_version(kControlVersion);
    hello.set_token("secret");
    hello.set_name(name);
    hello.set_platform("cpu");
    hello.add_devices()->add_memories()->set_kind("device");
    return message;
  }

  proto::ClusterStatus Status() {
    proto::ClusterStatus status;
    shell_->Read([&](const ControllerCore& core) { status = core.Status(SteadyNow()); });
    return status;
  }

  // Waits until the only worker is (not) alive.
  bool WaitAlive(bool alive) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (absl::Now() < deadline) {
      const proto::ClusterStatus status = Status();
      if (status.islands_size() == 1 && status.islands(0).workers(0).alive() == alive) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }

  std::string dir_;
  std::unique_ptr<IoThread> io_ = std::make_unique<IoThread>("test");
  std::unique_ptr<ControllerShell> shell_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

TEST_F(ShellTest, AWorkerIsWelcomedAndTheNextOneHearsOfIt) {
  Peer& a = NewPeer();
  a.Say(Hello("a"));
  EXPECT_EQ(a.Wait(proto::ToWorker::kWelcome).welcome().data_address(), "unix:" + dir_ + "/data");
  Peer& b = NewPeer();
  b.Say(Hello("b"));
  EXPECT_EQ(b.Wait(proto::ToWorker::kWelcome).welcome().worker(), 1);
  EXPECT_EQ(b.Wait(proto::ToWorker::kPeers).peers().peers_size(), 1);
}

TEST_F(ShellTest, AWorkerThatHangsUpIsLostAndMayComeBack) {
  Peer& a = NewPeer();
  a.Say(Hello("a"));
  a.Wait(proto::ToWorker::kWelcome);
  a.Leave();
  EXPECT_TRUE(WaitAlive(false));
  Peer& again = NewPeer();
  again.Say(Hello("a"));
  EXPECT_EQ(again.Wait(proto::ToWorker::kWelcome).welcome().incarnation(), 2u);
  EXPECT_TRUE(WaitAlive(true));
}

TEST_F(ShellTest, WorkersArePinged) {
  Peer& a = NewPeer();
  a.Say(Hello("a"));
  EXPECT_GE(a.Wait(proto::ToWorker::kPing).ping().number(), 1u);
}

TEST_F(ShellTest, AToolIsAnsweredOnce) {
  Peer& tool = NewPeer();
  proto::ToController question;
  question.mutable_status_request()->set_version(kControlVersion);
  question.mutable_status_request()->set_token("secret");
  tool.Say(question);
  tool.Wait(proto::ToWorker::kClusterStatus);
  EXPECT_TRUE(tool.WaitUntilClosed());
}

TEST_F(ShellTest, AToolWithTheWrongTokenIsToldSo) {
  Peer& tool = NewPeer();
  proto::ToController question;
  question.mutable_status_request()->set_version(kControlVersion);
  tool.Say(question);
  EXPECT_EQ(tool.Wait(proto::ToWorker::kGoodbye).goodbye().status().code(),
            static_cast<int>(absl::StatusCode::kUnauthenticated));
}

TEST_F(ShellTest, GarbageCutsItsSenderOffAndHarmsNobody) {
  Peer& worker = NewPeer();
  worker.Say(Hello("a"));
  worker.Wait(proto::ToWorker::kWelcome);
  Peer& vandal = NewPeer();
  vandal.SayBytes(std::string(100, '\xff'));
  EXPECT_TRUE(vandal.WaitUntilClosed());
  EXPECT_TRUE(WaitAlive(true));
}

TEST_F(ShellTest, SomethingThatSpeaksAnotherProtocolIsCutOff) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (dir_ + "/control").c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET / HTTP/1.1\r\n\r\n";
  ASSERT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  char answer[64];
  ssize_t got = 0;
  do {
    got = read(fd, answer, sizeof(answer));
  } while (got > 0);
  EXPECT_LE(got, 0) << "the connection ends";
  close(fd);
  Peer& worker = NewPeer();
  worker.Say(Hello("a"));
  worker.Wait(proto::ToWorker::kWelcome);
}

TEST_F(ShellTest, AnAddressThatIsTakenIsAnError) {
  ControllerShellOptions options;
  options.control_address = "unix:" + dir_ + "/missing/control";
  options.data_address = "unix:" + dir_ + "/other";
  EXPECT_EQ(ControllerShell::Start(options).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace causeway
