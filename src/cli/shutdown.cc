#include "cli/shutdown.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/time/clock.h"

namespace causeway {
namespace {

// The signals' numbers come out of [0], one byte each.
int signal_pipe[2] = {-1, -1};

void OnSignal(int number) {
  const int saved = errno;
  const auto byte = static_cast<char>(number);
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &byte, 1);
  errno = saved;
}

void Handle(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

Shutdown::Shutdown() {
  // A peer that closes its socket is an error of a write, not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) == 0) Handle(OnSignal);
}

Shutdown::~Shutdown() {
  LetSignalsKill();
  for (int& fd : signal_pipe) {
    close(fd);
    fd = -1;
  }
}

std::string Shutdown::Wait(bool exit_with_stdin) { return WaitFor(absl::InfiniteDuration(), exit_with_stdin); }

std::string Shutdown::WaitFor(absl::Duration timeout, bool exit_with_stdin) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{signal_pipe[0], POLLIN, 0},
                                 pollfd{exit_with_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
    const absl::Duration left = deadline - absl::Now();
    const int wait_ms = timeout == absl::InfiniteDuration()
                            ? -1
                            : static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(left)));
    const int ready = poll(fds.data(), fds.size(), wait_ms);
    if (ready == 0) return "";
    if (ready < 0) continue;
    if (char number = 0; fds[0].revents != 0 && read(signal_pipe[0], &number, 1) == 1) {
      return number == SIGINT ? "SIGINT" : "SIGTERM";
    }
    if (fds[1].revents != 0) {
      char ignored[256];
      if (read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0) return "stdin closed";
    }
  }
}

void Shutdown::LetSignalsKill() { Handle(SIG_DFL); }

}  // namespace causeway
