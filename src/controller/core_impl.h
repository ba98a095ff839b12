// The inside of the controller core, split over core.cc (sessions, time), core_workers.cc (joining, losing),
// core_arrays.cc (making, naming, waiting for and fetching arrays), core_programs.cc (compiling, asking),
// core_launches.cc (launching), core_held.cc (what waits for its turn), core_memory.cc (what device memory is counted
// for, and what waits for it), core_trace.cc (being watched) and core_status.cc (for people).
#ifndef CAUSEWAY_CONTROLLER_CORE_IMPL_H_
#define CAUSEWAY_CONTROLLER_CORE_IMPL_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "controller/cluster.h"
#include "controller/copy_plan.h"
#include "controller/core.h"
#include "controller/device_memory.h"
#include "controller/key_values.h"
#include "controller/memory_queue.h"
#include "controller/program_cache.h"
#include "controller/scheduler.h"
#include "controller/session.h"
#include "controller/slices.h"
#include "controller/trace_book.h"
#include "controller/transfer_times.h"

namespace causeway {

// INVALID_ARGUMENT: no array has this shape, or none of this rank can be laid out so.
absl::Status CheckDims(const ArraySpec& spec);

class ControllerCore::Impl {
 public:
  explicit Impl(ControllerOptions options);

  // One for each event. Requests of sessions that are not open are answered FAILED_PRECONDITION before they get here.
  void On(OpenSession& e);
  void On(CloseSession& e);
  void On(PutArray& e);
  void On(HostDataArrived& e);
  void On(CompileProgram& e);
  void On(DropProgram& e);
  void On(LaunchProgram& e);
  void On(CopyArrays& e);
  void On(ReshardArrays& e);
  void On(AliasShards& e);
  void On(MakeErrorArrays& e);
  void On(DeleteArrays& e);
  void On(DestructArrays& e);
  void On(WaitReady& e);
  void On(FetchShard& e);
  void On(QueryDefaultLayout& e);
  void On(QueryProgram& e);
  void On(WorkerFrame& e);
  void On(LinkClosed& e);
  void On(ProgramLookedUp& e);
  void On(LinkFull& e);
  void On(Tick& e);

  // Hands over all launches whose turn it is.
  void Schedule();

  absl::Status Ready() const;
  proto::ClusterStatus Status(absl::Time now) const;
  ControllerCounts Counts() const;
  const Array* FindArray(ArrayId id) const;
  const Program* FindProgram(ProgramId id) const;
  DeviceMemory::Use MemoryOf(DeviceId device) const { return memory_.Of(device); }
  Session* FindSession(SessionId id);
  std::vector<DeviceView> DevicesOf(SessionId session) const;

  // Where the event at hand takes its time and leaves its actions. Set by Handle.
  absl::Time now_;
  ControllerActions* out_ = nullptr;
  SessionId acting_{0};  // whose request it is; 0: nobody's

  const ControllerOptions options_;
  std::string client_address_;
  Cluster cluster_;
  TraceBook trace_;

 private:
  // A launch that not all of its workers have reported yet. It has a number once it is handed over.
  struct PendingLaunch : Scheduler::Item {
    LaunchNumber number{0};
    std::shared_ptr<const ProgramView> program;
    int64_t bytes = 0;
    DeviceMemory::Account* account = nullptr;  // until it is handed over
    DeviceMemory::Need need;
    absl::InlinedVector<DeviceMemory::Watch, 2> outputs;
    absl::InlinedVector<std::pair<ArrayId, DeviceMemory::Watch>, 2> taken;  // arguments
    std::vector<DeviceMemory::Claim> arguments;                             // the same, of one that is held
    DeviceMemory::Reservation temp;
    absl::InlinedVector<uint64_t, 2> told;  // the program, as it was told to them: by place in placement->workers
    absl::InlinedVector<bool, 8> reported;  // likewise
    absl::Duration busy;                    // as reported: the mean of its workers
    bool failed = false;                    // and the other workers were told

    // Counts the report of `worker`. False: it is none of the gang, or has reported before.
    bool Report(WorkerId worker) {
      const int place = placement->IndexOf(worker);
      if (place < 0 || reported[place]) return false;
      reported[place] = true;
      return true;
    }
    bool WaitsFor(WorkerId worker) const {
      const int place = placement->IndexOf(worker);
      return place >= 0 && !reported[place];
    }

    Load::Item load() const { return {program->devices.front(), bytes}; }
  };

  // An array in the making: which workers still have to report how often, and who sends to them.
  struct PendingMake {
    std::shared_ptr<Future> future;
    std::map<WorkerId, int> reports;
    std::vector<WorkerId> senders;
    Load::Item load;
    DeviceMemory::Watch memory;
    std::vector<std::shared_ptr<Future>> sources = {};  // of a copy
    int64_t bytes = 0;                                  // of a copy
    absl::Time began = absl::InfiniteFuture();          // of a copy: when it was told to the workers
    uint64_t held = 0;                                  // while it is held: by what
  };

  // The launches whose outputs a launch takes, as far as a trace tells them: by `order`.
  using Producers = absl::InlinedVector<uint64_t, TraceBook::kMaxProducers>;
  // One that has ended with the loss of a worker. The others may have made their shards, which may have other names, or
  // not: they still say so.
  struct LostMake {
    std::map<WorkerId, int> reports;
    DeviceMemory::Watch memory;
  };

  // Memory for an array that is put or copied.
  struct Room {
    ArrayId array;
    std::shared_ptr<const ArraySpec> spec;
    std::shared_ptr<const Placement> placement;
    int64_t bytes = 0;  // on each device, at most
  };

  // Host data to ask the door for.
  struct Want {
    HostBufferId buffer;
    WorkerId worker;
    StreamId stream;
    int64_t total_bytes = 0;
    bool in_frame = false;
    bool last = false;
  };

  // Something that was accepted and that no worker has been told yet, because it names what waits for its turn, or
  // waits for its own. All its names are taken, its answer is given: only its frames are still to go out.
  struct Held {
    struct Frame {
      WorkerId worker;
      uint64_t incarnation;  // if that life is over, so is the matter
      proto::ToWorker message;
    };
    SessionId session;
    int missing = 0;                        // so many held ones come before it
    std::vector<uint64_t> next;             // those that it comes before
    std::unique_ptr<PendingLaunch> launch;  // null: nothing but frames
    proto::ToWorker launch_frame;
    std::vector<Frame> frames;
    std::vector<ArrayId> makes;
    std::vector<std::pair<WorkerId, ArrayId>> names;  // that go
    std::vector<std::shared_ptr<Future>> inputs;      // of what is dispatched sequentially
    // For traces: when the launch was asked for, and whose outputs it takes.
    absl::Time asked;
    Producers producers;
    std::shared_ptr<const ArraySpec> spec;   // of what is put or copied
    DeviceMemory::Watch memory;              // of that, which takes it when it is told
    std::optional<Room> room;                // of what has to wait for that
    std::vector<DeviceMemory::Claim> reads;  // stay until then
    std::vector<Want> wants;
  };

  struct PendingCompile {
    RequestHeader request;
    proto::ProgramInfo info;  // of a program that several plugins run together
    int waiting_for = 0;      // workers that still have to say that they have it; 0: for the program store
    bool cached = false;      // what they load was compiled for somebody else, some time ago
    absl::Status unusable;    // that it cannot be loaded, as one of them says
  };
  struct PendingFetch {
    RequestHeader request;
    WorkerId worker;
    StreamId stream;
  };
  struct WantedHostData {
    SessionId session;
    WorkerId worker;
    bool in_frame = false;
    std::shared_ptr<Future> future;  // of the array that they make
  };
  struct PendingQuery {
    RequestHeader request;
    WorkerId worker;
  };

  // --- core_status.cc
  void AddPrograms(const Session& session, proto::ClusterStatus& status) const;

  // --- core.cc
  bool AnyAlive() const;
  std::vector<SliceWorker> SliceWorkers() const;

  // Account for the work that sessions have in flight; those that are gone have none.
  void Began(Session& session, const Load::Item& item);
  void Ended(SessionId session, const Load::Item& item);
  void TellThrottled(Session& session);

  // --- core_workers.cc
  void OnHello(const WorkerFrame& e);
  void OnStatusRequest(const WorkerFrame& e);
  // OK where a tool may ask: it speaks our protocol and shows the token.
  absl::Status CheckTool(uint32_t version, const std::string& token) const;
  void OnKeyValueRequest(const WorkerFrame& e);
  void Answer(const KeyValues::Reply& reply);
  void Lose(WorkerSlot& slot, const absl::Status& why, bool close_link);
  // Those who make `id` hear that a sender's data will not come; they report the error like any other.
  void FailMakers(ArrayId id, const PendingMake& make, const absl::Status& lost);
  void LoseArrays(const WorkerSlot& slot, const absl::Status& lost);
  void SendPeers();
  void Send(WorkerId worker, const proto::ToWorker& message);

  // `worker` takes frames again, or is lost.
  void ReleaseFrom(WorkerId worker);

  // OK, or DATA_LOSS naming the worker that is gone.
  absl::Status CheckAlive(WorkerId worker) const;
  absl::Status Lost(const WorkerSlot& slot) const;

  // --- core_arrays.cc
  // The array, if it can be used: NOT_FOUND, or INVALID_ARGUMENT where it was deleted. Arrays that hold an error can
  // be.
  absl::StatusOr<Array*> Usable(Session& session, ArrayId id);

  // Adds a new array. INVALID_ARGUMENT: the name is taken, or belongs to another session.
  absl::StatusOr<Array*> Add(Session& session, ArrayId id, std::shared_ptr<const ArraySpec> spec);

  // Whether all of `ids` can be added. For requests that are carried out piece by piece, so that nothing is done by one
  // that is refused.
  absl::Status CheckNames(const Session& session, const std::vector<ArrayId>& ids) const;

  // Makes `ids` hold the error `why` (names that are taken by good arrays stay what they are), and answers with it.
  void Refuse(Session& session, RequestHeader request, const std::vector<ArrayId>& ids, const absl::Status& why);

  // `error`, of what `request` would have made.
  absl::Status ErrorOf(const RequestHeader& request, const absl::Status& error);

  // INVALID_ARGUMENT: a device that is not known, not in the session's slice, or named twice; DATA_LOSS: one that is
  // gone.
  absl::Status CheckDevices(const Session& session, const std::vector<DeviceId>& devices) const;
  absl::Status CheckSpec(const Session& session, const ArraySpec& spec) const;

  PendingMake& StartMake(Session& session, const RequestHeader& request, ArrayId id, Array& array,
                         std::map<WorkerId, int> reports, std::vector<WorkerId> senders, const Load::Item& load);
  void OnArrayDone(WorkerId worker, const proto::ArrayDone& done);
  void OnFetchDone(const proto::FetchDone& done);

  // Carries out a planned copy of `source` into the new array `target`.
  void RunPlan(Session& session, const RequestHeader& request, const Array& source, ArrayId target, Array& array,
               CopyPlan plan);

  // Has the array's name go when all held ones that need it are told. False: there are none.
  bool DropHeld(const Session& session, ArrayId id, const Array& array);
  // Tells each worker which names go.
  void DropNames(std::vector<std::pair<WorkerId, ArrayId>> names);
  absl::Status Delete(Session& session, const std::vector<ArrayId>& ids);
  StreamId NextStream() { return StreamId{++last_stream_}; }

  // Whether the target's shards can be named so; adds what they wait for, and the error they hold if any, to `array`.
  absl::Status CheckAlias(Session& session, const AliasShards::Target& target, Array& array);

  // --- core_held.cc
  // From here to EndHold, what is sent to workers is held until all that makes `reads` is told to them and there is
  // `room`: a number that is not 0. Or 0: there is nothing to wait for.
  uint64_t BeginHold(Session& session, const std::vector<ArrayId>& reads, std::optional<Room> room = std::nullopt);
  void EndHold();
  // How many held ones come before `id`, which reads `array`, or takes it away. They know from now on.
  int ComesAfter(uint64_t id, const Array& array, bool takes);
  int ComesAfter(uint64_t id, absl::Span<const uint64_t> before);
  void AddUser(absl::InlinedVector<uint64_t, 1>& users, uint64_t id);
  // Some input may have come.
  void LookAgain();
  void HandOver(PendingLaunch& launch);
  // `id` is told to the workers: so is what waited for nothing else.
  void Release(uint64_t id);
  void SendHeld(Held& held);
  // The workers are told to make the array from now on: when it will be there.
  void ExpectMake(ArrayId id);
  void LoseHeld(const WorkerSlot& slot, const absl::Status& lost);
  void ReleaseSequential();

  // --- core_memory.cc
  // Limits are the workers' as they joined last.
  void SetMemoryLimits();
  // What was to be made on `worker` will not be.
  void Evict(const DeviceMemory::Watch& memory, WorkerId worker);
  // What `spec` takes on each of its devices. Where all take the same, one number is enough.
  std::vector<int64_t> ShardBytes(const ArraySpec& spec) const;
  DeviceMemory::Space SpaceOf(const Sharding& sharding) const;
  // What `target` claims of its sources, which have been checked.
  DeviceMemory::Claim AliasMemory(Session& session, const AliasShards::Target& target);
  // RESOURCE_EXHAUSTED where no device could hold its part of such an array, whoever made room.
  absl::Status CheckRoom(const Session& session, ArrayId id, const ArraySpec& spec);
  // Of arguments that have been checked. RESOURCE_EXHAUSTED where the program could not run beside them, whoever made
  // room.
  absl::Status CheckRoom(Session& session, const LaunchProgram& e, const Program& program);
  // What was being made on `lost` as well has ended; counts what the others have of it. And the end of that.
  void KeepLost(ArrayId id, const PendingMake& make, WorkerId lost);
  void ForgetLost(WorkerId lost);
  void OnLostMake(WorkerId worker, const proto::ArrayDone& done);
  // A report about what is made, or was to be: where it failed.
  void EvictFailed(const DeviceMemory::Watch& memory, WorkerId worker, const proto::ArrayDone& done);
  static DeviceMemory::Need NeedOf(const LaunchProgram& e, const Program& program);
  void CorrectMemory(PendingLaunch& launch, const proto::LaunchDone& done);
  // Its outputs are there from now on, what it takes is not.
  void TakeMemory(PendingLaunch& launch);
  // What such an array needs before it is made. None: nothing is limited.
  std::optional<Room> RoomFor(const Session& session, ArrayId id, std::shared_ptr<const ArraySpec> spec);
  // Whether there is memory for it now. If not, it waits.
  bool HasRoom(PendingLaunch& launch);
  bool HasRoom(uint64_t id, Held& held);
  static MemoryQueue::Ask AskOf(const Session& session, uint64_t id, const Room& room);
  // Some memory was freed, or time has passed.
  void LookForRoom();
  void AskFor(SessionId session, const Want& want);
  // What a held one that waits for memory waits for.
  std::string WhyNoRoom(uint64_t id) const;
  // What has waited for memory too long fails.
  void GiveUpOnRoom();
  void RefuseLaunch(Held& held, const absl::Status& error);
  // What a launch that failed would have taken is of no use to anybody.
  void DropTaken(const PendingLaunch& launch);
  void RefuseMake(Held& held, const absl::Status& error);
  // The workers get to know `array` as one that holds `error`.
  void HoldError(Held& held, ArrayId array, const Sharding& sharding, const absl::Status& error);

  // --- core_launches.cc
  absl::Status CheckArguments(Session& session, const LaunchProgram& e, const Program& program, absl::Status& poison);
  void MakeLaunchFrame(const LaunchProgram& e);
  void Queue(Session& session, Program& program, const LaunchProgram& e, std::shared_ptr<Future> future,
             absl::InlinedVector<DeviceMemory::Watch, 2> outputs);
  void EndLaunch(LaunchNumber number);

  // --- core_programs.cc
  // Tells those of the program's workers that do not know of it, and are there.
  void TellProgram(Program& program);
  void TellProgram(Program& program, int place);
  // Whether all of its workers know of it, in their present lives.
  bool IsTold(const Program& program) const;
  absl::Status CheckAlive(const Placement& placement) const;
  void DropFromWorkers(const Program& program);
  // The plugin's number of each of the program's devices, where all its workers' plugins know of one another; else
  // FAILED_PRECONDITION, with the cure.
  absl::StatusOr<std::vector<int32_t>> PluginDevices(const Placement& placement) const;
  proto::Gang GangOf(const std::vector<DeviceId>& devices) const;
  // The compiler of one of the gang's workers is to make it.
  void CompileForGang(Program& program, PendingCompile& pending);
  // Those of the gang's workers that have not got it are to load what was compiled.
  void LoadOnGang(Program& program, PendingCompile& pending);
  // What was kept cannot be loaded: it is compiled after all.
  void CompileAfterAll(Program& program, PendingCompile& pending);
  void EndCompile(ProgramId id, const absl::Status& status);
  // Compiles that wait for the lost worker end.
  void FailCompiles(WorkerId lost_worker, const absl::Status& lost);
  void OnCompiled(WorkerId worker, const proto::Compiled& compiled);
  void OnLaunchDone(WorkerId worker, const proto::LaunchDone& done);
  void CountTraffic(const PendingLaunch& launch, const proto::LaunchDone& done);
  void OnQueryDone(const proto::QueryDone& done);
  void Ask(RequestHeader request, WorkerId worker, proto::Query query);

  // --- core_trace.cc
  void OnTraceRequest(const WorkerFrame& e);
  static void AddProducer(const Array& argument, Producers& producers);
  static Producers ProducersOf(const Session& session, const std::vector<ArrayId>& arguments);
  void TraceAccepted(const PendingLaunch& launch, const Producers& producers, absl::Time asked);

  ProgramCache cache_;
  KeyValues key_values_;
  Slices slices_;
  DeviceMemory memory_;  // outlives all that claims some
  MemoryQueue memory_queue_{memory_};
  absl::flat_hash_map<SessionId, std::unique_ptr<Session>> sessions_;
  Scheduler scheduler_;
  std::unique_ptr<PendingLaunch> fresh_;  // being accepted; its frame is launch_frame_
  absl::flat_hash_map<LaunchNumber, std::unique_ptr<PendingLaunch>> launches_;  // handed over
  absl::flat_hash_map<uint64_t, std::unique_ptr<Held>> held_;
  uint64_t last_held_ = 0;
  uint64_t holding_ = 0;                               // what Send is for; 0: the workers
  std::vector<std::pair<WorkerId, ArrayId>> dropped_;  // names that go at the end of Schedule
  std::vector<uint64_t> sequential_;                   // held ones that wait for inputs
  TransferTimes transfer_times_;
  absl::flat_hash_map<ArrayId, PendingMake> makes_;
  absl::flat_hash_map<ArrayId, LostMake> lost_makes_;
  absl::flat_hash_map<ProgramId, PendingCompile> compiles_;
  absl::flat_hash_map<uint64_t, PendingFetch> fetches_;
  absl::flat_hash_map<uint64_t, PendingQuery> queries_;
  absl::flat_hash_map<StreamId, WantedHostData> host_data_wanted_;  // that clients have not sent
  // Frames of the launch path, kept for the memory that they have.
  proto::ToWorker launch_frame_;
  proto::ToWorker delete_frame_;
  uint64_t last_launch_ = 0;
  uint64_t last_stream_ = 0;
  uint64_t last_fetch_ = 0;
  uint64_t last_query_ = 0;
  uint64_t last_ping_ = 0;
  absl::Time started_;
  absl::Time next_ping_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_CORE_IMPL_H_
