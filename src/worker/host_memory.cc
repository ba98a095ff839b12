#include "worker/host_memory.h"

#include <utility>

namespace causeway::worker {

Host::~Host() {
  owner_.used_bytes_ -= bytes_;
  if (pool_used_bytes_ != nullptr) *pool_used_bytes_ -= bytes_;
  owner_.gone_.push_back(key_);
}

HostRef HostMemory::Make(int64_t bytes, int64_t* pool_used_bytes) {
  used_bytes_ += bytes;
  if (pool_used_bytes != nullptr) *pool_used_bytes += bytes;
  return std::make_shared<Host>(*this, HostKey{++last_key_}, bytes, pool_used_bytes);
}

HostRef HostMemory::Allocate(int64_t bytes, int64_t* pool_used_bytes) {
  HostRef host = Make(bytes, pool_used_bytes);
  out_->AllocateHost(host->key(), bytes);
  return host;
}

HostRef HostMemory::Adopt(std::string data) {
  HostRef host = Make(static_cast<int64_t>(data.size()), nullptr);
  out_->AdoptHost(host->key(), std::move(data));
  return host;
}

void HostMemory::WhenRoom(Pool pool, int64_t bytes, std::function<void(HostRef)> then) {
  pools_[static_cast<int>(pool)].waiting.push_back({bytes, std::move(then)});
}

bool HostMemory::Settle() {
  bool served = false;
  for (PoolState& pool : pools_) {
    while (!pool.waiting.empty() &&
           (pool.used_bytes == 0 || pool.waiting.front().bytes <= limit_bytes_ - pool.used_bytes)) {
      const Waiting next = std::move(pool.waiting.front());
      pool.waiting.pop_front();
      next.then(Allocate(next.bytes, &pool.used_bytes));
      served = true;
    }
  }
  return served;
}

void HostMemory::Sweep() {
  for (HostKey key : gone_) out_->DropHost(key);
  gone_.clear();
}

}  // namespace causeway::worker
