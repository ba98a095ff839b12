#include "worker/puts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "worker/shapes.h"

namespace causeway::worker {
namespace {

absl::StatusOr<HostShape> ShapeOf(const proto::Put& message, int64_t data_bytes) {
  ASSIGN_OR_RETURN(HostShape shape, ShapeFrom(message.type().dtype(), message.type().dims(), message.byte_strides()));
  ASSIGN_OR_RETURN(const int64_t needed_bytes, SpanBytes(shape));
  if (data_bytes < needed_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a shard needs ", needed_bytes, " bytes of host data, ", data_bytes, " are given"));
  }
  return shape;
}

}  // namespace

absl::StatusOr<Puts::Pending> Puts::Begin(const proto::Put& message, int64_t data_bytes) {
  Pending put;
  put.array = ArrayId{message.array()};
  put.memory_kind = message.memory_kind();
  put.layout = message.layout();
  put.total_bytes = data_bytes;
  for (const proto::Shard& shard : message.shards()) {
    put.buffers.push_back(makes_.Promise(put.array, shard, message.origin()));
  }
  makes_.ReportWhenSettled(put.array, put.buffers);

  absl::StatusOr<HostShape> shape = ShapeOf(message, data_bytes);
  if (!shape.ok()) {
    for (const BufferRef& buffer : put.buffers) context_.store.Fail(buffer, shape.status());
    return shape.status();
  }
  put.shape = *std::move(shape);
  return put;
}

void Puts::Put(proto::Put message) {
  const absl::StatusOr<Pending> put = Begin(message, static_cast<int64_t>(message.data().size()));
  if (!put.ok()) return;
  TraceFrame(*put);
  Make(*put, context_.hosts.Adopt(std::move(*message.mutable_data())));
}

void Puts::TraceFrame(const Pending& put) {
  if (!context_.trace.on()) return;
  context_.trace.AddTransfer(kControllerPeer, /*received=*/true, put.total_bytes, SessionOf(put.array), context_.now,
                             context_.now, /*failed=*/false);
}

void Puts::Make(const Pending& put, const HostRef& host) {
  for (const BufferRef& buffer : put.buffers) {
    makes_.FromHost(buffer, host, put.shape, put.memory_kind, put.layout);
  }
}

void Puts::Receive(const proto::ReceiveHost& message) {
  absl::StatusOr<Pending> put = Begin(message.put(), message.total_bytes());
  if (!put.ok()) return Refuse(StreamId{message.stream()}, message.total_bytes(), put.status());
  const PutKey key{++last_key_};
  put->stream = StreamId{message.stream()};
  const int64_t total_bytes = put->total_bytes;
  if (total_bytes <= kInlineBytes) in_frame_[put->stream] = key;
  pending_.emplace(key, *std::move(put));
  if (total_bytes > kInlineBytes) {
    const SessionId session = SessionOf(ArrayId{message.put().array()});
    context_.hosts.WhenRoom(Pool::kPut, session, total_bytes,
                            [this, key](HostRef host) { OnRoom(key, std::move(host)); });
  }
}

void Puts::OnHostData(proto::HostData message) {
  const auto waiting = in_frame_.find(StreamId{message.stream()});
  if (waiting == in_frame_.end()) return;
  const auto put = pending_.find(waiting->second);
  absl::Status status = FromProto(message.status());
  if (status.ok() && static_cast<int64_t>(message.data().size()) != put->second.total_bytes) {
    status = absl::InvalidArgumentError(
        absl::StrCat(put->second.total_bytes, " bytes of host data were announced, ", message.data().size(), " came"));
  }
  if (status.ok()) {
    TraceFrame(put->second);
    Make(put->second, context_.hosts.Adopt(std::move(*message.mutable_data())));
  }
  End(put, status);
}

void Puts::OnRoom(PutKey key, HostRef host) {
  const auto put = pending_.find(key);
  if (put == pending_.end()) return;
  put->second.receiving = streams_.Receive(
      SessionOf(put->second.array), kControllerPeer, put->second.stream, host, ByteRuns::Whole(put->second.total_bytes),
      [this, key, host](const absl::Status& status) { OnReceived(key, host, status); });
}

void Puts::OnReceived(PutKey key, const HostRef& host, const absl::Status& status) {
  const auto put = pending_.find(key);
  if (put == pending_.end()) return;
  put->second.receiving.reset();
  put->second.received = true;
  if (status.ok()) Make(put->second, host);
  End(put, status);
}

void Puts::End(std::map<PutKey, Pending>::iterator put, const absl::Status& why) {
  const Pending ended = std::move(put->second);
  pending_.erase(put);
  in_frame_.erase(ended.stream);
  if (why.ok()) return;
  if (ended.receiving) {
    streams_.Cancel(*ended.receiving, why);
  } else if (!ended.received) {
    Refuse(ended.stream, ended.total_bytes, why);
  }
  for (const BufferRef& buffer : ended.buffers) context_.store.Fail(buffer, why);
}

void Puts::Refuse(StreamId stream, int64_t bytes, const absl::Status& why) {
  if (bytes > kInlineBytes) context_.out->RefuseToReceive(kControllerPeer, stream, bytes, why);
}

void Puts::Fail(ArrayId array, const absl::Status& why) {
  for (auto put = pending_.begin(); put != pending_.end();) {
    const auto next = std::next(put);
    if (put->second.array == array) End(put, why);
    put = next;
  }
}

void Puts::DropSession(SessionId session, const absl::Status& why) {
  for (auto put = pending_.begin(); put != pending_.end();) {
    const auto next = std::next(put);
    if (SessionOf(put->second.array) == session) End(put, why);
    put = next;
  }
}

void Puts::DropAll(const absl::Status& why) {
  while (!pending_.empty()) End(pending_.begin(), why);
}

}  // namespace causeway::worker
