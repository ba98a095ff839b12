// A child process of `causeway up`: this same binary with other arguments. It dies with its parent, writes its log to a
// file, and is ended by pid only.
#ifndef CAUSEWAY_CLI_CHILD_H_
#define CAUSEWAY_CLI_CHILD_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace causeway {

// Not thread-safe. Destroying it ends the process (SIGTERM, then SIGKILL after two seconds).
class Child {
 public:
  // Starts `causeway ARGUMENTS...`, stdout and stderr appended to `log_path`. UNAVAILABLE: it could not be started.
  static absl::StatusOr<Child> Start(const std::vector<std::string>& arguments, std::string log_path);

  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  const std::string& log_path() const { return log_path_; }

  // How it ended ("exit status 1", "killed by signal 9"), once it has.
  std::optional<std::string> Ended();

  // The last lines of its log, for an error message.
  std::string LogTail() const;

  // Asks it to end.
  void Terminate();

  // Waits for its end; kills it after `patience`.
  void Reap(absl::Duration patience);

 private:
  Child(pid_t pid, std::string log_path);

  pid_t pid_ = -1;  // -1: none, or reaped
  std::string log_path_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CLI_CHILD_H_
