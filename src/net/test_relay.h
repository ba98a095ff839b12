// A stretch of network for tests: forwards TCP connections to an address, each no faster than it is told, counts what
// goes through, and cuts them.
//
//   TestRelay relay(low->listen_address(), /*bytes_per_second=*/40e6);
//   high->SetPeer(kLow, relay.address(), key);
//   ...
//   relay.Cut(1);                                         // the second connection that was made
//
// The limit holds for each direction of each connection by itself, as a path does that one TCP flow cannot fill.
//
// Threading: any. Two threads a connection, which block: a tool for a handful of them.
#ifndef CAUSEWAY_NET_TEST_RELAY_H_
#define CAUSEWAY_NET_TEST_RELAY_H_

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace causeway {

class TestRelay {
 public:
  // `target` is "127.0.0.1:PORT". 0 bytes a second: as fast as it goes.
  explicit TestRelay(const std::string& target, double bytes_per_second = 0)
      : target_port_(std::atoi(target.substr(target.rfind(':') + 1).c_str())), bytes_per_second_(bytes_per_second) {
    sockaddr_in bound = Loopback(0);
    socklen_t length = sizeof(bound);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&bound), length) != 0 || listen(listener_, 64) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
      std::abort();
    }
    address_ = "127.0.0.1:" + std::to_string(ntohs(bound.sin_port));
    acceptor_ = std::thread([this] { Accept(); });
  }

  ~TestRelay() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    close(listener_);
    for (int i = 0; i < connections(); ++i) Cut(i);
    for (const std::unique_ptr<Connection>& connection : connections_) {
      for (std::thread& way : connection->ways) way.join();
      close(connection->near);
      close(connection->far);
    }
  }

  const std::string& address() const { return address_; }

  // That were made, whether they still are.
  int connections() const {
    MutexLock lock(&mu_);
    return static_cast<int>(connections_.size());
  }

  // Bytes that have gone through connection `i`, in both directions.
  int64_t forwarded(int i) const {
    MutexLock lock(&mu_);
    return connections_[i]->forwarded;
  }

  // Both sides find it closed.
  void Cut(int i) {
    MutexLock lock(&mu_);
    shutdown(connections_[i]->near, SHUT_RDWR);
    shutdown(connections_[i]->far, SHUT_RDWR);
  }

 private:
  struct Connection {
    int near;
    int far;
    std::atomic<int64_t> forwarded = 0;
    std::array<std::thread, 2> ways;
  };

  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void Accept() {
    for (int near; (near = accept(listener_, nullptr, nullptr)) >= 0;) {
      const int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in to = Loopback(target_port_);
      if (connect(far, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
        close(near);
        close(far);
        continue;
      }
      const int yes = 1;
      for (const int fd : {near, far}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
      auto connection = std::make_unique<Connection>();
      connection->near = near;
      connection->far = far;
      connection->ways[0] = std::thread([this, made = connection.get()] { Forward(*made, made->near, made->far); });
      connection->ways[1] = std::thread([this, made = connection.get()] { Forward(*made, made->far, made->near); });
      MutexLock lock(&mu_);
      connections_.push_back(std::move(connection));
    }
  }

  void Forward(Connection& connection, int from, int to) const {
    using Clock = std::chrono::steady_clock;
    std::vector<char> bytes(64 << 10);
    Clock::time_point next = Clock::now();
    for (ssize_t n; (n = recv(from, bytes.data(), bytes.size(), 0)) > 0;) {
      if (bytes_per_second_ > 0) {
        std::this_thread::sleep_until(next);
        // What was not used is lost, but for a moment's worth: sleeping takes longer than it is asked to.
        next = std::max(next, Clock::now() - std::chrono::milliseconds(5)) +
               std::chrono::nanoseconds(static_cast<int64_t>(1e9 * static_cast<double>(n) / bytes_per_second_));
      }
      for (ssize_t done = 0; done < n;) {
        const ssize_t sent = send(to, bytes.data() + done, n - done, MSG_NOSIGNAL);
        if (sent <= 0) break;
        done += sent;
      }
      connection.forwarded += n;
    }
    shutdown(from, SHUT_RDWR);
    shutdown(to, SHUT_RDWR);
  }

  const int target_port_;
  const double bytes_per_second_;
  const int listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string address_;
  std::thread acceptor_;
  mutable Mutex mu_;
  std::vector<std::unique_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_TEST_RELAY_H_
