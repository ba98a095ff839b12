#include "net/socket_data_plane.h"

#include <algorithm>
#include <asio/steady_timer.hpp>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "net/data_connection.h"
#include "net/sockets.h"

namespace causeway {
namespace {

// Keys are compared without a branch that depends on their bytes.
bool SameKey(uint64_t a, uint64_t b) { return (a ^ b) == 0; }

class SocketPlaneCore final : public PlaneCore {
 public:
  SocketPlaneCore(IoThread& io, MessageLanes& lanes, std::shared_ptr<SocketListener> listener,
                  const SocketDataPlaneOptions& options)
      : PlaneCore(options.self), io_(io), lanes_(lanes), listener_(std::move(listener)), options_(options) {}

  void Listen() {
    listener_->Start([weak = std::weak_ptr<SocketPlaneCore>(Self())](Socket socket) {
      if (const auto self = weak.lock()) self->Accept(std::move(socket));
    });
  }

  void Shutdown() override {
    if (listener_ != nullptr) listener_->Stop();
    // Its socket must not outlive the I/O thread, as a posted call may keep the core.
    listener_ = nullptr;
    for (Visitor& visitor : visitors_) visitor.connection->Close();
    visitors_.clear();
    redials_.clear();
    for (auto& [peer, dial] : lane_dials_) {
      if (dial.connection != nullptr) dial.connection->Close();
    }
    lane_dials_.clear();
    PlaneCore::Shutdown();
  }

 private:
  // How far the connection to a peer is. None of it: not in links_.
  struct Connected {
    uint64_t attempt;                            // tells an old attempt's callbacks from those of the present one
    std::shared_ptr<DataConnection> connection;  // null while it is being dialled
  };
  // An accepted connection that is not let in yet.
  struct Visitor {
    std::shared_ptr<DataConnection> connection;
    std::optional<DataHello> hello;
  };
  using Visitors = std::list<Visitor>;
  // On the way to a lane that this side makes.
  struct LaneDial {
    uint64_t attempt = 0;
    std::shared_ptr<DataConnection> connection;  // whose answer is awaited
    std::unique_ptr<asio::steady_timer> again;
  };

  std::shared_ptr<SocketPlaneCore> Self() { return std::static_pointer_cast<SocketPlaneCore>(shared_from_this()); }

  // ---- what the base class asks

  void Attend(Peer& peer) override {
    const auto it = links_.find(peer.id);
    if (it == links_.end()) {
      if (Dials(peer) && peer.mux.WantsConnection()) Dial(peer);
    } else if (peer.mux.connected()) {
      // Held: a failed write closes the connection and drops it from links_.
      const std::shared_ptr<DataConnection> connection = it->second.connection;
      connection->Flush();
    }
  }

  void Disconnect(Peer& peer) override {
    const auto it = links_.find(peer.id);
    if (it == links_.end()) return;
    if (it->second.connection != nullptr) it->second.connection->Close();
    links_.erase(it);
  }

  void PeerSet(Peer& peer) override {
    if (HasLane(peer)) {
      lanes_.Know(peer.id);
      if (Dials(peer)) DialLane(peer);
    }
    for (auto it = visitors_.begin(); it != visitors_.end();) {
      const auto visitor = it++;
      if (visitor->hello.has_value() && visitor->hello->from == peer.id) TryAdmit(visitor);
    }
  }

  void PeerGone(Peer& peer, const absl::Status& why) override {
    const auto dial = lane_dials_.find(peer.id);
    if (dial != lane_dials_.end()) {
      if (dial->second.connection != nullptr) dial->second.connection->Close();
      lane_dials_.erase(dial);
    }
    lanes_.Forget(peer.id, why);
  }

  // ---- messages

  // Only workers have anything to say to one another.
  bool HasLane(const Peer& peer) const { return peer.id != kControllerPeer && self() != kControllerPeer; }

  void DialLane(Peer& peer) {
    LaneDial& dial = lane_dials_[peer.id];
    dial.attempt = ++attempts_;
    dial.again = nullptr;
    Connect(&io_, peer.address, options_.dial_timeout,
            [self = Self(), id = peer.id, attempt = dial.attempt](absl::StatusOr<Socket> socket) {
              self->LaneDialled(id, attempt, std::move(socket));
            });
  }

  LaneDial* CurrentLaneDial(PeerId id, uint64_t attempt) {
    const auto found = lane_dials_.find(id);
    return found != lane_dials_.end() && found->second.attempt == attempt && Find(id) != nullptr ? &found->second
                                                                                                 : nullptr;
  }

  void LaneDialled(PeerId id, uint64_t attempt, absl::StatusOr<Socket> socket) {
    LaneDial* const dial = CurrentLaneDial(id, attempt);
    if (dial == nullptr) return;
    if (!socket.ok()) return DialLaneLater(id);
    dial->connection = std::make_shared<DataConnection>(io_, *std::move(socket));
    const DataHello hello{.from = self(), .to = id, .key = Find(id)->key, .lane = DataLane::kMessages};
    if (!dial->connection->SayHello(hello).ok()) return DialLaneLater(id);
    dial->connection->HearHello(options_.dial_timeout, [self = Self(), id, attempt](absl::StatusOr<DataHello> answer) {
      if (self->CurrentLaneDial(id, attempt) != nullptr) self->LaneAnswered(id, std::move(answer));
    });
  }

  void LaneAnswered(PeerId id, absl::StatusOr<DataHello> hello) {
    const bool good = hello.ok() && hello->refusal == absl::StatusCode::kOk && hello->from == id &&
                      hello->to == self() && SameKey(hello->key, Find(id)->key) && hello->lane == DataLane::kMessages;
    if (!good) return DialLaneLater(id);
    const std::shared_ptr<DataConnection> connection = std::move(lane_dials_[id].connection);
    JoinLane(id, *connection);
  }

  void DialLaneLater(PeerId id) {
    LaneDial& dial = lane_dials_[id];
    if (dial.connection != nullptr) dial.connection->Close();
    dial.connection = nullptr;
    dial.again = std::make_unique<asio::steady_timer>(io_.context(), absl::ToChronoNanoseconds(options_.redial_delay));
    dial.again->async_wait([self = Self(), id, attempt = dial.attempt](asio::error_code error) {
      if (!error && self->CurrentLaneDial(id, attempt) != nullptr) self->DialLane(*self->Find(id));
    });
  }

  void JoinLane(PeerId id, DataConnection& connection) {
    lanes_.Attach(id, connection.Release(), [self = Self(), id] {
      self->io_.Post([self, id] {
        Peer* const peer = self->Find(id);
        if (peer != nullptr && self->Dials(*peer)) self->DialLaneLater(id);
      });
    });
  }

  // ---- this side dials

  void Dial(Peer& peer) {
    const uint64_t attempt = ++attempts_;
    links_[peer.id] = {.attempt = attempt};
    Connect(&io_, peer.address, options_.dial_timeout,
            [self = Self(), id = peer.id, attempt](absl::StatusOr<Socket> socket) {
              self->Dialled(id, attempt, std::move(socket));
            });
  }

  // The peer, if `attempt` is still the one that counts.
  Peer* Current(PeerId id, uint64_t attempt) {
    const auto it = links_.find(id);
    return it != links_.end() && it->second.attempt == attempt ? Find(id) : nullptr;
  }

  void Dialled(PeerId id, uint64_t attempt, absl::StatusOr<Socket> socket) {
    Peer* const peer = Current(id, attempt);
    if (peer == nullptr) return;
    if (!socket.ok()) return Fail(*peer, absl::UnavailableError(socket.status().message()));
    auto connection = std::make_shared<DataConnection>(io_, *std::move(socket));
    links_[id].connection = connection;
    const absl::Status said = connection->SayHello({.from = self(), .to = id, .key = peer->key});
    if (!said.ok()) return Fail(*peer, said);
    connection->HearHello(options_.dial_timeout, [self = Self(), id, attempt](absl::StatusOr<DataHello> hello) {
      if (Peer* const peer = self->Current(id, attempt)) self->Answered(*peer, attempt, std::move(hello));
    });
  }

  void Answered(Peer& peer, uint64_t attempt, absl::StatusOr<DataHello> hello) {
    absl::Status status = hello.status();
    if (hello.ok() && hello->refusal != absl::StatusCode::kOk) {
      status = absl::Status(hello->refusal, "it refuses the connection; its log says why");
    } else if (hello.ok() && (hello->from != peer.id || hello->to != self() || !SameKey(hello->key, peer.key))) {
      status = absl::PermissionDeniedError("somebody else listens there");
    }
    if (status.ok()) return Join(peer, attempt, links_[peer.id].connection);
    Log(LogLevel::kWarning, absl::StrCat("no data connection to peer ", static_cast<int>(peer.id), " at ", peer.address,
                                         ": ", status.ToString()));
    Fail(peer, status);
  }

  void Fail(Peer& peer, const absl::Status& why) {
    Disconnect(peer);
    peer.mux.Disconnected(absl::UnavailableError(absl::StrCat("no data connection to peer ", static_cast<int>(peer.id),
                                                              " at ", peer.address, ": ", why.message())));
    if (peer.mux.WantsConnection()) RedialLater(peer.id);
  }

  // What ended by it has to be told, or the other side may wait for ever for a stream that it begins only now. If the
  // peer is gone for good, it will be dropped.
  void RedialLater(PeerId id) {
    auto& timer = redials_[id];
    timer = std::make_unique<asio::steady_timer>(io_.context(), absl::ToChronoNanoseconds(options_.redial_delay));
    timer->async_wait([self = Self(), id](asio::error_code error) {
      if (error) return;
      self->redials_.erase(id);
      Peer* const peer = self->Find(id);
      if (peer != nullptr && !self->links_.contains(id)) self->Attend(*peer);
    });
  }

  // ---- the other side dials

  void Accept(Socket socket) {
    if (visitors_.size() >= static_cast<size_t>(std::max(1, options_.max_waiting))) {
      Refuse(visitors_.begin(), absl::ResourceExhaustedError("too many connections wait to be let in"));
    }
    const auto visitor =
        visitors_.insert(visitors_.end(), {std::make_shared<DataConnection>(io_, std::move(socket)), {}});
    visitor->connection->HearHello(options_.hello_timeout, [this, visitor](absl::StatusOr<DataHello> hello) {
      if (!hello.ok()) return Refuse(visitor, hello.status());
      visitor->hello = *hello;
      TryAdmit(visitor);
    });
  }

  absl::Status Check(const DataHello& hello) {
    if (hello.to != self()) return absl::NotFoundError("it looks for another process");
    const Peer* const peer = Find(hello.from);
    if (peer == nullptr) return absl::NotFoundError("that peer is not known here");
    if (Dials(*peer)) return absl::InvalidArgumentError("in this pair it is this side that connects");
    if (!SameKey(hello.key, peer->key)) return absl::PermissionDeniedError("it shows a wrong key");
    return absl::OkStatus();
  }

  // Lets a visitor in if its hello fits, else leaves it waiting.
  void TryAdmit(Visitors::iterator visitor) {
    const DataHello& hello = *visitor->hello;
    if (!Check(hello).ok()) {
      visitor->connection->After(options_.patience, [this, visitor] { Refuse(visitor, Check(*visitor->hello)); });
      return;
    }
    Peer& peer = *Find(hello.from);
    const std::shared_ptr<DataConnection> connection = std::move(visitor->connection);
    const DataLane lane = hello.lane;
    visitors_.erase(visitor);
    if (lane == DataLane::kMessages) {
      const DataHello answer{.from = self(), .to = peer.id, .key = peer.key, .lane = lane};
      if (!connection->SayHello(answer).ok()) return connection->Close();
      return JoinLane(peer.id, *connection);
    }
    const bool had_connection = peer.mux.connected();
    Disconnect(peer);
    if (had_connection) {
      peer.mux.Disconnected(
          absl::UnavailableError(absl::StrCat("peer ", static_cast<int>(peer.id), " has connected anew")));
    }
    if (!connection->SayHello({.from = self(), .to = peer.id, .key = peer.key}).ok()) return connection->Close();
    const uint64_t attempt = ++attempts_;
    links_[peer.id] = {.attempt = attempt, .connection = connection};
    Join(peer, attempt, connection);
  }

  void Refuse(Visitors::iterator visitor, const absl::Status& why) {
    const std::shared_ptr<DataConnection> connection = std::move(visitor->connection);
    const std::optional<DataHello> hello = visitor->hello;
    visitors_.erase(visitor);
    // Who left before saying a word is nobody's concern.
    Log(hello.has_value() || why.code() != absl::StatusCode::kUnavailable ? LogLevel::kWarning : LogLevel::kDebug,
        absl::StrCat("refused a data connection from ", connection->peer_name(),
                     hello.has_value() ? absl::StrCat(", peer ", static_cast<int>(hello->from)) : "", ": ",
                     why.ToString()));
    // The key is not said to whom is refused.
    if (hello.has_value()) {
      (void)connection->SayHello({.from = self(), .to = hello->from, .refusal = why.code()});
    }
    connection->Close();
  }

  // ---- connected

  void Join(Peer& peer, uint64_t attempt, const std::shared_ptr<DataConnection>& connection) {
    peer.mux.Connected();
    connection->Attach(&peer.mux, [self = Self(), id = peer.id, attempt](absl::Status why) {
      if (Peer* const peer = self->Current(id, attempt)) self->Lost(*peer, why);
    });
  }

  void Lost(Peer& peer, const absl::Status& why) {
    if (why.code() == absl::StatusCode::kInvalidArgument) Log(LogLevel::kWarning, why.message());
    Disconnect(peer);
    peer.mux.Disconnected(absl::UnavailableError(
        absl::StrCat("the data connection to peer ", static_cast<int>(peer.id), " is lost: ", why.message())));
    // What ended by it has to be told, or the other side may wait for a stream that was begun here just before.
    Attend(peer);
  }

  IoThread& io_;
  MessageLanes& lanes_;  // not touched after Shutdown
  std::shared_ptr<SocketListener> listener_;
  const SocketDataPlaneOptions options_;
  absl::flat_hash_map<PeerId, Connected> links_;
  Visitors visitors_;  // oldest first
  absl::flat_hash_map<PeerId, std::unique_ptr<asio::steady_timer>> redials_;
  absl::flat_hash_map<PeerId, LaneDial> lane_dials_;
  uint64_t attempts_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SocketDataPlane>> SocketDataPlane::Start(const SocketDataPlaneOptions& options) {
  auto io = std::make_unique<IoThread>("data-plane");
  ASSIGN_OR_RETURN(std::shared_ptr<SocketListener> listener, SocketListener::Listen(io.get(), options.listen_address));
  std::string address = listener->address();
  auto lanes = std::make_unique<MessageLanes>(options.message_patience);
  auto core = std::make_shared<SocketPlaneCore>(*io, *lanes, std::move(listener), options);
  core->Listen();
  return std::unique_ptr<SocketDataPlane>(
      new SocketDataPlane(std::move(io), std::move(lanes), std::move(core), std::move(address)));
}

SocketDataPlane::SocketDataPlane(std::unique_ptr<IoThread> io, std::unique_ptr<MessageLanes> lanes,
                                 std::shared_ptr<PlaneCore> core, std::string listen_address)
    : PostingDataPlane(*io, std::move(core)),
      io_(std::move(io)),
      lanes_(std::move(lanes)),
      listen_address_(std::move(listen_address)) {}

SocketDataPlane::~SocketDataPlane() {
  lanes_->SetHandler(nullptr);
  Stop();
}

void SocketDataPlane::SetSelf(PeerId self) {
  io_->Post([core = core(), self] { core->SetSelf(self); });
}

}  // namespace causeway
