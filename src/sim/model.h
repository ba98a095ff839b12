// What the cluster must do, said a second time and more simply: the reference against which every answer is checked.
//
//   Expectation expected = model.Expect(event);         // before the core handles it
//   controller.Handle(event);
//   expected.Check(reply) ...                           // and the model adopts what was answered
//
// The model knows the contents of every buffer, by name, from the moment a request makes it (contents.h), and what may
// or must become of it. It runs in step with the controller core, so whatever the core decides at once (refusals,
// names, what a loss takes) it foretells exactly. What depends on timing elsewhere (whether a copy got through before
// its source was lost) it bounds:
//
//   must     errors of which the array is sure to hold one: what goes wrong with its making, or is said to be wrong
//   may      errors that it might hold: what can go wrong with what it was made from, and with the workers and data
//            connections over which it is made, as long as it is not known to be made
//
// So an array that holds an error although nothing that it depends on was harmed is found, and so is one that holds
// data although it must not.
//
// Threading: none.
#ifndef CAUSEWAY_SIM_MODEL_H_
#define CAUSEWAY_SIM_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "controller/core.h"
#include "controller/events.h"
#include "net/data_plane.h"
#include "sim/behaviours.h"
#include "sim/contents.h"
#include "sim/controller_process.h"

namespace causeway::sim {

// One way in which something goes wrong: a status of this code whose message has this text.
struct Cause {
  absl::StatusCode code;
  std::string text;

  bool Explains(const absl::Status& status) const;
};
Cause Exactly(const absl::Status& status);
// What the core says where there is no room for something on a device.
Cause NoRoom();

// Two processes that exchange streams.
using Path = std::pair<PeerId, PeerId>;
Path PathBetween(PeerId a, PeerId b);

// One shard's memory, which several arrays may name.
struct ModelBuffer {
  ContentsRef contents;  // null: it is sure never to be there
  bool taken = false;    // a launch took it, or may have
};
using ModelBufferRef = std::shared_ptr<ModelBuffer>;

struct ModelArray;
using ModelArrayRef = std::shared_ptr<ModelArray>;

struct ModelArray {
  ArrayId id;
  std::set<uint64_t> origins;             // of the requests that its errors may come from
  std::shared_ptr<const ArraySpec> spec;  // null: a launch's status, or an error
  std::vector<ModelBufferRef> shards;     // by shard; empty: it holds no data whatever happens
  bool replicas_agree = true;             // shards of the same part hold the same
  bool deleted = false;

  absl::Time begun;
  std::set<WorkerId> holders;          // whose loss takes it, whenever it happens
  std::set<WorkerId> helpers;          // whose loss may spoil its making
  std::set<Path> paths;                // over which it is made
  std::vector<ModelArrayRef> parents;  // whose errors it may take over

  std::vector<Cause> must;
  std::vector<Cause> may;
  bool doomed = false;   // it must hold an error of a parent
  bool certain = false;  // the controller knows that it holds an error
  bool good = false;     // it was seen to be made

  bool MustFail() const { return doomed || certain || !must.empty(); }
};

struct ModelProgram {
  std::shared_ptr<const ProgramView> view;  // null while it is being compiled
  bool is_gang() const { return workers.size() > 1; }

  std::set<WorkerId> workers;
  ProgramKind kind;
  std::string name;
  uint64_t life = 0;  // of its one worker, when it was compiled
};

// What a request may be answered with.
struct Expectation {
  bool may_succeed = true;
  std::vector<Cause> errors;                          // of which any may be the answer
  std::function<bool(const absl::Status&)> explains;  // further ones, looked up when the answer comes; may be null
  std::function<void(const absl::Status&)> adopt;     // takes the answer over into the model; may be null

  // OK, or a sentence that says why `status` is wrong.
  absl::Status Check(const absl::Status& status) const;
};

class Model final : public ClusterWatcher {
 public:
  // `healthy`: whether the worker of this name is alive behind an unharmed link.
  // `fail` learns of what no answer shows.
  Model(const Clock& clock, std::function<bool(const std::string&)> healthy, std::function<void(std::string)> fail)
      : clock_(clock), healthy_(std::move(healthy)), fail_(std::move(fail)) {}

  // ---- the cluster

  void OnWorkerUp(WorkerId worker, const std::string& name) override;
  void OnWorkerDown(WorkerId worker) override;

  // The simulation harms a worker: from now on, until it joins anew, what it takes part in may fail.
  void Impair(const std::string& worker);

  // A data connection breaks.
  void Cut(const Path& path);

  // A session was opened: devices have ids now.
  void SetDevices(const std::vector<DeviceView>& views);

  // Whatever is made may be refused for want of memory.
  void SetMemoryLimited(bool limited) { memory_limited_ = limited; }

  // The controller is another one, and knows nothing.
  void Reset();

  std::optional<WorkerId> WorkerNamed(const std::string& name) const;
  bool AnyAlive() const;
  bool alive(WorkerId worker) const { return workers_.contains(worker) && workers_.at(worker).alive; }

  struct Device {
    DeviceId id;
    WorkerId worker;
    int local_index;
  };
  // Those that have ids, whether alive or not.
  const std::map<DeviceId, Device>& devices() const { return devices_; }

  // ---- sessions

  // `devices` are those of its slice. Complains where it may not have one of them.
  void Open(SessionId session, const std::vector<DeviceId>& devices, const SessionWishes& wishes);
  void Close(SessionId session) { sessions_.erase(session); }

  ModelArrayRef Find(ArrayId id) const;
  const ModelProgram* Find(ProgramId id) const;
  const std::map<ArrayId, ModelArrayRef>& arrays(SessionId session) { return sessions_[session].arrays; }

  // ---- requests that are answered at once

  // `data` are the bytes of each piece. Pieces whose data the client breaks off are `aborted`, with that error.
  Expectation Expect(const PutArray& e, const std::vector<std::string>& data, const std::vector<absl::Status>& aborted);
  Expectation Expect(const DropProgram& e);
  // `is_deleted` looks at the core: whether a launch that may be poisoned took its donated arguments is the core's to
  // say.
  Expectation Expect(const LaunchProgram& e, std::function<bool(ArrayId)> is_deleted);
  Expectation Expect(const CopyArrays& e);
  Expectation Expect(const ReshardArrays& e);
  Expectation Expect(const AliasShards& e);
  Expectation Expect(const MakeErrorArrays& e);
  Expectation Expect(const DeleteArrays& e);
  Expectation Expect(const DestructArrays& e);

  // ---- requests that are answered later. What may happen until then is looked up when the answer is checked.

  // A good answer is adopted with its program.
  Expectation Expect(const CompileProgram& e, ProgramKind kind, const std::string& name);
  void AdoptProgram(ProgramId id, std::shared_ptr<const ProgramView> view);
  Expectation Expect(const WaitReady& e);
  // The contents that an OK answer must have go to `contents`.
  Expectation Expect(const FetchShard& e, ContentsRef& contents);
  Expectation Expect(const QueryDefaultLayout& e);
  Expectation Expect(const QueryProgram& e);

  // Whether `array` might hold an error, and whether `status` is one that it might hold.
  bool MayFail(const ModelArray& array) const;
  bool Explains(const ModelArray& array, const absl::Status& status) const;

 private:
  struct Worker {
    std::string name;
    bool alive = false;
    uint64_t life = 0;
  };
  struct Session {
    std::map<ArrayId, ModelArrayRef> arrays;
    std::map<ProgramId, ModelProgram> programs;
    std::set<DeviceId> devices;  // its slice
    bool exclusive = false;      // nobody else has them
  };
  // A worker or a path that is not to be relied on for a while.
  struct Fault {
    absl::Time until;
    std::optional<WorkerId> worker;
    std::optional<Path> path;
  };
  // What is wrong with a request: what is sure to be refused, and what is overlooked where an error is known.
  struct Problems {
    std::vector<Cause> sure;
    std::vector<Cause> unless_poisoned;
    bool poison_possible = true;  // of all that the second kind is about
  };

  // Whether a fault touches what has been going on since `begun` with these workers over these paths.
  bool Harmed(const std::set<WorkerId>& workers, const std::set<Path>& paths, absl::Time begun) const;

  // Visits `array` and all it may take errors from.
  bool AnyOf(const ModelArray& array, const std::function<bool(const ModelArray&)>& is) const;

  ModelArrayRef New(ArrayId id, const RequestHeader& request, std::shared_ptr<const ArraySpec> spec) const;
  void Add(const ModelArrayRef& array);
  // `child` may take over errors of `parent`, which is not known to be good.
  static void AddParent(ModelArray& child, const ModelArrayRef& parent);

  // `child` takes all of `parent`, so that it fails with any shard of it; or parts, and then its own shards say
  // whether.
  void Inherit(ModelArray& child, const ModelArrayRef& parent) const;
  void InheritParts(ModelArray& child, const ModelArrayRef& parent) const;
  std::set<WorkerId> WorkersOf(const std::vector<DeviceId>& devices) const;
  std::vector<Cause> DeviceProblems(SessionId session, const std::vector<DeviceId>& devices) const;
  std::vector<Cause> NameProblems(SessionId session, const std::vector<ArrayId>& ids) const;
  // The usable array, or a problem.
  ModelArrayRef Use(SessionId session, ArrayId id, std::vector<Cause>& problems) const;
  static std::vector<Cause> MemoryProblems(const std::string& memory_kind);
  // Turns what is wrong into what may be answered; `adopt` takes over a success, refusals leave errors in `results`.
  Expectation Answer(const RequestHeader& request, const Problems& problems, std::vector<ArrayId> results,
                     std::function<void()> adopt);
  void Refuse(const RequestHeader& request, const std::vector<ArrayId>& results, const absl::Status& status);
  bool AllAlive(const std::set<WorkerId>& workers) const;
  bool MustCompileAgain(const ModelProgram& program) const;
  void AdoptLaunch(const LaunchProgram& e, const ModelProgram& program, bool overlooked);
  // `is_deleted` says what the core has taken; where it must have taken all, it is `sure`.
  void TakeDonated(const LaunchProgram& e, const ModelProgram& program, bool sure,
                   const std::function<bool(ArrayId)>& is_deleted);
  // Whether shards that are the same part of the array hold the same.
  static bool ReplicasAgree(const ModelArray& array);
  void DeleteAll(const std::vector<ArrayId>& ids);

  const Clock& clock_;
  const std::function<bool(const std::string&)> healthy_;
  const std::function<void(std::string)> fail_;
  bool memory_limited_ = false;
  std::map<WorkerId, Worker> workers_;
  std::map<DeviceId, Device> devices_;
  std::map<SessionId, Session> sessions_;
  std::vector<Fault> faults_;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_MODEL_H_
