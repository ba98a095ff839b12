// What both data planes share: the peers with their streams, and the way of a call from any thread to the one thread on
// which all of it lives. How two processes are connected is left to the derived class.
//
// Threading: PlaneCore runs on its executor only. PostingDataPlane may be called from any thread, also from sinks and
// sources: it posts.
// Lifetime: a posted call holds the core, so it may come after the plane is gone; it then ends its stream with
// CANCELLED.
#ifndef CAUSEWAY_NET_PLANE_CORE_H_
#define CAUSEWAY_NET_PLANE_CORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "net/data_plane.h"
#include "net/executor.h"
#include "net/stream_mux.h"

namespace causeway {

class PlaneCore : public std::enable_shared_from_this<PlaneCore> {
 public:
  struct Peer {
    Peer(PeerId id, std::string address, uint64_t key);

    const PeerId id;
    const std::string address;
    const uint64_t key;
    StreamMux mux;
  };

  explicit PlaneCore(PeerId self) : self_(self) {}
  virtual ~PlaneCore() = default;

  // As data_plane.h says.
  void SetPeer(PeerId id, std::string address, uint64_t key);
  void DropPeer(PeerId id);
  void Receive(PeerId id, StreamId stream, int64_t total_bytes, int64_t window_bytes, std::shared_ptr<StreamSink> sink);
  void Send(PeerId id, StreamId stream, int64_t total_bytes, std::shared_ptr<StreamSource> source);
  // Does `call` with the streams of `id`, if that peer is known.
  void WithMux(PeerId id, const std::function<void(StreamMux&)>& call);

  // Streams that have begun here and not ended.
  int open_streams() const;

  // Drops all peers and calls itself `self` from now on.
  void SetSelf(PeerId self);

  // Drops all peers; every stream has had its OnDone when this returns, and every later one ends with CANCELLED.
  virtual void Shutdown();

 protected:
  // The streams of `peer` want to be connected, or have something to write, or neither.
  virtual void Attend(Peer& peer) = 0;

  // Closes the connection to `peer`, or what is on its way to become one, without a word to its streams.
  virtual void Disconnect(Peer& peer) = 0;

  // A peer was set anew: who waits for it may come in.
  virtual void PeerSet(Peer& peer) = 0;

  // The peer is none any more; it has been disconnected.
  virtual void PeerGone(Peer& /*peer*/) {}

  PeerId self() const { return self_; }
  Peer* Find(PeerId id);
  // In this pair it is this side that dials.
  bool Dials(const Peer& peer) const { return self_ > peer.id; }

 private:
  void DropAll(const absl::Status& why);

  PeerId self_;
  bool stopped_ = false;
  absl::flat_hash_map<PeerId, std::unique_ptr<Peer>> peers_;
};

class PostingDataPlane : public DataPlane {
 public:
  // `executor` outlives the plane.
  PostingDataPlane(Executor& executor, std::shared_ptr<PlaneCore> core) : executor_(executor), core_(std::move(core)) {}

  void SetPeer(PeerId peer, std::string address, uint64_t key) override;
  void DropPeer(PeerId peer) override;
  void Receive(PeerId peer, StreamId id, int64_t total_bytes, int64_t window_bytes,
               std::shared_ptr<StreamSink> sink) final;
  void Grant(PeerId peer, StreamId id, int64_t bytes) final;
  void Send(PeerId peer, StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) final;
  void Wake(PeerId peer, StreamId id) final;
  void Cancel(PeerId peer, StreamId id, absl::Status status) final;

 protected:
  // Ends all streams, with their OnDone. For the derived destructor.
  void Stop();

  Executor& executor() { return executor_; }
  const std::shared_ptr<PlaneCore>& core() { return core_; }

 private:
  Executor& executor_;
  const std::shared_ptr<PlaneCore> core_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_PLANE_CORE_H_
