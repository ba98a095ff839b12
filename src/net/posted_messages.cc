#include "net/posted_messages.h"

#include "absl/strings/str_cat.h"

namespace causeway {

void PostedMessagesCore::SendMessage(PeerId id, std::string message) {
  if (message.size() > static_cast<size_t>(kMaxMessageBytes)) {
    return Lost(id, absl::InvalidArgumentError(absl::StrCat("a message of ", message.size(), " bytes is too large")));
  }
  Peer* const peer = Find(id);
  const auto found = lanes_.find(id);
  if (peer == nullptr || found == lanes_.end()) {
    return Lost(id, absl::UnavailableError("the data plane does not know the peer"));
  }
  Lane& lane = found->second;
  lane.waiting_bytes += message.size();
  lane.waiting.push_back(std::move(message));
  if (lane.waiting_bytes > static_cast<size_t>(kMaxWaitingMessageBytes)) {
    lane.waiting.clear();
    lane.waiting_bytes = 0;
    return Lost(id, absl::ResourceExhaustedError("too many bytes of messages wait for the peer"));
  }
  Flush(*peer, lane);
}

void PostedMessagesCore::Flush(const Peer& peer, Lane& lane) {
  if (lane.open == nullptr) return;
  for (std::string& message : lane.waiting) {
    Carry(peer, [weak = lane.other, from = self(), open = lane.open, message = std::move(message)] {
      const auto other = weak.lock();
      if (other != nullptr && *open && other->handler_ != nullptr) other->handler_->OnMessage(from, message);
    });
  }
  lane.waiting.clear();
  lane.waiting_bytes = 0;
}

void PostedMessagesCore::PeerSet(Peer& peer) {
  // Only workers have messages for each other.
  if (peer.id == kControllerPeer || self() == kControllerPeer) return;
  lanes_[peer.id] = {};
  ConnectLane(peer);
}

void PostedMessagesCore::ConnectLane(Peer& peer) {
  PostedMessagesCore* const other = MessagesTo(peer);
  Peer* const us = other == nullptr ? nullptr : other->Find(self());
  if (us == nullptr || us->key != peer.key || other->MessagesTo(*us) != this) return;
  const auto mine = lanes_.find(peer.id);
  const auto others = other->lanes_.find(self());
  if (mine == lanes_.end() || others == other->lanes_.end()) return;
  Lane& ours = mine->second;
  Lane& theirs = others->second;
  if (ours.open != nullptr || theirs.open != nullptr) return;
  ours.open = theirs.open = std::make_shared<bool>(true);
  ours.other = other->Self();
  theirs.other = Self();
  Flush(peer, ours);
  other->Flush(*us, theirs);
}

void PostedMessagesCore::PeerGone(Peer& peer) {
  const auto found = lanes_.find(peer.id);
  if (found == lanes_.end()) return;
  const Lane lane = std::move(found->second);
  lanes_.erase(found);
  const auto other = lane.other.lock();
  if (lane.open != nullptr && other != nullptr) {
    *lane.open = false;
    Carry(peer, [other, id = self(), open = lane.open] {
      other->Closed(id, open, absl::UnavailableError("the peer has closed the connection"));
    });
  }
  Lost(peer.id, absl::UnavailableError("the peer was dropped from the data plane"));
}

void PostedMessagesCore::BreakLane(Peer& peer, const std::string& why) {
  const auto found = lanes_.find(peer.id);
  if (found == lanes_.end() || found->second.open == nullptr) return;
  const std::shared_ptr<bool> open = found->second.open;
  const auto other = found->second.other.lock();
  *open = false;
  Carry(peer, [self = Self(), id = peer.id, open, why] { self->Closed(id, open, absl::UnavailableError(why)); });
  if (other == nullptr) return;
  Carry(peer, [other, id = self(), open, why] { other->Closed(id, open, absl::UnavailableError(why)); });
}

void PostedMessagesCore::Closed(PeerId id, const std::shared_ptr<bool>& open, const absl::Status& why) {
  const auto found = lanes_.find(id);
  if (found == lanes_.end() || found->second.open != open) return;
  found->second = {};
  Lost(id, why);
  if (Peer* const peer = Find(id)) ConnectLane(*peer);
}

void PostedMessagesCore::Lost(PeerId id, const absl::Status& why) {
  if (handler_ != nullptr) handler_->OnMessagesLost(id, why);
}

void PostedMessagesCore::Shutdown() {
  handler_ = nullptr;
  PlaneCore::Shutdown();
}

void PostedMessagesPlane::SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) {
  std::string message;
  for (const absl::Span<const char> part : parts) message.append(part.data(), part.size());
  executor().Post([core = core_, peer, message = std::move(message)] { core->SendMessage(peer, message); });
}

void PostedMessagesPlane::SetMessageHandler(MessageHandler* handler) {
  executor().RunAndWait([&] { core_->SetHandler(handler); });
}

}  // namespace causeway
