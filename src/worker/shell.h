// A worker: the core with its threads, links, streams and devices.
//
//   WorkerShell worker(*runtime, *plane, dial, clock, options);     // joins the cluster, and joins again, until it is
//   destroyed
//
// An event enters the core on the very thread that brings it (strand.h), and what the core then wants done is done
// there: frames are written, the plugin is called, streams begin. Only what may block has threads of its own: launches
// (one for each device, since a plugin may run a cheap program inside Execute), compiles and questions about programs,
// and copies within host memory.
//
// Threading: construct and destroy on one thread.
// Lifetime: runtime, plane and clock outlive it. The destructor leaves the cluster, waits for what the devices are
// still doing, and gives all buffers and programs back; nothing of it runs afterwards.
#ifndef CAUSEWAY_WORKER_SHELL_H_
#define CAUSEWAY_WORKER_SHELL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "net/data_plane.h"
#include "worker/core.h"
#include "worker/device_runtime.h"
#include "worker/link_keeper.h"

namespace causeway::worker {

struct ShellOptions {
  std::string name;  // names the slot in the cluster
  std::string island;
  std::string host;
  std::string token;
  std::string group;                           // of processes whose clients the runtime's is one with; empty: of none
  std::optional<int64_t> device_memory_bytes;  // of each device, in place of what the runtime says; 0: no limit
  std::string data_address;                    // where `plane` listens
  std::function<void(WorkerId)> on_identity;   // tells the data plane who this is; before it learns of any peer
  std::function<void()> start_anew;  // the link is lost, and old launches go on and on; null: they share the devices
  CoreOptions core;
  LinkKeeperOptions link;
};

class WorkerShell {
 public:
  WorkerShell(DeviceRuntime& runtime, DataPlane& plane, Dial dial, const Clock& clock, ShellOptions options);
  ~WorkerShell();
  WorkerShell(const WorkerShell&) = delete;
  WorkerShell& operator=(const WorkerShell&) = delete;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_SHELL_H_
