// One socket of the data plane: a hello each way, then the streams of one peer, or its part of them.
//
// Threading: the I/O thread only, callbacks too.
// Lifetime: shared; its pending waits hold it until Close. After Close no callback comes.
#ifndef CAUSEWAY_NET_DATA_CONNECTION_H_
#define CAUSEWAY_NET_DATA_CONNECTION_H_

// Before Asio's own: by these it decides how it allocates, and every file must decide the same.
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <asio/steady_timer.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/data_codec.h"
#include "net/sockets.h"
#include "net/stream_mux.h"

namespace causeway {

class DataConnection : public std::enable_shared_from_this<DataConnection> {
 public:
  DataConnection(IoThread& io, Socket socket);

  const std::string& peer_name() const { return peer_name_; }

  // Says who this is. UNAVAILABLE: the other side is gone.
  absl::Status SayHello(const DataHello& hello);

  // Calls `heard` with the other side's hello: INVALID_ARGUMENT where it is none, UNAVAILABLE where the connection is
  // lost or nothing comes within `timeout`.
  void HearHello(absl::Duration timeout, std::function<void(absl::StatusOr<DataHello>)> heard);

  // Calls `then` after `delay`, unless this is called again, or Attach or Close, before.
  void After(absl::Duration delay, std::function<void()> then);

  // Moves the bytes of connection `number` of `mux` from now on; it outlives the connection or its Close. `lost` is
  // called once, when the connection is lost (UNAVAILABLE) or the other side breaks the protocol (INVALID_ARGUMENT);
  // the connection is closed then. `others_wait`: something may be there for the mux's other connections to write.
  void Attach(StreamMux* mux, int number, std::function<void(absl::Status)> lost, std::function<void()> others_wait);

  // The mux may have something to write.
  void Flush();

  void Close();

  // Gives the socket away, as after Close: what came after the hello is still in it.
  absl::StatusOr<int> Release();

 private:
  void StopTimer();
  void AwaitReadable(void (DataConnection::*then)());
  void ReadHello();
  void Heard(absl::StatusOr<DataHello> hello);
  void ReadStreams();
  void FlushAll();
  void Lost(const absl::Status& why);

  Socket socket_;
  const int fd_;  // of socket_
  const std::string peer_name_;
  asio::steady_timer timer_;
  uint64_t wait_ = 0;  // the one that counts: cancelling does not reach one that has just run out
  bool closed_ = false;

  std::array<char, kDataHelloBytes> hello_;
  size_t hello_bytes_ = 0;
  std::function<void(absl::StatusOr<DataHello>)> heard_;

  StreamMux* mux_ = nullptr;
  int number_ = 0;
  std::function<void(absl::Status)> lost_;
  std::function<void()> others_wait_;
  bool awaits_writable_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_DATA_CONNECTION_H_
