// The door for JAX: the gRPC service of the IFRT proxy protocol, in front of the controller core.
//
//   IfrtDoor door(*shell, shell->data_plane(), IfrtDoorOptions{});
//   shell->SetDoor(&door);
//   ASSIGN_OR_RETURN(std::vector<std::string> bound, door.Start({"127.0.0.1:0", "unix:/run/causeway/ifrt.sock"}));
//   ...
//   door.Stop();
//
// There is no authentication in the protocol and no encryption in the stock client: whoever reaches an address may use
// the cluster. Listen on loopback or on a unix socket in a private folder, and put a tunnel in front for more.
//
// Threading: gRPC's threads read requests and run them through the core, there and then; replies are written by the
// thread on which they come. One thread of the door's own does what is rare: closing sessions, timeouts. Lifetime: the
// gate and the data plane outlive Stop; the core must not reply after the door is destroyed.
#ifndef CAUSEWAY_IFRT_DOOR_H_
#define CAUSEWAY_IFRT_DOOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "controller/gate.h"
#include "ifrt/host_memory.h"
#include "ifrt/late_flush.h"
#include "ifrt/session.h"
#include "net/data_plane.h"

namespace grpc {
class Server;
}

namespace causeway {

struct IfrtDoorOptions {
  bool slices = false;  // devices say their island as slice_index
  int max_sessions = 1024;
  HostMemoryLimits host_memory;

  // A client that is silent for so long is given up: its machine has vanished, or its process stands still.
  absl::Duration client_timeout = absl::Minutes(4);
  UploadLimits uploads;
  std::string large_transfer_directory;  // where clients may leave host data as files; empty: nowhere
};

class IfrtDoor final : public ClientActions {
 public:
  IfrtDoor(CoreGate& gate, DataPlane& plane, IfrtDoorOptions options);
  ~IfrtDoor() override;
  IfrtDoor(const IfrtDoor&) = delete;
  IfrtDoor& operator=(const IfrtDoor&) = delete;

  // Listens on "HOST:PORT" and "unix:PATH" addresses, and returns them with the ports that port 0 became. UNAVAILABLE
  // where one cannot be bound. Called once.
  absl::StatusOr<std::vector<std::string>> Start(const std::vector<std::string>& addresses);

  // Ends all sessions, and returns when they are closed in the core.
  void Stop();

  int session_count() const;
  const IfrtDoorOptions& options() const { return options_; }

  // For the service. RESOURCE_EXHAUSTED: there are max_sessions.
  absl::StatusOr<std::shared_ptr<IfrtSession>> OpenSession(Introduction client, std::string peer,
                                                           std::shared_ptr<SessionPeer> stream);

  // The client is gone. Returns at once; may be called from anywhere, more than once.
  void CloseSession(const std::shared_ptr<IfrtSession>& session);

  // The session that shows `key` with its host buffers. NOT_FOUND.
  absl::StatusOr<std::shared_ptr<IfrtSession>> FindSession(uint64_t key) const;

  DataPlane& plane() { return plane_; }
  LateFlush& late_flush() { return late_flush_; }
  const std::shared_ptr<HostMemory>& memory() const { return memory_; }

  void ReplyDone(RequestHeader request, const absl::Status& status) override;
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override;
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override;
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override;
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override;
  void Throttle(SessionId session, bool hold) override;
  void OriginOpened(SessionId session, uint64_t origin) override;
  void OriginClosed(SessionId session, uint64_t origin, bool failed) override;
  void WorkerDown(WorkerId worker, const absl::Status& why) override;

 private:
  class Service;

  std::shared_ptr<IfrtSession> Find(SessionId id) const;
  std::vector<std::shared_ptr<IfrtSession>> Sessions() const;
  void EverySecond();

  CoreGate& gate_;
  DataPlane& plane_;
  const IfrtDoorOptions options_;
  const std::shared_ptr<HostMemory> memory_;

  mutable Mutex mutex_;
  uint32_t last_session_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<SessionId, std::shared_ptr<IfrtSession>> sessions_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::shared_ptr<IfrtSession>> by_key_ ABSL_GUARDED_BY(mutex_);

  LateFlush late_flush_;
  std::unique_ptr<AfterCore> after_;  // null after Stop
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DOOR_H_
