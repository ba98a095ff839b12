// The messages of a data plane over sockets: a connection of its own for each peer (a lane), so that no message waits
// behind bulk data, and no thread between the caller and the socket.
//
//   MessageLanes lanes;
//   lanes.SetHandler(&handler);
//   lanes.Know(peer);                       // from now on messages may wait for a connection
//   lanes.Attach(peer, fd, on_lost);        // a connected socket, behind its hellos
//   lanes.Send(peer, parts);
//
// A message, after the hellos of data_codec.h:
//
//   u32      length of the payload, 1 .. kMaxMessageBytes, little-endian
//   u32      0
//   payload
//
// Threading: all calls are thread-safe. Send writes on the calling thread where the socket takes it. One thread reads
// for all peers, writes what had to wait, and makes all calls: of the handler, and of `on_lost`.
// Lifetime: the destructor ends the thread; no call is made afterwards.
#ifndef CAUSEWAY_NET_MESSAGE_LANES_H_
#define CAUSEWAY_NET_MESSAGE_LANES_H_

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "net/data_plane.h"

namespace causeway {

class MessageLanes {
 public:
  // What waits for a connection longer than `patience` is lost.
  explicit MessageLanes(absl::Duration patience);
  ~MessageLanes();
  MessageLanes(const MessageLanes&) = delete;
  MessageLanes& operator=(const MessageLanes&) = delete;

  // Null: nobody. When it returns, the one before is not being called. Not from inside a handler.
  void SetHandler(MessageHandler* handler);

  void Know(PeerId peer);

  // Closes its connection, and tells the handler. Unknown: ignored.
  void Forget(PeerId peer, const absl::Status& why);

  // Takes over the socket `fd`; one that the peer had before is closed. `on_lost` is called once if the connection is
  // lost, not if the peer is forgotten or another socket takes its place.
  void Attach(PeerId peer, int fd, std::function<void()> on_lost);

  void Send(PeerId peer, absl::Span<const absl::Span<const char>> parts);

 private:
  struct Lane;
  using LaneRef = std::shared_ptr<Lane>;

  LaneRef Find(PeerId peer);
  void Post(std::function<void()> task);
  void Work();
  void RunTasks();
  void OnReadable(const LaneRef& lane);
  void OnWritable(const LaneRef& lane);
  void Lose(const LaneRef& lane, const absl::Status& why, bool tell_owner);
  void TellLost(PeerId peer, const absl::Status& why);
  void CloseFd(Lane& lane);
  void GiveUpWaiting();

  const absl::Duration patience_;
  const int epoll_;
  const int wake_;  // an eventfd: tasks_ has something
  std::vector<char> buffer_;

  Mutex handler_mu_;  // held while the handler is called
  MessageHandler* handler_ ABSL_GUARDED_BY(handler_mu_) = nullptr;

  Mutex mu_;
  absl::flat_hash_map<PeerId, LaneRef> lanes_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, LaneRef> by_token_ ABSL_GUARDED_BY(mu_);  // of those that are connected
  uint64_t last_token_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_MESSAGE_LANES_H_
