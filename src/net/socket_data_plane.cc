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
  SocketPlaneCore(IoThread& io, std::shared_ptr<SocketListener> listener, const SocketDataPlaneOptions& options)
      : PlaneCore(options.self), io_(io), listener_(std::move(listener)), options_(options) {}

  void Listen(std::shared_ptr<MessageLanes> lanes) {
    messages_ = std::move(lanes);
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
    PlaneCore::Shutdown();
  }

  // The lane that `attempt` has made is lost; where the other side dials, it does so again.
  void LaneLost(PeerId id, uint64_t attempt) {
    if (CurrentLane(id, attempt) != nullptr) RedialLane(id);
  }

 private:
  // How far the connections to a peer are. None of it: not in links_.
  struct Connected {
    uint64_t attempt;  // tells an old attempt's callbacks from those of the present one
    uint32_t set;      // as the hellos call it
    int most = 1;      // connections that both sides would have
    bool more_dialled = false;
    // By their index in the set. Null: is being dialled, or could not be made.
    std::vector<std::shared_ptr<DataConnection>> connections = std::vector<std::shared_ptr<DataConnection>>(1);
  };
  // How far the lane to a peer is, where this side dials.
  struct LaneLink {
    uint64_t attempt;
    std::shared_ptr<DataConnection> connection;  // until its socket is given to `messages_`
    std::unique_ptr<asio::steady_timer> redial;
  };
  // An accepted connection that is not let in yet.
  struct Visitor {
    std::shared_ptr<DataConnection> connection;
    std::optional<DataHello> hello;
  };
  using Visitors = std::list<Visitor>;

  std::shared_ptr<SocketPlaneCore> Self() { return std::static_pointer_cast<SocketPlaneCore>(shared_from_this()); }

  // ---- what the base class asks

  void Attend(Peer& peer) override {
    const auto it = links_.find(peer.id);
    if (it == links_.end()) {
      if (Dials(peer) && peer.mux.WantsConnection()) Dial(peer);
    } else if (peer.mux.connected()) {
      DialMore(peer, it->second);
      Flush(peer.id);
    }
  }

  void Flush(PeerId id) {
    const auto it = links_.find(id);
    if (it == links_.end()) return;
    // Held: a failed write closes all of them and drops them from links_.
    if (it->second.connections.size() == 1) {
      const std::shared_ptr<DataConnection> connection = it->second.connections.front();
      if (connection != nullptr) connection->Flush();
      return;
    }
    const std::vector<std::shared_ptr<DataConnection>> connections = it->second.connections;
    for (const auto& connection : connections) {
      if (connection != nullptr) connection->Flush();
    }
  }

  void Disconnect(Peer& peer) override {
    const auto it = links_.find(peer.id);
    if (it == links_.end()) return;
    for (const auto& connection : it->second.connections) {
      if (connection != nullptr) connection->Close();
    }
    links_.erase(it);
  }

  void PeerSet(Peer& peer) override {
    for (auto it = visitors_.begin(); it != visitors_.end();) {
      const auto visitor = it++;
      if (visitor->hello.has_value() && visitor->hello->from == peer.id) TryAdmit(visitor);
    }
    if (Dials(peer) && HasLane(peer.id)) DialLane(peer);
  }

  void PeerGone(Peer& peer) override {
    const auto it = lanes_.find(peer.id);
    if (it == lanes_.end()) return;
    if (it->second.connection != nullptr) it->second.connection->Close();
    lanes_.erase(it);
  }

  // ---- this side dials

  void Dial(Peer& peer) {
    const uint64_t attempt = ++attempts_;
    links_[peer.id] = {.attempt = attempt, .set = static_cast<uint32_t>(attempt)};
    DialOne(peer, attempt, /*index=*/0);
  }

  // Adds to the first connection, once there is something that is worth it.
  void DialMore(Peer& peer, Connected& link) {
    if (link.most == 1 || link.more_dialled || !Dials(peer) ||
        peer.mux.largest_stream() < options_.large_stream_bytes) {
      return;
    }
    link.more_dialled = true;
    link.connections.resize(link.most);
    for (int index = 1; index < link.most; ++index) DialOne(peer, link.attempt, index);
  }

  void DialOne(const Peer& peer, uint64_t attempt, int index) {
    Connect(&io_, peer.address, options_.dial_timeout,
            [self = Self(), id = peer.id, attempt, index](absl::StatusOr<Socket> socket) {
              if (Peer* const peer = self->Current(id, attempt)) self->Dialled(*peer, index, std::move(socket));
            });
  }

  // The peer, if `attempt` is still the one that counts.
  Peer* Current(PeerId id, uint64_t attempt) {
    const auto it = links_.find(id);
    return it != links_.end() && it->second.attempt == attempt ? Find(id) : nullptr;
  }

  void Dialled(Peer& peer, int index, absl::StatusOr<Socket> socket) {
    if (!socket.ok()) return Fail(peer, index, absl::UnavailableError(socket.status().message()));
    Connected& link = links_[peer.id];
    const auto connection = std::make_shared<DataConnection>(io_, *std::move(socket));
    link.connections[index] = connection;
    const absl::Status said = connection->SayHello(StreamsHello(peer, index, link.set));
    if (!said.ok()) return Fail(peer, index, said);
    connection->HearHello(options_.dial_timeout, [self = Self(), id = peer.id, attempt = link.attempt,
                                                  index](absl::StatusOr<DataHello> hello) {
      if (Peer* const peer = self->Current(id, attempt)) self->Answered(*peer, index, hello);
    });
  }

  DataHello StreamsHello(const Peer& peer, int index, uint32_t set) const {
    return {.from = self(),
            .to = peer.id,
            .key = peer.key,
            .connections = options_.connections,
            .index = index,
            .set = set};
  }

  // `said` is what was answered.
  absl::Status CheckAnswer(const Peer& peer, const DataHello& said, const absl::StatusOr<DataHello>& hello) const {
    if (!hello.ok()) return hello.status();
    if (hello->refusal != absl::StatusCode::kOk) {
      return absl::Status(hello->refusal, "it refuses the connection; its log says why");
    }
    if (hello->from != peer.id || hello->to != self() || !SameKey(hello->key, peer.key) || hello->lane != said.lane ||
        hello->index != said.index || hello->set != said.set) {
      return absl::PermissionDeniedError("somebody else listens there");
    }
    return absl::OkStatus();
  }

  void Answered(Peer& peer, int index, const absl::StatusOr<DataHello>& hello) {
    Connected& link = links_[peer.id];
    const absl::Status status = CheckAnswer(peer, StreamsHello(peer, index, link.set), hello);
    if (status.ok()) {
      if (index == 0) link.most = std::min(options_.connections, hello->connections);
      return Join(peer, index);
    }
    if (index == 0) {
      Log(LogLevel::kWarning, absl::StrCat("no data connection to peer ", static_cast<int>(peer.id), " at ",
                                           peer.address, ": ", status.ToString()));
    }
    Fail(peer, index, status);
  }

  void Fail(Peer& peer, int index, const absl::Status& why) {
    if (index > 0) return FailMore(peer, index, why);
    Disconnect(peer);
    peer.mux.Disconnected(absl::UnavailableError(absl::StrCat("no data connection to peer ", static_cast<int>(peer.id),
                                                              " at ", peer.address, ": ", why.message())));
    if (peer.mux.WantsConnection()) RedialLater(peer.id);
  }

  // The pair goes on with the connections that it has.
  void FailMore(const Peer& peer, int index, const absl::Status& why) {
    Log(LogLevel::kWarning,
        absl::StrCat("data connection ", index + 1, " of ", links_[peer.id].most, " to peer ",
                     static_cast<int>(peer.id), " at ", peer.address, " cannot be made: ", why.ToString()));
    std::shared_ptr<DataConnection>& connection = links_[peer.id].connections[index];
    if (connection != nullptr) connection->Close();
    connection = nullptr;
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

  // ---- this side dials the lane of messages: at once, and without a word as long as it fails

  // Only workers have messages for each other.
  bool HasLane(PeerId id) const { return id != kControllerPeer && self() != kControllerPeer; }

  void DialLane(Peer& peer) {
    const uint64_t attempt = ++attempts_;
    lanes_[peer.id] = {.attempt = attempt};
    Connect(&io_, peer.address, options_.dial_timeout,
            [self = Self(), id = peer.id, attempt](absl::StatusOr<Socket> socket) {
              if (Peer* const peer = self->CurrentLane(id, attempt)) self->LaneDialled(*peer, std::move(socket));
            });
  }

  Peer* CurrentLane(PeerId id, uint64_t attempt) {
    const auto it = lanes_.find(id);
    return it != lanes_.end() && it->second.attempt == attempt ? Find(id) : nullptr;
  }

  void LaneDialled(Peer& peer, absl::StatusOr<Socket> socket) {
    if (!socket.ok()) return LaneFailed(peer, socket.status());
    LaneLink& link = lanes_[peer.id];
    link.connection = std::make_shared<DataConnection>(io_, *std::move(socket));
    const absl::Status said =
        link.connection->SayHello({.from = self(), .to = peer.id, .key = peer.key, .lane = DataLane::kMessages});
    if (!said.ok()) return LaneFailed(peer, said);
    link.connection->HearHello(options_.dial_timeout,
                               [self = Self(), id = peer.id, attempt = link.attempt](absl::StatusOr<DataHello> hello) {
                                 if (Peer* const peer = self->CurrentLane(id, attempt))
                                   self->LaneAnswered(*peer, hello);
                               });
  }

  void LaneAnswered(Peer& peer, const absl::StatusOr<DataHello>& hello) {
    const absl::Status status = CheckAnswer(peer, {.lane = DataLane::kMessages}, hello);
    if (!status.ok()) return LaneFailed(peer, status);
    LaneLink& link = lanes_[peer.id];
    AttachLane(peer, link.attempt, std::exchange(link.connection, nullptr));
  }

  void LaneFailed(Peer& peer, const absl::Status& why) {
    Log(LogLevel::kDebug, absl::StrCat("no lane of messages to peer ", static_cast<int>(peer.id), " at ", peer.address,
                                       ": ", why.ToString()));
    RedialLane(peer.id);
  }

  void AttachLane(const Peer& peer, uint64_t attempt, const std::shared_ptr<DataConnection>& connection) {
    const absl::StatusOr<int> fd = connection->Release();
    if (fd.ok()) {
      messages_->Attach(peer.id, peer.address, peer.key, attempt, *fd);
    } else {
      LaneLost(peer.id, attempt);
    }
  }

  void RedialLane(PeerId id) {
    LaneLink& link = lanes_[id];
    if (link.connection != nullptr) std::exchange(link.connection, nullptr)->Close();
    link.redial = std::make_unique<asio::steady_timer>(io_.context(), absl::ToChronoNanoseconds(options_.redial_delay));
    link.redial->async_wait([self = Self(), id, attempt = link.attempt](asio::error_code error) {
      Peer* const peer = error ? nullptr : self->CurrentLane(id, attempt);
      if (peer != nullptr) self->DialLane(*peer);
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
    if (hello.lane == DataLane::kMessages && !HasLane(peer->id)) {
      return absl::InvalidArgumentError("messages are only for workers");
    }
    return hello.lane == DataLane::kStreams && hello.index > 0 ? CheckMore(hello) : absl::OkStatus();
  }

  // One more of the connections that the peer has already.
  absl::Status CheckMore(const DataHello& hello) {
    const auto it = links_.find(hello.from);
    if (it == links_.end() || it->second.set != hello.set) {
      return absl::NotFoundError("the connection that it would add to is gone");
    }
    const std::vector<std::shared_ptr<DataConnection>>& connections = it->second.connections;
    const auto index = static_cast<size_t>(hello.index);
    if (hello.index >= it->second.most || (index < connections.size() && connections[index] != nullptr)) {
      return absl::ResourceExhaustedError("the pair has all its connections");
    }
    return absl::OkStatus();
  }

  // Lets a visitor in if its hello fits, else leaves it waiting.
  void TryAdmit(Visitors::iterator visitor) {
    const DataHello hello = *visitor->hello;
    if (!Check(hello).ok()) {
      visitor->connection->After(options_.patience, [this, visitor] { Refuse(visitor, Check(*visitor->hello)); });
      return;
    }
    Peer& peer = *Find(hello.from);
    const std::shared_ptr<DataConnection> connection = std::move(visitor->connection);
    const DataLane lane = hello.lane;
    visitors_.erase(visitor);
    if (lane == DataLane::kMessages) {
      const DataHello welcome{.from = self(), .to = peer.id, .key = peer.key, .lane = lane};
      if (!connection->SayHello(welcome).ok()) return connection->Close();
      return AttachLane(peer, ++attempts_, connection);
    }
    if (hello.index > 0) return AdmitMore(peer, hello, connection);
    const bool had_connection = peer.mux.connected();
    Disconnect(peer);
    if (had_connection) {
      peer.mux.Disconnected(
          absl::UnavailableError(absl::StrCat("peer ", static_cast<int>(peer.id), " has connected anew")));
    }
    if (!connection->SayHello(StreamsHello(peer, /*index=*/0, hello.set)).ok()) return connection->Close();
    links_[peer.id] = {.attempt = ++attempts_,
                       .set = hello.set,
                       .most = std::min(options_.connections, hello.connections),
                       .connections = {connection}};
    Join(peer, /*index=*/0);
  }

  void AdmitMore(Peer& peer, const DataHello& hello, const std::shared_ptr<DataConnection>& connection) {
    if (!connection->SayHello(StreamsHello(peer, hello.index, hello.set)).ok()) return connection->Close();
    auto& connections = links_[peer.id].connections;
    if (connections.size() <= static_cast<size_t>(hello.index)) connections.resize(hello.index + 1);
    connections[hello.index] = connection;
    Join(peer, hello.index);
  }

  void Refuse(Visitors::iterator visitor, const absl::Status& why) {
    const std::shared_ptr<DataConnection> connection = std::move(visitor->connection);
    const std::optional<DataHello> hello = visitor->hello;
    visitors_.erase(visitor);
    // Who left before saying a word is nobody's concern, nor who keeps asking for messages from where they are not
    // known.
    const bool quiet = hello.has_value()
                           ? hello->lane == DataLane::kMessages && why.code() == absl::StatusCode::kNotFound
                           : why.code() == absl::StatusCode::kUnavailable;
    Log(quiet ? LogLevel::kDebug : LogLevel::kWarning,
        absl::StrCat("refused a data connection from ", connection->peer_name(),
                     hello.has_value() ? absl::StrCat(", peer ", static_cast<int>(hello->from)) : "", ": ",
                     why.ToString()));
    // The key is not said to whom is refused.
    if (hello.has_value()) {
      (void)connection->SayHello({.from = self(), .to = hello->from, .refusal = why.code(), .lane = hello->lane});
    }
    connection->Close();
  }

  // ---- connected

  void Join(Peer& peer, int index) {
    int number = 0;
    if (index == 0) {
      peer.mux.Connected();
    } else {
      number = peer.mux.AddConnection();
    }
    const Connected& link = links_[peer.id];
    const std::shared_ptr<DataConnection> connection = link.connections[index];
    connection->Attach(
        &peer.mux, number,
        [self = Self(), id = peer.id, attempt = link.attempt](absl::Status why) {
          if (Peer* const peer = self->Current(id, attempt)) self->Lost(*peer, why);
        },
        // No connection calls it after its Close, and Shutdown closes them.
        [this, id = peer.id] { Flush(id); });
    // What there is may want more of them.
    if (index == 0) Attend(peer);
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
  std::shared_ptr<SocketListener> listener_;
  const SocketDataPlaneOptions options_;
  absl::flat_hash_map<PeerId, Connected> links_;
  absl::flat_hash_map<PeerId, LaneLink> lanes_;
  std::shared_ptr<MessageLanes> messages_;
  Visitors visitors_;  // oldest first
  absl::flat_hash_map<PeerId, std::unique_ptr<asio::steady_timer>> redials_;
  uint64_t attempts_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SocketDataPlane>> SocketDataPlane::Start(const SocketDataPlaneOptions& options) {
  if (options.connections < 1 || options.connections > kMaxDataConnections) {
    return absl::InvalidArgumentError(absl::StrCat("two processes may have 1 to ", kMaxDataConnections,
                                                   " data connections, not ", options.connections));
  }
  auto io = std::make_unique<IoThread>("data-plane");
  ASSIGN_OR_RETURN(std::shared_ptr<SocketListener> listener, SocketListener::Listen(io.get(), options.listen_address));
  std::string address = listener->address();
  auto core = std::make_shared<SocketPlaneCore>(*io, std::move(listener), options);
  ASSIGN_OR_RETURN(std::shared_ptr<MessageLanes> lanes,
                   MessageLanes::Start(
                       [io = io.get(), weak = std::weak_ptr<SocketPlaneCore>(core)](PeerId peer, uint64_t attempt) {
                         io->Post([weak, peer, attempt] {
                           if (const auto core = weak.lock()) core->LaneLost(peer, attempt);
                         });
                       },
                       options.max_waiting_message_bytes, options.message_patience));
  core->Listen(lanes);
  return std::unique_ptr<SocketDataPlane>(
      new SocketDataPlane(std::move(io), std::move(core), std::move(lanes), options.self, std::move(address)));
}

SocketDataPlane::SocketDataPlane(std::unique_ptr<IoThread> io, std::shared_ptr<PlaneCore> core,
                                 std::shared_ptr<MessageLanes> lanes, PeerId self, std::string listen_address)
    : PostingDataPlane(*io, std::move(core)),
      io_(std::move(io)),
      listen_address_(std::move(listen_address)),
      lanes_(std::move(lanes)),
      self_(self) {}

SocketDataPlane::~SocketDataPlane() {
  Stop();
  lanes_->Stop();
}

void SocketDataPlane::SetSelf(PeerId self) {
  MutexLock lock(&peers_mutex_);
  if (std::exchange(self_, self) != self) lanes_->DropAll();
  io_->Post([core = core(), self] { core->SetSelf(self); });
}

void SocketDataPlane::SetPeer(PeerId peer, std::string address, uint64_t key) {
  MutexLock lock(&peers_mutex_);
  // Only workers have messages for each other.
  if (peer != kControllerPeer && self_ != kControllerPeer) lanes_->SetPeer(peer, address, key);
  PostingDataPlane::SetPeer(peer, std::move(address), key);
}

void SocketDataPlane::DropPeer(PeerId peer) {
  MutexLock lock(&peers_mutex_);
  lanes_->DropPeer(peer);
  PostingDataPlane::DropPeer(peer);
}

void SocketDataPlane::SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) {
  lanes_->Send(peer, parts);
}

void SocketDataPlane::SetMessageHandler(MessageHandler* handler) { lanes_->SetHandler(handler); }

}  // namespace causeway
