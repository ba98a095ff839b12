// A link carries frames, whole and in order, between two processes: the controller and one worker.
//
//   class Reader : public LinkHandler {
//     void OnFrame(std::string frame) override {...}
//     void OnClosed(absl::Status why) override {...}
//   };
//   link->Start(&reader);
//   link->Send(message.SerializeAsString());
//   link->Close(absl::OkStatus());
//
// Two implementations pass one contract suite (link_cts.h): sockets (tcp_link.h) and in-process (local_link.h).
//
// Threading: Send and Close may be called from any thread, also from inside the handler, and never block: Send writes
// straight to the socket on the calling thread when nothing is queued (a hand-over to another thread costs 35 us, see
// NETWORK facts), else it queues. The handler is called by one thread at a time.
// Lifetime: the handler must outlive OnClosed, which is called exactly once, last, and after which it is not used
// again.
#ifndef CAUSEWAY_NET_LINK_H_
#define CAUSEWAY_NET_LINK_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace causeway {

class LinkHandler {
 public:
  virtual ~LinkHandler() = default;

  // The other side sent `frame`.
  virtual void OnFrame(std::string frame) = 0;

  // The link is closed. OK: this side asked for it. UNAVAILABLE: the other side closed or vanished. INVALID_ARGUMENT:
  // it sent what is no frame, or one above the limit. RESOURCE_EXHAUSTED: it does not read what is sent to it.
  virtual void OnClosed(absl::Status why) = 0;

  // More than the link's `full_bytes` wait to be sent, since the other side does not read as fast as this one sends; or
  // (false) no more than half of that again. What is sent all the same is queued, up to the link's limit.
  virtual void OnFull(bool /*full*/) {}
};

class Link {
 public:
  virtual ~Link() = default;

  // Begins to deliver frames to `handler`. Called once.
  virtual void Start(LinkHandler* handler) = 0;

  // Sends a frame after all earlier ones. After the link is closed: does nothing. When more than the link's limit is
  // queued because the other side does not read, the link closes with RESOURCE_EXHAUSTED.
  virtual void Send(std::string frame) = 0;

  // Closes after what is queued has been written (or at once if `why` is an error). OnClosed follows.
  virtual void Close(absl::Status why) = 0;

  // Raises the limit on incoming frames, once the other side has shown who it is.
  virtual void SetMaxFrameBytes(int64_t limit_bytes) = 0;

  // "127.0.0.1:4711", for messages to people.
  virtual std::string PeerName() const = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_LINK_H_
