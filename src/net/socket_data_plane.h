// The data plane over sockets, TCP and unix.
//
//   ASSIGN_OR_RETURN(auto plane, SocketDataPlane::Start({.self = PeerOf(worker), .listen_address = "127.0.0.1:0"}));
//   hello.set_data_address(plane->listen_address());
//
// Threading: everything happens on one thread of its own; calls are posted to it.
// Lifetime: destroying it ends all streams with CANCELLED and joins the thread; not from that thread.
#ifndef CAUSEWAY_NET_SOCKET_DATA_PLANE_H_
#define CAUSEWAY_NET_SOCKET_DATA_PLANE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "net/data_plane.h"

namespace causeway {

struct SocketDataPlaneOptions {
  PeerId self = kControllerPeer;  // a worker learns its own later: see SetSelf
  std::string listen_address = "127.0.0.1:0";
};

class SocketDataPlane final : public DataPlane {
 public:
  // Listens. INVALID_ARGUMENT: no address; UNAVAILABLE: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<SocketDataPlane>> Start(SocketDataPlaneOptions options);
  ~SocketDataPlane() override;

  // Who this process is from now on. Before the first SetPeer, and whenever a worker joined anew.
  void SetSelf(PeerId self);

  // The address bound, with the port that was chosen.
  const std::string& listen_address() const;

  void SetPeer(PeerId peer, std::string address, uint64_t key) override;
  void DropPeer(PeerId peer) override;
  void Receive(PeerId peer, StreamId id, int64_t total_bytes, int64_t window_bytes,
               std::shared_ptr<StreamSink> sink) override;
  void Grant(PeerId peer, StreamId id, int64_t bytes) override;
  void Send(PeerId peer, StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) override;
  void Wake(PeerId peer, StreamId id) override;
  void Cancel(PeerId peer, StreamId id, absl::Status status) override;

 private:
  class Impl;
  explicit SocketDataPlane(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_SOCKET_DATA_PLANE_H_
