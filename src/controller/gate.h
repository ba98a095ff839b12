// The gate between a door for clients (src/ifrt) and the controller core: events in, replies out, under the one lock.
//
//   gate->Handle(LaunchProgram{...});                                  // replies may come before this returns
//   gate->Read([&](const ControllerCore& core) { devices = core.Devices(); });
//
// Threading: Handle and Read may be called from any thread, never from inside a ClientActions call or a Read (the lock
// is held there, and is not recursive).
#ifndef CAUSEWAY_CONTROLLER_GATE_H_
#define CAUSEWAY_CONTROLLER_GATE_H_

#include "absl/functional/function_ref.h"
#include "controller/core.h"
#include "controller/events.h"

namespace causeway {

// What the core wants of a door. Called with the core's lock held: keep it short, and do not call the gate.
class ClientActions {
 public:
  virtual ~ClientActions() = default;

  // As in ControllerActions.
  virtual void ReplyDone(RequestHeader request, const absl::Status& status) = 0;
  virtual void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) = 0;
  virtual void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) = 0;
  virtual void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) = 0;
  virtual void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream,
                            int64_t total_bytes, bool in_frame, bool last) = 0;
};

class CoreGate {
 public:
  virtual ~CoreGate() = default;

  // Runs one event through the core, on this thread.
  virtual void Handle(Event event) = 0;

  // Looks at the core. `look` must not keep what it sees by reference.
  virtual void Read(absl::FunctionRef<void(const ControllerCore&)> look) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_GATE_H_
