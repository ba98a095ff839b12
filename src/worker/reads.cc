#include "worker/reads.h"

#include <utility>

#include "base/limits.h"
#include "worker/shapes.h"

namespace causeway::worker {

void Reads::Start(SessionId session, BufferRef buffer, std::vector<int64_t> byte_strides, Pool pool, Done done) {
  const ReadKey key{++last_key_};
  context_.store.BeginRead(buffer);
  context_.store.WhenSettled(buffer, [this, key](bool) { OnSettled(key); });
  HostShard shard;
  shard.shape.byte_strides = std::move(byte_strides);
  reads_.emplace(key, Read{session, std::move(buffer), pool, std::move(shard), std::move(done)});
}

Reads::Read* Reads::Find(ReadKey key) {
  const auto found = reads_.find(key);
  return found == reads_.end() ? nullptr : &found->second;
}

void Reads::OnSettled(ReadKey key) {
  Read* read = Find(key);
  if (read == nullptr) return;
  if (read->buffer->failed()) return Finish(key, read->buffer->error());
  read->shard.host = context_.hosts.Name();
  by_host_.emplace(read->shard.host->key(), key);
  context_.out->View(read->shard.host->key(), read->buffer->key());
}

void Reads::OnViewed(const Viewed& event) {
  const auto found = by_host_.find(event.host);
  if (found == by_host_.end()) return;
  const ReadKey key = found->second;
  by_host_.erase(found);
  Read* read = Find(key);
  if (read == nullptr) return;

  HostShape& shape = read->shard.shape;
  shape.dtype = event.dtype;
  shape.dims = event.dims;
  const absl::StatusOr<int64_t> bytes = SpanBytes(shape);
  if (!bytes.ok()) return Finish(key, bytes.status());
  read->shard.bytes = *bytes;
  if (event.there && IsDense(shape)) return Finish(key, absl::OkStatus());

  read->shard.host.reset();
  if (*bytes <= kInlineBytes) return OnRoom(key, context_.hosts.Allocate(*bytes));
  context_.hosts.WhenRoom(read->pool, read->session, *bytes,
                          [this, key](HostRef host) { OnRoom(key, std::move(host)); });
}

void Reads::OnRoom(ReadKey key, HostRef host) {
  Read* read = Find(key);
  if (read == nullptr) return;
  if (read->buffer->failed()) return Finish(key, read->buffer->error());
  const HostKey host_key = host->key();
  read->shard.host = std::move(host);
  by_host_.emplace(host_key, key);
  context_.out->ReadBack(host_key, read->buffer->key(), read->shard.shape.byte_strides);
}

void Reads::OnFilled(const HostFilled& event) {
  const auto found = by_host_.find(event.host);
  if (found == by_host_.end()) return;
  const ReadKey key = found->second;
  by_host_.erase(found);
  if (Find(key) != nullptr) Finish(key, event.status);
}

void Reads::Finish(ReadKey key, const absl::Status& status) {
  const auto found = reads_.find(key);
  Read read = std::move(found->second);
  reads_.erase(found);
  context_.store.EndRead(read.buffer);
  if (status.ok()) {
    read.done(std::move(read.shard));
  } else {
    read.done(status);
  }
}

void Reads::DropSession(SessionId session) {
  std::erase_if(reads_, [&](auto& entry) {
    if (entry.second.session != session) return false;
    context_.store.EndRead(entry.second.buffer);
    return true;
  });
}

void Reads::DropAll() {
  for (auto& [key, read] : reads_) context_.store.EndRead(read.buffer);
  reads_.clear();
}

}  // namespace causeway::worker
