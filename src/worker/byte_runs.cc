#include "worker/byte_runs.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway::worker {
namespace {

absl::Status CheckBox(absl::Span<const int64_t> dims, const proto::Box& box) {
  const auto refuse = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("the piece at [", absl::StrJoin(box.start(), ","), "] of size [", absl::StrJoin(box.size(), ","),
                     "] does not lie in a shard of shape [", absl::StrJoin(dims, ","), "]"));
  };
  if (box.start_size() != static_cast<int>(dims.size()) || box.size_size() != box.start_size()) return refuse();
  for (int i = 0; i < box.start_size(); ++i) {
    const int64_t start = box.start(i);
    const int64_t size = box.size(i);
    if (start < 0 || size < 0 || start > dims[i] || size > dims[i] - start) return refuse();
  }
  return absl::OkStatus();
}

}  // namespace

ByteRuns ByteRuns::Whole(int64_t bytes) {
  ByteRuns runs;
  runs.total_bytes_ = runs.memory_bytes_ = runs.run_bytes_ = bytes;
  return runs;
}

absl::StatusOr<ByteRuns> ByteRuns::OfBox(absl::Span<const int64_t> dims, const proto::Box& box, int element_bytes) {
  int64_t shard_bytes = element_bytes;
  for (int64_t d : dims) shard_bytes *= d;
  if (box.start_size() == 0 && box.size_size() == 0) return Whole(shard_bytes);
  if (absl::Status ok = CheckBox(dims, box); !ok.ok()) return ok;

  ByteRuns runs;
  runs.memory_bytes_ = shard_bytes;
  runs.total_bytes_ = element_bytes;
  runs.run_bytes_ = element_bytes;
  int64_t stride_bytes = element_bytes;
  bool whole_so_far = true;  // all faster dimensions are taken whole, so that this one still extends the run
  for (int i = static_cast<int>(dims.size()) - 1; i >= 0; --i) {
    const int64_t size = box.size(i);
    runs.total_bytes_ *= size;
    runs.first_offset_ += box.start(i) * stride_bytes;
    if (whole_so_far) {
      runs.run_bytes_ *= size;
      whole_so_far = size == dims[i];
    } else if (size != 1) {
      runs.outer_.push_back({size, stride_bytes});
    }
    stride_bytes *= dims[i];
  }
  std::reverse(runs.outer_.begin(), runs.outer_.end());
  if (runs.total_bytes_ == 0) return Whole(0);
  return runs;
}

ByteRuns::Run ByteRuns::At(int64_t position) const {
  Run run{0, 0};
  ForEachRun(position, 1, [&](int64_t memory_offset, int64_t) { run.memory_offset = memory_offset; });
  run.bytes = run_bytes_ - position % run_bytes_;
  return run;
}

void ByteRuns::Gather(const char* memory, int64_t position, absl::Span<char> out) const {
  char* to = out.data();
  ForEachRun(position, static_cast<int64_t>(out.size()), [&](int64_t memory_offset, int64_t bytes) {
    std::memcpy(to, memory + memory_offset, bytes);
    to += bytes;
  });
}

void ByteRuns::Scatter(absl::Span<const char> in, int64_t position, char* memory) const {
  const char* from = in.data();
  ForEachRun(position, static_cast<int64_t>(in.size()), [&](int64_t memory_offset, int64_t bytes) {
    std::memcpy(memory + memory_offset, from, bytes);
    from += bytes;
  });
}

template <typename Visit>
void ByteRuns::ForEachRun(int64_t position, int64_t bytes, Visit visit) const {
  if (bytes <= 0) return;
  std::vector<int64_t> index(outer_.size());
  int64_t run = position / run_bytes_;
  int64_t offset = first_offset_;
  for (int i = static_cast<int>(outer_.size()) - 1; i >= 0; --i) {
    index[i] = run % outer_[i].count;
    run /= outer_[i].count;
    offset += index[i] * outer_[i].stride_bytes;
  }
  int64_t within = position % run_bytes_;
  while (true) {
    const int64_t n = std::min(bytes, run_bytes_ - within);
    visit(offset + within, n);
    bytes -= n;
    if (bytes == 0) return;
    within = 0;
    for (int i = static_cast<int>(outer_.size()) - 1; i >= 0; --i) {
      offset += outer_[i].stride_bytes;
      if (++index[i] < outer_[i].count) break;
      offset -= outer_[i].count * outer_[i].stride_bytes;
      index[i] = 0;
    }
  }
}

void CopyRuns(const ByteRuns& from, const char* source, const ByteRuns& to, char* target) {
  for (int64_t position = 0; position < to.total_bytes();) {
    const ByteRuns::Run run = to.At(position);
    from.Gather(source, position, absl::MakeSpan(target + run.memory_offset, run.bytes));
    position += run.bytes;
  }
}

}  // namespace causeway::worker
