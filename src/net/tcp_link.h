// Links over sockets, TCP and unix.
//
//   ASSIGN_OR_RETURN(auto listener, LinkListener::Listen(&io, "127.0.0.1:0", [](std::unique_ptr<Link> link) { ... }));
//   DialLink(&io, listener->address(), absl::Seconds(5), [](absl::StatusOr<std::unique_ptr<Link>> link) { ... });
//
// Threading: links read, and call their handlers, on the IoThread; they write on the calling thread as long as the socket
// takes it, and on the IoThread after that.
// Lifetime: a started link may be destroyed once OnClosed has returned (not inside it), or when the IoThread has ended.
#ifndef CAUSEWAY_NET_TCP_LINK_H_
#define CAUSEWAY_NET_TCP_LINK_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/io_thread.h"
#include "net/link.h"

namespace causeway {

class SocketListener;

// What may wait in a link's queue for a peer that does not read.
inline constexpr int64_t kMaxLinkQueueBytes = int64_t{256} << 20;

class LinkListener {
 public:
  // Called on the IoThread with each new connection. Dropping the link closes it.
  using OnLink = std::function<void(std::unique_ptr<Link>)>;

  // Listens at `address`. INVALID_ARGUMENT: no address; UNAVAILABLE: it cannot be bound. A unix socket's stale file is
  // replaced, and removed at the end.
  static absl::StatusOr<std::unique_ptr<LinkListener>> Listen(IoThread* io, const std::string& address, OnLink on_link,
                                                             int64_t max_queue_bytes = kMaxLinkQueueBytes);
  // No OnLink is called afterwards. Not from within OnLink.
  ~LinkListener();

  // The address bound, with the port that was chosen.
  const std::string& address() const;

 private:
  explicit LinkListener(std::shared_ptr<SocketListener> sockets) : sockets_(std::move(sockets)) {}
  const std::shared_ptr<SocketListener> sockets_;
};

// Connects once. `done` is called on the IoThread (or not at all when that ends first), with UNAVAILABLE where nobody
// listens, DEADLINE_EXCEEDED after `timeout`.
void DialLink(IoThread* io, const std::string& address, absl::Duration timeout,
              std::function<void(absl::StatusOr<std::unique_ptr<Link>>)> done,
              int64_t max_queue_bytes = kMaxLinkQueueBytes);

}  // namespace causeway

#endif  // CAUSEWAY_NET_TCP_LINK_H_
