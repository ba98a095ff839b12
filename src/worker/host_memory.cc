#include "worker/host_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway::worker {
namespace {

// Leaves room for the largest request of each pool.
constexpr int64_t kMaxUsedBytes = int64_t{1} << 62;

}  // namespace

Host::~Host() {
  owner_.used_bytes_ -= bytes_;
  if (room_ && bytes_ > 0) {
    HostMemory::PoolState& pool = owner_.pools_[static_cast<int>(room_->pool)];
    pool.used_bytes -= bytes_;
    const auto used = pool.used_by.find(room_->session);
    used->second -= bytes_;
    if (used->second == 0) pool.used_by.erase(used);
  }
  owner_.gone_.push_back(key_);
}

absl::Status HostMemory::CheckCountable(int64_t bytes) const {
  if (bytes <= kMaxUsedBytes - used_bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("no machine has ", bytes, " bytes of host memory besides the ", used_bytes_, " in use"));
}

HostRef HostMemory::Make(int64_t bytes, const std::optional<Host::Room>& room) {
  used_bytes_ += bytes;
  if (room && bytes > 0) {
    PoolState& pool = pools_[static_cast<int>(room->pool)];
    pool.used_bytes += bytes;
    pool.used_by[room->session] += bytes;
  }
  return std::make_shared<Host>(*this, HostKey{++last_key_}, bytes, room);
}

HostRef HostMemory::Allocate(int64_t bytes, const std::optional<Host::Room>& room) {
  HostRef host = Make(bytes, room);
  out_->AllocateHost(host->key(), bytes);
  return host;
}

HostRef HostMemory::Adopt(std::string data) {
  HostRef host = Make(static_cast<int64_t>(data.size()), std::nullopt);
  out_->AdoptHost(host->key(), std::move(data));
  return host;
}

void HostMemory::WhenRoom(Pool pool, SessionId session, int64_t bytes, std::function<void(HostRef)> then) {
  pools_[static_cast<int>(pool)].waiting[session].push_back({bytes, std::move(then)});
}

bool HostMemory::Fits(const PoolState& pool, SessionId session, int64_t bytes) const {
  const auto used = pool.used_by.find(session);
  return used == pool.used_by.end() || used->second + bytes <= limit_bytes_ - pool.used_bytes;
}

bool HostMemory::ServeOne(Pool which, SessionId session) {
  PoolState& pool = pools_[static_cast<int>(which)];
  const auto waiting = pool.waiting.find(session);
  if (waiting == pool.waiting.end()) return false;
  if (!Fits(pool, session, waiting->second.front().bytes)) return false;
  const Waiting next = std::move(waiting->second.front());
  waiting->second.pop_front();
  if (waiting->second.empty()) pool.waiting.erase(waiting);
  pool.last_served = session;
  next.then(Allocate(next.bytes, Host::Room{which, session}));
  return true;
}

bool HostMemory::Settle() {
  bool served = false;
  for (Pool which : {Pool::kFetch, Pool::kSend, Pool::kPut}) {
    PoolState& pool = pools_[static_cast<int>(which)];
    // One each in turn, as long as there is room for anybody's.
    bool again = true;
    while (again) {
      std::vector<SessionId> turn;
      for (auto it = pool.waiting.upper_bound(pool.last_served); it != pool.waiting.end(); ++it)
        turn.push_back(it->first);
      for (auto it = pool.waiting.begin(); turn.size() < pool.waiting.size(); ++it) turn.push_back(it->first);
      again = false;
      for (SessionId session : turn) again |= ServeOne(which, session);
      served |= again;
    }
  }
  return served;
}

int64_t HostMemory::waiting() const {
  int64_t waiting = 0;
  for (const PoolState& pool : pools_) waiting += static_cast<int64_t>(pool.waiting.size());
  return waiting;
}

std::vector<PoolUse> HostMemory::pool_use() const {
  std::vector<PoolUse> use;
  for (const PoolState& pool : pools_) {
    use.push_back({pool.used_bytes, static_cast<int64_t>(pool.used_by.size())});
  }
  return use;
}

void HostMemory::Sweep() {
  for (HostKey key : gone_) out_->DropHost(key);
  gone_.clear();
}

}  // namespace causeway::worker
