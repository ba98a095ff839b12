#include "cli/shutdown.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace causeway {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

// A thread that a library started before main did anything, with no signal blocked.
class EarlyThread {
 public:
  EarlyThread() : thread_([this] { stop_.wait(false); }) {}
  ~EarlyThread() {
    stop_ = true;
    stop_.notify_all();
    thread_.join();
  }
  std::thread::native_handle_type handle() { return thread_.native_handle(); }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST(Shutdown, ASignalIsAReasonWhicheverThreadItHits) {
  EarlyThread early;
  Shutdown shutdown;
  EXPECT_EQ(shutdown.WaitFor(absl::Milliseconds(10), /*exit_with_stdin=*/false), "");
  pthread_kill(early.handle(), SIGTERM);
  EXPECT_EQ(shutdown.WaitFor(kPatience, /*exit_with_stdin=*/false), "SIGTERM");
  kill(getpid(), SIGINT);
  EXPECT_EQ(shutdown.WaitFor(kPatience, /*exit_with_stdin=*/false), "SIGINT");
}

TEST(Shutdown, ASecondSignalKillsOnceThatIsWanted) {
  Shutdown shutdown;
  EXPECT_EXIT(
      {
        Shutdown::LetSignalsKill();
        raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace causeway
