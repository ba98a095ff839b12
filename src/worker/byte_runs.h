// Where the bytes of a rectangle lie in the dense, row-major memory of the shard around it.
//
//   auto runs = ByteRuns::OfBox(/*dims=*/{8, 16}, box, /*element_bytes=*/4);      // rows 2..4, columns 8..16
//   runs->Gather(shard, /*position=*/0, piece);                                      // the rectangle's bytes, dense
//   runs->Scatter(piece, /*position=*/0, shard);                                     // and back
//
// A position counts the bytes of the rectangle itself, as they travel: dense and row-major.
//
// Immutable, cheap to copy, thread-safe. Cost: O(bytes) with one memcpy for each run that is contiguous in memory.
#ifndef CAUSEWAY_WORKER_BYTE_RUNS_H_
#define CAUSEWAY_WORKER_BYTE_RUNS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/control.pb.h"

namespace causeway::worker {

class ByteRuns {
 public:
  // All of a memory of `bytes` bytes.
  static ByteRuns Whole(int64_t bytes);

  // The part `box` of a shard of shape `dims`; a box without dimensions is all of it. INVALID_ARGUMENT where the box
  // does not lie in the shard. `dims` must have passed DenseBytes (shapes.h).
  static absl::StatusOr<ByteRuns> OfBox(absl::Span<const int64_t> dims, const proto::Box& box, int element_bytes);

  // Bytes of the rectangle.
  int64_t total_bytes() const { return total_bytes_; }

  // Memory of at least this many bytes holds it.
  int64_t memory_bytes() const { return memory_bytes_; }

  // The longest run in memory that begins at `position`, which is less than total_bytes().
  struct Run {
    int64_t memory_offset;
    int64_t bytes;
  };
  Run At(int64_t position) const;

  // Copies `out.size()` bytes of the rectangle, from `position` on, out of the shard at `memory`.
  void Gather(const char* memory, int64_t position, absl::Span<char> out) const;

  // Copies `in` into the shard at `memory`, as the bytes of the rectangle from `position` on.
  void Scatter(absl::Span<const char> in, int64_t position, char* memory) const;

 private:
  struct Dimension {
    int64_t count;
    int64_t stride_bytes;
  };

  // Calls visit(memory offset, bytes) for each run of [position, position + bytes), in order.
  template <typename Visit>
  void ForEachRun(int64_t position, int64_t bytes, Visit visit) const;

  int64_t total_bytes_ = 0;
  int64_t memory_bytes_ = 0;
  int64_t run_bytes_ = 0;         // total_bytes_ is a multiple of it
  int64_t first_offset_ = 0;      // in memory
  std::vector<Dimension> outer_;  // of the runs, slowest first
};

// Copies the rectangle `from` of the shard at `source` to the rectangle `to` of the shard at `target`: as many bytes,
// in the same order. The two memories do not overlap.
void CopyRuns(const ByteRuns& from, const char* source, const ByteRuns& to, char* target);

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_BYTE_RUNS_H_
