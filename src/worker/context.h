// What the parts of the core share: this event's actions and time, the store, host memory, the trace, and the way to
// the controller.
#ifndef CAUSEWAY_WORKER_CONTEXT_H_
#define CAUSEWAY_WORKER_CONTEXT_H_

#include <cstdint>
#include <map>

#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "proto/status.h"
#include "worker/events.h"
#include "worker/host_memory.h"
#include "worker/store.h"
#include "worker/trace_ring.h"

namespace causeway::worker {

struct Context {
  Context(int devices, int64_t staging_bytes)
      : devices(devices), store(devices), hosts(staging_bytes), trace(devices) {}

  // Sends `message`, unless the link to which it belongs is gone.
  void Report(Life of, const proto::ToController& message) const {
    if (linked && of == life) out->Send(message);
  }

  // Which life of `peer` is known; 0: none. What was begun with one life must not go on with the next, which knows
  // nothing of it.
  uint64_t PeerLife(PeerId peer) const {
    const auto found = peer_lives.find(peer);
    return found == peer_lives.end() ? 0 : found->second;
  }

  const int devices;  // local ones
  WorkerActions* out = nullptr;
  absl::Time now;
  Life life{0};
  bool linked = false;
  WorkerId self{-1};
  std::map<PeerId, uint64_t> peer_lives;  // other workers
  Store store;
  HostMemory hosts;
  TraceRing trace;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_CONTEXT_H_
