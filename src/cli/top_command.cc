#include "cli/top_command.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "cli/shutdown.h"
#include "cli/status_command.h"
#include "cli/top_page.h"

namespace causeway {
namespace {

constexpr absl::Duration kKeyWait = absl::Milliseconds(50);

// A terminal's second screen, without a cursor and with keys as they are typed; the first one comes back at the end.
class Screen {
 public:
  Screen() {
    keys_ = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      termios typed = before_;
      typed.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      typed.c_cc[VMIN] = 1;
      typed.c_cc[VTIME] = 0;
      typed.c_cc[VSUSP] = 0;  // what is stopped could not put the terminal back
      tcsetattr(STDIN_FILENO, TCSANOW, &typed);
    }
    Put("\x1b[?1049h\x1b[?25l");
  }
  ~Screen() {
    Put("\x1b[?25h\x1b[?1049l");
    if (keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  static winsize Size() {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return {};
    return size;
  }

  // In place of what was shown. False: the terminal is gone.
  static bool Show(const std::string& page) {
    std::string text = "\x1b[H";
    for (char c : page) {
      if (c == '\n') text += "\x1b[K\r";
      text += c;
    }
    // The last line's end would scroll a full screen.
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return Put(text + "\x1b[J");
  }

  // Whether q was pressed.
  bool Quits() const {
    pollfd in{STDIN_FILENO, POLLIN, 0};
    while (keys_ && poll(&in, 1, 0) > 0) {
      char key = 0;
      if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q') return true;
    }
    return false;
  }

 private:
  static bool Put(const std::string& text) {
    return fwrite(text.data(), 1, text.size(), stdout) == text.size() && fflush(stdout) == 0;
  }

  bool keys_ = false;
  termios before_{};
};

absl::Status Once(const TopFlags& flags, const std::string& token) {
  const absl::Duration timeout = absl::Seconds(flags.timeout_s);
  Shutdown shutdown;
  ASSIGN_OR_RETURN(const proto::ClusterStatus before, QueryStatus(flags.control_address, token, timeout));
  if (!shutdown.WaitFor(absl::Seconds(flags.interval_s), /*exit_with_stdin=*/false).empty()) {
    return absl::CancelledError("broken off");
  }
  ASSIGN_OR_RETURN(const proto::ClusterStatus now, QueryStatus(flags.control_address, token, timeout));
  const std::string text = flags.json ? TopJson(before, now) + "\n" : TopPage(before, now);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunTop(const TopFlags& flags) {
  ASSIGN_OR_RETURN(const std::string token, ReadToken(flags.token_file));
  if (flags.json || flags.once || isatty(STDOUT_FILENO) != 1) return Once(flags, token);
  const absl::Duration timeout = absl::Seconds(flags.timeout_s);
  // An address that nobody listens at is said on the ordinary screen.
  ASSIGN_OR_RETURN(proto::ClusterStatus before, QueryStatus(flags.control_address, token, timeout));
  proto::ClusterStatus now = before;
  Shutdown shutdown;
  const Screen screen;
  std::string trouble;
  absl::Time next = absl::Now() + absl::Seconds(flags.interval_s);
  winsize shown_size{};
  bool fresh = true;
  while (true) {
    const winsize size = Screen::Size();
    if (fresh || size.ws_col != shown_size.ws_col || size.ws_row != shown_size.ws_row) {
      const int columns = size.ws_col;
      const int rows = trouble.empty() ? size.ws_row : std::max(2, size.ws_row - 1);
      if (!Screen::Show(trouble + TopPage(before, now, columns, rows))) return absl::OkStatus();
      shown_size = size;
      fresh = false;
    }
    if (!shutdown.WaitFor(kKeyWait, /*exit_with_stdin=*/false).empty() || screen.Quits()) return absl::OkStatus();
    if (absl::Now() < next) continue;
    next = absl::Now() + absl::Seconds(flags.interval_s);
    absl::StatusOr<proto::ClusterStatus> status = QueryStatus(flags.control_address, token, timeout);
    trouble.clear();
    if (status.ok()) {
      before = std::exchange(now, *std::move(status));
    } else {
      trouble = absl::StrCat("no answer, this is old: ", PrintableUtf8(status.status().message()), "\n");
      if (size.ws_col > 0 && trouble.size() > size.ws_col) trouble = trouble.substr(0, size.ws_col - 1) + "\n";
    }
    fresh = true;
  }
}

}  // namespace causeway
