// A simulated controller: the real core, and around it what controller/shell.h is to a live one.
//
//   ControllerProcess controller(world, network, options, door, watcher);
//   controller.Handle(PutArray{...});                      // from the door
//   std::shared_ptr<ControlLink> link = controller.Accept();     // a worker dials
//
// Threading: none; lives in the world. Lifetime: may be destroyed at any time, as a process is killed: its links close
// and its streams end. `door` and `watcher` outlive it.
#ifndef CAUSEWAY_SIM_CONTROLLER_PROCESS_H_
#define CAUSEWAY_SIM_CONTROLLER_PROCESS_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "controller/core.h"
#include "sim/control_link.h"
#include "sim/data_network.h"
#include "sim/world.h"

namespace causeway::sim {

struct ControllerProcessOptions {
  ControllerOptions core;
  absl::Duration link_delay = absl::Microseconds(50);
  int full_frames = 100;           // in flight to one worker, above which its link is full
  std::function<bool()> watching;  // whether time is told to the core. The world has no end while it is
  bool caps = false;               // it is told a while longer where launches are held
};

// Learns what the core holds of its workers, when it does.
class ClusterWatcher {
 public:
  virtual ~ClusterWatcher() = default;
  virtual void OnWorkerUp(WorkerId worker, const std::string& name) = 0;
  virtual void OnWorkerDown(WorkerId worker) = 0;
};

class ControllerProcess final : private ControllerActions {
 public:
  ControllerProcess(World& world, DataNetwork& network, ControllerProcessOptions options, ClientActions& door,
                    ClusterWatcher& watcher);
  ~ControllerProcess() override;

  // From the door. Not from within one of its actions.
  void Handle(Event event);

  std::shared_ptr<ControlLink> Accept();

  const ControllerCore& core() const { return core_; }
  SimulatedDataPlane& data_plane() { return *plane_; }

  // Reports all that is left over where nothing should be.
  void CheckEmpty();

 private:
  void OnFrame(LinkId link, const std::string& frame);
  void WatchFullness(LinkId link, bool full);
  void Tick();

  // What is for the door goes to the door.
  void ReplyDone(RequestHeader request, const absl::Status& status) override { door_.ReplyDone(request, status); }
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override {
    door_.ReplyCompiled(request, std::move(program));
  }
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override {
    door_.ReplyFetched(request, std::move(fetched));
  }
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override {
    door_.ReplyQuery(request, std::move(answer));
  }
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override {
    door_.WantHostData(session, buffer, worker, stream, total_bytes, in_frame, last);
  }
  void Throttle(SessionId session, bool hold) override { door_.Throttle(session, hold); }
  void OriginOpened(SessionId session, uint64_t origin) override { door_.OriginOpened(session, origin); }
  void OriginClosed(SessionId session, uint64_t origin, bool failed) override {
    door_.OriginClosed(session, origin, failed);
  }
  void Send(LinkId link, const proto::ToWorker& message) override;
  void CloseLink(LinkId link, const absl::Status& why) override;
  void WorkerUp(LinkId link, WorkerId worker, uint64_t data_key, const std::string& name) override;
  void WorkerDown(WorkerId worker, const absl::Status& why) override;

  World& world_;
  const ControllerProcessOptions options_;
  ClientActions& door_;
  ClusterWatcher& watcher_;
  const std::unique_ptr<SimulatedDataPlane> plane_;
  ControllerCore core_;
  std::map<LinkId, std::shared_ptr<ControlLink>> links_;
  std::set<LinkId> full_;
  uint64_t last_link_ = 0;
  int late_ticks_ = 0;
  bool inside_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // what the world still calls looks here
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_CONTROLLER_PROCESS_H_
