#include "worker/kept_blocks.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>  // its macros do nothing in builds without the sanitizer
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#endif

namespace causeway::worker {
namespace {

// Lets the system take the whole pages of it. Best effort: where it refuses, the memory is simply kept.
void Offer(void* memory, int64_t bytes) {
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_FREE);
}

void Free(void* memory, int64_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
  std::free(memory);
}

}  // namespace

KeptBlocks::~KeptBlocks() {
  for (const Block& block : blocks_) Free(block.memory, block.capacity_bytes);
}

void* KeptBlocks::Take(int64_t bytes, int64_t& capacity_bytes) {
  MutexLock lock(&mutex_);
  auto best = blocks_.end();
  for (auto it = blocks_.begin(); it != blocks_.end(); ++it) {
    if (it->capacity_bytes < bytes || it->capacity_bytes - bytes > bytes / 4) continue;
    if (best == blocks_.end() || it->capacity_bytes <= best->capacity_bytes) best = it;
  }
  if (best == blocks_.end()) return nullptr;
  const Block block = *best;
  blocks_.erase(best);
  kept_bytes_ -= block.capacity_bytes;
  ASAN_UNPOISON_MEMORY_REGION(block.memory, block.capacity_bytes);
  capacity_bytes = block.capacity_bytes;
  return block.memory;
}

void KeptBlocks::Keep(void* memory, int64_t capacity_bytes) {
  if (capacity_bytes > limit_bytes_) return std::free(memory);
  Offer(memory, capacity_bytes);
  ASAN_POISON_MEMORY_REGION(memory, capacity_bytes);
  std::vector<Block> gone;  // freed without the lock: that takes a while
  {
    MutexLock lock(&mutex_);
    blocks_.push_back({memory, capacity_bytes});
    kept_bytes_ += capacity_bytes;
    while (kept_bytes_ > limit_bytes_) {
      gone.push_back(blocks_.front());
      kept_bytes_ -= blocks_.front().capacity_bytes;
      blocks_.pop_front();
    }
  }
  for (const Block& block : gone) Free(block.memory, block.capacity_bytes);
}

int64_t KeptBlocks::kept_bytes() const {
  MutexLock lock(&mutex_);
  return kept_bytes_;
}

}  // namespace causeway::worker
