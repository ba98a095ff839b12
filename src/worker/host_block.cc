#include "worker/host_block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/kept_blocks.h"

namespace causeway::worker {
namespace {

constexpr int64_t kAlignment = 64;

// From here on memory comes in huge pages where the system has them: fresh memory costs one fault a page, and a page of
// 4 KiB is soon filled.
constexpr int64_t kHugeFromBytes = 4 << 20;
constexpr int64_t kHugePageBytes = 2 << 20;

// Of such memory so much is kept when it is given back.
constexpr int64_t kMaxKeptBytes = int64_t{1} << 30;

KeptBlocks& Kept() {
  static KeptBlocks& kept = *new KeptBlocks(kMaxKeptBytes);  // never destroyed: blocks may outlive everything
  return kept;
}

// `bytes` becomes what is there.
void* AllocateBytes(int64_t& bytes) {
  if (bytes < kHugeFromBytes) return std::aligned_alloc(kAlignment, bytes);
  if (void* const kept = Kept().Take(bytes, bytes)) return kept;
  void* const memory = std::aligned_alloc(kHugePageBytes, bytes);
  // Without the last page if that is not full: nothing is taken that was not asked for. A refusal costs speed only.
  if (memory != nullptr) madvise(memory, bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  return memory;
}

void FreeBytes(void* memory, int64_t bytes) {
  if (bytes < kHugeFromBytes) return std::free(memory);
  Kept().Keep(memory, bytes);
}

}  // namespace

std::shared_ptr<HostBlock> HostBlock::Allocate(int64_t bytes) {
  auto block = std::make_shared<HostBlock>();
  // At least one, so that an empty shard has an address as well.
  int64_t capacity_bytes = std::max<int64_t>((bytes + kAlignment - 1) / kAlignment, 1) * kAlignment;
  void* memory = AllocateBytes(capacity_bytes);
  if (memory == nullptr) return block;
  block->owner = std::shared_ptr<const void>(
      memory, [capacity_bytes](const void* p) { FreeBytes(const_cast<void*>(p), capacity_bytes); });
  block->writable = static_cast<char*>(memory);
  block->bytes = absl::MakeSpan(block->writable, bytes);
  return block;
}

std::shared_ptr<HostBlock> HostBlock::Adopt(std::string data) {
  auto block = std::make_shared<HostBlock>();
  const auto owned = std::make_shared<const std::string>(std::move(data));
  block->bytes = *owned;
  block->owner = owned;
  return block;
}

std::shared_ptr<HostBlock> HostBlock::View(HostBytes bytes) {
  auto block = std::make_shared<HostBlock>();
  block->owner = std::move(bytes.owner);
  block->bytes = bytes.bytes;
  return block;
}

absl::Status HostBlock::Check(int64_t needed_bytes) const {
  if (owner != nullptr && static_cast<int64_t>(bytes.size()) >= needed_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the worker has no ", needed_bytes, " bytes of host memory"));
}

}  // namespace causeway::worker
