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
