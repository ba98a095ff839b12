// The control link between a simulated worker and its controller: frames in order, each way on its own, after a delay.
//
//   auto link = std::make_shared<ControlLink>(world, LinkId{3}, delay);
//   link->Open(ControlLink::kWorker, {.on_frame = ..., .on_closed = ...});
//   link->Send(ControlLink::kController, frame);           // to the controller
//   link->Break();
//
// It keeps the contract of net/link.h: OnClosed once, last, and nothing after it. When it breaks, some of the frames in
// flight still arrive, and each side learns of it at its own time. It may also stall: nothing arrives for a while, and
// then everything does.
//
// Threading: none; lives in the world. Lifetime: an end that is gone (its process was killed) is closed by Abandon, and
// is not called again.
#ifndef CAUSEWAY_SIM_CONTROL_LINK_H_
#define CAUSEWAY_SIM_CONTROL_LINK_H_

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "controller/events.h"
#include "sim/world.h"

namespace causeway::sim {

class ControlLink : public std::enable_shared_from_this<ControlLink> {
 public:
  enum Side { kWorker, kController };

  struct User {
    std::function<void(const std::string& frame)> on_frame;
    std::function<void(const absl::Status& why)> on_closed;
  };

  ControlLink(World& world, LinkId id, absl::Duration delay) : world_(world), id_(id), delay_(delay) {}

  LinkId id() const { return id_; }

  // Who is at `side`. Before anything is sent there.
  void Open(Side side, User user);

  // Sends to `side`, after all earlier frames to it. Does nothing once the link is closed on the sender's side.
  void Send(Side to, std::string frame);

  // `by` closes the link: after what it has sent (with an OK status) or at once. Both sides hear of it.
  void Close(Side by, const absl::Status& why);

  // The process at `side` is gone.
  void Abandon(Side side);

  // The cable is cut.
  void Break();

  // Nothing arrives before `until`.
  void Stall(absl::Time until);

  bool open(Side side) const { return ends_[side].open; }
  bool broken() const { return broken_; }
  int in_flight(Side to) const { return static_cast<int>(ends_[to].coming.size()); }

 private:
  struct Frame {
    absl::Time arrives;
    std::string bytes;
  };
  struct End {
    User user;
    bool open = false;
    bool closing = false;      // it has asked for the end
    std::deque<Frame> coming;  // to this end
    absl::Time last_arrival = absl::InfinitePast();
    absl::Time cut = absl::InfiniteFuture();  // what has not arrived by then is lost
  };

  static Side Other(Side side) { return side == kWorker ? kController : kWorker; }

  // Hands over what has come to `to`.
  void Deliver(Side to);
  void Hear(Side side, const absl::Status& why);

  World& world_;
  const LinkId id_;
  const absl::Duration delay_;
  absl::Time stalled_until_ = absl::InfinitePast();
  bool broken_ = false;
  std::array<End, 2> ends_;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_CONTROL_LINK_H_
