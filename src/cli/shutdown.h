// Waiting for the end: SIGINT, SIGTERM, or the end of a parent.
//
//   Shutdown shutdown;
//   ...
//   std::string why = shutdown.Wait(/*exit_with_stdin=*/false);    // "SIGINT", "stdin closed", ...
#ifndef CAUSEWAY_CLI_SHUTDOWN_H_
#define CAUSEWAY_CLI_SHUTDOWN_H_

#include <string>

#include "absl/time/time.h"

namespace causeway {

// One at a time in a process. While it lives SIGINT and SIGTERM end nothing by themselves, whichever thread they hit:
// libraries start threads before main does anything (OpenBLAS), so blocking them would not be enough.
//
// Threading: one thread waits.
class Shutdown {
 public:
  Shutdown();
  ~Shutdown();
  Shutdown(const Shutdown&) = delete;
  Shutdown& operator=(const Shutdown&) = delete;

  // Returns why to stop. Blocks until a signal comes; with `exit_with_stdin`, also until stdin is closed (a parent that
  // holds its other end is gone).
  std::string Wait(bool exit_with_stdin);

  // As Wait, for at most `timeout`: empty when it ran out.
  std::string WaitFor(absl::Duration timeout, bool exit_with_stdin);

  // From here on a signal ends the process, as it would by default.
  static void LetSignalsKill();
};

}  // namespace causeway

#endif  // CAUSEWAY_CLI_SHUTDOWN_H_
