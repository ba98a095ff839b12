#include "ifrt/host_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

HostMemory::HostMemory(const HostMemoryLimits& limits) {
  MutexLock lock(&mutex_);
  At(HostPool::kStaged).limit_bytes = limits.bytes / 16 * 7;
  At(HostPool::kSpilled).limit_bytes = limits.spill_bytes;
  At(HostPool::kReading).limit_bytes = limits.bytes / 16;
  At(HostPool::kPassing).limit_bytes = limits.bytes / 16;
  At(HostPool::kAsked).limit_bytes = limits.bytes / 16;
  At(HostPool::kFetched).limit_bytes = limits.bytes / 8;
  At(HostPool::kPassages).limit_bytes = limits.bytes / 8;
  At(HostPool::kResponses).limit_bytes = limits.bytes / 8;
}

int64_t HostMemory::Pool::used_by(SessionId session) const {
  const auto found = by_session.find(session);
  return found == by_session.end() ? 0 : found->second;
}

void HostMemory::Pool::Add(SessionId session, int64_t bytes) {
  used_bytes += bytes;
  const auto entry = by_session.try_emplace(session, 0).first;
  entry->second += bytes;
  if (entry->second == 0) by_session.erase(entry);
}

bool HostMemory::TryTake(HostPool pool, SessionId session, int64_t bytes) {
  MutexLock lock(&mutex_);
  return TakeFromOne({pool}, session, bytes).has_value();
}

void HostMemory::Take(HostPool pool, SessionId session, int64_t bytes) {
  MutexLock lock(&mutex_);
  At(pool).Add(session, bytes);
}

void HostMemory::Give(HostPool pool, SessionId session, int64_t bytes) {
  bool anybody = false;
  {
    MutexLock lock(&mutex_);
    At(pool).Add(session, -bytes);
    anybody = !waiting_.empty();
  }
  if (anybody) Serve();
}

void HostMemory::GiveUnused(HostPool pool, SessionId session, int64_t bytes) {
  if (pool == HostPool::kSpilled) Give(HostPool::kReading, session, bytes);
  Give(pool, session, bytes);
}

bool HostMemory::IsOver(HostPool pool, SessionId session) const {
  MutexLock lock(&mutex_);
  const Pool& of = pools_[static_cast<int>(pool)];
  // Who holds nothing cannot mend it.
  const int64_t used_bytes = of.used_by(session);
  return used_bytes > 0 && used_bytes > of.limit_bytes - of.used_bytes;
}

bool HostMemory::FitsLocked(HostPool pool, SessionId session, int64_t bytes) {
  if (pool == HostPool::kSpilled && !FitsLocked(HostPool::kReading, session, bytes)) return false;
  if (pool == HostPool::kReading && At(pool).used_by(session) == 0) return true;
  return At(pool).Fits(session, bytes);
}

void HostMemory::AddLocked(HostPool pool, SessionId session, int64_t bytes) {
  At(pool).Add(session, bytes);
  if (pool == HostPool::kSpilled) At(HostPool::kReading).Add(session, bytes);
}

std::optional<HostPool> HostMemory::TakeFromOne(const std::vector<HostPool>& pools, SessionId session, int64_t bytes) {
  for (HostPool pool : pools) {
    if (!FitsLocked(pool, session, bytes)) continue;
    AddLocked(pool, session, bytes);
    return pool;
  }
  return std::nullopt;
}

std::optional<HostPool> HostMemory::TakeOrWait(std::vector<HostPool> pools, SessionId session, int64_t bytes,
                                               std::function<bool(HostPool)> then) {
  MutexLock lock(&mutex_);
  const std::optional<HostPool> taken = TakeFromOne(pools, session, bytes);
  if (!taken) waiting_[session].push_back({std::move(pools), session, bytes, std::move(then)});
  return taken;
}

void HostMemory::CloseDisk(const absl::Status& why) {
  MutexLock lock(&mutex_);
  At(HostPool::kSpilled).closed = true;
  disk_ = why;
}

std::string HostMemory::DescribeDisk() const {
  MutexLock lock(&mutex_);
  return disk_.ok() ? "" : absl::StrCat(" (the disk takes no more: ", disk_.message(), ")");
}

void HostMemory::ReopenDisk() {
  {
    MutexLock lock(&mutex_);
    if (!std::exchange(At(HostPool::kSpilled).closed, false)) return;
  }
  Serve();
}

void HostMemory::Serve() {
  bool again = true;
  while (again) {
    std::vector<Granted> granted;
    {
      MutexLock lock(&mutex_);
      granted = Grant();
    }
    again = false;
    for (const auto& [pool, to] : granted) {
      if (to.then(pool)) continue;
      MutexLock lock(&mutex_);
      AddLocked(pool, to.session, -to.bytes);
      again = true;
    }
  }
}

std::vector<HostMemory::Granted> HostMemory::Grant() {
  std::vector<Granted> granted;
  const auto serve = [&](std::deque<Waiting>& waiting) {
    std::deque<Waiting> left;
    for (Waiting& one : waiting) {
      if (const auto pool = TakeFromOne(one.pools, one.session, one.bytes)) {
        last_served_ = one.session;
        granted.push_back({*pool, std::move(one)});
      } else {
        left.push_back(std::move(one));
      }
    }
    waiting = std::move(left);
  };
  // Those behind the one who was served last come first.
  const auto middle = waiting_.upper_bound(last_served_);
  for (auto it = middle; it != waiting_.end(); ++it) serve(it->second);
  for (auto it = waiting_.begin(); it != middle; ++it) serve(it->second);
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.empty(); });
  return granted;
}

void HostMemory::Forget(SessionId session) {
  // Destroyed outside the lock: what a function holds may give memory back.
  std::deque<Waiting> gone;
  MutexLock lock(&mutex_);
  const auto found = waiting_.find(session);
  if (found == waiting_.end()) return;
  gone = std::move(found->second);
  waiting_.erase(found);
}

int64_t HostMemory::used_bytes(HostPool pool) const {
  MutexLock lock(&mutex_);
  return pools_[static_cast<int>(pool)].used_bytes;
}

int64_t HostMemory::used_bytes(HostPool pool, SessionId session) const {
  MutexLock lock(&mutex_);
  return pools_[static_cast<int>(pool)].used_by(session);
}

}  // namespace causeway
