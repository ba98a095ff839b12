// What the parts of the core share: this event's actions and time, the store, host memory, and the way to the
// controller.
#ifndef CAUSEWAY_WORKER_CONTEXT_H_
#define CAUSEWAY_WORKER_CONTEXT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/events.h"
#include "worker/host_memory.h"
#include "worker/store.h"

namespace causeway::worker {

inline proto::Status ToProto(const absl::Status& status) {
  proto::Status out;
  out.set_code(static_cast<int32_t>(status.code()));
  out.set_message(std::string(status.message()));
  return out;
}

inline absl::Status FromProto(const proto::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.code()), status.message());
}

struct Context {
  Context(int devices, int64_t staging_bytes) : devices(devices), store(devices), hosts(staging_bytes) {}

  // Sends `message`, unless the link to which it belongs is gone.
  void Report(Life of, const proto::ToController& message) const {
    if (linked && of == life) out->Send(message);
  }

  const int devices;  // local ones
  WorkerActions* out = nullptr;
  absl::Time now;
  Life life{0};
  bool linked = false;
  WorkerId self{-1};
  Store store;
  HostMemory hosts;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_CONTEXT_H_
