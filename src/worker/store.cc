#include "worker/store.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/origin.h"

namespace causeway::worker {
namespace {

auto LowerBound(const Store::Shards& shards, int shard) {
  return std::lower_bound(shards.begin(), shards.end(), shard,
                          [](const auto& entry, int wanted) { return entry.first < wanted; });
}

std::string Name(ArrayId array, int shard) {
  return absl::StrCat("shard ", shard, " of array ", Raw(array) & kMaxPerSession, " of session ",
                      Raw(SessionOf(array)));
}

absl::Status Donated() { return absl::FailedPreconditionError("the buffer was donated to a launch"); }

}  // namespace

Buffer::~Buffer() { store_.Release(*this); }

Store::~Store() { arrays_.clear(); }

// ---------------------------------------------------------------- buffers

BufferRef Store::Promise(int device, uint64_t origin) {
  return std::make_shared<Buffer>(*this, BufferKey{++last_key_}, device, origin);
}

BufferRef Store::Failed(const absl::Status& why, uint64_t origin) {
  BufferRef buffer = Promise(/*device=*/0, origin);
  buffer->state_ = Buffer::State::kFailed;
  buffer->error_ = WithOrigin(why, origin);
  return buffer;
}

void Store::Place(const BufferRef& buffer, int64_t bytes) {
  buffer->in_memory_ = true;
  buffer->bytes_ = bytes;
  device_bytes_[buffer->device_] += bytes;
  ++device_buffers_[buffer->device_];
  if (buffer->failed()) return Release(*buffer);
  buffer->state_ = Buffer::State::kPlaced;
  Wake(buffer->when_placed_, true);
}

void Store::SetReady(const BufferRef& buffer) {
  if (buffer->taken_) Wake(buffer->when_settled_, true);
  if (buffer->state_ != Buffer::State::kPlaced) return;
  buffer->state_ = Buffer::State::kReady;
  Wake(buffer->when_settled_, true);
}

void Store::Fail(const BufferRef& buffer, const absl::Status& why) {
  if (buffer->taken_ && !buffer->when_settled_.empty()) {
    buffer->making_error_ = why;
    Wake(buffer->when_settled_, false);
  }
  if (buffer->state_ == Buffer::State::kReady || buffer->failed()) return;
  buffer->state_ = Buffer::State::kFailed;
  buffer->error_ = WithOrigin(why, buffer->origin_);
  Release(*buffer);
  Wake(buffer->when_placed_, false);
  Wake(buffer->when_settled_, false);
}

void Store::Consume(const BufferRef& buffer) {
  if (buffer->failed()) return;
  buffer->state_ = Buffer::State::kFailed;
  buffer->error_ = Donated();
  buffer->taken_ = true;
  Release(*buffer);
}

void Store::Forsake(ArrayId array, const BufferRef& buffer) {
  if (buffer->failed()) return;
  const auto forsake = [&](Shards& shards) {
    for (auto& [index, named] : shards) {
      if (named == buffer) named = Failed(Donated(), /*origin=*/0);
    }
  };
  if (!buffer->aliased_) {
    if (Shards* shards = FindAll(array)) forsake(*shards);
    return;
  }
  const SessionId session = SessionOf(array);
  const auto end = arrays_.upper_bound(MakeArrayId(session, kMaxPerSession));
  for (auto other = arrays_.lower_bound(MakeArrayId(session, 0)); other != end; ++other) forsake(other->second);
}

void Store::EndRead(const BufferRef& buffer) {
  if (--buffer->reads_ == 0) Wake(buffer->when_unread_, true);
}

void Store::WhenPlaced(const BufferRef& buffer, Continuation then) {
  if (!buffer->promised()) return ready_.push_back({std::move(then), !buffer->failed()});
  buffer->when_placed_.push_back(std::move(then));
}

void Store::WhenSettled(const BufferRef& buffer, Continuation then) {
  const bool settled = buffer->state_ == Buffer::State::kReady || buffer->failed();
  if (settled) return ready_.push_back({std::move(then), !buffer->failed()});
  buffer->when_settled_.push_back(std::move(then));
}

void Store::WhenUnread(const BufferRef& buffer, Continuation then) {
  if (unread(buffer)) return ready_.push_back({std::move(then), true});
  buffer->when_unread_.push_back(std::move(then));
}

void Store::Release(Buffer& buffer) {
  if (!buffer.in_memory_) return;
  buffer.in_memory_ = false;
  device_bytes_[buffer.device_] -= buffer.bytes_;
  --device_buffers_[buffer.device_];
  gone_.push_back(buffer.key_);
}

void Store::Wake(std::vector<Continuation>& waiting, bool ok) {
  for (Continuation& then : waiting) ready_.emplace_back(std::move(then), ok);
  waiting.clear();
}

bool Store::Settle() {
  const bool any = !ready_.empty();
  while (!ready_.empty()) {
    const auto [then, ok] = std::move(ready_.front());
    ready_.pop_front();
    then(ok);
  }
  return any;
}

void Store::Sweep(WorkerActions& out) {
  for (BufferKey key : gone_) out.DropBuffer(key);
  gone_.clear();
}

// ---------------------------------------------------------------- names

absl::Status Store::Bind(ArrayId array, int shard, BufferRef buffer) {
  Shards& shards = arrays_[array];
  if (shards.empty() || shards.back().first < shard) {
    shards.emplace_back(shard, std::move(buffer));
    return absl::OkStatus();
  }
  const auto place = LowerBound(shards, shard);
  if (place->first == shard) return absl::AlreadyExistsError(absl::StrCat(Name(array, shard), " exists already"));
  shards.emplace(place, shard, std::move(buffer));
  return absl::OkStatus();
}

absl::StatusOr<BufferRef> Store::Find(ArrayId array, int shard) const {
  const auto found = arrays_.find(array);
  const auto unknown = [&] { return absl::NotFoundError(absl::StrCat("the worker holds no ", Name(array, shard))); };
  if (found == arrays_.end()) return unknown();
  const auto entry = LowerBound(found->second, shard);
  if (entry == found->second.end() || entry->first != shard) return unknown();
  if (entry->second->donated_ && !entry->second->failed()) {
    return absl::FailedPreconditionError(absl::StrCat(Name(array, shard), " was donated to a launch"));
  }
  return entry->second;
}

Store::Shards* Store::FindAll(ArrayId array) {
  const auto found = arrays_.find(array);
  return found == arrays_.end() ? nullptr : &found->second;
}

void Store::DropSession(SessionId session) {
  arrays_.erase(arrays_.lower_bound(MakeArrayId(session, 0)),
                arrays_.upper_bound(MakeArrayId(session, kMaxPerSession)));
}

}  // namespace causeway::worker
