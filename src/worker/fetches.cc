#include "worker/fetches.h"

#include <utility>

#include "base/limits.h"

namespace causeway::worker {

void Fetches::Fetch(const proto::Fetch& message) {
  const ArrayId array{message.array()};
  const Request request{message.fetch(), context_.life, SessionOf(array), StreamId{message.stream()}};
  absl::StatusOr<BufferRef> buffer = context_.store.Find(array, message.shard());
  if (!buffer.ok()) return ReportFailure(request, buffer.status());
  reads_.Start(request.session, *std::move(buffer), {message.byte_strides().begin(), message.byte_strides().end()},
               Pool::kFetch, [this, request](absl::StatusOr<HostShard> shard) { OnRead(request, std::move(shard)); });
}

void Fetches::OnRead(const Request& request, absl::StatusOr<HostShard> shard) {
  if (!shard.ok()) return ReportFailure(request, shard.status());
  if (!context_.linked || request.life != context_.life) return;
  proto::ToController message;
  proto::FetchDone& done = *message.mutable_fetch_done();
  done.set_fetch(request.fetch);
  done.set_total_bytes(shard->bytes);
  if (shard->bytes <= kInlineBytes) {
    if (context_.trace.on()) {
      context_.trace.AddTransfer(kControllerPeer, /*received=*/false, shard->bytes, request.session, context_.now,
                                 context_.now, /*failed=*/false);
    }
    return context_.out->SendFetched(std::move(done), shard->host->key());
  }
  context_.out->Send(message);
  streams_.Send(request.session, kControllerPeer, request.stream, std::move(shard->host), ByteRuns::Whole(shard->bytes),
                /*done=*/nullptr);
}

void Fetches::ReportFailure(const Request& request, const absl::Status& status) {
  proto::ToController message;
  message.mutable_fetch_done()->set_fetch(request.fetch);
  *message.mutable_fetch_done()->mutable_status() = ToProto(status);
  context_.Report(request.life, message);
}

}  // namespace causeway::worker
