#include "collectives/parts.h"

#include <array>
#include <optional>

#include "absl/strings/str_cat.h"

namespace causeway::collectives {
namespace {

// What an early part takes besides its bytes.
constexpr int64_t kEarlyOverhead = 128;

// Parts of a message that is not copied together first.
constexpr size_t kMaxSpans = 16;

}  // namespace

bool EarlyRoom::Take(WorkerId peer, int64_t bytes) {
  MutexLock lock(&mu_);
  Taken& taken = taken_[peer];
  if (taken.bytes + bytes > max_bytes_ || taken.count >= max_count_) return false;
  taken.bytes += bytes;
  ++taken.count;
  return true;
}

void EarlyRoom::Give(WorkerId peer, int64_t bytes) {
  MutexLock lock(&mu_);
  const auto it = taken_.find(peer);
  it->second.bytes -= bytes;
  if (--it->second.count == 0) taken_.erase(it);
}

class Parts::Sink final : public StreamSink {
 public:
  Sink(std::shared_ptr<Parts> parts, const PartId& id, StreamId stream, const Pieces& into,
       std::shared_ptr<PartOwner> owner, uint64_t slot)
      : parts_(std::move(parts)), id_(id), stream_(stream), into_(into), owner_(std::move(owner)), slot_(slot) {}

  bool TakesAnyOrder() const override { return true; }
  absl::Span<char> Buffer(int64_t offset, int64_t length) override { return into_.Run(offset, length); }
  void OnData(int64_t, int64_t) override {}
  void OnDone(absl::Status status) override {
    parts_->StreamEnded({id_.peer, stream_}, &id_);
    if (status.ok()) {
      owner_->PartInPlace(slot_);
    } else {
      owner_->PartFailed(parts_->StreamFailed(id_.peer, status));
    }
    owner_ = nullptr;
  }

 private:
  const std::shared_ptr<Parts> parts_;
  const PartId id_;
  const StreamId stream_;
  PieceCursor into_;
  std::shared_ptr<PartOwner> owner_;
  const uint64_t slot_;
};

class Parts::Source final : public StreamSource {
 public:
  Source(std::shared_ptr<Parts> parts, WorkerId peer, StreamId stream, Pending pending)
      : parts_(std::move(parts)), peer_(peer), stream_(stream), from_(pending.from), pending_(std::move(pending)) {}

  bool KeepsMemory() const override { return true; }
  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override { return from_.Run(offset, max_bytes); }
  void ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                 std::vector<absl::Span<const char>>& parts) override {
    int64_t left = std::min(max_bytes, pending_.bytes - offset);
    for (size_t i = 0; i < max_parts && left > 0; ++i) {
      const absl::Span<const char> run = from_.Run(offset, left);
      parts.push_back(run);
      offset += static_cast<int64_t>(run.size());
      left -= static_cast<int64_t>(run.size());
    }
  }
  void OnDone(absl::Status status) override {
    parts_->StreamEnded({peer_, stream_}, nullptr);
    if (status.ok()) {
      pending_.owner->PartSent(pending_.slot);
    } else {
      pending_.owner->PartFailed(parts_->StreamFailed(peer_, status));
    }
    pending_.owner = nullptr;
  }

 private:
  const std::shared_ptr<Parts> parts_;
  const WorkerId peer_;
  const StreamId stream_;
  PieceCursor from_;
  Pending pending_;
};

Parts::~Parts() {
  for (const auto& [id, bytes] : early_) shared_->early.Give(id.peer, bytes.size() + kEarlyOverhead);
  for (const auto& [id, want] : wanted_) shared_->early.Give(id.peer, kEarlyOverhead);
}

void Parts::Send(const PartId& id, const Pieces& from, int64_t bytes, std::shared_ptr<PartOwner> owner, uint64_t slot) {
  absl::Status failed;
  if (ByMessage(bytes)) {
    if (!closed_.load(std::memory_order_acquire)) {
      SendMessage(id, from, bytes);
      return owner->PartSent(slot);
    }
    {
      MutexLock lock(&mu_);
      failed = status_;
    }
    return owner->PartFailed(failed);
  }
  Pending pending{.owner = std::move(owner), .slot = slot, .bytes = bytes, .from = from};
  std::optional<Want> want;
  {
    MutexLock lock(&mu_);
    const auto wanted = wanted_.find(id);
    if (!status_.ok()) {
      failed = status_;
    } else if (wanted == wanted_.end()) {
      pending_.emplace(id, std::move(pending));
      return;
    } else {
      want = wanted->second;
      wanted_.erase(wanted);
    }
  }
  if (!failed.ok()) return pending.owner->PartFailed(failed);
  shared_->early.Give(id.peer, kEarlyOverhead);
  if (want->bytes != bytes) {
    return pending.owner->PartFailed(FailWith(Misfit(id, want->bytes, bytes)));
  }
  if (want->stream == kLook) return SendHere(id, std::move(pending));
  StartSend(id, std::move(pending), want->stream);
}

void Parts::Expect(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner,
                   uint64_t slot) {
  if (ByMessage(bytes)) return ExpectMessage(id, {.owner = std::move(owner), .slot = slot, .bytes = bytes});
  if (shared_->reads_near.load(std::memory_order_relaxed) && gang_->IsNear(id.peer)) {
    return ExpectNear(id, into, bytes, std::move(owner), slot);
  }
  ExpectStream(id, into, bytes, std::move(owner), slot);
}

void Parts::ExpectStream(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner,
                         uint64_t slot) {
  const Expected expected{.owner = std::move(owner), .slot = slot, .bytes = bytes, .by_stream = true};
  const StreamKey key{id.peer, NewStream(id.peer)};
  auto sink = std::make_shared<Sink>(shared_from_this(), id, key.second, into, expected.owner, slot);
  absl::Status failed;
  bool misfit = false;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) {
      failed = status_;
    } else if (early_.contains(id)) {
      misfit = true;
    } else {
      streams_.insert(key);
      expected_.emplace(id, expected);
    }
  }
  if (misfit) failed = FailWith(Misfit(id, 0, bytes));
  if (!failed.ok()) return expected.owner->PartFailed(failed);
  shared_->plane.Receive(PeerOf(id.peer), key.second, bytes, bytes, std::move(sink));
  Say(MessageType::kWant, id, bytes, Raw(key.second));
  CancelIfClosed(key);
}

void Parts::ExpectMessage(const PartId& id, std::shared_ptr<PartOwner> owner, uint64_t slot) {
  ExpectMessage(id, {.owner = std::move(owner), .slot = slot, .bytes = -1});
}

void Parts::ExpectMessage(const PartId& id, Expected expected) {
  absl::Status failed;
  std::string bytes;
  {
    MutexLock lock(&mu_);
    const auto early = early_.find(id);
    if (!status_.ok()) {
      failed = status_;
    } else if (early == early_.end()) {
      expected_.emplace(id, std::move(expected));
      return;
    } else {
      bytes = std::move(early->second);
      early_.erase(early);
    }
  }
  if (!failed.ok()) return expected.owner->PartFailed(failed);
  shared_->early.Give(id.peer, bytes.size() + kEarlyOverhead);
  Deliver(id, expected, bytes);
}

void Parts::OnPart(const PartId& id, absl::Span<const char> bytes) {
  Expected expected;
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) return;
    const auto it = expected_.find(id);
    if (it != expected_.end() && !it->second.by_stream) {
      expected = std::move(it->second);
      expected_.erase(it);
    } else if (it != expected_.end()) {
      failed = Misfit(id, bytes.size(), it->second.bytes);
    } else if (early_.contains(id)) {
      failed = Misfit(id, bytes.size(), 0);
    } else if (shared_->early.Take(id.peer, bytes.size() + kEarlyOverhead)) {
      early_.emplace(id, std::string(bytes.data(), bytes.size()));
      return;
    } else {
      failed = absl::ResourceExhaustedError(absl::StrCat("worker ", Raw(id.peer), " sends too far ahead"));
    }
  }
  if (!failed.ok()) return Fail(failed);
  Deliver(id, expected, bytes);
}

void Parts::Deliver(const PartId& id, const Expected& expected, absl::Span<const char> bytes) {
  if (expected.bytes < 0 || expected.bytes == static_cast<int64_t>(bytes.size())) {
    return expected.owner->PartCame(expected.slot, bytes);
  }
  expected.owner->PartFailed(FailWith(Misfit(id, bytes.size(), expected.bytes)));
}

void Parts::OnWant(const PartId& id, int64_t bytes, StreamId stream) {
  Pending pending;
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) return;
    const auto it = pending_.find(id);
    const auto offered = offered_.find(id);
    if (offered != offered_.end() && offered->second.bytes == bytes && stream != kLook) {
      // It was refused what it wanted to read.
      pending = std::move(offered->second);
      offered_.erase(offered);
    } else if (it != pending_.end() && it->second.bytes == bytes) {
      pending = std::move(it->second);
      pending_.erase(it);
    } else if (it != pending_.end()) {
      failed = Misfit(id, bytes, it->second.bytes);
    } else if (ByMessage(bytes) || wanted_.contains(id)) {
      failed = Misfit(id, bytes, 0);
    } else if (shared_->early.Take(id.peer, kEarlyOverhead)) {
      wanted_.emplace(id, Want{bytes, stream});
      return;
    } else {
      failed = absl::ResourceExhaustedError(absl::StrCat("worker ", Raw(id.peer), " asks too far ahead"));
    }
  }
  if (!failed.ok()) return Fail(failed);
  if (stream == kLook) return SendHere(id, std::move(pending));
  StartSend(id, std::move(pending), stream);
}

void Parts::Say(MessageType type, const PartId& id, uint64_t length, uint64_t value, absl::Span<const char> payload) {
  char header[kHeaderBytes];
  WriteHeader({.type = type,
               .launch = launch_,
               .instance = id.instance,
               .round = id.round,
               .index = id.index,
               .length = length,
               .value = value},
              header);
  const absl::Span<const char> parts[] = {{header, kHeaderBytes}, payload};
  shared_->plane.SendMessage(PeerOf(id.peer), absl::MakeConstSpan(parts, payload.empty() ? 1 : 2));
}

void Parts::SendMessage(const PartId& id, const Pieces& from, int64_t bytes) {
  char header[kHeaderBytes];
  WriteHeader({.type = MessageType::kPart,
               .launch = launch_,
               .instance = id.instance,
               .round = id.round,
               .index = id.index,
               .length = static_cast<uint64_t>(bytes)},
              header);
  int64_t runs = 0;
  for (const Piece& piece : from) runs += piece.rows;
  std::array<absl::Span<const char>, kMaxSpans> spans;
  size_t count = 0;
  spans[count++] = {header, kHeaderBytes};
  std::unique_ptr<char[]> gathered;
  if (runs < static_cast<int64_t>(kMaxSpans)) {
    for (const Piece& piece : from) {
      for (int64_t row = 0; row < piece.rows; ++row) {
        spans[count++] = {piece.data + row * piece.stride, static_cast<size_t>(piece.row_bytes)};
      }
    }
  } else {
    gathered = NewBytes(bytes);
    char* to = gathered.get();
    for (const Piece& piece : from) to = Gather(piece, to);
    spans[count++] = {gathered.get(), static_cast<size_t>(bytes)};
  }
  Count(id.peer, bytes);
  shared_->plane.SendMessage(PeerOf(id.peer), absl::MakeConstSpan(spans.data(), count));
}

void Parts::StartSend(const PartId& id, Pending pending, StreamId stream) {
  const StreamKey key{id.peer, stream};
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    failed = status_;
    if (failed.ok() && !streams_.insert(key).second) {
      failed = absl::InternalError(absl::StrCat("worker ", Raw(id.peer), " asks twice for one stream"));
    }
  }
  if (!failed.ok()) return pending.owner->PartFailed(FailWith(failed));
  const int64_t bytes = pending.bytes;
  Count(id.peer, bytes);
  shared_->plane.Send(PeerOf(id.peer), stream, bytes,
                      std::make_shared<Source>(shared_from_this(), id.peer, stream, std::move(pending)));
  CancelIfClosed(key);
}

void Parts::CancelIfClosed(const StreamKey& key) {
  absl::Status why;
  {
    MutexLock lock(&mu_);
    if (status_.ok() || !streams_.contains(key)) return;
    why = status_;
  }
  shared_->plane.Cancel(PeerOf(key.first), key.second, why);
}

void Parts::StreamEnded(const StreamKey& key, const PartId* expected) {
  MutexLock lock(&mu_);
  streams_.erase(key);
  if (expected != nullptr) expected_.erase(*expected);
}

absl::Status Parts::StreamFailed(WorkerId peer, const absl::Status& why) {
  return FailWith(absl::IsUnavailable(why) || absl::IsCancelled(why)
                      ? absl::DataLossError(absl::StrCat("worker ", Raw(peer), " is lost: ", why.message()))
                      : why);
}

absl::Status Parts::FailWith(const absl::Status& why) {
  if (!closed_.load(std::memory_order_acquire)) Fail(why);
  MutexLock lock(&mu_);
  return status_.ok() ? why : status_;
}

void Parts::Close(const absl::Status& why) {
  absl::flat_hash_map<PartId, Expected> expected;
  absl::flat_hash_map<PartId, std::string> early;
  absl::flat_hash_map<PartId, Pending> pending;
  absl::flat_hash_map<PartId, Want> wanted;
  absl::flat_hash_map<PartId, Near> near;
  absl::flat_hash_map<PartId, Pending> offered;
  absl::flat_hash_set<StreamKey> streams;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) return;
    status_ = why;
    closed_.store(true, std::memory_order_release);
    expected.swap(expected_);
    early.swap(early_);
    pending.swap(pending_);
    wanted.swap(wanted_);
    near.swap(near_);
    offered.swap(offered_);
    streams = streams_;
  }
  for (const auto& [id, bytes] : early) shared_->early.Give(id.peer, bytes.size() + kEarlyOverhead);
  for (const auto& [id, want] : wanted) shared_->early.Give(id.peer, kEarlyOverhead);
  // Those that have begun say themselves that they have ended: only then is their memory free.
  for (const auto& [id, part] : expected) {
    if (!part.by_stream) part.owner->PartFailed(why);
  }
  for (const auto& [id, part] : pending) part.owner->PartFailed(why);
  for (const auto& [id, part] : near) part.owner->PartFailed(why);
  // Another worker may be reading these. What it then reads is of a launch that has failed, and no memory of ours.
  for (const auto& [id, part] : offered) part.owner->PartFailed(why);
  for (const auto& [peer, stream] : streams) shared_->plane.Cancel(PeerOf(peer), stream, why);
}

absl::Status Parts::Misfit(const PartId& id, int64_t came, int64_t wanted) {
  return absl::InternalError(absl::StrCat(NameOf(id.instance.collective), ": worker ", Raw(id.peer),
                                          " and this one do not agree about launch ", launch_, " (round ", id.round,
                                          ": ", came, " bytes there, ", wanted, " here)"));
}

void Parts::Count(WorkerId to, int64_t bytes) {
  worker_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (gang_->IslandOf(to) != gang_->IslandOf(gang_->self())) {
    island_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
}

StreamId Parts::NewStream(WorkerId peer) {
  // The bit below the top says who of the pair chose it, so that no number means a stream in either direction.
  constexpr uint64_t kLowerBit = kStreamBit >> 1;
  const uint64_t number = shared_->next_stream.fetch_add(1, std::memory_order_relaxed);
  return StreamId{kStreamBit | (gang_->self() < peer ? kLowerBit : 0) | (number & (kLowerBit - 1))};
}

}  // namespace causeway::collectives
