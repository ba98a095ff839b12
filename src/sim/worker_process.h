// A simulated worker: the real core, and around it what worker/shell.h is to a live one, on simulated devices, streams
// and time.
//
//   auto worker = std::make_shared<WorkerProcess>(world, network, options);
//   worker->Start(dial);             // `dial` gives it a ControlLink, or none
//   worker = nullptr;                // the process is killed
//
// Whatever the core wants takes a while and is answered in an order of its own: compiles overtake each other, a launch
// may finish before its Execute has returned, pieces are copied in any order. It checks all that the core wants: that
// every key exists, and is not given up while something that was begun under it still uses it; that no launch takes a
// buffer that is being read; that every device gets the launches of a session in the controller's order, and all of
// them one at a time; that at most one launch uses collectives; that accounts and limits are kept.
//
// Threading: none; lives in the world. Lifetime: held by whoever runs the cluster, weakly by what the world still has
// to call.
#ifndef CAUSEWAY_SIM_WORKER_PROCESS_H_
#define CAUSEWAY_SIM_WORKER_PROCESS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sim/control_link.h"
#include "sim/data_network.h"
#include "sim/world.h"
#include "worker/core.h"
#include "worker/device_runtime.h"
#include "worker/host_block.h"
#include "worker/host_streams.h"

namespace causeway::sim {

struct WorkerProcessOptions {
  std::string name;
  std::string island;
  int devices = 1;
  int64_t device_memory_bytes = 0;  // 0: no limit
  bool host_view = false;
  worker::CoreOptions core;

  // How long things usually take.
  absl::Duration launch_time = absl::Microseconds(50);
  absl::Duration compile_time = absl::Milliseconds(1);
  absl::Duration callback_delay = absl::Microseconds(5);

  absl::Duration redial_delay = absl::Milliseconds(100);

  // Whether it listens for silence on its link. The world has no end while anybody does.
  std::function<bool()> watching;

  // Its link is gone, as the process sees it.
  std::function<void()> on_link_lost;

  // How often a program of this name was compiled before, by whichever worker. Counts this time.
  std::function<int(const std::string& program)> compiled_before;
};

class WorkerProcess final : public worker::WorkerActions, public std::enable_shared_from_this<WorkerProcess> {
 public:
  // Connects to whichever controller there is; null: to none.
  using Dial = std::function<std::shared_ptr<ControlLink>(const std::shared_ptr<WorkerProcess>&)>;

  WorkerProcess(World& world, DataNetwork& network, WorkerProcessOptions options);
  ~WorkerProcess() override;

  void Start(Dial dial);

  const std::string& name() const { return options_.name; }
  const std::string& data_address() const { return plane_->listen_address(); }
  const std::shared_ptr<ControlLink>& link() const { return link_; }
  worker::CoreCounts Counts() const { return core_.Counts(); }
  int64_t launches_run() const { return launches_run_; }

  // Reports all that is left over where nothing should be.
  void CheckEmpty();

  // WorkerActions.
  void Send(const proto::ToController& message) override;
  void SendFetched(proto::FetchDone done, worker::HostKey data) override;
  void SetSelf(WorkerId self) override;
  void SetPeer(PeerId peer, const std::string& address, uint64_t key) override { plane_->SetPeer(peer, address, key); }
  void DropPeer(PeerId peer) override { plane_->DropPeer(peer); }
  void Compile(worker::ProgramKey program, CompileRequest request) override;
  void CompileGang(worker::ProgramKey program, worker::GangProgram request) override;
  // Simulated programs have no collectives.
  void AnnounceGang(uint64_t, std::shared_ptr<const collectives::Gang>) override {}
  void AbortGang(uint64_t, const absl::Status&) override {}
  collectives::Traffic EndGang(uint64_t) override { return {}; }
  void DropProgram(worker::ProgramKey program) override;
  void Execute(worker::ExecuteRequest request) override;
  void Ask(worker::Life life, const proto::Query& query, std::optional<worker::ProgramKey> program) override;
  void BufferFromHost(worker::BufferKey buffer, worker::HostKey host, const HostShape& shape, int device,
                      const std::string& memory_kind, const std::string& layout) override;
  void BufferFromBuffer(worker::BufferKey buffer, worker::BufferKey source, int device,
                        const std::string& memory_kind) override;
  void DropBuffer(worker::BufferKey buffer) override;
  void AdoptHost(worker::HostKey host, std::string data) override;
  void AllocateHost(worker::HostKey host, int64_t bytes) override;
  void DropHost(worker::HostKey host) override;
  void View(worker::HostKey host, worker::BufferKey buffer) override;
  void ReadBack(worker::HostKey host, worker::BufferKey buffer, const std::vector<int64_t>& byte_strides) override;
  void CopyPiece(worker::PieceKey piece, worker::HostKey source, const worker::ByteRuns& from, worker::HostKey target,
                 const worker::ByteRuns& to) override;
  void Receive(worker::StreamKey stream, PeerId peer, StreamId id, worker::HostKey target,
               const worker::ByteRuns& place) override;
  void SendStream(worker::StreamKey stream, PeerId peer, StreamId id, worker::HostKey source,
                  const worker::ByteRuns& place) override;
  void CancelStream(worker::StreamKey stream, const absl::Status& status) override;
  void RefuseToSend(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) override;
  void RefuseToReceive(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) override;

 private:
  using Arguments = std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>;  // by device, then parameter

  struct HeldBuffer {
    std::shared_ptr<DeviceBuffer> buffer;
    int device = 0;
    int launches = 0;  // that were told to start with it and have not returned
    int reads = 0;     // that have begun
    bool failed = false;
  };
  struct HeldHost {
    std::shared_ptr<worker::HostBlock> block;  // null: a name for memory that cannot be looked at
    int64_t bytes = 0;                         // as the core counts them
  };
  struct HeldStream {
    PeerId peer;
    StreamId id;
    worker::HostKey host;
  };
  // A launch that was told to start.
  struct Executing {
    worker::ExecuteRequest request;
    std::shared_ptr<DeviceProgram> program;
    Arguments arguments;
  };
  // Joins the two answers to one launch.
  struct Running {
    bool returned = false;
    std::optional<absl::Status> finished;
  };

  // Does `call` a little later, if the process still lives.
  void Later(absl::Duration usual, std::function<void()> call);
  void Enter(worker::Event event);

  // The link.
  void TryToDial();
  void OnFrame(const std::string& frame);
  void OnClosed();
  void Watch();

  void RunLaunch(const std::shared_ptr<Executing>& launch);
  void Return(const std::shared_ptr<Executing>& launch, absl::StatusOr<Execution> execution,
              std::optional<absl::Status> finished);
  absl::StatusOr<std::vector<int64_t>> KeepOutputs(const Executing& launch, absl::StatusOr<Execution> execution);
  void Hold(worker::BufferKey key, std::shared_ptr<DeviceBuffer> buffer, int device);
  void CheckOrder(const Executing& launch);
  void OnMade(worker::BufferKey key, int device, absl::StatusOr<std::shared_ptr<DeviceBuffer>> buffer);
  void EndRead(worker::BufferKey key);
  worker::StreamDone EndOf(worker::StreamKey stream);
  proto::QueryDone Answer(const proto::Query& query, DeviceProgram* program);

  // What a key stands for; reports keys that stand for nothing, and gives null.
  HeldBuffer* FindBuffer(worker::BufferKey key, const char* what);
  void MarkFailed(const std::vector<worker::BufferKey>& keys);
  std::shared_ptr<worker::HostBlock> FindHost(worker::HostKey key, const char* what);
  void CheckAccounts();
  void Fail(const std::string& finding);

  World& world_;
  const WorkerProcessOptions options_;
  Dial dial_;
  std::unique_ptr<SimulatedDataPlane> plane_;
  std::unique_ptr<DeviceRuntime> runtime_;
  worker::WorkerCore core_;
  std::shared_ptr<ControlLink> link_;  // while it is up
  absl::Time last_heard_;
  absl::Duration allowed_silence_ = absl::Seconds(10);
  uint64_t life_ = 0;  // counts links, as the core does

  std::map<worker::BufferKey, HeldBuffer> buffers_;
  std::map<worker::HostKey, HeldHost> hosts_;
  std::map<worker::ProgramKey, std::shared_ptr<DeviceProgram>> programs_;
  std::set<worker::ProgramKey> gangs_;               // those whose collectives are not the plugin's
  std::map<worker::StreamKey, HeldStream> streams_;  // begun, and neither ended nor cancelled

  // What the core has been told of.
  std::vector<int64_t> device_bytes_;
  int64_t host_bytes_ = 0;

  using Place = std::pair<uint64_t, uint64_t>;  // (life, launch number), in the order of which devices take launches
  std::map<int32_t, std::pair<SessionId, Place>> places_;    // by launch id
  std::map<std::pair<int, SessionId>, Place> last_started_;  // by device and session
  std::vector<bool> giving_;                                 // by device: it is being given a launch
  uint64_t last_number_ = 0;                                 // sent to us in this life
  std::vector<absl::Time> dispatch_free_;                    // by device: when its thread has begun all it was given
  std::set<worker::LaunchKey> collectives_;                  // running launches that use them
  int64_t launches_run_ = 0;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_WORKER_PROCESS_H_
