#include "ifrt/session_stream.h"

#include <google/protobuf/arena.h>
#include <grpcpp/impl/codegen/proto_buffer_reader.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "ifrt/introduction.h"
#include "ifrt/statuses.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;

// Responses that are held back at most.
constexpr size_t kMaxLate = 256;

// Unread responses are counted in steps of this: while a client reads them, not at all.
constexpr int64_t kUncountedBytes = 64 << 10;

// And a large one for no more than this, or a client could be cut off that is busy reading it.
constexpr int64_t kMaxCountedBytes = 1 << 20;

int64_t Counted(const grpc::ByteBuffer& response) {
  return std::min<int64_t>(static_cast<int64_t>(response.Length()), kMaxCountedBytes);
}

}  // namespace

// ---------------------------------------------------------------- responses

void SessionStream::Outbox::Send(grpc::ByteBuffer response, bool soon) {
  MutexLock lock(&mutex_);
  if (stream_ == nullptr || ending_) return;
  queued_bytes_ += Counted(response);
  if (soon) {
    soon_.push_back(std::move(response));
  } else {
    late_.push_back(std::move(response));
    if (late_.size() >= kMaxLate) late_is_due_ = true;
    if (!late_is_due_ && !std::exchange(flush_at_hand_, true)) late_flush_.Add(weak_from_this());
  }
  while (queued_bytes_ > charged_bytes_ + kUncountedBytes && !ending_) {
    if (memory_->TryTake(HostPool::kResponses, session_, kUncountedBytes)) {
      charged_bytes_ += kUncountedBytes;
      continue;
    }
    ending_ = true;
    why_ = absl::ResourceExhaustedError(
        absl::StrCat("the client has not read its responses: ", queued_bytes_, " bytes wait for it"));
    // A write to a client that does not read never ends by itself.
    context_->TryCancel();
  }
  Pump();
}

void SessionStream::Outbox::Flush() {
  MutexLock lock(&mutex_);
  flush_at_hand_ = false;
  late_is_due_ = !late_.empty();
  Pump();
}

bool SessionStream::Outbox::Hold(HoldReason reason, bool hold) {
  MutexLock lock(&mutex_);
  const auto bit = static_cast<uint32_t>(reason);
  held_ = hold ? held_ | bit : held_ & ~bit;
  return held_ == 0 && wants_next_;
}

bool SessionStream::Outbox::IsHeld() const {
  MutexLock lock(&mutex_);
  return held_ != 0;
}

void SessionStream::Outbox::GoOn() {
  MutexLock lock(&mutex_);
  ReadIfAllowed();
}

void SessionStream::Outbox::ReadNext() {
  MutexLock lock(&mutex_);
  wants_next_ = true;
  ReadIfAllowed();
}

void SessionStream::Outbox::ReadIfAllowed() {
  if (!wants_next_ || held_ != 0 || finished_ || stream_ == nullptr) return;
  wants_next_ = false;
  stream_->StartRead(&stream_->in_);
}

void SessionStream::Outbox::WriteDone(bool ok) {
  int64_t free_bytes = 0;
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !ending_) {
      ending_ = true;
      why_ = absl::UnavailableError("the client is gone");
    }
    Pump();
    if (queued_bytes_ == 0) free_bytes = std::exchange(charged_bytes_, 0);
  }
  if (free_bytes > 0) memory_->Give(HostPool::kResponses, session_, free_bytes);
}

void SessionStream::Outbox::End(const absl::Status& why) {
  MutexLock lock(&mutex_);
  if (!ending_) {
    ending_ = true;
    why_ = why;
  }
  Pump();
}

void SessionStream::Outbox::Detach() {
  MutexLock lock(&mutex_);
  stream_ = nullptr;
  soon_.clear();
  late_.clear();
}

void SessionStream::Outbox::Pump() {
  if (writing_ || finished_ || stream_ == nullptr) return;
  if (ending_) {
    finished_ = true;
    soon_.clear();
    late_.clear();
    stream_->Finish(StatusToGrpc(why_));
    return;
  }
  // The client takes responses in any order.
  if (soon_.empty() && !late_is_due_) return;
  std::deque<grpc::ByteBuffer>& queue = soon_.empty() ? late_ : soon_;
  out_ = std::move(queue.front());
  queue.pop_front();
  if (late_.empty()) late_is_due_ = false;
  queued_bytes_ -= Counted(out_);
  writing_ = true;
  // With more to come, the bytes may wait for it: one system call for both.
  grpc::WriteOptions options;
  if (!soon_.empty() || late_is_due_) options.set_buffer_hint();
  stream_->StartWrite(&out_, options);
}

// ---------------------------------------------------------------- requests

SessionStream::SessionStream(IfrtDoor& door, grpc::CallbackServerContext* context)
    : door_(door), outbox_(std::make_shared<Outbox>(this, context, door.late_flush(), door.memory())) {
  if (absl::Status status = Open(context); !status.ok()) {
    Log(LogLevel::kWarning, absl::StrCat("client ", std::string(context->peer()), " refused: ", status.message()));
    outbox_->End(status);
    return;
  }
  outbox_->ReadNext();
}

absl::Status SessionStream::Open(grpc::CallbackServerContext* context) {
  const auto found = context->client_metadata().find(kSessionHeader);
  if (found == context->client_metadata().end()) {
    return absl::InvalidArgumentError(absl::StrCat("the header ", kSessionHeader, " is missing"));
  }
  ASSIGN_OR_RETURN(Introduction client,
                   ParseIntroduction(absl::string_view(found->second.data(), found->second.size())));
  ASSIGN_OR_RETURN(session_, door_.OpenSession(std::move(client), context->peer(), outbox_));
  outbox_->SetSession(session_->id());
  return absl::OkStatus();
}

void SessionStream::OnReadDone(bool ok) {
  if (!ok) {
    // The client has said all it wants to say; it reads no more answers either.
    if (session_ != nullptr) door_.CloseSession(session_);
    outbox_->End(absl::OkStatus());
    return;
  }
  {
    google::protobuf::Arena arena;
    auto* request = google::protobuf::Arena::CreateMessage<wire::IfrtRequest>(&arena);
    grpc::ProtoBufferReader reader(&in_);
    if (!reader.status().ok() || !request->ParseFromZeroCopyStream(&reader)) {
      door_.CloseSession(session_);
      outbox_->End(absl::InvalidArgumentError("a request that cannot be parsed"));
      return;
    }
    session_->OnRequest(*request);
  }
  in_.Clear();
  outbox_->ReadNext();
}

void SessionStream::OnWriteDone(bool ok) { outbox_->WriteDone(ok); }

void SessionStream::OnCancel() {
  if (session_ != nullptr) door_.CloseSession(session_);
  outbox_->End(absl::CancelledError("the client has left"));
}

void SessionStream::OnDone() {
  outbox_->Detach();
  if (session_ != nullptr) door_.CloseSession(session_);
  delete this;
}

}  // namespace causeway
