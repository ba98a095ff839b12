// Host memory as the core counts it: named, with an owner each, and bounded where waiting is safe.
//
//   HostRef host = memory.Allocate(bytes);                        // counted, never waits
//   memory.WhenRoom(Pool::kSend, bytes, [...](HostRef host) {});  // waits for its turn
//
// Each pool has room of its own, so that a slow client holds up neither the others' fetches nor copies between workers.
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
#include <memory>
#include <string>
#include <vector>

#include "worker/events.h"

namespace causeway::worker {

class HostMemory;

// One piece of host memory. Goes back with its last reference.
class Host {
 public:
  Host(HostMemory& owner, HostKey key, int64_t bytes, int64_t* pool_used_bytes)
      : owner_(owner), key_(key), bytes_(bytes), pool_used_bytes_(pool_used_bytes) {}
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  HostKey key() const { return key_; }

 private:
  HostMemory& owner_;
  const HostKey key_;
  const int64_t bytes_;
  int64_t* const pool_used_bytes_;  // null where it came without waiting
};

using HostRef = std::shared_ptr<Host>;

// What the memory is for.
enum class Pool {
  kFetch,  // read back for a client
  kSend,   // read back for another array
  kPut,    // on its way from a client
};

class HostMemory {
 public:
  // `limit_bytes` is what may be in use of one pool. Something that alone is above it begins when its pool is empty.
  explicit HostMemory(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Must be called at the start of every event, before anything else.
  void Use(WorkerActions& out) { out_ = &out; }

  // Memory allocated now, however much is in use.
  HostRef Allocate(int64_t bytes) { return Allocate(bytes, nullptr); }

  // Memory that came with a message.
  HostRef Adopt(std::string data);

  // A name for memory of something else, which View fills.
  HostRef Name() { return Make(0, nullptr); }

  // Allocates `bytes` when there is room, after all that asked before, and hands it over from Settle.
  void WhenRoom(Pool pool, int64_t bytes, std::function<void(HostRef)> then);

  // Serves who waits for room. True if anything was served.
  bool Settle();

  // Gives back the memory to which nothing refers any more.
  void Sweep();

  // Bytes allocated and not given back.
  int64_t used_bytes() const { return used_bytes_; }

 private:
  friend class Host;

  struct Waiting {
    int64_t bytes;
    std::function<void(HostRef)> then;
  };
  struct PoolState {
    int64_t used_bytes = 0;
    std::deque<Waiting> waiting;
  };

  HostRef Allocate(int64_t bytes, int64_t* pool_used_bytes);
  HostRef Make(int64_t bytes, int64_t* pool_used_bytes);

  const int64_t limit_bytes_;
  WorkerActions* out_ = nullptr;
  uint64_t last_key_ = 0;
  int64_t used_bytes_ = 0;
  std::vector<HostKey> gone_;
  std::array<PoolState, 3> pools_;  // by Pool
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_HOST_MEMORY_H_
