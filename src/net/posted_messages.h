// The messages of the planes inside one process: each is a task that the other side's plane gets. Two planes exchange
// messages from when both have set each other with the same key until one of them drops the other; what was on its way
// then is lost.
//
// Threading and lifetime: as of PlaneCore and PostingDataPlane (plane_core.h).
#ifndef CAUSEWAY_NET_POSTED_MESSAGES_H_
#define CAUSEWAY_NET_POSTED_MESSAGES_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "net/plane_core.h"

namespace causeway {

class PostedMessagesCore : public PlaneCore {
 public:
  explicit PostedMessagesCore(PeerId self) : PlaneCore(self) {}

  void SetHandler(MessageHandler* handler) { handler_ = handler; }
  void SendMessage(PeerId id, std::string message);

  void Shutdown() override;

 protected:
  // The plane that listens where `peer` is found, if it is that peer.
  virtual PostedMessagesCore* MessagesTo(const Peer& peer) = 0;

  // Does `arrive` later, after all that was given to this for `peer` before.
  virtual void Carry(const Peer& peer, std::function<void()> arrive) = 0;

  // What is on its way between the two is lost; each side learns of it later.
  void BreakLane(Peer& peer, const std::string& why);

  void PeerSet(Peer& peer) override;
  void PeerGone(Peer& peer) override;

 private:
  struct Lane {
    std::shared_ptr<bool> open;  // of both sides; null: not connected
    std::weak_ptr<PostedMessagesCore> other;
    std::deque<std::string> waiting;
    size_t waiting_bytes = 0;
  };

  std::shared_ptr<PostedMessagesCore> Self() {
    return std::static_pointer_cast<PostedMessagesCore>(shared_from_this());
  }
  void ConnectLane(Peer& peer);
  void Flush(const Peer& peer, Lane& lane);
  void Lost(PeerId id, const absl::Status& why);
  void Closed(PeerId id, const std::shared_ptr<bool>& open, const absl::Status& why);

  MessageHandler* handler_ = nullptr;
  absl::flat_hash_map<PeerId, Lane> lanes_;  // of the peers that are set
};

class PostedMessagesPlane : public PostingDataPlane {
 public:
  PostedMessagesPlane(Executor& executor, std::shared_ptr<PostedMessagesCore> core)
      : PostingDataPlane(executor, core), core_(std::move(core)) {}

  void SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) final;
  void SetMessageHandler(MessageHandler* handler) final;

 private:
  const std::shared_ptr<PostedMessagesCore> core_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_POSTED_MESSAGES_H_
