// The messages of a socket data plane: for each peer one connection ("lane") that carries nothing else. The bytes:
// message_reader.h. Who connects, and that it is the right one who does, is the plane's affair; it hands over sockets.
//
// Sending is a system call on the caller's own thread, receiving one on the thread that calls the handler: a hand-off
// between threads would cost more than the message itself. What a socket does not take at once waits, and leaves on the
// receiving thread.
//
// Threading: any thread. The handler and `redial` are called on the lanes' own thread, with no lock held.
// Lifetime: after Stop, which must not run on the lanes' own thread, nothing is called and what is sent is dropped.
#ifndef CAUSEWAY_NET_MESSAGE_LANES_H_
#define CAUSEWAY_NET_MESSAGE_LANES_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "net/data_plane.h"

namespace causeway {

class MessageLanes {
 public:
  // `redial`: the lane of a peer, as it was attached with `attempt`, is lost.
  using Redial = std::function<void(PeerId peer, uint64_t attempt)>;

  // At most `max_waiting_bytes` wait for one peer, and for a connection for at most `patience`: then they are lost.
  // UNAVAILABLE: the process has no file descriptors left.
  static absl::StatusOr<std::shared_ptr<MessageLanes>> Start(Redial redial, int64_t max_waiting_bytes,
                                                             absl::Duration patience);
  ~MessageLanes();

  // The peers whose messages are taken; a change of address or key is another peer.
  void SetPeer(PeerId peer, const std::string& address, uint64_t key);
  void DropPeer(PeerId peer);
  void DropAll();

  // Takes over `fd`, connected to the peer that was set so; closes it if there is none. One that was attached before is
  // lost.
  void Attach(PeerId peer, const std::string& address, uint64_t key, uint64_t attempt, int fd);

  // As data_plane.h says.
  void Send(PeerId peer, absl::Span<const absl::Span<const char>> parts);
  void SetHandler(MessageHandler* handler);

  void Stop();

 private:
  struct Lane;
  MessageLanes(Redial redial, int64_t max_waiting_bytes, absl::Duration patience, int epoll, int wake);
  using LaneRef = std::shared_ptr<Lane>;
  // What another thread wants done.
  struct Task {
    LaneRef lane;  // null: only a word about `peer`
    int fd = -1;   // to be attached
    uint64_t attempt = 0;
    PeerId peer{0};
    absl::Status lost;
  };

  LaneRef Find(PeerId peer);
  void Drop(const LaneRef& lane);
  void Post(Task task);
  void SayLost(PeerId peer, absl::Status why);
  // With the lane's mutex held.
  void Break(Lane& lane, absl::Status why) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void Wait(Lane& lane, absl::Span<const iovec> parts, size_t skip) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void Arm(Lane& lane, bool writable) ABSL_NO_THREAD_SAFETY_ANALYSIS;

  // On the lanes' thread.
  void Run();
  void RunTasks();
  void GiveUpWaiting();
  void AttachNow(const LaneRef& lane, uint64_t attempt, int fd);
  void Read(const LaneRef& lane);
  void Write(const LaneRef& lane);
  void Lose(const LaneRef& lane, const absl::Status& why);
  template <typename Call>
  void WithHandler(const Call& call);

  const Redial redial_;
  const size_t max_waiting_bytes_;
  const absl::Duration patience_;
  const int epoll_;
  const int wake_;

  Mutex mutex_;
  absl::flat_hash_map<PeerId, LaneRef> peers_ ABSL_GUARDED_BY(mutex_);
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<PeerId> said_lost_ ABSL_GUARDED_BY(mutex_);  // by a task that is still to run
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  Mutex handler_mutex_;
  CondVar called_;
  MessageHandler* handler_ ABSL_GUARDED_BY(handler_mutex_) = nullptr;
  bool calling_ ABSL_GUARDED_BY(handler_mutex_) = false;

  // Touched on the lanes' thread only.
  absl::flat_hash_map<uint64_t, LaneRef> attached_;  // by their number, as events name them
  uint64_t last_number_ = 0;
  const std::unique_ptr<char[]> buffer_;

  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_MESSAGE_LANES_H_
