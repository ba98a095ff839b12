// The worker core: everything a worker decides, as one deterministic state machine.
//
//   WorkerCore core(options, hello);
//   core.Handle(FrameIn{message}, clock.Now(), actions);     // what is to be done comes out through `actions`
//
// It holds the names of buffers, the queues of launches, and what waits for what. It never holds a device buffer, a
// byte of an array, a socket or a thread: those are the shell's (shell.h), which names them by the keys in events.h.
//
// What it answers: every Compile, Launch, Put, ReceiveHost, Copy with something to make, Fetch, Query and Ping by
// exactly one report, unless the link goes first. What is wrong with a message is the error of what it asked for, and
// touches nothing else.
//
// Threading: none of its own; one call at a time. No clocks, no I/O: the same code runs live and under a simulator.
// Cost: a launch costs O(devices * (arguments + outputs)).
#ifndef CAUSEWAY_WORKER_CORE_H_
#define CAUSEWAY_WORKER_CORE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "proto/control.pb.h"
#include "worker/events.h"
#include "worker/host_memory.h"

namespace causeway::worker {

struct CoreOptions {
  // Host memory for what clients send, for what they fetch and for what other arrays take: so much for each. What is
  // above it waits for its turn.
  int64_t staging_bytes = int64_t{1} << 30;

  // Gangs' launches that a device's thread is given before the first of them has returned. With more than one, whoever
  // carries out Execute must know by their keys the outputs of those before.
  int gangs_ahead = 1;
};

// What a core holds, for simulations and tests. Where no session is open and nothing is under way all of it is 0.
struct CoreCounts {
  int64_t arrays = 0;  // that have names here
  int64_t programs = 0;
  int64_t compiling = 0;
  int64_t questions = 0;  // that wait for the compiler
  int64_t launches = 0;
  int64_t makes = 0;  // shards in the making, and reports that wait for them
  int64_t reads = 0;
  int64_t puts = 0;    // that wait for their data
  int64_t copies = 0;  // targets that wait for pieces, and pieces
  int64_t streams = 0;
  int64_t waiting_for_room = 0;
  int64_t host_bytes = 0;
  std::vector<PoolUse> pools;  // of host memory
  std::vector<int64_t> device_bytes;
  std::vector<int64_t> device_buffers;
};

class WorkerCore {
 public:
  // `hello` is said on every new link; it names the devices.
  WorkerCore(const CoreOptions& options, proto::Hello hello);
  ~WorkerCore();
  WorkerCore(const WorkerCore&) = delete;
  WorkerCore& operator=(const WorkerCore&) = delete;

  // Handles one event. `now` never goes back.
  void Handle(Event event, absl::Time now, WorkerActions& out);

  CoreCounts Counts() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_CORE_H_
