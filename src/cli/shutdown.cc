#include "cli/shutdown.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "absl/time/clock.h"

namespace causeway {

Shutdown::Shutdown() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A peer that closes its socket is an error of a write, not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
}

std::string Shutdown::Wait(bool exit_with_stdin) { return WaitFor(absl::InfiniteDuration(), exit_with_stdin); }

std::string Shutdown::WaitFor(absl::Duration timeout, bool exit_with_stdin) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    std::array<pollfd, 3> fds = {pollfd{signal_fd_, POLLIN, 0}, pollfd{wake_fd_, POLLIN, 0},
                                 pollfd{exit_with_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
    const absl::Duration left = deadline - absl::Now();
    const int wait_ms = timeout == absl::InfiniteDuration()
                            ? -1
                            : static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(left)));
    const int ready = poll(fds.data(), fds.size(), wait_ms);
    if (ready == 0) return "";
    if (ready < 0) continue;
    if (fds[0].revents != 0) {
      signalfd_siginfo info;
      if (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) return info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
    }
    if (fds[1].revents != 0) {
      MutexLock lock(&mu_);
      return requested_;
    }
    if (fds[2].revents != 0) {
      char ignored[256];
      if (read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0) return "stdin closed";
    }
  }
}

void Shutdown::Request(std::string why) {
  {
    MutexLock lock(&mu_);
    if (!requested_.empty()) return;
    requested_ = std::move(why);
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

}  // namespace causeway
