// Host memory as the core counts it: named, with an owner each, and bounded where waiting is safe.
//
//   HostRef host = memory.Allocate(bytes);                        // counted, never waits
//   memory.WhenRoom(Pool::kSend, session, bytes, [...](HostRef host) {});  // waits for its turn
//
// Each pool has room of its own, so that a slow client holds up neither copies between workers nor what others send or
// fetch: a session may have no more of a pool than what it leaves to the others, and each may have one piece, however
// large and however little is left.
// The targets of copies between arrays never wait: a sender gets rid of its memory once the receiver has room; if the
// receiver could wait as well, two workers could each hold what the other waits for.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_HOST_MEMORY_H_
#define CAUSEWAY_WORKER_HOST_MEMORY_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/events.h"

namespace causeway::worker {

class HostMemory;

// What the memory is for.
enum class Pool {
  kFetch,  // read back for a client
  kSend,   // read back for another array
  kPut,    // on its way from a client
};

// One piece of host memory. Goes back with its last reference.
class Host {
 public:
  // In whose room it lies, of those that came by WhenRoom.
  struct Room {
    Pool pool;
    SessionId session;
  };

  Host(HostMemory& owner, HostKey key, int64_t bytes, const std::optional<Room>& room)
      : owner_(owner), key_(key), bytes_(bytes), room_(room) {}
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  HostKey key() const { return key_; }

 private:
  HostMemory& owner_;
  const HostKey key_;
  const int64_t bytes_;
  const std::optional<Room> room_;
};

using HostRef = std::shared_ptr<Host>;

struct PoolUse {
  int64_t bytes = 0;
  int64_t sessions = 0;  // that have some of it
};

class HostMemory {
 public:
  // `limit_bytes` is what may be in use of one pool, but for one piece of each session.
  explicit HostMemory(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Must be called at the start of every event, before anything else.
  void Use(WorkerActions& out) { out_ = &out; }

  // RESOURCE_EXHAUSTED: with `bytes` more, it would be more than any machine has. To be asked before Allocate where a
  // client chose the size.
  absl::Status CheckCountable(int64_t bytes) const;

  // Memory allocated now, however much is in use.
  HostRef Allocate(int64_t bytes) { return Allocate(bytes, std::nullopt); }

  // Memory that came with a message.
  HostRef Adopt(std::string data);

  // A name for memory of something else, which View fills.
  HostRef Name() { return Make(0, std::nullopt); }

  // Allocates `bytes` when there is room, after all that the session asked for before, and hands it over from Settle.
  void WhenRoom(Pool pool, SessionId session, int64_t bytes, std::function<void(HostRef)> then);

  // Serves who waits for room. True if anything was served.
  bool Settle();

  // Gives back the memory to which nothing refers any more.
  void Sweep();

  // Bytes allocated and not given back.
  int64_t used_bytes() const { return used_bytes_; }

  // Sessions that wait for room, pool by pool.
  int64_t waiting() const;

  // What is in use of each pool.
  std::vector<PoolUse> pool_use() const;

 private:
  friend class Host;

  struct Waiting {
    int64_t bytes;
    std::function<void(HostRef)> then;
  };
  struct PoolState {
    int64_t used_bytes = 0;
    std::map<SessionId, int64_t> used_by;              // none is 0
    std::map<SessionId, std::deque<Waiting>> waiting;  // none is empty
    SessionId last_served{0};
  };

  bool Fits(const PoolState& pool, SessionId session, int64_t bytes) const;
  bool ServeOne(Pool pool, SessionId session);
  HostRef Allocate(int64_t bytes, const std::optional<Host::Room>& room);
  HostRef Make(int64_t bytes, const std::optional<Host::Room>& room);

  const int64_t limit_bytes_;
  WorkerActions* out_ = nullptr;
  uint64_t last_key_ = 0;
  int64_t used_bytes_ = 0;
  std::vector<HostKey> gone_;
  std::array<PoolState, 3> pools_;  // by Pool
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_HOST_MEMORY_H_
