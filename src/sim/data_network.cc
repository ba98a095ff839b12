#include "sim/data_network.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <list>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace causeway::sim {
namespace {

absl::Status Feed(StreamMux& mux, int number, absl::Span<const char> bytes) {
  while (!bytes.empty()) {
    std::array<iovec, 2> room;
    const int count = mux.ReadBuffers(room, number);
    size_t filled = 0;
    for (int i = 0; i < count; ++i) {
      const size_t n = std::min(room[i].iov_len, bytes.size());
      std::memcpy(room[i].iov_base, bytes.data(), n);
      bytes.remove_prefix(n);
      filled += n;
    }
    if (absl::Status breach = mux.Filled(filled, number); !breach.ok()) return breach;
  }
  return absl::OkStatus();
}

// The connections between two planes, as both of them and what is in flight hold them.
struct Connection {
  explicit Connection(int count) {
    for (End& end : ends) end.ways.resize(count);
  }

  // What is on its way to one end, on one of them.
  struct Way {
    absl::Time last_arrival = absl::InfinitePast();
    int64_t in_flight_bytes = 0;
  };
  struct End {
    std::weak_ptr<SimulatedPlaneCore> plane;
    PeerId peer;            // what this end calls the other
    bool attached = false;  // its mux reads and writes
    bool closed = false;    // its plane has let go of it
    uint64_t attempt = 0;   // of the end that dialled: by which it waits to be let in
    std::vector<Way> ways;  // by the number of the connection
  };

  // No more is sent; of what is in flight, what arrives after this does not.
  bool broken = false;
  absl::Time cut = absl::InfiniteFuture();
  std::array<End, 2> ends;
};

}  // namespace

// ---------------------------------------------------------------- one plane

class SimulatedPlaneCore final : public PostedMessagesCore {
 public:
  SimulatedPlaneCore(DataNetwork& network, std::string address, PeerId self)
      : PostedMessagesCore(self), network_(network), address_(std::move(address)) {}

  void Shutdown() override {
    network_.planes_.erase(address_);
    visitors_.clear();
    PostedMessagesCore::Shutdown();
  }

  // The connection to the plane at `address`, cut.
  bool Break(const std::string& address) {
    for (auto& [id, link] : links_) {
      const Peer* const peer = Find(id);
      if (link.connection == nullptr || peer == nullptr || AddressOf(*link.connection, link.end) != address) continue;
      Cut(link.connection);
      if (Peer* const broken = Find(id)) BreakLane(*broken, "it broke");
      return true;
    }
    return false;
  }

 private:
  using ConnectionRef = std::shared_ptr<Connection>;

  // How far the connection to a peer is.
  struct Link {
    uint64_t attempt = 0;      // tells an old attempt's calls from those of the present one
    ConnectionRef connection;  // null while it is being dialled
    int end = 0;               // which of its ends is ours
  };
  // A plane that has dialled us and is not let in yet.
  struct Visitor {
    uint64_t number;
    std::weak_ptr<SimulatedPlaneCore> from;
    std::string address;
    PeerId self;
    PeerId wants;
    uint64_t key;
    uint64_t attempt;  // its own
  };

  std::shared_ptr<SimulatedPlaneCore> Self() {
    return std::static_pointer_cast<SimulatedPlaneCore>(shared_from_this());
  }
  World& world() { return network_.world_; }
  absl::Duration Delay() { return world().random().Delay(network_.options_.delay); }

  // ---- what the base class asks

  void Attend(Peer& peer) override {
    const auto found = links_.find(peer.id);
    if (found == links_.end()) {
      if (Dials(peer) && peer.mux.WantsConnection()) Dial(peer);
    } else if (peer.mux.connected()) {
      Pump(peer.id);
    }
  }

  void Disconnect(Peer& peer) override {
    const auto found = links_.find(peer.id);
    if (found == links_.end()) return;
    const Link link = std::move(found->second);
    links_.erase(found);
    if (link.connection != nullptr) Close(link.connection, link.end);
  }

  void PeerSet(Peer& peer) override {
    PostedMessagesCore::PeerSet(peer);
    for (const Visitor& visitor : std::list<Visitor>(visitors_)) {
      if (visitor.self == peer.id) TryAdmit(visitor.number);
    }
  }

  PostedMessagesCore* MessagesTo(const Peer& peer) override {
    const auto found = network_.planes_.find(peer.address);
    return found == network_.planes_.end() || found->second->self() != peer.id ? nullptr : found->second;
  }

  void Carry(const Peer& peer, std::function<void()> arrive) override {
    absl::Time& last = last_messages_.try_emplace(peer.id, absl::InfinitePast()).first->second;
    last = std::max(last, world().Now() + Delay());
    world().At(last, std::move(arrive));
  }

  // ---- this side dials

  void Dial(Peer& peer) {
    const uint64_t attempt = ++attempts_;
    links_[peer.id] = Link{attempt};
    Visitor visitor{0, Self(), address_, self(), peer.id, peer.key, attempt};
    world().After(Delay(), [network = &network_, address = peer.address, visitor = std::move(visitor)] {
      const auto found = network->planes_.find(address);
      if (found != network->planes_.end()) return found->second->Accept(visitor);
      const auto dialler = visitor.from.lock();
      if (dialler == nullptr) return;
      dialler->Refused(visitor.wants, visitor.attempt, absl::UnavailableError("nobody listens there"));
    });
  }

  // The peer, if `attempt` is still the one that counts.
  Peer* Current(PeerId id, uint64_t attempt) {
    const auto found = links_.find(id);
    return found != links_.end() && found->second.attempt == attempt ? Find(id) : nullptr;
  }

  void Refused(PeerId id, uint64_t attempt, const absl::Status& why) {
    Peer* const peer = Current(id, attempt);
    if (peer == nullptr) return;
    Disconnect(*peer);
    peer->mux.Disconnected(absl::UnavailableError(
        absl::StrCat("no data connection to peer ", static_cast<int>(id), " at ", peer->address, ": ", why.message())));
    if (!peer->mux.WantsConnection()) return;
    world().After(network_.options_.redial_delay, [weak = std::weak_ptr<SimulatedPlaneCore>(Self()), id] {
      const auto self = weak.lock();
      Peer* const peer = self == nullptr ? nullptr : self->Find(id);
      if (peer != nullptr && !self->links_.contains(id)) self->Attend(*peer);
    });
  }

  void Admitted(PeerId id, uint64_t attempt, const ConnectionRef& connection) {
    Peer* const peer = Current(id, attempt);
    if (peer == nullptr) return Close(connection, /*end=*/0);
    links_[id].connection = connection;
    connection->ends[0].attached = true;
    JoinMux(*peer, *connection);
    Pump(id);
  }

  // ---- the other side dials

  void Accept(Visitor visitor) {
    visitor.number = ++last_visitor_;
    visitors_.push_back(visitor);
    TryAdmit(visitor.number);
  }

  absl::Status Check(const Visitor& visitor) {
    if (visitor.wants != self()) return absl::NotFoundError("it looks for another process");
    const Peer* const peer = Find(visitor.self);
    if (peer == nullptr) return absl::NotFoundError("that peer is not known here");
    if (Dials(*peer)) return absl::InvalidArgumentError("in this pair it is this side that connects");
    if (visitor.key != peer->key) return absl::PermissionDeniedError("it shows a wrong key");
    return absl::OkStatus();
  }

  void TryAdmit(uint64_t number) {
    const auto found =
        std::find_if(visitors_.begin(), visitors_.end(), [&](const Visitor& v) { return v.number == number; });
    if (found == visitors_.end()) return;
    if (!Check(*found).ok()) {
      world().After(network_.options_.patience, [weak = std::weak_ptr<SimulatedPlaneCore>(Self()), number] {
        if (const auto self = weak.lock()) self->GiveUp(number);
      });
      return;
    }
    const Visitor visitor = std::move(*found);
    visitors_.erase(found);
    Peer& peer = *Find(visitor.self);
    const bool had_connection = peer.mux.connected();
    Disconnect(peer);
    if (had_connection) {
      peer.mux.Disconnected(
          absl::UnavailableError(absl::StrCat("peer ", static_cast<int>(peer.id), " has connected anew")));
    }
    const auto connection = std::make_shared<Connection>(network_.options_.connections);
    Connection::End& theirs = connection->ends[0];
    theirs.plane = visitor.from;
    theirs.peer = self();
    theirs.attempt = visitor.attempt;
    Connection::End& ours = connection->ends[1];
    ours.plane = Self();
    ours.peer = peer.id;
    ours.attached = true;
    links_[peer.id] = Link{++attempts_, connection, /*end=*/1};
    world().Note("plane ", address_, " lets in ", visitor.address);
    ToOther(connection, /*to=*/0, /*number=*/0, [self = Self(), connection, visitor] {
      const auto dialler = visitor.from.lock();
      if (dialler == nullptr) return self->Notify(connection, /*end=*/1, "the other side is gone");
      dialler->Admitted(visitor.wants, visitor.attempt, connection);
    });
    // Nothing comes on any of them before that.
    for (Connection::Way& way : theirs.ways) way.last_arrival = theirs.ways[0].last_arrival;
    JoinMux(peer, *connection);
    Pump(peer.id);
  }

  static void JoinMux(Peer& peer, const Connection& connection) {
    peer.mux.Connected();
    for (size_t i = 1; i < connection.ends[0].ways.size(); ++i) peer.mux.AddConnection();
  }

  void GiveUp(uint64_t number) {
    const auto found =
        std::find_if(visitors_.begin(), visitors_.end(), [&](const Visitor& v) { return v.number == number; });
    if (found == visitors_.end()) return;
    const Visitor visitor = std::move(*found);
    visitors_.erase(found);
    world().After(Delay(), [visitor, why = Check(visitor)] {
      if (const auto dialler = visitor.from.lock()) dialler->Refused(visitor.wants, visitor.attempt, why);
    });
  }

  // ---- connected

  // Does `arrive` at end `to` after all that was sent there before on connection `number`, unless it breaks first.
  void ToOther(const ConnectionRef& connection, int to, int number, std::function<void()> arrive) {
    Connection::Way& way = connection->ends[to].ways[number];
    way.last_arrival = std::max(way.last_arrival, world().Now() + Delay());
    world().At(way.last_arrival, [connection, to, arrive = std::move(arrive), this_world = &world()] {
      if (connection->ends[to].closed || this_world->Now() > connection->cut) return;
      arrive();
    });
  }

  std::string AddressOf(const Connection& connection, int end) {
    const auto other = connection.ends[1 - end].plane.lock();
    return other == nullptr ? "" : other->address_;
  }

  // Sends what there is to send to `id`, as long as the connections take it.
  void Pump(PeerId id) {
    const auto found = links_.find(id);
    Peer* const peer = Find(id);
    if (found == links_.end() || peer == nullptr || !peer->mux.connected()) return;
    const ConnectionRef connection = found->second.connection;
    const int to = 1 - found->second.end;
    const auto count = static_cast<int>(connection->ends[to].ways.size());
    for (int number = 0; number < count; ++number) PumpOne(*peer, connection, to, number);
  }

  void PumpOne(Peer& peer, const ConnectionRef& connection, int to, int number) {
    Connection::Way& way = connection->ends[to].ways[number];
    while (!connection->broken) {
      const int64_t room = network_.options_.most_in_flight_bytes - way.in_flight_bytes;
      const absl::Span<const iovec> parts = peer.mux.WriteBuffers(number);
      int64_t ready = 0;
      for (const iovec& part : parts) ready += static_cast<int64_t>(part.iov_len);
      // Rather later than a few bytes at a time: small pieces would never grow together again.
      if (parts.empty() || room < std::min(ready, network_.options_.most_in_flight_bytes / 2)) return;
      ready = std::min(ready, room);
      if (world().random().Chance(20)) ready = world().random().Between(1, ready);
      std::string bytes;
      bytes.reserve(ready);
      for (const iovec& part : parts) {
        const size_t taken = std::min(part.iov_len, static_cast<size_t>(ready) - bytes.size());
        bytes.append(static_cast<const char*>(part.iov_base), taken);
      }
      way.in_flight_bytes += ready;
      ToOther(connection, to, number,
              [connection, to, number, bytes = std::move(bytes)] { Arrive(connection, to, number, bytes); });
      peer.mux.Written(ready, number);
    }
  }

  static void Arrive(const ConnectionRef& connection, int to, int number, const std::string& bytes) {
    Connection::End& end = connection->ends[to];
    end.ways[number].in_flight_bytes -= static_cast<int64_t>(bytes.size());
    const auto plane = end.plane.lock();
    const auto link = plane == nullptr ? decltype(plane->links_.end())() : plane->links_.find(end.peer);
    if (plane == nullptr || link == plane->links_.end() || link->second.connection != connection) return;
    plane->world().NoteBytes(bytes, [&] { return absl::StrCat(bytes.size(), " bytes reach plane ", plane->address_); });
    Peer& peer = *plane->Find(end.peer);
    const absl::Status breach = Feed(peer.mux, number, bytes);
    if (!breach.ok()) {
      plane->world().Fail(absl::StrCat("data protocol: ", breach.message()));
      return Cut(connection);
    }
    plane->Pump(end.peer);
    // There is room again in the direction that these bytes took.
    const auto sender = connection->ends[1 - to].plane.lock();
    if (sender == nullptr) return;
    const auto senders_link = sender->links_.find(connection->ends[1 - to].peer);
    if (senders_link == sender->links_.end() || senders_link->second.connection != connection) return;
    sender->Pump(connection->ends[1 - to].peer);
  }

  // Our end lets go: the other side learns of it after what is in flight, or before.
  void Close(const ConnectionRef& connection, int end) {
    connection->ends[end].closed = true;
    connection->broken = true;
    Notify(connection, 1 - end, "the other side has closed it");
  }

  static void Cut(const ConnectionRef& connection) {
    if (std::exchange(connection->broken, true)) return;
    const auto plane =
        connection->ends[0].plane.lock() ? connection->ends[0].plane.lock() : connection->ends[1].plane.lock();
    if (plane == nullptr) return;
    connection->cut = plane->world().Now() + plane->Delay();
    for (int end : {0, 1}) plane->Notify(connection, end, "it broke");
  }

  // End `end` finds the connection gone.
  void Notify(const ConnectionRef& connection, int end, const std::string& why) {
    const absl::Duration delay = Delay();
    world().After(delay, [connection, end, why] {
      Connection::End& lost = connection->ends[end];
      const auto plane = lost.plane.lock();
      if (plane == nullptr || lost.closed) return;
      const auto link = plane->links_.find(lost.peer);
      if (link == plane->links_.end() || link->second.connection != connection) {
        lost.closed = true;
        // It broke before the dialler knew that it was let in.
        if (lost.attempt != 0) plane->Refused(lost.peer, lost.attempt, absl::UnavailableError(why));
        return;
      }
      plane->Lost(*plane->Find(lost.peer), why);
    });
  }

  void Lost(Peer& peer, const std::string& why) {
    world().Note("plane ", address_, " loses its connection to peer ", static_cast<int>(peer.id));
    Disconnect(peer);
    peer.mux.Disconnected(absl::UnavailableError(
        absl::StrCat("the data connection to peer ", static_cast<int>(peer.id), " is lost: ", why)));
    Attend(peer);
  }

  DataNetwork& network_;
  const std::string address_;
  std::map<PeerId, Link> links_;
  std::map<PeerId, absl::Time> last_messages_;  // when the last of them arrives
  std::list<Visitor> visitors_;                 // oldest first
  uint64_t last_visitor_ = 0;
  uint64_t attempts_ = 0;
};

// ---------------------------------------------------------------- all of them

void SimulatedExecutor::Post(std::function<void()> task) {
  last_ = std::max(last_, world_.Now() + world_.random().Delay(delay_));
  world_.At(last_, std::move(task));
}

SimulatedDataPlane::SimulatedDataPlane(std::unique_ptr<SimulatedExecutor> executor,
                                       std::shared_ptr<SimulatedPlaneCore> core, std::string listen_address)
    : PostedMessagesPlane(*executor, std::move(core)),
      executor_(std::move(executor)),
      listen_address_(std::move(listen_address)) {}

void SimulatedDataPlane::SetSelf(PeerId self) {
  executor_->Post([core = core(), self] { core->SetSelf(self); });
}

std::unique_ptr<SimulatedDataPlane> DataNetwork::Add(PeerId self) {
  const std::string address = absl::StrCat("sim:", ++last_address_);
  auto core = std::make_shared<SimulatedPlaneCore>(*this, address, self);
  planes_[address] = core.get();
  return std::unique_ptr<SimulatedDataPlane>(new SimulatedDataPlane(
      std::make_unique<SimulatedExecutor>(world_, options_.thread_delay), std::move(core), address));
}

bool DataNetwork::Break(const std::string& a, const std::string& b) {
  const auto found = planes_.find(a);
  return found != planes_.end() && found->second->Break(b);
}

}  // namespace causeway::sim
