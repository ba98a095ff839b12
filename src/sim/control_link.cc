#include "sim/control_link.h"

#include <algorithm>
#include <utility>

namespace causeway::sim {

void ControlLink::Open(Side side, User user) {
  ends_[side].user = std::move(user);
  ends_[side].open = true;
}

void ControlLink::Send(Side to, std::string frame) {
  if (!ends_[Other(to)].open || ends_[Other(to)].closing) return;
  End& end = ends_[to];
  end.last_arrival = std::max(end.last_arrival, world_.Now() + world_.random().Delay(delay_));
  end.coming.push_back({end.last_arrival, std::move(frame)});
  world_.At(end.last_arrival, [self = shared_from_this(), to] { self->Deliver(to); });
}

void ControlLink::Deliver(Side to) {
  End& end = ends_[to];
  if (world_.Now() < stalled_until_) {
    world_.At(stalled_until_, [self = shared_from_this(), to] { self->Deliver(to); });
    return;
  }
  while (end.open && !end.coming.empty() && end.coming.front().arrives <= std::min(world_.Now(), end.cut)) {
    const std::string frame = std::move(end.coming.front().bytes);
    end.coming.pop_front();
    end.user.on_frame(frame);
  }
}

void ControlLink::Hear(Side side, const absl::Status& why) {
  End& end = ends_[side];
  if (!std::exchange(end.open, false)) return;
  end.coming.clear();
  end.user.on_closed(why);
}

void ControlLink::Close(Side by, const absl::Status& why) {
  if (!ends_[by].open || std::exchange(ends_[by].closing, true)) return;
  const Side other = Other(by);
  // At once: what it has sent and is still on its way may be lost.
  if (!why.ok()) ends_[other].cut = std::min(ends_[other].cut, world_.Now() + world_.random().Delay(delay_));
  world_.After(world_.random().Delay(delay_), [self = shared_from_this(), by, why] { self->Hear(by, why); });
  const absl::Time last = std::max({ends_[other].last_arrival, stalled_until_, world_.Now()});
  world_.At(last + world_.random().Delay(delay_), [self = shared_from_this(), other] {
    self->Hear(other, absl::UnavailableError("the other side has closed the link"));
  });
}

void ControlLink::Abandon(Side side) {
  End& end = ends_[side];
  if (!std::exchange(end.open, false)) return;
  const Side other = Other(side);
  world_.At(
      std::max({ends_[other].last_arrival, stalled_until_, world_.Now()}) + world_.random().Delay(delay_),
      [self = shared_from_this(), other] { self->Hear(other, absl::UnavailableError("the other side is gone")); });
}

void ControlLink::Break() {
  broken_ = true;
  for (Side side : {kWorker, kController}) {
    const absl::Duration delay = world_.random().Delay(delay_);
    ends_[side].cut = std::min(ends_[side].cut, world_.Now() + delay);
    world_.After(delay + world_.random().Delay(delay_),
                 [self = shared_from_this(), side] { self->Hear(side, absl::UnavailableError("the link broke")); });
  }
}

void ControlLink::Stall(absl::Time until) { stalled_until_ = std::max(stalled_until_, until); }

}  // namespace causeway::sim
