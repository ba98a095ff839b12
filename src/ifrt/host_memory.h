// Memory for clients' data in the controller: one limit for all sessions together, shared so that none can starve the
// others.
//
//   HostMemory memory({.bytes = int64_t{1} << 30});
//   if (memory.TakeOrWait({HostPool::kStaged}, session, chunk, [...](HostPool) { ReadOn(); return true; })) ReadOn();
//   memory.Give(HostPool::kStaged, session, chunk);
//
// Who may take: a session that holds no more than what is left. So one that takes all it can stops at half of a pool,
// two such at a third each, and whatever they do there is something left for the next. Nothing has to be known about
// how many there are, and nothing is reserved for those who do not come.
//
// There are several pools because what fills them is emptied by different things. Were they one, data that wait for a
// client's request could keep out the data that its earlier requests wait for.
//
// Threading: all calls are thread-safe. Nobody's lock is held while somebody waiting is called.
#ifndef CAUSEWAY_IFRT_HOST_MEMORY_H_
#define CAUSEWAY_IFRT_HOST_MEMORY_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/ids.h"
#include "base/mutex.h"

namespace causeway {

struct HostMemoryLimits {
  int64_t bytes = int64_t{1} << 30;         // of memory, over all pools
  int64_t spill_bytes = int64_t{64} << 30;  // of disk
};

enum class HostPool {
  kStaged,     // uploads ahead of the request that names them, and until workers have taken them: 7/16 of the memory
  kSpilled,    // the same on disk
  kReading,    // chunks that are being read on their way to disk, or to nowhere: 1/16
  kPassing,    // uploads ahead of what workers have asked for: 1/16
  kAsked,      // what workers have asked for and their sockets have not taken: 1/16
  kFetched,    // small data that were fetched and not looked up: 1/8
  kPassages,   // large data on their way out: 1/8
  kResponses,  // responses that clients do not read: 1/8
};
inline constexpr int kHostPools = 8;

class HostMemory {
 public:
  explicit HostMemory(const HostMemoryLimits& limits);
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // Takes `bytes`, if they fit in what the session may hold.
  bool TryTake(HostPool pool, SessionId session, int64_t bytes);

  // Takes `bytes` that are here already, or that must not wait.
  void Take(HostPool pool, SessionId session, int64_t bytes);

  // Gives back what was taken, all or in parts, and serves those who wait. Not inside a lock that their `then` takes.
  void Give(HostPool pool, SessionId session, int64_t bytes);

  // The same of all that a TakeOrWait took, for whoever has no use for it any more.
  void GiveUnused(HostPool pool, SessionId session, int64_t bytes);

  // Whether the session holds more than it may: what was taken without asking, or before others came.
  bool IsOver(HostPool pool, SessionId session) const;

  // Takes `bytes` from the first of `pools` where they fit, and says which. What goes to disk comes through memory:
  // with kSpilled as many bytes of kReading are taken, which are to be given back first. Of kReading a session may
  // always take once, so that little memory makes uploads slow, but does not stop them. Where they fit in none: nothing
  // now, and `then` is called once there is room, with the pool from which they have been taken; if it says false, it
  // has no use for them any more, and they are given back. The waiting of one session are served in the order in which
  // they came, but for those whose pools have no room, and sessions in turn.
  std::optional<HostPool> TakeOrWait(std::vector<HostPool> pools, SessionId session, int64_t bytes,
                                     std::function<bool(HostPool)> then);

  // The disk took no more: nothing is taken from kSpilled by those who ask, until it may be tried again.
  void CloseDisk(const absl::Status& why);
  void ReopenDisk();

  // For messages: why the disk took no more when it was last asked, or nothing.
  std::string DescribeDisk() const;

  // The session is gone: nobody of it waits any more.
  void Forget(SessionId session);

  int64_t used_bytes(HostPool pool) const;
  int64_t used_bytes(HostPool pool, SessionId session) const;

 private:
  struct Pool {
    int64_t limit_bytes = 0;
    int64_t used_bytes = 0;
    std::map<SessionId, int64_t> by_session;  // those that hold anything

    bool closed = false;

    int64_t used_by(SessionId session) const;
    bool Fits(SessionId session, int64_t bytes) const {
      return !closed && used_by(session) + bytes <= limit_bytes - used_bytes;
    }
    void Add(SessionId session, int64_t bytes);
  };
  struct Waiting {
    std::vector<HostPool> pools;
    SessionId session;
    int64_t bytes;
    std::function<bool(HostPool)> then;
  };
  struct Granted {
    HostPool pool;
    Waiting to;
  };

  // Gives those who wait what there is room for, without the lock.
  void Serve();
  std::vector<Granted> Grant() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool FitsLocked(HostPool pool, SessionId session, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All that a take from `pool` takes; negative: gives.
  void AddLocked(HostPool pool, SessionId session, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Pool& At(HostPool pool) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pools_[static_cast<int>(pool)]; }
  std::optional<HostPool> TakeFromOne(const std::vector<HostPool>& pools, SessionId session, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::array<Pool, kHostPools> pools_ ABSL_GUARDED_BY(mutex_);                // by HostPool
  std::map<SessionId, std::deque<Waiting>> waiting_ ABSL_GUARDED_BY(mutex_);  // none is empty
  absl::Status disk_ ABSL_GUARDED_BY(mutex_);                                 // as it was when it was last asked
  SessionId last_served_ ABSL_GUARDED_BY(mutex_){0};
};

// Some of it, as long as this lives.
class HostCharge {
 public:
  HostCharge() = default;

  // Takes `bytes`, without asking.
  HostCharge(std::shared_ptr<HostMemory> memory, HostPool pool, SessionId session, int64_t bytes)
      : memory_(std::move(memory)), pool_(pool), session_(session), bytes_(bytes) {
    memory_->Take(pool_, session_, bytes_);
  }
  HostCharge(HostCharge&& other) noexcept { *this = std::move(other); }
  HostCharge& operator=(HostCharge&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(pool_, other.pool_);
    std::swap(session_, other.session_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostCharge() { Resize(0); }

  void Resize(int64_t bytes) {
    if (memory_ == nullptr) return;
    const int64_t before = std::exchange(bytes_, bytes);
    if (bytes > before) memory_->Take(pool_, session_, bytes - before);
    if (bytes < before) memory_->Give(pool_, session_, before - bytes);
  }

 private:
  std::shared_ptr<HostMemory> memory_;
  HostPool pool_ = HostPool::kStaged;
  SessionId session_{0};
  int64_t bytes_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_HOST_MEMORY_H_
