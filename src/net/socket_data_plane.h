// The data plane over stream sockets, TCP and unix. The bytes: data_codec.h.
//
//   ASSIGN_OR_RETURN(auto plane, SocketDataPlane::Start({.listen_address = "127.0.0.1:0"}));
//   hello.set_data_address(plane->listen_address());
//   ...
//   plane->SetSelf(PeerOf(worker));                      // the Welcome said who this is
//   plane->SetPeer(kControllerPeer, address, key);
//
// A connection from a peer that is not known yet, or that shows another key, waits a while for the SetPeer that lets it
// in (the two sides learn of each other at different times); then it is refused, and a line in the log says so.
//
// Threading: streams live on one thread of their own, to which calls are posted; messages on another (message_lanes.h).
// Lifetime: the destructor ends all streams with CANCELLED; when it returns nothing is called any more. It must not run
// on the plane's own threads (inside a sink, source or message handler).
#ifndef CAUSEWAY_NET_SOCKET_DATA_PLANE_H_
#define CAUSEWAY_NET_SOCKET_DATA_PLANE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "net/io_thread.h"
#include "net/message_lanes.h"
#include "net/plane_core.h"

namespace causeway {

struct SocketDataPlaneOptions {
  PeerId self = kControllerPeer;  // a worker learns its own later: SetSelf
  std::string listen_address = "127.0.0.1:0";

  // For making a connection, and then again for the other side's hello.
  absl::Duration dial_timeout = absl::Seconds(10);

  // Between attempts to reach a peer that has still to be told how streams ended, or to have its messages.
  absl::Duration redial_delay = absl::Seconds(1);

  // How long messages wait for a connection.
  absl::Duration message_patience = absl::Seconds(10);

  // An accepted connection says hello within this time, or is closed.
  absl::Duration hello_timeout = absl::Seconds(10);

  // How long a connection whose hello does not fit waits for a SetPeer that makes it fit.
  absl::Duration patience = absl::Seconds(5);

  // Accepted connections that are not let in yet; when there are more, the oldest is closed.
  int max_waiting = 1024;

  // For the streams to one peer; the pair has as many as the one of the two that wants fewer. They are made once a
  // stream of so many bytes is to be moved; until then there is one.
  int connections = 1;
  int64_t large_stream_bytes = 4 << 20;

  int64_t max_waiting_message_bytes = kMaxWaitingMessageBytes;  // for each peer
};

class SocketDataPlane final : public PostingDataPlane {
 public:
  // Listens. INVALID_ARGUMENT: no address, or a number of connections that cannot be. UNAVAILABLE: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<SocketDataPlane>> Start(const SocketDataPlaneOptions& options);
  ~SocketDataPlane() override;

  // Who this process is from now on. A change drops all peers.
  void SetSelf(PeerId self);

  void SetPeer(PeerId peer, std::string address, uint64_t key) override;
  void DropPeer(PeerId peer) override;
  void SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) override;
  void SetMessageHandler(MessageHandler* handler) override;

  // The address bound, with the port that the system chose.
  const std::string& listen_address() const { return listen_address_; }

 private:
  SocketDataPlane(std::unique_ptr<IoThread> io, std::shared_ptr<PlaneCore> core, std::shared_ptr<MessageLanes> lanes,
                  PeerId self, std::string listen_address);

  const std::unique_ptr<IoThread> io_;
  const std::string listen_address_;
  const std::shared_ptr<MessageLanes> lanes_;

  // Peers come and go in one order for streams and messages.
  Mutex peers_mutex_;
  PeerId self_ ABSL_GUARDED_BY(peers_mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_SOCKET_DATA_PLANE_H_
