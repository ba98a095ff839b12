// Listening, connecting and moving bytes over stream sockets, TCP and unix alike. Internal to this folder: links and
// the data plane build on it.
//
//   ASSIGN_OR_RETURN(auto listener, SocketListener::Listen(io, "127.0.0.1:0"));
//   listener->Start([](Socket socket) {...});
//   Connect(io, listener->address(), absl::Seconds(5), [](absl::StatusOr<Socket> socket) {...});
//
// Threading: callbacks come on the I/O thread. See each function.
// Lifetime: sockets and listeners must be gone before their I/O thread.
#ifndef CAUSEWAY_NET_SOCKETS_H_
#define CAUSEWAY_NET_SOCKETS_H_

#include <sys/uio.h>

// Before Asio's own: by these it decides how it allocates, and every file must decide the same.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <asio/basic_socket_acceptor.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/steady_timer.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/io_thread.h"

namespace causeway {

using Socket = asio::generic::stream_protocol::socket;

// Connects to `address`, trying each of a name's numbers, and calls `done` once, later, on the I/O thread. UNAVAILABLE:
// nobody listens there, or no answer within `timeout`. INVALID_ARGUMENT: no address. Any thread.
void Connect(IoThread* io, const std::string& address, absl::Duration timeout,
             std::function<void(absl::StatusOr<Socket>)> done);

// No delay; a peer that has vanished without a word is noticed within about 15 s (a killed process at once). TCP only:
// does nothing to a unix socket.
void TuneSocket(Socket& socket);

// For messages, after TuneSocket: such a peer is noticed within about 10 s, as others wait for what it says.
void TuneForMessages(int fd);

// Asks for large kernel buffers for a unix socket; the system may give less. TCP's grow by themselves, and would not if
// asked.
void EnlargeUnixBuffers(Socket& socket);

// "127.0.0.1:4711", or for a unix socket the process: "unix:PATH (pid 12)".
std::string PeerNameOf(Socket& socket);

// One non-blocking system call. Bytes moved, 0 if the socket would block; nullopt: the other side is gone (`*why` says
// how).
std::optional<size_t> SendSome(int fd, const iovec* parts, int count, absl::Status* why);
std::optional<size_t> ReceiveSome(int fd, const iovec* parts, int count, absl::Status* why);

// Accepts connections on one address. A unix socket's file is only for this user, is removed at the end, and replaces
// one that a dead process left.
class SocketListener : public std::enable_shared_from_this<SocketListener> {
 public:
  // INVALID_ARGUMENT: no address. UNAVAILABLE: it cannot be bound (the text says why). Any thread.
  static absl::StatusOr<std::shared_ptr<SocketListener>> Listen(IoThread* io, const std::string& address);

  // Hands over each new connection, on the I/O thread, until Stop. Any thread.
  void Start(std::function<void(Socket socket)> accepted);

  // No callback runs after it returns. Any thread.
  void Stop();

  // The actual one, where port 0 was asked for.
  const std::string& address() const { return address_; }

 private:
  using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

  SocketListener(IoThread* io, Acceptor acceptor, std::string address, std::string unix_path);
  void AcceptNext();

  IoThread* const io_;
  const std::string address_;
  const std::string unix_path_;  // empty: TCP

  // Touched on the I/O thread only.
  Acceptor acceptor_;
  asio::steady_timer pause_;
  std::function<void(Socket)> accepted_;
  bool stopped_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_SOCKETS_H_
