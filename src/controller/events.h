// What the controller core is told (events) and what it wants done (actions).
//
// The core (core.h) is a deterministic state machine: the shell turns requests of clients, frames of workers and the
// passing of time into events, and carries out the actions. Nothing here knows of IFRT, gRPC or sockets.
//
// Every request event carries a ticket, and every ticket is answered exactly once by one Reply... action, either inside
// the Handle call or in a later one. When a session closes, its open tickets may or may not still be answered.
#ifndef CAUSEWAY_CONTROLLER_EVENTS_H_
#define CAUSEWAY_CONTROLLER_EVENTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "base/ids.h"
#include "controller/wishes.h"
#include "hlo/sharding.h"
#include "proto/control.pb.h"

namespace causeway {

// A connection of a worker (or tool), numbered by the shell. Never used twice.
enum class LinkId : uint64_t {};

// A host buffer of a session: the handle under which the client sends or fetches bytes.
enum class HostBufferId : uint64_t {};

// What an array is, apart from its data. Shared by all arrays of one make.
struct ArraySpec {
  DType dtype = DType::kInvalid;
  std::vector<int64_t> dims;  // of the whole array
  std::shared_ptr<const Sharding> sharding;
  std::string layout;  // xla.LayoutProto; empty: default
};

// A compiled program as clients may know it.
struct ProgramView {
  ProgramId id;
  std::vector<DeviceId> devices;  // logical order, replica-major
  proto::ProgramInfo info;
  std::vector<std::shared_ptr<const ArraySpec>> outputs;
};

struct RequestHeader {
  SessionId session;
  Ticket ticket;
  uint64_t origin = 0;  // of errors of what the request makes (base/origin.h)
};

// ---------------------------------------------------------------- requests of clients

// A client has connected. Answered by ReplyDone (FAILED_PRECONDITION: no device is there; RESOURCE_EXHAUSTED: those
// that it wishes cannot be had; INVALID_ARGUMENT: nobody can wish so).
struct OpenSession {
  RequestHeader request;
  std::string name;
  std::string peer;
  SessionWishes wishes = {};
};

// The client is gone, or leaves: everything it owns is freed. No ticket.
struct CloseSession {
  SessionId session;
};

// Bytes for some shards of an array, all alike, that the client sends under `buffer`.
struct HostPiece {
  HostBufferId buffer;
  std::vector<int> shards;
  std::vector<int64_t> byte_strides;  // empty: dense, row-major
  int64_t total_bytes = 0;
  std::optional<std::string> data;  // already here (only up to kInlineBytes); otherwise the core asks by WantHostData
};

// Makes an array from host data. The array exists from now on. Answered at once by ReplyDone.
struct PutArray {
  RequestHeader request;
  ArrayId array;
  std::shared_ptr<const ArraySpec> spec;
  std::vector<HostPiece> pieces;
};

// The client has sent the bytes that WantHostData asked for, or will not send them. Once for each such call, unless the
// session is closed.
struct HostDataArrived {
  WorkerId worker;
  StreamId stream;
  absl::StatusOr<std::string> data;  // empty where they go to the worker as a stream
};

// Answered by ReplyCompiled. Programs may be launched only after that.
struct CompileProgram {
  RequestHeader request;
  ProgramId program;
  std::string format;
  std::string code;
  std::string options;  // xla.CompileOptionsProto
  std::vector<DeviceId> devices;
};

// Answered at once.
struct DropProgram {
  RequestHeader request;
  ProgramId program;
};

// Launches a program. The outputs exist from now on, whatever becomes of the launch. Answered at once by ReplyDone: an
// error means that nothing was launched, and the outputs hold that error.
struct LaunchProgram {
  RequestHeader request;
  ProgramId program;
  std::vector<ArrayId> arguments;
  std::vector<ArrayId> outputs;
  std::vector<int32_t> non_donatable;
  int32_t launch_id = 0;
  std::optional<ArrayId> status;  // an array without shards that is ready when the launch has ended, with its error
};

// New arrays on other devices or memories, shard by shard. Answered at once.
struct CopyArrays {
  RequestHeader request;
  std::vector<ArrayId> sources;
  std::vector<ArrayId> targets;
  std::vector<DeviceId> devices;           // empty: the same ones
  std::optional<std::string> memory_kind;  // empty: the same one
  bool donate = false;                     // the sources are deleted
};

// New arrays of the same contents in other shardings. Answered at once.
struct ReshardArrays {
  RequestHeader request;
  std::vector<ArrayId> sources;
  std::vector<ArrayId> targets;
  std::vector<std::shared_ptr<const Sharding>> shardings;
  bool donate = false;
};

// New names for existing shards: assemble, disassemble, fully replicated shard, remap, all in one. Nothing moves. Shard
// i of `target` is shard `sources[i].shard` of `sources[i].array`, which must lie on the target's i-th device and be of
// the target's type. Answered at once.
struct AliasShards {
  struct From {
    ArrayId array;
    int shard = 0;
  };
  struct Target {
    ArrayId array;
    std::shared_ptr<const ArraySpec> spec;
    std::vector<From> sources;
  };
  RequestHeader request;
  std::vector<Target> targets;
  std::vector<ArrayId> donated;  // deleted afterwards
};

// Arrays that are nothing but an error. Answered at once.
struct MakeErrorArrays {
  RequestHeader request;
  std::vector<ArrayId> arrays;
  std::shared_ptr<const ArraySpec> spec;  // may be null where it is not known
  absl::Status error;
};

// Gives back the memory. The names stay, as deleted. NOT_FOUND, naming them, where some are unknown; the others are
// deleted.
struct DeleteArrays {
  RequestHeader request;
  std::vector<ArrayId> arrays;
};

// Forgets the names too.
struct DestructArrays {
  RequestHeader request;
  std::vector<ArrayId> arrays;
};

// Answered by ReplyDone when all are ready, or with the first error.
struct WaitReady {
  RequestHeader request;
  std::vector<ArrayId> arrays;
};

// Brings one shard's bytes to the door. Answered by ReplyFetched.
struct FetchShard {
  RequestHeader request;
  ArrayId array;
  int shard = 0;
  std::vector<int64_t> byte_strides;
};

// Answered by ReplyQuery. The core fills in the query's number; exactly one of the fields is set.
struct QueryDefaultLayout {
  RequestHeader request;
  DType dtype;
  std::vector<int64_t> dims;  // of a shard
  DeviceId device;
  std::string memory_kind;
};
struct QueryProgram {
  enum class What { kText, kCostAnalysis };
  RequestHeader request;
  ProgramId program;
  What what;
};

// ---------------------------------------------------------------- workers and time

// A frame came in. The first one on a link must be a Hello or a StatusRequest.
struct WorkerFrame {
  LinkId link;
  proto::ToController message;
  std::string peer;
};

struct LinkClosed {
  LinkId link;
  absl::Status why;
};

// Answers LookUpProgram.
struct ProgramLookedUp {
  ProgramId program;
  std::shared_ptr<const proto::PortableProgram> portable;  // null: it is not there
};

// More waits to be sent on the link than is good (`full`), or again little.
struct LinkFull {
  LinkId link;
  bool full = false;
};

// Time has passed. Wanted every 100 ms or so.
struct Tick {};

using Event = std::variant<OpenSession, CloseSession, PutArray, HostDataArrived, CompileProgram, DropProgram,
                           LaunchProgram, CopyArrays, ReshardArrays, AliasShards, MakeErrorArrays, DeleteArrays,
                           DestructArrays, WaitReady, FetchShard, QueryDefaultLayout, QueryProgram, WorkerFrame,
                           LinkClosed, ProgramLookedUp, LinkFull, Tick>;

// ---------------------------------------------------------------- actions

// What a fetch brought: all of the data, or a stream to receive from the controller's data plane. The caller must take
// the stream (DataPlane::Receive from `worker`) or cancel it.
struct Fetched {
  int64_t total_bytes = 0;
  std::string data;     // total_bytes <= kInlineBytes
  WorkerId worker{-1};  // -1: the data are here
  StreamId stream{0};
};

// What the core wants of a door. Called inside the core: keep it short, and do not call the core or its gate.
class ClientActions {
 public:
  virtual ~ClientActions() = default;

  virtual void ReplyDone(RequestHeader request, const absl::Status& status) = 0;
  virtual void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) = 0;
  virtual void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) = 0;
  virtual void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) = 0;

  // The bytes that `session` sends under `buffer` are to go to `worker`: by way of HostDataArrived when `in_frame`,
  // else as stream `stream` of the data plane, of exactly `total_bytes`; HostDataArrived then says that they are here.
  // Several workers may want the same buffer; `last` says that no more will be asked for (the door drops the buffer
  // once served).
  virtual void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream,
                            int64_t total_bytes, bool in_frame, bool last) = 0;

  // The session has as much work in flight as it may (`hold`), or again room for more. While it is held, the door is to
  // leave its client's requests unread; those that come all the same are carried out. Called on changes only. The
  // release never depends on a request that is held back: what is in flight ends by itself, or with the data that the
  // client sends for it elsewhere.
  virtual void Throttle(SessionId session, bool hold) = 0;

  // Between the two, errors with this origin may still arise: a request made something that is not done. As many of the
  // one as of the other come, unless the session closes; `failed` says that an error with this origin exists from now
  // on. For requests with an origin only, and before they are answered.
  virtual void OriginOpened(SessionId /*session*/, uint64_t /*origin*/) {}
  virtual void OriginClosed(SessionId /*session*/, uint64_t /*origin*/, bool /*failed*/) {}

  // A worker is lost, as `why` (DATA_LOSS) says to people. What was fetched from it and not received yet will not come.
  virtual void WorkerDown(WorkerId worker, const absl::Status& why) = 0;
};

// All that the core wants done. Carried out by the shell, in order. Implementations must not call back into the core.
class ControllerActions : public ClientActions {
 public:
  // Frames to a worker, in order.
  virtual void Send(LinkId link, const proto::ToWorker& message) = 0;
  virtual void CloseLink(LinkId link, const absl::Status& why) = 0;

  // Compiled programs that outlive this process, by key (ProgramCache). Only with ControllerOptions::program_store. The
  // first is answered by ProgramLookedUp; neither may block.
  virtual void LookUpProgram(ProgramId /*program*/, const std::string& /*key*/) {}
  virtual void KeepProgram(const std::string& /*key*/, std::shared_ptr<const proto::PortableProgram> /*portable*/) {}

  // A worker's Hello was good: its frames may be large now, and its data connection shows `data_key`.
  // `name` is for the log.
  virtual void WorkerUp(LinkId link, WorkerId worker, uint64_t data_key, const std::string& name) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_EVENTS_H_
