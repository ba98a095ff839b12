#include "net/sockets.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/socket_base.hpp>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "net/address.h"
#include "net/unix_socket.h"

namespace causeway {
namespace {

using Endpoint = asio::generic::stream_protocol::endpoint;

constexpr int kBacklog = 1024;
// How long to wait before accepting again when the process has no file descriptors left.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr int kUnixBufferBytes = 4 << 20;
constexpr int kKeepIdleSeconds = 5;
constexpr int kKeepIntervalSeconds = 3;
constexpr int kKeepProbes = 3;
constexpr unsigned kUserTimeoutMs = 15'000;
constexpr int kMessagesKeepIdleSeconds = 3;
constexpr int kMessagesKeepIntervalSeconds = 1;
constexpr int kMessagesKeepProbes = 5;
constexpr unsigned kMessagesUserTimeoutMs = 10'000;

std::optional<asio::ip::tcp::endpoint> NumericEndpoint(const Address& address) {
  asio::error_code error;
  const asio::ip::address number = asio::ip::make_address(address.host, error);
  if (error) return std::nullopt;
  return asio::ip::tcp::endpoint(number, address.port);
}

// Holds what one Connect needs until it is decided.
class Connecting : public std::enable_shared_from_this<Connecting> {
 public:
  Connecting(IoThread* io, std::string text, std::function<void(absl::StatusOr<Socket>)> done)
      : text_(std::move(text)),
        resolver_(io->context()),
        socket_(io->context()),
        timer_(io->context()),
        done_(std::move(done)) {}

  void Run(const Address& address, absl::Duration timeout) {
    timer_.expires_after(absl::ToChronoNanoseconds(timeout));
    timer_.async_wait([self = shared_from_this(), timeout](asio::error_code error) {
      if (!error) self->Finish(absl::StrCat("no answer within ", absl::FormatDuration(timeout)));
    });
    if (address.kind == Address::Kind::kUnix) {
      endpoints_ = {Endpoint(asio::local::stream_protocol::endpoint(address.path))};
      TryNext();
    } else if (const auto numeric = NumericEndpoint(address)) {
      endpoints_ = {Endpoint(*numeric)};
      TryNext();
    } else {
      resolver_.async_resolve(address.host, std::to_string(address.port),
                              [self = shared_from_this()](asio::error_code error, const auto& results) {
                                if (error) return self->Finish(error.message());
                                for (const auto& result : results) self->endpoints_.emplace_back(result.endpoint());
                                self->TryNext();
                              });
    }
  }

 private:
  void TryNext() {
    if (done_ == nullptr) return;
    if (next_ == endpoints_.size()) return Finish(last_error_);
    const Endpoint& endpoint = endpoints_[next_++];
    socket_ = Socket(socket_.get_executor());
    socket_.async_connect(endpoint, [self = shared_from_this()](asio::error_code error) {
      if (self->done_ == nullptr) return;
      if (!error) return self->Succeed();
      self->last_error_ = error.message();
      self->TryNext();
    });
  }

  void Succeed() {
    timer_.cancel();
    std::exchange(done_, nullptr)(std::move(socket_));
  }

  void Finish(const std::string& why) {
    if (done_ == nullptr) return;
    timer_.cancel();
    resolver_.cancel();
    asio::error_code ignored;
    socket_.close(ignored);
    std::exchange(done_, nullptr)(absl::UnavailableError(absl::StrCat("cannot connect to ", text_, ": ", why)));
  }

  const std::string text_;
  asio::ip::tcp::resolver resolver_;
  Socket socket_;
  asio::steady_timer timer_;
  std::function<void(absl::StatusOr<Socket>)> done_;  // null once decided
  std::vector<Endpoint> endpoints_;
  size_t next_ = 0;
  std::string last_error_ = "the name has no address";
};

std::string NameOf(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    return absl::StrCat(text, ":", ntohs(v4->sin_port));
  }
  if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    return absl::StrCat("[", text, "]:", ntohs(v6->sin6_port));
  }
  return "?";
}

void SetOption(int fd, int level, int name, int value) {
  // Each only makes things better: a kernel that refuses one is no reason to refuse the peer.
  (void)setsockopt(fd, level, name, &value, sizeof(value));
}

bool IsUnix(int fd) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}
bool IsUnix(Socket& socket) { return IsUnix(socket.native_handle()); }

absl::StatusOr<Endpoint> ResolveToListen(IoThread* io, const Address& address) {
  if (address.kind == Address::Kind::kUnix) return Endpoint(asio::local::stream_protocol::endpoint(address.path));
  if (const auto numeric = NumericEndpoint(address)) return Endpoint(*numeric);
  asio::error_code error;
  asio::ip::tcp::resolver resolver(io->context());
  const auto results = resolver.resolve(address.host, std::to_string(address.port), error);
  if (error || results.empty()) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", ToString(address), ": ", error.message()));
  }
  return Endpoint(results.begin()->endpoint());
}

}  // namespace

void Connect(IoThread* io, const std::string& address, absl::Duration timeout,
             std::function<void(absl::StatusOr<Socket>)> done) {
  absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) {
    io->Post([done = std::move(done), status = parsed.status()] { done(status); });
    return;
  }
  auto connecting = std::make_shared<Connecting>(io, address, std::move(done));
  io->Post([connecting, address = *std::move(parsed), timeout] { connecting->Run(address, timeout); });
}

void TuneSocket(Socket& socket) {
  if (IsUnix(socket)) return;
  const int fd = socket.native_handle();
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
}

void TuneForMessages(int fd) {
  if (IsUnix(fd)) return;
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kMessagesKeepIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kMessagesKeepIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kMessagesKeepProbes);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kMessagesUserTimeoutMs);
}

void EnlargeUnixBuffers(Socket& socket) {
  if (!IsUnix(socket)) return;
  SetOption(socket.native_handle(), SOL_SOCKET, SO_SNDBUF, kUnixBufferBytes);
  SetOption(socket.native_handle(), SOL_SOCKET, SO_RCVBUF, kUnixBufferBytes);
}

std::string PeerNameOf(Socket& socket) {
  asio::error_code error;
  const Endpoint remote = socket.remote_endpoint(error);
  if (error) return "a peer that has gone";
  const auto* address = reinterpret_cast<const sockaddr*>(remote.data());
  if (address->sa_family != AF_UNIX) return NameOf(address);
  // Only one end of a unix connection has a path; the process is what tells peers apart.
  const auto path_of = [](const Endpoint& endpoint) {
    const auto* name = reinterpret_cast<const sockaddr_un*>(endpoint.data());
    return endpoint.size() > offsetof(sockaddr_un, sun_path) ? std::string(name->sun_path) : std::string();
  };
  std::string path = path_of(remote);
  if (path.empty()) path = path_of(socket.local_endpoint(error));
  ucred who{};
  socklen_t length = sizeof(who);
  (void)getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &who, &length);
  return absl::StrCat("unix:", path, " (pid ", who.pid, ")");
}

std::optional<size_t> SendSome(int fd, const iovec* parts, int count, absl::Status* why) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return static_cast<size_t>(sent);
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return 0;
  *why = absl::UnavailableError(absl::StrCat("writing failed: ", strerror(errno)));
  return std::nullopt;
}

std::optional<size_t> ReceiveSome(int fd, const iovec* parts, int count, absl::Status* why) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  ssize_t received;
  do {
    received = recvmsg(fd, &message, MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received > 0) return static_cast<size_t>(received);
  if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
  *why = absl::UnavailableError(received == 0 ? "the other side closed the connection"
                                              : absl::StrCat("reading failed: ", strerror(errno)));
  return std::nullopt;
}

SocketListener::SocketListener(IoThread* io, Acceptor acceptor, std::string address, std::string unix_path)
    : io_(io),
      address_(std::move(address)),
      unix_path_(std::move(unix_path)),
      acceptor_(std::move(acceptor)),
      pause_(io->context()) {}

absl::StatusOr<std::shared_ptr<SocketListener>> SocketListener::Listen(IoThread* io, const std::string& address) {
  ASSIGN_OR_RETURN(const Address parsed, ParseAddress(address));
  ASSIGN_OR_RETURN(const Endpoint endpoint, ResolveToListen(io, parsed));
  const bool is_unix = parsed.kind == Address::Kind::kUnix;
  asio::error_code error;
  Acceptor acceptor(io->context());
  acceptor.open(endpoint.protocol(), error);
  if (!error && !is_unix) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error == asio::error::address_in_use && is_unix && LookAtSocketFile(parsed.path) == SocketFile::kStale) {
    unlink(parsed.path.c_str());
    acceptor.bind(endpoint, error);
  }
  // Before listen: nobody can have connected yet.
  if (!error && is_unix && chmod(parsed.path.c_str(), S_IRUSR | S_IWUSR) != 0) {
    error = asio::error_code(errno, asio::error::get_system_category());
  }
  if (!error) acceptor.listen(kBacklog, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", error.message()));
  std::string actual = address;
  if (!is_unix) {
    const Endpoint local = acceptor.local_endpoint(error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", error.message()));
    actual = NameOf(reinterpret_cast<const sockaddr*>(local.data()));
  }
  return std::shared_ptr<SocketListener>(
      new SocketListener(io, std::move(acceptor), std::move(actual), is_unix ? parsed.path : std::string()));
}

void SocketListener::Start(std::function<void(Socket)> accepted) {
  io_->Post([self = shared_from_this(), accepted = std::move(accepted)] {
    if (self->stopped_) return;
    self->accepted_ = accepted;
    self->AcceptNext();
  });
}

void SocketListener::Stop() {
  io_->RunAndWait([this] {
    if (stopped_) return;
    stopped_ = true;
    asio::error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    accepted_ = nullptr;
    if (!unix_path_.empty()) unlink(unix_path_.c_str());
  });
}

void SocketListener::AcceptNext() {
  acceptor_.async_accept([self = shared_from_this()](asio::error_code error, Socket socket) {
    if (self->stopped_) return;
    if (!error) {
      self->accepted_(std::move(socket));
      if (!self->stopped_) self->AcceptNext();
      return;
    }
    Log(LogLevel::kWarning,
        absl::StrCat("accepting on ", self->address_, " failed (", error.message(), "); trying again"));
    self->pause_.expires_after(kAcceptPause);
    self->pause_.async_wait([self](asio::error_code) {
      if (!self->stopped_) self->AcceptNext();
    });
  });
}

}  // namespace causeway
