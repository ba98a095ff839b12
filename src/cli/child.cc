#include "cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace causeway {

Child::Child(pid_t pid, std::string log_path) : pid_(pid), log_path_(std::move(log_path)) {}

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), log_path_(std::move(other.log_path_)) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(log_path_, other.log_path_);
  return *this;
}

Child::~Child() {
  Terminate();
  Reap(absl::Seconds(2));
}

absl::StatusOr<Child> Child::Start(const std::vector<std::string>& arguments, std::string log_path) {
  // All that allocates happens before fork: between fork and exec only async-signal-safe calls are allowed.
  std::vector<char*> argv;
  std::string name = "causeway";
  argv.push_back(name.data());
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return absl::UnavailableError(absl::StrCat("cannot write the log ", log_path, ": ", strerror(errno)));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    // Not the parent's handlers, which would tell the parent.
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    // Ctrl-C in a terminal goes to the whole foreground group; the parent is to end its children in order.
    setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  const int error = errno;
  close(log);
  if (pid < 0) return absl::UnavailableError(absl::StrCat("cannot start a process: ", strerror(error)));
  return Child(pid, std::move(log_path));
}

std::optional<std::string> Child::Ended() {
  if (pid_ < 0) return "ended";
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  if (WIFSIGNALED(status)) return absl::StrCat("killed by signal ", WTERMSIG(status));
  return absl::StrCat("exit status ", WEXITSTATUS(status));
}

std::string Child::LogTail() const {
  constexpr std::streamoff kTailBytes = 4096;
  std::ifstream log(log_path_, std::ios::ate | std::ios::binary);
  if (!log) return "";
  const std::streamoff size = log.tellg();
  log.seekg(size > kTailBytes ? size - kTailBytes : 0);
  const std::string text((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipWhitespace());
  constexpr size_t kTailLines = 10;
  if (lines.size() > kTailLines) lines.erase(lines.begin(), lines.end() - kTailLines);
  return absl::StrJoin(lines, "\n");
}

void Child::Terminate() {
  if (pid_ > 0) kill(pid_, SIGTERM);
}

void Child::Reap(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (pid_ > 0 && !Ended()) {
    if (absl::Now() >= deadline) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
      pid_ = -1;
      return;
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
}

}  // namespace causeway
