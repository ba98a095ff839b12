// Large pieces of memory that were given back, kept for the next who needs as much.
//
//   static KeptBlocks& kept = *new KeptBlocks(kKeptBytes);
//   void* memory = kept.Take(bytes, capacity);   // null: allocate
//   ...
//   kept.Keep(memory, capacity);                 // instead of free
//
// Fresh memory is slow memory: the system clears every page when it is first written, at a few gigabytes a second, less
// than a network delivers. Programs use the same sizes again and again, so what one transfer gives back fits the next.
//
// The system may take kept memory whenever it is short (MADV_FREE), without telling anybody. Until then it counts as
// the process's own.
//
// Threading: thread-safe. Lifetime: frees what it keeps; what was taken is the taker's.
#ifndef CAUSEWAY_WORKER_KEPT_BLOCKS_H_
#define CAUSEWAY_WORKER_KEPT_BLOCKS_H_

#include <cstdint>
#include <deque>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace causeway::worker {

class KeptBlocks {
 public:
  // Keeps up to `limit_bytes`: beyond that, what came first is freed.
  explicit KeptBlocks(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ~KeptBlocks();
  KeptBlocks(const KeptBlocks&) = delete;
  KeptBlocks& operator=(const KeptBlocks&) = delete;

  // Memory for `bytes`, of the smallest capacity that is enough and not above it by more than a quarter; what it holds
  // is undefined. Null where there is none.
  void* Take(int64_t bytes, int64_t& capacity_bytes);

  // Keeps or frees `memory`, which malloc or its like gave, for the next.
  void Keep(void* memory, int64_t capacity_bytes);

  int64_t kept_bytes() const;

 private:
  struct Block {
    void* memory;
    int64_t capacity_bytes;
  };

  const int64_t limit_bytes_;
  mutable Mutex mutex_;
  std::deque<Block> blocks_ ABSL_GUARDED_BY(mutex_);  // in the order in which they came
  int64_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_KEPT_BLOCKS_H_
