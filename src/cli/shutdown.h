// Waiting for the end: SIGINT, SIGTERM, or a reason from inside.
//
//   Shutdown shutdown;                 // before any thread starts: they inherit the blocked signals
//   ...
//   std::string why = shutdown.Wait();    // "SIGINT", "stdin closed", ...
#ifndef CAUSEWAY_CLI_SHUTDOWN_H_
#define CAUSEWAY_CLI_SHUTDOWN_H_

#include <string>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace causeway {

// Thread-safe. One per process. Blocks SIGINT and SIGTERM in the thread that makes it and in all threads started later.
class Shutdown {
 public:
  Shutdown();

  // Returns why to stop. Blocks until a signal comes, or Request is called; with `exit_with_stdin`, also until stdin is
  // closed (a parent that holds its other end is gone).
  std::string Wait(bool exit_with_stdin);

  // As Wait, for at most `timeout`: empty when it ran out.
  std::string WaitFor(absl::Duration timeout, bool exit_with_stdin);

  // Makes Wait return `why`. From any thread.
  void Request(std::string why);

 private:
  int signal_fd_;
  int wake_fd_;
  Mutex mu_;
  std::string requested_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_CLI_SHUTDOWN_H_
