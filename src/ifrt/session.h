// One client: its requests become events of the core, the core's replies become its responses.
//
//   auto session = std::make_shared<IfrtSession>(id, key, Introduction{"train.py", {}}, "unix:", parts, stream);
//   session->OnRequest(request);                       // every request gets exactly one response, on the stream
//   session->Close();                                  // the client is gone: all it owns is freed
//
// What the session knows itself is little: which tickets are open, and what its programs look like. Arrays are the
// core's.
//
// Threading: OnRequest is called by one thread at a time, in the order of arrival; requests take effect in that order,
// and responses may come in any. The other methods may be called from any thread; Done, Compiled, Fetched, Queried,
// WantHostData, OriginOpened and OriginClosed are called inside the core. Lifetime: held by shared_ptr; the stream and
// the door hold it until Close.
#ifndef CAUSEWAY_IFRT_SESSION_H_
#define CAUSEWAY_IFRT_SESSION_H_

#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "controller/events.h"
#include "controller/gate.h"
#include "ifrt/after_core.h"
#include "ifrt/downloads.h"
#include "ifrt/handles.h"
#include "ifrt/host_memory.h"
#include "ifrt/introduction.h"
#include "ifrt/numbering.h"
#include "ifrt/shardings.h"
#include "ifrt/uploads.h"
#include "xla/python/ifrt_proxy/common/ifrt_service.pb.h"

namespace causeway {

// Why a client's requests are left unread, one bit each.
enum class HoldReason : uint32_t {
  kWorkInFlight = 1,  // the core says so
  kOpenRequests = 2,  // too many wait for their answers
  kFetchedData = 4,   // more was fetched and not looked up than may wait
};

// The session's stream: where responses go, and whether requests are read. Thread-safe, does not block, and keeps the
// order.
class SessionPeer {
 public:
  virtual ~SessionPeer() = default;

  // `soon`: somebody waits for it. Otherwise it may be held back for a moment, to go with the next one.
  virtual void Send(grpc::ByteBuffer response, bool soon) = 0;

  // No more: the client is told why.
  virtual void End(const absl::Status& why) = 0;

  // Leaves requests unread for `reason`, or no longer. True: no reason is left, and GoOn has something to do.
  virtual bool Hold(HoldReason reason, bool hold) = 0;

  // Whether there is a reason now.
  virtual bool IsHeld() const = 0;

  // Reads on, unless there is a reason against it. Not inside the core: there may be system calls to make.
  virtual void GoOn() = 0;
};

class IfrtSession : public std::enable_shared_from_this<IfrtSession> {
 public:
  // What it works with; all outlive it.
  struct Parts {
    CoreGate* gate = nullptr;
    AfterCore* after = nullptr;
    DataPlane* plane = nullptr;
    std::shared_ptr<HostMemory> memory;
    UploadLimits uploads;
    bool slices = false;  // devices say their island as slice_index
  };

  // `key` is what the client shows with its host buffers: no other client can guess it.
  IfrtSession(SessionId id, uint64_t key, Introduction client, std::string peer, const Parts& parts,
              std::shared_ptr<SessionPeer> stream);

  void OnRequest(const xla::ifrt::proxy::IfrtRequest& request);
  void Close();

  // Tells the client that its session ends; Close follows when it has gone.
  void Dismiss(const absl::Status& why) { stream_->End(why); }

  void Done(Ticket ticket, const absl::Status& status);
  void Compiled(Ticket ticket, absl::StatusOr<std::shared_ptr<const ProgramView>> program);
  void FetchDone(Ticket ticket, absl::StatusOr<Fetched> fetched);
  void Queried(Ticket ticket, absl::StatusOr<proto::QueryDone> answer);
  void OriginOpened(uint64_t user_context);
  void OriginClosed(uint64_t user_context, bool failed);
  void WantHostData(HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame,
                    bool last);
  void Throttle(bool hold) { Hold(HoldReason::kWorkInFlight, hold); }

  // "session 3 (train.py, ipv4:127.0.0.1:4711)", for the log.
  std::string Describe() const;

  SessionId id() const { return id_; }
  uint64_t key() const { return key_; }
  HostUploads& uploads() { return *uploads_; }
  HostDownloads& downloads() { return downloads_; }

  // The client has done with a fetched host buffer.
  void DeleteHostBuffer(HostBufferId buffer);

  // To be called every second or so.
  void Tick(absl::Time now) { uploads_->Expire(now, stream_->IsHeld()); }

 private:
  using OnDone = absl::AnyInvocable<void(const absl::Status&)>;
  using OnCompiled = absl::AnyInvocable<void(absl::StatusOr<std::shared_ptr<const ProgramView>>)>;
  using OnFetched = absl::AnyInvocable<void(absl::StatusOr<Fetched>)>;
  using OnQueried = absl::AnyInvocable<void(absl::StatusOr<proto::QueryDone>)>;
  using Pending = std::variant<OnDone, OnCompiled, OnFetched, OnQueried>;

  // One response to several events.
  struct Joint {
    IfrtCall call;
    xla::ifrt::proxy::IfrtResponse response;
    int remaining = 0;
    absl::Status status;
  };

  struct KnownProgram {
    std::shared_ptr<const ProgramView> view;
    bool deleted = false;
  };

  // --- session.cc
  absl::Status Dispatch(const IfrtCall& call, const xla::ifrt::proxy::IfrtRequest& request);
  absl::Status OnInit(const IfrtCall& call);
  void AnswerInit(const IfrtCall& call);
  absl::Status OnCheckFuture(const IfrtCall& call, const xla::ifrt::proxy::CheckFutureRequest& r);
  absl::Status OnFetchResult(const IfrtCall& call,
                             const xla::ifrt::proxy::LoadedExecutableFetchExecuteResultRequest& r);
  absl::Status OnDefaultDeviceAssignment(const IfrtCall& call,
                                         const xla::ifrt::proxy::GetDefaultDeviceAssignmentRequest& r);
  absl::Status OnDefaultLayout(const IfrtCall& call, const xla::ifrt::proxy::GetDefaultLayoutRequest& r);

  // Waits for the launch whose end `handle` names, and forgets it then.
  absl::Status WaitForLaunch(IfrtCall call, uint64_t handle, xla::ifrt::proxy::IfrtResponse response);

  // Runs an event; replies may come before this returns.
  void Submit(Event event) { after_->Enter(*gate_, std::move(event)); }

  // Opens a ticket. Errors of what the request makes have `user_context` as their origin.
  RequestHeader Expect(Pending pending, uint64_t user_context = 0);

  // The reply decides between `response` and an error.
  RequestHeader ExpectDone(const IfrtCall& call, xla::ifrt::proxy::IfrtResponse response);
  RequestHeader ExpectPart(const std::shared_ptr<Joint>& joint);
  void AnswerPart(Joint& joint, const absl::Status& status);

  // For events whose reply nobody waits for.
  RequestHeader Unanswered() const { return RequestHeader{id_, Ticket{0}}; }

  // Takes the ticket's continuation; an empty OnDone where there is none.
  Pending TakePending(Ticket ticket);

  // Stops reading requests for a reason, or goes on as soon as there is none. May be called inside the core.
  void Hold(HoldReason reason, bool hold);

  // Holds or releases the client by how much it has fetched and not looked up. After each change of that.
  void WeighFetched();

  void Answer(const IfrtCall& call, xla::ifrt::proxy::IfrtResponse& response);
  void AnswerError(const IfrtCall& call, const absl::Status& status);

  // Puts `error` under every name that the client has given already to results of `request`.
  void PoisonResults(const xla::ifrt::proxy::IfrtRequest& request, const absl::Status& error);

  // Arrays that the core is to forget with the next request: from replies, which must not run events.
  void ForgetLater(ArrayId array);
  void ForgetNow();

  // `handle`, or a new one of ours where the client left it to us.
  absl::StatusOr<uint64_t> ResultHandle(uint64_t handle);
  absl::StatusOr<ArrayId> ToArray(uint64_t handle) const { return ArrayOfHandle(id_, handle); }
  absl::StatusOr<std::vector<ArrayId>> ToArrays(const google::protobuf::RepeatedField<uint64_t>& handles) const;

  // Names for `count` results: those of the client, or new ones. INVALID_ARGUMENT where it gave another number of them.
  absl::StatusOr<std::vector<uint64_t>> ResultHandles(const google::protobuf::RepeatedField<uint64_t>& handles,
                                                      int count);

  // What the core knows of an array; null where it is unknown, or an error of no known type.
  std::shared_ptr<const ArraySpec> FindSpec(ArrayId array) const;

  // --- session_arrays.cc
  absl::Status OnMakeArray(const IfrtCall& call, const xla::ifrt::proxy::MakeArrayFromHostBufferRequest& r);
  absl::Status OnMakeArrays(const IfrtCall& call, const xla::ifrt::proxy::MakeArraysFromHostBufferShardsRequest& r);
  absl::Status OnMakeErrorArrays(const IfrtCall& call, const xla::ifrt::proxy::MakeErrorArraysRequest& r);
  absl::Status OnAssemble(const IfrtCall& call, const xla::ifrt::proxy::AssembleArrayFromSingleDeviceArraysRequest& r);
  absl::Status OnDisassemble(const IfrtCall& call, const xla::ifrt::proxy::DisassembleIntoSingleDeviceArraysRequest& r);
  absl::Status OnFullyReplicatedShard(const IfrtCall& call, const xla::ifrt::proxy::FullyReplicatedShardRequest& r);
  absl::Status OnCopyArrays(const IfrtCall& call, const xla::ifrt::proxy::CopyArraysRequest& r);
  absl::Status OnReshardArrays(const IfrtCall& call, const xla::ifrt::proxy::ReshardArraysRequest& r);
  absl::Status OnRemapArrays(const IfrtCall& call, const xla::ifrt::proxy::RemapArraysRequest& r);
  absl::Status OnBitcastArrays(const IfrtCall& call, const xla::ifrt::proxy::BitcastArraysRequest& r);
  absl::Status OnCopyToHostBuffer(const IfrtCall& call, const xla::ifrt::proxy::CopyToHostBufferRequest& r);
  absl::Status OnDeleteArray(const IfrtCall& call, const xla::ifrt::proxy::DeleteArrayRequest& r);
  absl::Status OnDestructArray(const IfrtCall& call, const xla::ifrt::proxy::DestructArrayRequest& r);
  absl::Status OnIsArrayDeleted(const IfrtCall& call, const xla::ifrt::proxy::IsArrayDeletedRequest& r);
  absl::Status OnCheckValueReady(const IfrtCall& call, const xla::ifrt::proxy::CheckValueReadyRequest& r);

  absl::StatusOr<std::shared_ptr<const ArraySpec>> ParseSpec(const xla::ifrt::ArraySpecProto& wire);
  absl::StatusOr<PutArray> ParseMake(const xla::ifrt::proxy::MakeArrayFromHostBufferRequest& r);
  absl::StatusOr<PutArray> ParseMakeShards(
      const xla::ifrt::proxy::MakeArraysFromHostBufferShardsRequest::MakeArraysFromHostBufferShardsSpec& wire);

  // Takes the pieces' host buffers; where one cannot be had, gives up all of them.
  absl::Status ClaimPieces(std::vector<HostPiece>& pieces);
  void SubmitPut(PutArray put, const std::shared_ptr<Joint>& joint);

  // The answer where an array's type is not known: an error, which `results` get too.
  absl::Status PassErrorOn(const IfrtCall& call, ArrayId source, const std::vector<ArrayId>& results);

  // --- session_programs.cc
  absl::Status OnCompile(const IfrtCall& call, const xla::ifrt::proxy::CompileRequest& r);
  absl::Status OnMetadata(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableMetadataRequest& r);
  absl::Status OnExecute(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableExecuteRequest& r);
  absl::Status OnCostAnalysis(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableCostAnalysisRequest& r);
  absl::Status OnProgramText(const IfrtCall& call,
                             const xla::ifrt::proxy::LoadedExecutableHumanReadableProgramTextRequest& r);
  absl::Status OnDeleteProgram(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableDeleteRequest& r);
  absl::Status OnIsProgramDeleted(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableIsDeletedRequest& r);
  absl::Status OnDestructProgram(const IfrtCall& call, const xla::ifrt::proxy::LoadedExecutableDestructRequest& r);

  // NOT_FOUND, or FAILED_PRECONDITION where it was deleted.
  absl::StatusOr<std::shared_ptr<const ProgramView>> UsableProgram(uint64_t handle) const;

  // Puts a question about a program to its worker; `answer` also gets the error where there is no such program.
  void AskProgram(uint64_t handle, QueryProgram::What what, OnQueried answer);
  void AnswerCompiled(const IfrtCall& call, uint64_t handle, std::shared_ptr<const ProgramView> view);

  const SessionId id_;
  const uint64_t key_;
  const Introduction client_;
  const std::string peer_;
  CoreGate* const gate_;
  AfterCore* const after_;
  const bool slices_;
  const std::shared_ptr<SessionPeer> stream_;
  const std::shared_ptr<HostMemory> memory_;
  const std::shared_ptr<HostUploads> uploads_;
  HostDownloads downloads_;
  HandleMinter handles_;
  ShardingCache shardings_;  // of the reading thread
  std::atomic<bool> open_{false};
  std::atomic<bool> closed_{false};

  mutable Mutex mutex_;
  uint64_t last_ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<Ticket, Pending> pending_ ABSL_GUARDED_BY(mutex_);
  bool too_many_pending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<uint64_t, KnownProgram> programs_ ABSL_GUARDED_BY(mutex_);  // by handle
  std::vector<ArrayId> forget_ ABSL_GUARDED_BY(mutex_);

  Mutex fetched_mutex_;  // so that the last one to look at how much it is has the last word
  bool too_much_fetched_ ABSL_GUARDED_BY(fetched_mutex_) = false;

  Mutex output_mutex_;
  ResponseNumbering numbering_ ABSL_GUARDED_BY(output_mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_SESSION_H_
