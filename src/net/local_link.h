// A link inside one process, for tests and simulations: two ends, no sockets.
//
//   ManualExecutor executor;                             // or an IoThread
//   auto [controller_end, worker_end] = MakeLocalLinkPair(executor);
//   worker_end->Start(&handler);
//   controller_end->Send("hello");
//   executor.RunUntilIdle();
//
// A frame is delivered in a task of its own, so that by hand every run is the same.
//
// Threading: as link.h says; handlers are called on the executor.
// Lifetime: as a socket link (tcp_link.h): an end may be destroyed at any time, and a started one still gets its
// OnClosed from the executor, which outlives both.
#ifndef CAUSEWAY_NET_LOCAL_LINK_H_
#define CAUSEWAY_NET_LOCAL_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "net/executor.h"
#include "net/link.h"

namespace causeway {

struct LocalLinkOptions {
  // What may wait for an end that does not read.
  int64_t max_queued_bytes = int64_t{256} << 20;

  // From when on the sender is told that the queue is full.
  int64_t full_bytes = int64_t{16} << 20;

  // What each end calls the other.
  std::string first_name = "local:first";
  std::string second_name = "local:second";
};

std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> MakeLocalLinkPair(Executor& executor,
                                                                          const LocalLinkOptions& options = {});

}  // namespace causeway

#endif  // CAUSEWAY_NET_LOCAL_LINK_H_
