// What the worker core is told (events) and what it wants done (actions).
//
// The core (core.h) never sees a device, a socket or a byte of an array: it names them. A key is minted by the core,
// used once, and stands for something that the shell holds: a buffer of the device runtime, host memory, a compiled
// program. Whatever was started under a key is answered by exactly one event, also after the core has dropped the key:
// by then it may be about nothing that the core still knows, and is ignored.
#ifndef CAUSEWAY_WORKER_EVENTS_H_
#define CAUSEWAY_WORKER_EVENTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/ids.h"
#include "collectives/engine.h"
#include "net/data_plane.h"
#include "proto/control.pb.h"
#include "worker/byte_runs.h"
#include "worker/device_runtime.h"

namespace causeway::worker {

enum class BufferKey : uint64_t {};   // a shard on a device
enum class HostKey : uint64_t {};     // host memory
enum class ProgramKey : uint64_t {};  // a compiled program
enum class LaunchKey : uint64_t {};   // one execution
enum class StreamKey : uint64_t {};   // one end of a stream of the data plane
enum class PieceKey : uint64_t {};    // a copy within host memory

// Counts the links to the controller. What belongs to an earlier one is not reported to a later one.
enum class Life : uint64_t {};

// ---------------------------------------------------------------- events

// A new link to the controller is there; the Hello is still to be said.
struct LinkUp {};

// The link is gone, and with it all that the controller knew of here.
struct LinkLost {};

// The controller sent something.
struct FrameIn {
  proto::ToWorker message;
};

// Answers Compile and CompileGang.
struct CompileDone {
  ProgramKey program;
  absl::StatusOr<proto::ProgramInfo> info;
  absl::Duration took;
  std::shared_ptr<const proto::PortableProgram> portable = nullptr;  // of CompileGang that compiled it
};

// Answers Execute: the plugin has taken the launch (or refused it), and its outputs exist.
struct ExecuteReturned {
  LaunchKey launch;
  absl::StatusOr<std::vector<int64_t>> output_bytes;  // in the order of ExecuteRequest::outputs
  std::optional<absl::Status> finished;               // it has run already: no LaunchFinished follows
};

// Every device has finished with the launch, or one has failed.
struct LaunchFinished {
  LaunchKey launch;
  absl::Status status;
};

// Answers BufferFromHost and BufferFromBuffer. Where it is OK, one BufferReady follows.
struct BufferMade {
  BufferKey buffer;
  absl::StatusOr<int64_t> bytes;
};
struct BufferReady {
  BufferKey buffer;
  absl::Status status;
};

// Answers View.
struct Viewed {
  HostKey host;
  DType dtype;
  std::vector<int64_t> dims;
  bool there = false;  // the bytes are under `host`, dense; otherwise they have to be read back
};

// Answers ReadBack.
struct HostFilled {
  HostKey host;
  absl::Status status;
};

// Answers CopyPiece.
struct PieceCopied {
  PieceKey piece;
  absl::Status status;
};

// Answers Receive and SendStream.
struct StreamEnded {
  StreamKey stream;
  absl::Status status;
};

// Answers Ask.
struct Answered {
  Life life;
  proto::QueryDone answer;
};

using Event = std::variant<LinkUp, LinkLost, FrameIn, CompileDone, ExecuteReturned, LaunchFinished, BufferMade,
                           BufferReady, Viewed, HostFilled, PieceCopied, StreamEnded, Answered>;

// ---------------------------------------------------------------- actions

// A gang's program, for the devices of it that are here.
struct GangProgram {
  CompileRequest compile;                                  // where `portable` is null
  int devices = 0;                                         // in all
  std::shared_ptr<const proto::PortableProgram> portable;  // compiled already
  std::vector<int> local;                                  // devices here
  std::vector<int> logical;                                // for each of them, its place in the gang
};

// One launch, as the device runtime is to be told. Lists are by device first, then by parameter or output.
struct ExecuteRequest {
  LaunchKey launch;
  ProgramKey program;
  int thread_device = 0;  // whose dispatch thread runs it
  std::vector<BufferKey> arguments;
  std::vector<BufferKey> outputs;
  ExecuteOptions options;
};

// Carried out by the shell, in order. Implementations must not call back into the core.
class WorkerActions {
 public:
  virtual ~WorkerActions() = default;

  // Frames to the controller, in order. SendFetched adds what is in `data`, all of it.
  virtual void Send(const proto::ToController& message) = 0;
  virtual void SendFetched(proto::FetchDone done, HostKey data) = 0;

  // The data plane, as the controller describes it.
  virtual void SetSelf(WorkerId self) = 0;
  virtual void SetPeer(PeerId peer, const std::string& address, uint64_t key) = 0;
  virtual void DropPeer(PeerId peer) = 0;

  virtual void Compile(ProgramKey program, CompileRequest request) = 0;
  virtual void CompileGang(ProgramKey program, GangProgram request) = 0;
  virtual void DropProgram(ProgramKey program) = 0;
  virtual void Execute(ExecuteRequest request) = 0;

  // The launches of gangs, by the controller's numbers, as the collectives engine is to be told (collectives/engine.h).
  // EndGang is ignored for launches that are not announced.
  virtual void AnnounceGang(uint64_t launch, std::shared_ptr<const collectives::Gang> gang) = 0;
  virtual void AbortGang(uint64_t launch, const absl::Status& why) = 0;
  virtual collectives::Traffic EndGang(uint64_t launch) = 0;

  // Puts a question to the plugin. `program` where the query names one.
  virtual void Ask(Life life, const proto::Query& query, std::optional<ProgramKey> program) = 0;

  // Makes a buffer of host memory, which is dense or strided as `shape` says and large enough.
  virtual void BufferFromHost(BufferKey buffer, HostKey host, const HostShape& shape, int device,
                              const std::string& memory_kind, const std::string& layout) = 0;

  // Makes a buffer on `device`, a copy of another one that exists (computed or not).
  virtual void BufferFromBuffer(BufferKey buffer, BufferKey source, int device, const std::string& memory_kind) = 0;
  virtual void DropBuffer(BufferKey buffer) = 0;

  // Host memory. Allocated memory is aligned so that a CPU device can use it in place.
  virtual void AdoptHost(HostKey host, std::string data) = 0;
  virtual void AllocateHost(HostKey host, int64_t bytes) = 0;
  virtual void DropHost(HostKey host) = 0;

  // Lets `host` be the memory of a ready buffer itself, where that is possible. Costs nothing.
  virtual void View(HostKey host, BufferKey buffer) = 0;

  // Copies a ready buffer to allocated host memory, dense and row-major or as `byte_strides` say.
  virtual void ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) = 0;

  // Copies within host memory.
  virtual void CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target, const ByteRuns& to) = 0;

  // Takes a stream from `peer` into `place` of host memory, or gives it one from there.
  virtual void Receive(StreamKey stream, PeerId peer, StreamId id, HostKey target, const ByteRuns& place) = 0;
  virtual void SendStream(StreamKey stream, PeerId peer, StreamId id, HostKey source, const ByteRuns& place) = 0;

  // Ends a stream on both sides. StreamEnded follows as ever.
  virtual void CancelStream(StreamKey stream, const absl::Status& status) = 0;

  // Ends a stream that `peer` counts on and that has not been begun here. Not answered.
  virtual void RefuseToSend(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) = 0;
  virtual void RefuseToReceive(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) = 0;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_EVENTS_H_
