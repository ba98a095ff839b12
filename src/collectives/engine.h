// Collectives between devices that have no fast interconnect of their own: the devices of one worker meet in its
// memory, and the workers of a gang exchange what is left over the data plane.
//
//   Engine engine(plane);
//   engine.Announce(launch, gang);             // in the controller's order, before any device may get there
//   engine.Arrive({.launch = launch, .device = 3, .table = table, .collective = 0, ..., .done = resume});
//   engine.End(launch);                        // all devices of this worker have finished with it
//
// Which arrivals meet is decided by (launch, collective, how often this device has been there in this launch, group)
// alone, so no order in which devices or workers get there can mismatch them. Results depend on the operands and the
// gang only: reductions go in the order of ranks within a worker, then in the order of workers.
//
// Threading: all calls are thread-safe, and none blocks or waits. `done` is called on the thread of the last arrival,
// or on one that brings data from another worker; never under a lock.
// Lifetime: `plane` outlives the engine. Operands and results stay valid until `done`, which is called exactly once,
// whatever happens.
#ifndef CAUSEWAY_COLLECTIVES_ENGINE_H_
#define CAUSEWAY_COLLECTIVES_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "base/dtype.h"
#include "base/ids.h"
#include "net/data_plane.h"
#include "proto/collectives.pb.h"

namespace causeway::collectives {

// Who takes part in a launch.
struct Gang {
  WorkerId self{-1};              // this worker
  std::vector<WorkerId> workers;  // by logical device: whose it is
  std::vector<int32_t> islands;   // by logical device: equal numbers share a fast network
  std::vector<int32_t>
      machines;  // likewise: on the same machine, where one may read the other's memory; empty: none are
};

// One operand or result of one device: dense, row-major. Elements of less than a byte take one each.
struct Buffer {
  char* data = nullptr;  // operands are only read
  DType dtype = DType::kInvalid;
  absl::InlinedVector<int64_t, 6> dims;
};

// A device has got to a collective.
struct Arrival {
  uint64_t launch = 0;  // the controller's number
  int device = 0;       // logical
  std::shared_ptr<const proto::Collectives> table;
  int collective = 0;       // in `table`
  uint32_t occurrence = 0;  // how often this device has been there before in this launch
  absl::InlinedVector<Buffer, 2> operands;
  absl::InlinedVector<Buffer, 2> results;
  std::function<void(absl::Status)> done;
};

// Bytes that this worker sent for one launch.
struct Traffic {
  int64_t worker_bytes = 0;  // to other workers, of the same island or not
  int64_t island_bytes = 0;  // to other islands
};

// The first three are part of the protocol: equal on all workers.
struct EngineOptions {
  // Parts up to this size travel as one message, larger ones as a stream.
  int64_t message_bytes = 64 << 10;

  // Partial results up to this size go to everybody at once; of larger ones every worker combines its share first.
  int64_t direct_bytes = 64 << 10;

  // Larger shares are cut, so that one is computed while others travel.
  int64_t chunk_bytes = 4 << 20;

  // What touches more bytes than these is the engine's threads' to do.
  int64_t inline_bytes = 256 << 10;
  int pool_threads = 2;

  // Workers of one machine read larger parts in each other's memory, where the system lets them.
  bool shared_memory = true;

  // What one worker may have sent before anybody here waits for it.
  int64_t max_early_bytes = int64_t{1} << 30;
  int64_t max_early_count = 1 << 20;
};

class Engine {
 public:
  explicit Engine(DataPlane& plane, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // A launch of a gang over several workers is coming. Numbers ascend.
  void Announce(uint64_t launch, std::shared_ptr<const Gang> gang);

  // Takes part in a collective. Errors through `done`: INVALID_ARGUMENT (operands that do not fit the collective, or
  // one another), the gang's error if the launch has been aborted, DATA_LOSS where a worker of the gang is lost.
  void Arrive(Arrival arrival);

  // The launch has failed here (it will not run, or a device of it failed): whoever waits for it, here or on the
  // gang's other workers, gets `why`, and so does who comes later. Ignored for launches that are not announced.
  void Abort(uint64_t launch, const absl::Status& why);

  // Nothing of the launch is left on this worker: no device will arrive any more. What others still send for it is
  // dropped.
  Traffic End(uint64_t launch);

  // The worker is gone: launches of its gangs that have not ended are aborted with `why` (DATA_LOSS, naming it).
  void PeerLost(WorkerId peer, const absl::Status& why);

  // All launches are forgotten, here only: who waits gets `why`, and numbers may start anew. For a lost controller.
  void Reset(const absl::Status& why);

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_ENGINE_H_
