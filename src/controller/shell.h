// The controller's shell: sockets, threads and time around the controller core.
//
//   ASSIGN_OR_RETURN(auto shell, ControllerShell::Start(options));
//   IfrtDoor door(*shell, shell->data_plane(), ...);
//   shell->SetDoor(&door);
//
// Threading: an event enters the core on the thread that brought it (a client's gRPC thread, the thread that reads
// worker links, the ticker), under the one lock, and its actions are carried out before the lock is released; nothing
// is handed from thread to thread on the way of a launch. Actions never block: links queue, doors queue. Lifetime: the
// door must outlive the shell's Stop.
#ifndef CAUSEWAY_CONTROLLER_SHELL_H_
#define CAUSEWAY_CONTROLLER_SHELL_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/task_pool.h"
#include "controller/core.h"
#include "controller/gate.h"
#include "controller/program_store.h"
#include "net/data_plane.h"
#include "net/link.h"

namespace causeway {

class IoThread;
class LinkListener;
class SocketDataPlane;

struct ControllerShellOptions {
  ControllerOptions core;                           // data_address and key_seed are filled in
  std::string control_address = "127.0.0.1:29001";  // for workers and tools; "unix:PATH" too
  std::string data_address = "127.0.0.1:0";
  int data_connections = 1;       // with each worker, for bulk data
  std::string program_directory;  // where compiled programs outlive this process; empty: nowhere
  int64_t program_directory_bytes = int64_t{4} << 30;
};

class ControllerShell final : public CoreGate, private ControllerActions {
 public:
  // Listens. UNAVAILABLE where an address cannot be bound.
  static absl::StatusOr<std::unique_ptr<ControllerShell>> Start(ControllerShellOptions options);
  ~ControllerShell() override;

  // Where replies go. Before the first request of a client; null: nowhere.
  void SetDoor(ClientActions* door);

  // Where clients connect, as tools are told.
  void SetClientAddress(std::string address);

  // Closes all links and ends all threads. No action is called afterwards.
  void Stop();

  DataPlane& data_plane();
  const std::string& control_address() const { return control_address_; }

  void Handle(Event event) override;
  void Read(absl::FunctionRef<void(const ControllerCore&)> look) override;

 private:
  class Connection;

  explicit ControllerShell(ControllerShellOptions options);
  absl::Status Listen();
  void Accept(std::unique_ptr<Link> link);
  void Closed(LinkId link, const absl::Status& why);
  void Enter(Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Tick();
  void RunTicker();

  void ReplyDone(RequestHeader request, const absl::Status& status) override;
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override;
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override;
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override;
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override;
  void Throttle(SessionId session, bool hold) override;
  void OriginOpened(SessionId session, uint64_t origin) override;
  void OriginClosed(SessionId session, uint64_t origin, bool failed) override;
  void Send(LinkId link, const proto::ToWorker& message) override;
  void CloseLink(LinkId link, const absl::Status& why) override;
  void WorkerUp(LinkId link, WorkerId worker, uint64_t data_key, const std::string& name) override;
  void WorkerDown(WorkerId worker, const absl::Status& why) override;
  void LookUpProgram(ProgramId program, const std::string& key) override;
  void KeepProgram(const std::string& key, PortableRef portable) override;

  ControllerShellOptions options_;
  const RealClock clock_;
  std::string control_address_;
  std::unique_ptr<IoThread> io_;
  std::unique_ptr<SocketDataPlane> data_plane_;
  std::unique_ptr<LinkListener> listener_;
  std::thread ticker_;
  std::unique_ptr<ProgramStore> programs_;  // of the thread below; null: none
  std::unique_ptr<TaskPool> disk_;

  Mutex mu_;
  CondVar stopping_changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<ControllerCore> core_ ABSL_GUARDED_BY(mu_);
  ClientActions* door_ ABSL_GUARDED_BY(mu_) = nullptr;
  absl::flat_hash_map<LinkId, std::unique_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Connection>> closed_ ABSL_GUARDED_BY(mu_);  // destroyed by the ticker
  uint64_t last_link_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_SHELL_H_
