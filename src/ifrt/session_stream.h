// One IfrtSession RPC: requests in, responses out.
//
// Threading: gRPC calls the reactor; responses are sent from any thread, one write at a time, the others queue. A
// client that does not read its responses is cut off when too many bytes wait; one that sends more than it may have in
// flight is not read, so that gRPC's flow control stops it. Lifetime: the reactor belongs to gRPC
// and destroys itself when the RPC is over. The queue is shared with the session, which may outlive it.
#ifndef CAUSEWAY_IFRT_SESSION_STREAM_H_
#define CAUSEWAY_IFRT_SESSION_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "ifrt/door.h"
#include "ifrt/host_memory.h"
#include "ifrt/late_flush.h"
#include "ifrt/session.h"

namespace causeway {

class SessionStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  SessionStream(IfrtDoor& door, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Responses on their way out, and whether requests are read.
  class Outbox final : public SessionPeer, public LateFlush::Holder, public std::enable_shared_from_this<Outbox> {
   public:
    Outbox(SessionStream* stream, grpc::CallbackServerContext* context, LateFlush& late_flush,
           std::shared_ptr<HostMemory> memory)
        : memory_(std::move(memory)), late_flush_(late_flush), stream_(stream), context_(context) {}
    ~Outbox() override { memory_->Give(HostPool::kResponses, session_, charged_bytes_); }

    // Before the first Send.
    void SetSession(SessionId session) { session_ = session; }

    void Send(grpc::ByteBuffer response, bool soon) override;
    void Flush() override;
    bool Hold(HoldReason reason, bool hold) override;
    bool IsHeld() const override;
    void GoOn() override;

    // Reads the next request, as soon as there is no reason against it.
    void ReadNext();
    void WriteDone(bool ok);

    // Ends the RPC once the write at hand is done; what is queued is dropped.
    void End(const absl::Status& why) override;

    // The reactor is about to go.
    void Detach();

   private:
    void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
    void ReadIfAllowed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

    const std::shared_ptr<HostMemory> memory_;
    LateFlush& late_flush_;
    SessionId session_{0};  // set once
    mutable Mutex mutex_;
    SessionStream* stream_ ABSL_GUARDED_BY(mutex_);
    grpc::CallbackServerContext* const context_;
    bool flush_at_hand_ ABSL_GUARDED_BY(mutex_) = false;  // LateFlush will call
    bool late_is_due_ ABSL_GUARDED_BY(mutex_) = false;    // until the late ones are written
    uint32_t held_ ABSL_GUARDED_BY(mutex_) = 0;           // HoldReason bits
    bool wants_next_ ABSL_GUARDED_BY(mutex_) = false;     // the last request is done with, no read is under way
    bool writing_ ABSL_GUARDED_BY(mutex_) = false;
    bool ending_ ABSL_GUARDED_BY(mutex_) = false;
    bool finished_ ABSL_GUARDED_BY(mutex_) = false;
    absl::Status why_ ABSL_GUARDED_BY(mutex_);
    int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
    int64_t charged_bytes_ = 0;  // taken of memory_ for them, in steps; guarded by mutex_ but for the end
    std::deque<grpc::ByteBuffer> soon_ ABSL_GUARDED_BY(mutex_);
    std::deque<grpc::ByteBuffer> late_ ABSL_GUARDED_BY(mutex_);  // nobody waits for these
    grpc::ByteBuffer out_;                                       // of the write at hand
  };

  absl::Status Open(grpc::CallbackServerContext* context);

  IfrtDoor& door_;
  const std::shared_ptr<Outbox> outbox_;
  std::shared_ptr<IfrtSession> session_;  // null where it was refused
  grpc::ByteBuffer in_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_SESSION_STREAM_H_
