// What a session owns: its arrays and programs, as the controller core keeps them.
//
// Threading: none; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_SESSION_H_
#define CAUSEWAY_CONTROLLER_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "controller/cluster.h"
#include "controller/device_memory.h"
#include "controller/events.h"
#include "controller/future.h"
#include "controller/load.h"
#include "controller/program_memory.h"
#include "controller/scheduler.h"
#include "controller/wishes.h"

namespace causeway {

struct Array {
  std::shared_ptr<const ArraySpec> spec;                    // null: a launch's status, or an error of unknown type
  std::shared_ptr<const Placement> placement;               // of the spec's devices; null until workers know the name
  absl::InlinedVector<std::shared_ptr<Future>, 1> futures;  // ready when all are done
  absl::Status error;                                       // what it holds instead of data, whatever the futures say
  bool deleted = false;                                     // or donated: the name is left, the data are not
  bool on_workers = false;     // its workers know the name (also when it was donated, until it is deleted)
  DeviceMemory::Claim memory;  // while it has data, or is to have some
  // Held operations (core_impl.h), by number; what is not held any more may still stand here.
  uint64_t maker = 0;                      // what makes it
  absl::InlinedVector<uint64_t, 1> users;  // what reads or takes it
  uint64_t made_by = 0;                    // `order` of the launch that made it, or its source; 0: none

  // The error it is known to hold by now; OK: none, so far.
  absl::Status KnownError() const {
    if (!error.ok()) return error;
    for (const auto& future : futures) {
      if (!future->status().ok()) return future->status();
    }
    return absl::OkStatus();
  }

  // Of what it still waits for first, for an error that it gets meanwhile; 0 where it waits for nothing.
  uint64_t LendPendingOrigin() {
    for (const auto& future : futures) {
      if (!future->done()) return future->LendOrigin();
    }
    return 0;
  }
};

struct Program {
  bool is_gang() const { return gang != nullptr; }

  std::shared_ptr<const ProgramView> view;  // null until compiled
  bool compiled = false;                    // it may be launched
  std::shared_ptr<const Placement> placement;
  std::shared_ptr<const proto::Gang> gang;  // null: all of it is one worker's
  absl::InlinedVector<uint64_t, 2> told;    // by place in placement->workers: which incarnation knows of it; 0: none
  // Kept for workers that return: what to compile; or, for a gang, what was compiled.
  proto::Compile compile;
  std::shared_ptr<const proto::PortableProgram> portable;
  std::string cache_key;  // of a gang
  ProgramMemory memory;   // once compiled
  std::shared_ptr<Scheduler::Measured> measured = std::make_shared<Scheduler::Measured>();
  absl::InlinedVector<uint64_t, 1> users;  // held launches of it, as in Array
  // For people.
  int64_t compile_us = 0;
  int64_t launches = 0;
  int64_t worker_bytes = 0;  // that its collectives sent between workers
  int64_t island_bytes = 0;  // and between islands
};

struct Session {
  explicit Session(const LoadLimits& limits) : load(limits) {}

  SessionId id;
  std::string name;
  std::string peer;
  SessionWishes wishes;
  absl::Time opened;
  int64_t launches = 0;
  Load load;
  DeviceMemory::Account* memory = nullptr;
  bool throttled = false;  // as its door was told last
  absl::flat_hash_map<ArrayId, Array> arrays;
  absl::flat_hash_map<ProgramId, Program> programs;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_SESSION_H_
