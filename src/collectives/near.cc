// Parts that are read where they lie, in the memory of another worker of this machine.
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "collectives/memory.h"
#include "collectives/parts.h"
#include "net/little_endian.h"

namespace causeway::collectives {

void Parts::ExpectNear(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner,
                       uint64_t slot) {
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    failed = status_;
    if (failed.ok()) near_.emplace(id, Near{owner, slot, bytes, into});
  }
  if (!failed.ok()) return owner->PartFailed(failed);
  Say(MessageType::kLook, id, bytes, /*value=*/0);
}

void Parts::SendHere(const PartId& id, Pending pending) {
  std::string stretches;
  int64_t rows = 0;
  for (const Piece& piece : pending.from) rows += Joined(piece).rows;
  if (rows > static_cast<int64_t>(kMaxStretches)) {
    // Too many to say: their copy is one.
    auto gathered = std::shared_ptr<char[]>(NewBytes(pending.bytes));
    char* to = gathered.get();
    for (const Piece& piece : pending.from) to = Gather(piece, to);
    pending.from = {Piece{.data = gathered.get(), .row_bytes = pending.bytes}};
    pending.gathered = std::move(gathered);
  }
  for (const Piece& piece : pending.from) {
    const Piece joined = Joined(piece);
    for (int64_t row = 0; row < joined.rows && joined.row_bytes > 0; ++row) {
      char stretch[kStretchBytes];
      StoreLittleEndian<uint64_t>(reinterpret_cast<uintptr_t>(joined.data + row * joined.stride), stretch);
      StoreLittleEndian<uint64_t>(joined.row_bytes, stretch + 8);
      stretches.append(stretch, kStretchBytes);
    }
  }
  const int64_t bytes = pending.bytes;
  absl::Status failed;
  std::shared_ptr<PartOwner> owner = pending.owner;
  {
    MutexLock lock(&mu_);
    failed = status_;
    if (failed.ok()) offered_.emplace(id, std::move(pending));
  }
  if (!failed.ok()) return owner->PartFailed(failed);
  Count(id.peer, bytes);
  Say(MessageType::kHere, id, bytes, getpid(), stretches);
}

void Parts::OnHere(const PartId& id, int64_t bytes, int process, absl::Span<const char> stretches) {
  Near near;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) return;
    const auto it = near_.find(id);
    if (it == near_.end() || it->second.bytes != bytes) return;  // nobody asked
    near = std::move(it->second);
    near_.erase(it);
  }
  std::string held(stretches.data(), stretches.size());
  auto read = [self = shared_from_this(), id, near = std::move(near), process, held = std::move(held)]() mutable {
    self->ReadNear(id, std::move(near), process, held);
  };
  if (bytes <= shared_->options.inline_bytes) return read();
  shared_->pool.Add(std::move(read));
}

void Parts::ReadNear(const PartId& id, Near near, int process, const std::string& stretches) {
  std::vector<MemoryStretch> from;
  for (size_t at = 0; at < stretches.size(); at += kStretchBytes) {
    from.push_back({LoadLittleEndian<uint64_t>(stretches.data() + at),
                    static_cast<int64_t>(LoadLittleEndian<uint64_t>(stretches.data() + at + 8))});
  }
  const absl::Status read = ReadMemory(process, from, near.into, near.bytes);
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    failed = status_;
  }
  if (!failed.ok()) return near.owner->PartFailed(failed);
  if (read.ok()) {
    Say(MessageType::kTaken, id, 0, 0);
    return near.owner->PartInPlace(near.slot);
  }
  if (!absl::IsPermissionDenied(read) && !absl::IsUnimplemented(read)) {
    return near.owner->PartFailed(FailWith(absl::DataLossError(
        absl::StrCat("worker ", Raw(id.peer), " is lost: its memory cannot be read: ", read.message()))));
  }
  if (shared_->reads_near.exchange(false)) {
    Log(LogLevel::kInfo,
        absl::StrCat("workers of this machine exchange large operands over the network: ", read.message()));
  }
  ExpectStream(id, near.into, near.bytes, std::move(near.owner), near.slot);
}

void Parts::OnTaken(const PartId& id) {
  Pending pending;
  {
    MutexLock lock(&mu_);
    const auto it = offered_.find(id);
    if (it == offered_.end()) return;
    pending = std::move(it->second);
    offered_.erase(it);
  }
  pending.owner->PartSent(pending.slot);
}

}  // namespace causeway::collectives
