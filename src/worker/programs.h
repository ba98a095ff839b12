// The programs of a worker: being compiled, compiled, or refused by the compiler. A program lives as long as its name
// or a launch that uses it.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_PROGRAMS_H_
#define CAUSEWAY_WORKER_PROGRAMS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/events.h"

namespace causeway::worker {

class Programs;

struct Program {
  enum class State { kCompiling, kCompiled, kFailed };

  Program(Programs& owner, ProgramKey key, ProgramId id, Life life);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  Programs& owner;
  const ProgramKey key;
  const ProgramId id;
  const Life life;
  std::vector<int> devices;                       // local device of each logical device that is here
  std::vector<int> shards;                        // which logical device each of them is
  std::shared_ptr<const collectives::Gang> gang;  // null: all devices are here
  std::vector<int> plugin_devices;  // of a gang that the plugins run together: all its devices, by their numbers
  State state = State::kCompiling;
  absl::Status error;            // of the compiler
  std::vector<int> donated;      // parameters
  bool has_collectives = false;  // the plugin's own, and between several devices
  int64_t output_bytes = 0;      // of all outputs on one device, as their types say
};

using ProgramRef = std::shared_ptr<Program>;

class Programs {
 public:
  explicit Programs(Context& context) : context_(context) {}

  // Starts to compile. What is wrong with the request is reported as the compiler's error would be.
  void Compile(proto::Compile request);

  // Reports, and gives back the program, whose launches may now go on.
  ProgramRef OnCompileDone(CompileDone event);

  // NOT_FOUND where nothing has that name.
  absl::StatusOr<ProgramRef> Find(ProgramId id) const;

  void Drop(ProgramId id) { programs_.erase(id); }
  void DropSession(SessionId session);
  void DropAll() { programs_.clear(); }

  // Those that exist, with or without a name.
  int64_t count() const { return count_; }

  // At the end of every event: gives back what nobody uses any more.
  void Sweep();

  int64_t size() const { return static_cast<int64_t>(programs_.size()); }
  int64_t compiling() const { return static_cast<int64_t>(compiling_.size()); }

 private:
  friend struct Program;

  static absl::Status ReadDevices(const proto::Compile& request, const Context& context, Program& program);
  void ReportFailure(ProgramId id, const absl::Status& status);

  Context& context_;
  uint64_t last_key_ = 0;
  int64_t count_ = 0;
  std::vector<ProgramKey> gone_;
  absl::flat_hash_map<ProgramKey, ProgramRef> compiling_;  // keeps them until the compiler is through
  absl::btree_map<ProgramId, ProgramRef> programs_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_PROGRAMS_H_
