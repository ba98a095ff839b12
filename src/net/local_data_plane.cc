#include "net/local_data_plane.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace causeway {

class LocalPlaneCore;

// Touched on the executor only, but for the number of the next plane, which Add takes there too.
struct LocalDataHub::State {
  int next = 0;
  absl::flat_hash_map<std::string, LocalPlaneCore*> planes;  // by address
};

class LocalPlaneCore final : public PostedMessagesCore {
 public:
  using Planes = absl::flat_hash_map<std::string, LocalPlaneCore*>;

  // `planes` lives as long as `hub`.
  LocalPlaneCore(Executor& executor, std::shared_ptr<void> hub, Planes* planes, std::string address, PeerId self,
                 int connections)
      : PostedMessagesCore(self),
        executor_(executor),
        hub_(std::move(hub)),
        planes_(*planes),
        address_(std::move(address)),
        connections_(connections) {}

  void Shutdown() override {
    planes_.erase(address_);
    PostedMessagesCore::Shutdown();
  }

 private:
  void Attend(Peer& peer) override {
    if (!peer.mux.connected() && Dials(peer) && peer.mux.WantsConnection()) Dial(peer);
    if (peer.mux.connected()) ScheduleMove(peer.id);
  }

  void Disconnect(Peer& peer) override {
    if (!peer.mux.connected()) return;
    LocalPlaneCore* const other = OtherSide(peer);
    Peer* const us = other == nullptr ? nullptr : other->Find(self());
    if (us == nullptr || !us->mux.connected()) return;
    us->mux.Disconnected(absl::UnavailableError(absl::StrCat(address_, " has closed the data connection")));
  }

  void PeerSet(Peer& peer) override {
    PostedMessagesCore::PeerSet(peer);
    LocalPlaneCore* const other = OtherSide(peer);
    if (other == nullptr || Dials(peer)) return;
    if (Peer* const us = other->Find(self())) other->Attend(*us);
  }

  PostedMessagesCore* MessagesTo(const Peer& peer) override { return OtherSide(peer); }
  void Carry(const Peer& /*peer*/, std::function<void()> arrive) override { executor_.Post(std::move(arrive)); }

  LocalPlaneCore* OtherSide(const Peer& peer) const {
    const auto it = planes_.find(peer.address);
    return it == planes_.end() || it->second->self() != peer.id ? nullptr : it->second;
  }

  void Dial(Peer& peer) {
    LocalPlaneCore* const other = OtherSide(peer);
    if (other == nullptr) {
      return peer.mux.Disconnected(absl::UnavailableError(absl::StrCat("nobody listens on ", peer.address)));
    }
    Peer* const us = other->Find(self());
    if (us == nullptr || us->key != peer.key) return;
    peer.mux.Connected();
    us->mux.Connected();
    for (int i = 1; i < std::min(connections_, other->connections_); ++i) {
      peer.mux.AddConnection();
      us->mux.AddConnection();
    }
    other->ScheduleMove(self());
  }

  // Moves one batch on each connection to the other side in a task of its own, and schedules the next.
  void ScheduleMove(PeerId id) {
    if (!moving_.insert(id).second) return;
    executor_.Post([self = std::static_pointer_cast<LocalPlaneCore>(shared_from_this()), id] {
      self->moving_.erase(id);
      self->Move(id);
    });
  }

  void Move(PeerId id) {
    Peer* const peer = Find(id);
    if (peer == nullptr || !peer->mux.connected()) return;
    LocalPlaneCore* const other = OtherSide(*peer);
    Peer* const us = other == nullptr ? nullptr : other->Find(self());
    if (us == nullptr || !us->mux.connected()) return;
    const int connections = std::min(connections_, other->connections_);
    // Each takes its batch before the first one arrives.
    for (int i = 0; i < connections; ++i) peer->mux.WriteBuffers(i);
    size_t moved = 0;
    for (int i = connections - 1; i >= 0; --i) {
      size_t written = 0;
      for (const iovec& part : peer->mux.WriteBuffers(i)) {
        const absl::Status breach =
            Feed(us->mux, absl::MakeConstSpan(static_cast<const char*>(part.iov_base), part.iov_len), i);
        if (!breach.ok()) {
          const absl::Status why = absl::UnavailableError(breach.message());
          peer->mux.Disconnected(why);
          us->mux.Disconnected(why);
          return;
        }
        written += part.iov_len;
      }
      peer->mux.Written(written, i);
      moved += written;
    }
    if (moved == 0) return;
    ScheduleMove(id);
    other->ScheduleMove(self());
  }

  static absl::Status Feed(StreamMux& mux, absl::Span<const char> bytes, int connection) {
    while (!bytes.empty()) {
      std::array<iovec, 2> room;
      const int count = mux.ReadBuffers(room, connection);
      size_t filled = 0;
      for (int i = 0; i < count; ++i) {
        const size_t n = std::min(room[i].iov_len, bytes.size());
        std::memcpy(room[i].iov_base, bytes.data(), n);
        bytes.remove_prefix(n);
        filled += n;
      }
      if (absl::Status breach = mux.Filled(filled, connection); !breach.ok()) return breach;
    }
    return absl::OkStatus();
  }

  Executor& executor_;
  const std::shared_ptr<void> hub_;
  Planes& planes_;
  const std::string address_;
  const int connections_;
  absl::flat_hash_set<PeerId> moving_;  // peers for whom a Move is posted
};

LocalDataHub::LocalDataHub(Executor& executor) : executor_(executor), state_(std::make_shared<State>()) {}

std::unique_ptr<LocalDataPlane> LocalDataHub::Add(PeerId self, int connections) {
  std::string address;
  std::shared_ptr<LocalPlaneCore> core;
  executor_.RunAndWait([&] {
    address = absl::StrCat("local:", state_->next++);
    core = std::make_shared<LocalPlaneCore>(executor_, state_, &state_->planes, address, self, connections);
    state_->planes[address] = core.get();
  });
  return std::unique_ptr<LocalDataPlane>(new LocalDataPlane(executor_, std::move(core), std::move(address)));
}

}  // namespace causeway
