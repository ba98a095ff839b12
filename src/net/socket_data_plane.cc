#include "net/socket_data_plane.h"

#include <array>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "net/data_codec.h"
#include "net/data_connection.h"
#include "net/io_thread.h"
#include "net/sockets.h"

namespace causeway {
namespace {

constexpr absl::Duration kDialTimeout = absl::Seconds(10);

// How long a connection may take to show its hello, and then wait until this process has heard of its peer.
constexpr auto kHelloPatience = std::chrono::seconds(10);
constexpr size_t kMaxStrangers = 1024;

constexpr int kSocketBufferBytes = 4 << 20;

}  // namespace

class SocketDataPlane::Impl : public std::enable_shared_from_this<SocketDataPlane::Impl> {
 public:
  explicit Impl(SocketDataPlaneOptions options) : io_("data"), self_(options.self) {}

  absl::Status Listen(const std::string& address) {
    ASSIGN_OR_RETURN(listener_, SocketListener::Listen(&io_, address));
    listener_->Start([this](Socket socket) { Accept(std::move(socket)); });
    return absl::OkStatus();
  }

  void Stop() {
    listener_->Stop();
    io_.RunAndWait([this] {
      strangers_.clear();
      for (auto& [id, peer] : peers_) Drop(peer, absl::CancelledError("the data plane is shut down"));
      peers_.clear();
    });
  }

  const std::string& address() const { return listener_->address(); }
  void Post(std::function<void(Impl&)> task) {
    io_.Post([this, task = std::move(task)] { task(*this); });
  }

  // The rest runs on the I/O thread.

  void SetSelf(PeerId self) { self_ = self; }

  void SetPeer(PeerId id, std::string address, uint64_t key) {
    Peer& peer = peers_[id];
    if (peer.known && peer.address == address && peer.key == key) return;
    Drop(peer, absl::UnavailableError("the peer has changed"));
    peer.known = true;
    peer.address = std::move(address);
    peer.key = key;
    std::vector<std::shared_ptr<Stranger>> waiting;
    for (const auto& [raw, stranger] : strangers_) {
      if (stranger->hello && stranger->hello->peer == id) waiting.push_back(stranger);
    }
    for (const auto& stranger : waiting) Welcome(stranger);
  }

  void DropPeer(PeerId id) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) return;
    Peer peer = std::move(found->second);
    peers_.erase(found);
    Drop(peer, absl::UnavailableError("the peer is gone"));
  }

  // Runs `use` with the connection to `id`, now or when there is one. `fail` is called instead when there will be none.
  void With(PeerId id, std::function<void(DataConnection&)> use, std::function<void(absl::Status)> fail) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) {
      return fail(absl::NotFoundError(absl::StrCat("the data plane does not know peer ", static_cast<int>(id))));
    }
    Peer& peer = found->second;
    if (peer.connection != nullptr) return use(*peer.connection);
    peer.waiting.push_back({std::move(use), std::move(fail)});
    if (id < self_ && !peer.dialling) Dial(id, peer);
  }

  // As With, but for calls that mean nothing without a connection. Those that wait for one keep their order.
  void IfKnown(PeerId id, std::function<void(DataConnection&)> use) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) return;
    if (found->second.connection != nullptr) return use(*found->second.connection);
    if (!found->second.waiting.empty()) found->second.waiting.push_back({std::move(use), [](const absl::Status&) {}});
  }

 private:
  struct Waiting {
    std::function<void(DataConnection&)> use;
    std::function<void(absl::Status)> fail;
  };

  struct Peer {
    bool known = false;
    std::string address;
    uint64_t key = 0;
    std::shared_ptr<DataConnection> connection;
    bool dialling = false;
    uint64_t attempt = 0;  // of dialling; an answer to an earlier one is dropped
    std::vector<Waiting> waiting;
  };

  // A connection that has not shown who it is, or whose peer this process has not heard of.
  struct Stranger {
    Stranger(Socket s, asio::io_context& context) : socket(std::move(s)), patience(context) {}
    Socket socket;
    asio::steady_timer patience;
    std::array<char, data_codec::kHelloBytes> bytes;
    size_t filled = 0;
    std::optional<data_codec::Hello> hello;
  };

  void Drop(Peer& peer, const absl::Status& why) {
    ++peer.attempt;
    peer.dialling = false;
    const auto connection = std::exchange(peer.connection, nullptr);
    const auto waiting = std::exchange(peer.waiting, {});
    if (connection != nullptr) connection->Close(why);
    for (const Waiting& w : waiting) w.fail(why);
  }

  void Dial(PeerId id, Peer& peer) {
    peer.dialling = true;
    const uint64_t attempt = ++peer.attempt;
    Connect(&io_, peer.address, kDialTimeout, [this, id, attempt](absl::StatusOr<Socket> socket) {
      const auto found = peers_.find(id);
      if (found == peers_.end() || found->second.attempt != attempt) return;
      found->second.dialling = false;
      if (!socket.ok()) return Drop(found->second, absl::UnavailableError(socket.status().message()));
      Adopt(id, found->second, *std::move(socket), data_codec::EncodeHello({self_, found->second.key}));
    });
  }

  void Adopt(PeerId id, Peer& peer, Socket socket, std::string first) {
    TuneSocket(socket);
    SetSocketBuffers(socket, kSocketBufferBytes);
    // What waits is for the new connection; only what an old one carried ends with it.
    auto waiting = std::exchange(peer.waiting, {});
    Drop(peer, absl::UnavailableError("the peer has connected anew"));
    auto connection = std::make_shared<DataConnection>(std::move(socket));
    connection->OnLost([this, id, weak = std::weak_ptr<DataConnection>(connection)](const absl::Status& why) {
      const auto found = peers_.find(id);
      if (found == peers_.end() || found->second.connection != weak.lock()) return;
      found->second.connection = nullptr;
      Log(LogLevel::kDebug, absl::StrCat("data connection to peer ", static_cast<int>(id), " lost: ", why.message()));
    });
    peer.connection = connection;
    connection->Start(std::move(first));
    for (Waiting& w : waiting) w.use(*connection);
  }

  void Accept(Socket socket) {
    if (strangers_.size() >= kMaxStrangers) return;
    asio::error_code ignored;
    socket.native_non_blocking(true, ignored);
    auto stranger = std::make_shared<Stranger>(std::move(socket), io_.context());
    strangers_[stranger.get()] = stranger;
    stranger->patience.expires_after(kHelloPatience);
    stranger->patience.async_wait([this, stranger](const asio::error_code& error) {
      if (!error) Refuse(stranger, "it did not show who it is in time, or is not known here");
    });
    ReadHello(stranger);
  }

  void ReadHello(const std::shared_ptr<Stranger>& stranger) {
    stranger->socket.async_wait(Socket::wait_read, [this, stranger](const asio::error_code& error) {
      if (error || !strangers_.contains(stranger.get())) return;
      const iovec part{stranger->bytes.data() + stranger->filled, stranger->bytes.size() - stranger->filled};
      absl::Status why;
      const std::optional<size_t> got = ReceiveSome(stranger->socket.native_handle(), &part, 1, &why);
      if (!got) return Refuse(stranger, why.message());
      stranger->filled += *got;
      if (stranger->filled < stranger->bytes.size()) return ReadHello(stranger);
      const absl::StatusOr<data_codec::Hello> hello = data_codec::ParseHello(stranger->bytes);
      if (!hello.ok()) return Refuse(stranger, hello.status().message());
      stranger->hello = *hello;
      const auto peer = peers_.find(hello->peer);
      if (peer != peers_.end()) Welcome(stranger);
    });
  }

  void Welcome(std::shared_ptr<Stranger> stranger) {
    Peer& peer = peers_[stranger->hello->peer];
    // Word of a peer's new key may still be on its way here: the stranger waits for it.
    if ((peer.key ^ stranger->hello->key) != 0) return;
    stranger->patience.cancel();
    strangers_.erase(stranger.get());
    Adopt(stranger->hello->peer, peer, std::move(stranger->socket), "");
  }

  void Refuse(std::shared_ptr<Stranger> stranger, absl::string_view why) {
    if (strangers_.erase(stranger.get()) == 0) return;
    Log(LogLevel::kWarning, absl::StrCat("refused a data connection from ", PeerNameOf(stranger->socket), ": ", why));
    stranger->patience.cancel();
    asio::error_code ignored;
    stranger->socket.close(ignored);
  }

  IoThread io_;
  std::shared_ptr<SocketListener> listener_;
  PeerId self_;
  absl::flat_hash_map<PeerId, Peer> peers_;
  absl::flat_hash_map<Stranger*, std::shared_ptr<Stranger>> strangers_;
};

SocketDataPlane::SocketDataPlane(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<SocketDataPlane>> SocketDataPlane::Start(SocketDataPlaneOptions options) {
  const std::string address = options.listen_address;
  auto impl = std::make_shared<Impl>(std::move(options));
  RETURN_IF_ERROR(impl->Listen(address));
  return std::unique_ptr<SocketDataPlane>(new SocketDataPlane(std::move(impl)));
}

SocketDataPlane::~SocketDataPlane() { impl_->Stop(); }

const std::string& SocketDataPlane::listen_address() const { return impl_->address(); }

void SocketDataPlane::SetSelf(PeerId self) {
  impl_->Post([self](Impl& impl) { impl.SetSelf(self); });
}

void SocketDataPlane::SetPeer(PeerId peer, std::string address, uint64_t key) {
  impl_->Post([peer, address = std::move(address), key](Impl& impl) { impl.SetPeer(peer, address, key); });
}

void SocketDataPlane::DropPeer(PeerId peer) {
  impl_->Post([peer](Impl& impl) { impl.DropPeer(peer); });
}

void SocketDataPlane::Receive(PeerId peer, StreamId id, int64_t total_bytes, int64_t window_bytes,
                              std::shared_ptr<StreamSink> sink) {
  impl_->Post([=, sink = std::move(sink)](Impl& impl) {
    impl.With(
        peer, [=](DataConnection& c) { c.Receive(id, total_bytes, window_bytes, sink); },
        [sink](const absl::Status& why) { sink->OnDone(why); });
  });
}

void SocketDataPlane::Grant(PeerId peer, StreamId id, int64_t bytes) {
  impl_->Post([=](Impl& impl) { impl.IfKnown(peer, [=](DataConnection& c) { c.Grant(id, bytes); }); });
}

void SocketDataPlane::Send(PeerId peer, StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) {
  impl_->Post([=, source = std::move(source)](Impl& impl) {
    impl.With(
        peer, [=](DataConnection& c) { c.Send(id, total_bytes, source); },
        [source](const absl::Status& why) { source->OnDone(why); });
  });
}

void SocketDataPlane::Wake(PeerId peer, StreamId id) {
  impl_->Post([=](Impl& impl) { impl.IfKnown(peer, [=](DataConnection& c) { c.Wake(id); }); });
}

void SocketDataPlane::Cancel(PeerId peer, StreamId id, absl::Status status) {
  impl_->Post([peer, id, status = std::move(status)](Impl& impl) {
    impl.IfKnown(peer, [id, status](DataConnection& c) { c.Cancel(id, status); });
  });
}

}  // namespace causeway
