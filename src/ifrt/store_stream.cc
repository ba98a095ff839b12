// HostBufferStore.
//
// Each message is GrpcHostBufferStoreRequest { bytes data = 1; }: the tag 0x0a, the length as a varint, the data.
// Anything else that protobuf takes is taken too, at the price of a copy.
#include <grpcpp/support/slice.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "ifrt/host_buffer_streams.h"
#include "ifrt/statuses.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;

constexpr char kMetadataKey[] = "ifrt-proxy-grpc-host-buffer-store-metadata-bin";
constexpr size_t kMaxVarintBytes = 10;
// Smaller pieces are copied: a view of one would keep all of the buffer that it came in.
constexpr size_t kMinSharedBytes = 4096;

class StoreStream final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  StoreStream(IfrtDoor& door, grpc::CallbackServerContext* context, grpc::ByteBuffer* response)
      : response_(response), flow_(std::make_shared<Flow>(this)) {
    if (absl::Status status = Open(door, context); !status.ok()) {
      flow_->Finish(status);
      return;
    }
    if (upload_->Start() == Upload::Next::kRead) flow_->Resume();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // Nothing more comes: the client has sent all, or is gone (then OnCancel is told too, and the RPC's status is
      // lost).
      const absl::Status status = upload_->End();
      if (status.ok()) *response_ = Empty();
      flow_->Finish(status);
      return;
    }
    auto chunk = StoreChunk(in_);
    in_.Clear();
    if (!chunk.ok()) {
      upload_->Abort(chunk.status());
      flow_->Finish(chunk.status());
      return;
    }
    const auto next = upload_->Append(*std::move(chunk));
    if (!next.ok()) {
      flow_->Finish(next.status());
    } else if (*next == Upload::Next::kRead) {
      flow_->Resume();
    }
  }

  void OnCancel() override {
    if (upload_ != nullptr) upload_->Abort(absl::CancelledError("the client has stopped sending"));
    flow_->Finish(absl::CancelledError("the client has stopped sending"));
  }

  void OnDone() override {
    flow_->Detach();
    delete this;
  }

 private:
  // What uploads hold of this reactor; outlives it.
  class Flow final : public UploadFlow {
   public:
    explicit Flow(StoreStream* stream) : stream_(stream) {}

    void Resume() override {
      MutexLock lock(&mutex_);
      if (stream_ != nullptr && !finished_) stream_->StartRead(&stream_->in_);
    }
    void Fail(const absl::Status& why) override { Finish(why); }

    void Finish(const absl::Status& status) {
      MutexLock lock(&mutex_);
      if (stream_ == nullptr || finished_) return;
      finished_ = true;
      stream_->grpc::ServerReadReactor<grpc::ByteBuffer>::Finish(StatusToGrpc(status));
    }
    void Detach() {
      MutexLock lock(&mutex_);
      stream_ = nullptr;
    }

   private:
    Mutex mutex_;
    StoreStream* stream_ ABSL_GUARDED_BY(mutex_);
    bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  };

  static grpc::ByteBuffer Empty() {
    const grpc::Slice nothing;
    return grpc::ByteBuffer(&nothing, 1);
  }

  absl::Status Open(IfrtDoor& door, grpc::CallbackServerContext* context) {
    const auto found = context->client_metadata().find(kMetadataKey);
    if (found == context->client_metadata().end()) {
      return absl::InvalidArgumentError(absl::StrCat("the header ", kMetadataKey, " is missing"));
    }
    ASSIGN_OR_RETURN(const auto metadata, ParseStoreHeader({found->second.data(), found->second.size()}));
    ASSIGN_OR_RETURN(session_, door.FindSession(metadata.session_id()));
    ASSIGN_OR_RETURN(upload_,
                     session_->uploads().Begin(HostBufferId{metadata.handle()}, metadata.buffer_size(), flow_));
    return absl::OkStatus();
  }

  grpc::ByteBuffer* const response_;
  const std::shared_ptr<Flow> flow_;
  std::shared_ptr<IfrtSession> session_;
  std::shared_ptr<Upload> upload_;  // null where the store was refused
  grpc::ByteBuffer in_;
};

}  // namespace

absl::StatusOr<wire::GrpcHostBufferStoreMetadata> ParseStoreHeader(absl::string_view header) {
  wire::GrpcHostBufferStoreMetadata metadata;
  if (!metadata.ParseFromArray(header.data(), static_cast<int>(header.size()))) {
    return absl::InvalidArgumentError(absl::StrCat("the header ", kMetadataKey, " cannot be parsed"));
  }
  return metadata;
}

absl::StatusOr<absl::Cord> StoreChunk(const grpc::ByteBuffer& message) {
  std::vector<grpc::Slice> slices;
  if (!message.Dump(&slices).ok()) return absl::InvalidArgumentError("a message that cannot be read");
  absl::Cord all;
  for (grpc::Slice& slice : slices) {
    const absl::string_view view(reinterpret_cast<const char*>(slice.begin()), slice.size());
    if (slice.size() < kMinSharedBytes) {
      all.Append(view);
    } else {
      all.Append(absl::MakeCordFromExternal(view, [slice = std::move(slice)] {}));
    }
  }
  if (all.empty()) return all;
  const std::string head(all.Subcord(0, 1 + kMaxVarintBytes));
  uint64_t length = 0;
  size_t at = 1;
  bool whole = false;
  for (int shift = 0; at < head.size() && shift < 64 && !whole; shift += 7, ++at) {
    length |= uint64_t{static_cast<uint8_t>(head[at]) & 0x7fu} << shift;
    whole = (static_cast<uint8_t>(head[at]) & 0x80) == 0;
  }
  if (head[0] == 0x0a && whole && all.size() - at == length) {
    all.RemovePrefix(at);
    return all;
  }
  wire::GrpcHostBufferStoreRequest request;
  if (!request.ParseFromString(std::string(all))) return absl::InvalidArgumentError("a chunk that cannot be parsed");
  return absl::Cord(std::move(*request.mutable_data()));
}

grpc::ServerReadReactor<grpc::ByteBuffer>* NewStoreStream(IfrtDoor& door, grpc::CallbackServerContext* context,
                                                          grpc::ByteBuffer* response) {
  return new StoreStream(door, context, response);
}

}  // namespace causeway
