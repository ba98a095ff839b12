// HostBufferLookup: answers with GrpcHostBufferLookupResponse { bytes data = 1; } messages, at least one even for no
// data: the tag 0x0a, the length as a varint, the data.
#include <grpc/slice.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "ifrt/host_buffer_streams.h"
#include "ifrt/statuses.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;

// Memory of chunks that have been written, for the next ones: fresh memory would cost a page fault every 4 KiB. Keeps
// no more than one stream has under way.
class ChunkPool {
 public:
  // Lives as long as the process: gRPC gives slices back when it likes.
  static ChunkPool& Instance() {
    static ChunkPool& pool = *new ChunkPool;
    return pool;
  }

  grpc::Slice Take(int64_t bytes) {
    if (bytes < kChunkBytes) return grpc::Slice(grpc_slice_malloc(bytes), grpc::Slice::STEAL_REF);
    std::unique_ptr<char[]> chunk;
    {
      MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        chunk = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (chunk == nullptr) chunk.reset(new char[kChunkBytes]);
    return grpc::Slice(chunk.release(), kChunkBytes, [](void* memory) { Instance().Give(static_cast<char*>(memory)); });
  }

 private:
  static constexpr size_t kMaxIdle = kStreamWindowBytes / kChunkBytes;

  void Give(char* memory) {
    std::unique_ptr<char[]> chunk(memory);
    MutexLock lock(&mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(chunk));
  }

  Mutex mutex_;
  std::vector<std::unique_ptr<char[]>> idle_ ABSL_GUARDED_BY(mutex_);
};

// A message around `data`, which it shares.
grpc::ByteBuffer Message(grpc::Slice data) {
  if (data.size() == 0) {
    const grpc::Slice nothing;
    return grpc::ByteBuffer(&nothing, 1);
  }
  std::string head(1, '\x0a');
  uint64_t length = data.size();
  for (; length >= 0x80; length >>= 7) head.push_back(static_cast<char>(length | 0x80));
  head.push_back(static_cast<char>(length));
  const grpc::Slice slices[] = {grpc::Slice(head), std::move(data)};
  return grpc::ByteBuffer(slices, 2);
}

class LookupStream;

// Receives a worker's stream for one lookup, chunk by chunk; shared by the data plane and the reactor. The worker may
// be ahead of what gRPC has written by what there is memory for, at most kStreamWindowBytes; it waits for a chunk.
class Passage final : public StreamSink, public std::enable_shared_from_this<Passage> {
 public:
  Passage(LookupStream* reactor, IfrtDoor& door, SessionId session, const Fetched& fetched)
      : plane_(door.plane()),
        memory_(door.memory()),
        session_(session),
        peer_(PeerOf(fetched.worker)),
        stream_(fetched.stream),
        total_(fetched.total_bytes),
        reactor_(reactor) {}

  ~Passage() override { memory_->Give(HostPool::kPassages, session_, window_bytes_); }

  void Begin();

  absl::Span<char> Buffer(int64_t offset, int64_t length) override;
  void OnData(int64_t offset, int64_t length) override;
  void OnDone(absl::Status status) override;

  // The reactor's write is done, of a message with `bytes` of data.
  void Written();

  // The reactor is over: the client has left, or all is said.
  void Detach();

 private:
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Lets the worker send, where it had to wait. False: it is over.
  bool Open(int64_t window_bytes);

  DataPlane& plane_;
  const std::shared_ptr<HostMemory> memory_;
  const SessionId session_;
  const PeerId peer_;
  const StreamId stream_;
  const int64_t total_;

  Mutex mutex_;
  int64_t window_bytes_ = 0;  // what is taken of memory_; written once
  LookupStream* reactor_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Slice> chunk_ ABSL_GUARDED_BY(mutex_);  // being filled
  int64_t filled_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<grpc::Slice> full_ ABSL_GUARDED_BY(mutex_);
  int64_t writing_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: no write is at hand
  bool received_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class LookupStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  LookupStream(IfrtDoor& door, const grpc::ByteBuffer& request)
      : door_(door), awaited_(std::make_shared<Awaited>(this)) {
    Take(request, [awaited = awaited_](absl::StatusOr<Fetched> fetched) { awaited->Arrived(std::move(fetched)); });
  }

  void OnWriteDone(bool) override {
    if (passage_ != nullptr) passage_->Written();
  }

  void OnCancel() override {
    const absl::Status left = absl::CancelledError("the client has left");
    if (awaited_->GiveUp()) {
      Finish(StatusToGrpc(left));
    } else if (passage_ != nullptr) {
      passage_->OnDone(left);
    }
  }

  void OnDone() override {
    if (passage_ != nullptr) passage_->Detach();
    delete this;
  }

  void Write(grpc::Slice data) {
    out_ = Message(std::move(data));
    StartWrite(&out_);
  }

 private:
  // Stands between the data's arrival and the client's leaving, which come in either order and on two threads: the
  // first one has the reactor.
  class Awaited {
   public:
    explicit Awaited(LookupStream* stream) : plane_(stream->door_.plane()), stream_(stream) {}

    void Arrived(absl::StatusOr<Fetched> fetched) {
      MutexLock lock(&mutex_);
      if (stream_ != nullptr) {
        std::exchange(stream_, nullptr)->Begin(std::move(fetched));
      } else if (fetched.ok()) {
        HostDownloads::Cancel(plane_, *fetched);
      }
    }

    // Whether nothing has come yet. Then nothing will.
    bool GiveUp() {
      MutexLock lock(&mutex_);
      return std::exchange(stream_, nullptr) != nullptr;
    }

   private:
    DataPlane& plane_;
    Mutex mutex_;
    LookupStream* stream_ ABSL_GUARDED_BY(mutex_);
  };

  void Take(const grpc::ByteBuffer& message, HostDownloads::Then then) {
    const auto request = ParseLookup(message);
    if (!request.ok()) return then(request.status());
    const auto session = door_.FindSession(request->session_id());
    if (!session.ok()) return then(session.status());
    session_ = (*session)->id();
    (*session)->downloads().Take(HostBufferId{request->handle()}, std::move(then));
  }

  // The last thing that touches the reactor on this thread: from here on gRPC may end it.
  void Begin(absl::StatusOr<Fetched> fetched) {
    if (!fetched.ok()) return Finish(StatusToGrpc(fetched.status()));
    if (Raw(fetched->worker) < 0) {
      out_ = Message(grpc::Slice(std::move(fetched->data)));
      StartWriteAndFinish(&out_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    }
    const auto passage = std::make_shared<Passage>(this, door_, session_, *fetched);
    passage_ = passage;
    passage->Begin();
  }

  IfrtDoor& door_;
  SessionId session_{0};
  const std::shared_ptr<Awaited> awaited_;
  grpc::ByteBuffer out_;
  std::shared_ptr<Passage> passage_;  // null where all was here
};

void Passage::Begin() {
  const int64_t least_bytes = std::min(total_, kChunkBytes);
  for (const int64_t bytes : {std::min(total_, kStreamWindowBytes), least_bytes}) {
    if (!memory_->TryTake(HostPool::kPassages, session_, bytes)) continue;
    window_bytes_ = bytes;
    return plane_.Receive(peer_, stream_, total_, bytes, shared_from_this());
  }
  plane_.Receive(peer_, stream_, total_, /*window_bytes=*/0, shared_from_this());
  const auto open = [weak = weak_from_this(), least_bytes](HostPool) {
    const auto self = weak.lock();
    return self != nullptr && self->Open(least_bytes);
  };
  if (memory_->TakeOrWait({HostPool::kPassages}, session_, least_bytes, open) && !Open(least_bytes)) {
    memory_->Give(HostPool::kPassages, session_, least_bytes);
  }
}

bool Passage::Open(int64_t window_bytes) {
  {
    MutexLock lock(&mutex_);
    if (reactor_ == nullptr || received_) return false;
    window_bytes_ = window_bytes;
  }
  plane_.Grant(peer_, stream_, window_bytes);
  return true;
}

absl::Span<char> Passage::Buffer(int64_t offset, int64_t length) {
  MutexLock lock(&mutex_);
  if (!chunk_) {
    chunk_ = ChunkPool::Instance().Take(std::min(kChunkBytes, total_ - offset));
    filled_ = 0;
  }
  char* const begin = reinterpret_cast<char*>(const_cast<uint8_t*>(chunk_->begin()));
  return absl::MakeSpan(begin + filled_, std::min<int64_t>(length, static_cast<int64_t>(chunk_->size()) - filled_));
}

void Passage::OnData(int64_t, int64_t length) {
  MutexLock lock(&mutex_);
  filled_ += length;
  if (filled_ < static_cast<int64_t>(chunk_->size())) return;
  full_.push_back(*std::move(chunk_));
  chunk_.reset();
  Pump();
}

void Passage::OnDone(absl::Status status) {
  MutexLock lock(&mutex_);
  if (received_) return;
  received_ = true;
  status_ = std::move(status);
  // The client knows sessions, not workers: its data are what is lost.
  if (absl::IsUnavailable(status_) || absl::IsNotFound(status_)) {
    status_ = absl::DataLossError(absl::StrCat("the worker was lost while it sent the data: ", status_.message()));
  }
  Pump();
}

void Passage::Written() {
  int64_t bytes = 0;
  {
    MutexLock lock(&mutex_);
    bytes = std::exchange(writing_bytes_, 0);
    Pump();
  }
  plane_.Grant(peer_, stream_, bytes);
}

void Passage::Detach() {
  bool cancel = false;
  {
    MutexLock lock(&mutex_);
    reactor_ = nullptr;
    cancel = !status_.ok() || !received_;
  }
  if (cancel) plane_.Cancel(peer_, stream_, absl::CancelledError("the client has left"));
}

void Passage::Pump() {
  if (reactor_ == nullptr || finished_ || writing_bytes_ > 0) return;
  if (received_ && !status_.ok()) full_.clear();
  if (!full_.empty()) {
    writing_bytes_ = static_cast<int64_t>(full_.front().size());
    grpc::Slice data = std::move(full_.front());
    full_.pop_front();
    reactor_->Write(std::move(data));
    return;
  }
  if (!received_) return;
  finished_ = true;
  reactor_->Finish(StatusToGrpc(status_));
}

}  // namespace

absl::StatusOr<wire::GrpcHostBufferLookupRequest> ParseLookup(const grpc::ByteBuffer& message) {
  grpc::Slice slice;
  wire::GrpcHostBufferLookupRequest request;
  if (!message.DumpToSingleSlice(&slice).ok() ||
      !request.ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) {
    return absl::InvalidArgumentError("a lookup that cannot be parsed");
  }
  return request;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* NewLookupStream(IfrtDoor& door, const grpc::ByteBuffer& request) {
  return new LookupStream(door, request);
}

}  // namespace causeway
