#include "worker/makes.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway::worker {

BufferRef Makes::Promise(ArrayId array, const proto::Shard& shard, uint64_t origin) {
  BufferRef buffer;
  if (shard.device() >= 0 && shard.device() < context_.devices) {
    buffer = context_.store.Promise(shard.device(), origin);
  } else {
    const absl::Status why = absl::InvalidArgumentError(
        absl::StrCat("device ", shard.device(), " is none of the ", context_.devices, " of this worker"));
    buffer = context_.store.Failed(why, origin);
  }
  if (absl::Status bound = context_.store.Bind(array, shard.index(), buffer); !bound.ok()) {
    return context_.store.Failed(bound, origin);
  }
  return buffer;
}

void Makes::ReportWhenSettled(ArrayId array, std::vector<BufferRef> buffers) {
  const uint64_t key = ++last_report_;
  Report report{array, context_.life, std::move(buffers), 0};
  report.unsettled = report.buffers.size();
  if (report.buffers.empty()) return Send(report);
  for (const BufferRef& buffer : report.buffers) {
    context_.store.WhenSettled(buffer, [this, key](bool) { OnSettled(key); });
  }
  reports_.emplace(key, std::move(report));
}

void Makes::OnSettled(uint64_t key) {
  const auto found = reports_.find(key);
  if (--found->second.unsettled > 0) return;
  Send(found->second);
  reports_.erase(found);
}

void Makes::Send(const Report& report) {
  proto::ToController message;
  proto::ArrayDone& done = *message.mutable_array_done();
  done.set_array(Raw(report.array));
  for (const BufferRef& buffer : report.buffers) {
    if (buffer->making_error().ok()) continue;
    if (!done.has_status()) *done.mutable_status() = ToProto(buffer->making_error());
    done.add_failed_devices(buffer->device());
  }
  context_.Report(report.life, message);
}

void Makes::FromHost(const BufferRef& buffer, HostRef host, const HostShape& shape, const std::string& memory_kind,
                     const std::string& layout) {
  if (!buffer->promised()) return;
  context_.out->BufferFromHost(buffer->key(), host->key(), shape, buffer->device(), memory_kind, layout);
  making_.emplace(buffer->key(), Making{buffer, std::move(host)});
}

void Makes::FromBuffer(const BufferRef& buffer, const BufferRef& source, const std::string& memory_kind) {
  if (!buffer->promised()) return;
  context_.out->BufferFromBuffer(buffer->key(), source->key(), buffer->device(), memory_kind);
  making_.emplace(buffer->key(), Making{buffer, nullptr});
}

void Makes::OnMade(const BufferMade& event) {
  const auto found = making_.find(event.buffer);
  if (found == making_.end()) return;
  if (event.bytes.ok()) return context_.store.Place(found->second.buffer, *event.bytes);
  context_.store.Fail(found->second.buffer, event.bytes.status());
  making_.erase(found);
}

void Makes::OnReady(const BufferReady& event) {
  const auto found = making_.find(event.buffer);
  if (found == making_.end()) return;
  if (event.status.ok()) {
    context_.store.SetReady(found->second.buffer);
  } else {
    context_.store.Fail(found->second.buffer, event.status);
  }
  making_.erase(found);
}

void Makes::Fail(ArrayId array, const absl::Status& why) {
  Store::Shards* shards = context_.store.FindAll(array);
  if (shards == nullptr) return;
  for (auto& [index, buffer] : *shards) {
    if (buffer->promised()) context_.store.Fail(buffer, why);
  }
}

}  // namespace causeway::worker
