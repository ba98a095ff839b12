// Links over stream sockets: TCP ("HOST:PORT") and unix ("unix:PATH"). The bytes: frame_reader.h.
//
//   ASSIGN_OR_RETURN(auto listener, LinkListener::Listen(&io, "127.0.0.1:0", [](std::unique_ptr<Link> link) {...}));
//   DialLink(&io, listener->address(), absl::Seconds(5), [](absl::StatusOr<std::unique_ptr<Link>> link) {...});
//
// A killed peer is noticed at once, one whose host has vanished within 15 s.
//
// Threading: as link.h says; handlers and the callbacks here run on the I/O thread.
// Lifetime: a link may be destroyed at any time, also inside its handler: that closes it, and a started one still gets
// its OnClosed (CANCELLED), later, on the I/O thread. When the I/O thread is destroyed the links that are still open
// get their OnClosed (CANCELLED) there, as its last work; the links themselves may go after it.
#ifndef CAUSEWAY_NET_TCP_LINK_H_
#define CAUSEWAY_NET_TCP_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/io_thread.h"
#include "net/link.h"

namespace causeway {

struct LinkOptions {
  // What may wait behind the frame that is being written to a peer that does not read.
  int64_t max_queued_bytes = int64_t{256} << 20;

  // From when on the handler is told that the queue is full, so that it never comes to that.
  int64_t full_bytes = int64_t{16} << 20;

  // An accepted connection whose first frame has not come by then is closed: it is not one of ours.
  absl::Duration first_frame_timeout = absl::Seconds(10);

  // Accepted connections whose first frame has not come; when there are more, the oldest is closed.
  int max_waiting_for_first_frame = 1024;

  // How long Close(OK) waits for a peer that takes nothing of what is queued, or does not close its side.
  absl::Duration linger = absl::Seconds(2);
};

class LinkListener {
 public:
  using OnLink = std::function<void(std::unique_ptr<Link> link)>;

  // Listens at `address` and calls `on_link` with each new connection; dropping the link refuses it. `io` must outlive
  // the listener. INVALID_ARGUMENT: no address. UNAVAILABLE: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<LinkListener>> Listen(IoThread* io, const std::string& address, OnLink on_link,
                                                              LinkOptions options = {});

  // No callback runs afterwards; links that were handed out live on. Any thread, but not inside the callback.
  virtual ~LinkListener() = default;

  // The address bound, with the port that the system chose.
  virtual const std::string& address() const = 0;
};

// Connects once. `done` is called once, later, on the I/O thread (not at all if that is destroyed first). UNAVAILABLE:
// nobody listens there, or no answer within `timeout`. INVALID_ARGUMENT: no address.
void DialLink(IoThread* io, const std::string& address, absl::Duration timeout,
              std::function<void(absl::StatusOr<std::unique_ptr<Link>> link)> done, LinkOptions options = {});

}  // namespace causeway

#endif  // CAUSEWAY_NET_TCP_LINK_H_
