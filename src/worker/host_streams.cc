#include "worker/host_streams.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"

namespace causeway::worker {
namespace {

// Shorter runs are worth copying for the sake of fewer, larger reads and writes.
constexpr int64_t kDirectRunBytes = 64 << 10;

// Whether all of it travels straight from or to memory; then its chunks need nothing from one another.
bool IsDirect(const ByteRuns& place) {
  return place.total_bytes() > 0 && place.At(0).bytes >= std::min(place.total_bytes(), kDirectRunBytes);
}

// How much at `position` travels straight from or to memory, out of at most `max_bytes`; 0: gather or scatter.
int64_t DirectBytes(const ByteRuns& place, bool is_direct, int64_t position, int64_t max_bytes) {
  const int64_t wanted = std::min(max_bytes, place.total_bytes() - position);
  const int64_t run_bytes = place.At(position).bytes;
  return is_direct || run_bytes >= std::min(wanted, kDirectRunBytes) ? std::min(wanted, run_bytes) : 0;
}

int64_t ScratchBytes(const ByteRuns& place, int64_t position, int64_t max_bytes) {
  return std::min({max_bytes, kChunkBytes, place.total_bytes() - position});
}

class HostSink final : public StreamSink {
 public:
  HostSink(std::shared_ptr<HostBlock> target, ByteRuns place, StreamDone done)
      : target_(std::move(target)), place_(std::move(place)), done_(std::move(done)) {}

  bool TakesAnyOrder() const override { return is_direct_; }

  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    if (offset >= place_.total_bytes()) return {};
    const int64_t direct_bytes = DirectBytes(place_, is_direct_, offset, length);
    direct_ = direct_bytes > 0;
    if (direct_) return absl::MakeSpan(target_->writable + place_.At(offset).memory_offset, direct_bytes);
    scratch_position_ = offset;
    scratch_.resize(ScratchBytes(place_, offset, length));
    return absl::MakeSpan(scratch_);
  }

  void OnData(int64_t offset, int64_t length) override {
    if (direct_) return;
    place_.Scatter(absl::MakeConstSpan(scratch_).subspan(offset - scratch_position_, length), offset,
                   target_->writable);
  }

  void OnDone(absl::Status status) override { std::exchange(done_, nullptr)(std::move(status)); }

 private:
  const std::shared_ptr<HostBlock> target_;
  const ByteRuns place_;
  const bool is_direct_ = IsDirect(place_);
  StreamDone done_;
  bool direct_ = false;  // the last Buffer was the target itself
  int64_t scratch_position_ = 0;
  std::string scratch_;
};

class HostSource final : public StreamSource {
 public:
  HostSource(std::shared_ptr<HostBlock> source, ByteRuns place, StreamDone done)
      : source_(std::move(source)), place_(std::move(place)), done_(std::move(done)) {}

  bool KeepsMemory() const override { return is_direct_; }

  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    if (offset >= place_.total_bytes() || max_bytes <= 0) return {};
    const int64_t direct_bytes = DirectBytes(place_, is_direct_, offset, max_bytes);
    if (direct_bytes > 0) return source_->bytes.subspan(place_.At(offset).memory_offset, direct_bytes);
    scratch_.resize(ScratchBytes(place_, offset, max_bytes));
    place_.Gather(source_->bytes.data(), offset, absl::MakeSpan(scratch_));
    return scratch_;
  }

  void OnDone(absl::Status status) override { std::exchange(done_, nullptr)(std::move(status)); }

 private:
  const std::shared_ptr<HostBlock> source_;
  const ByteRuns place_;
  const bool is_direct_ = IsDirect(place_);
  StreamDone done_;
  std::string scratch_;
};

}  // namespace

std::shared_ptr<StreamSink> MakeHostSink(std::shared_ptr<HostBlock> target, ByteRuns place, StreamDone done) {
  return std::make_shared<HostSink>(std::move(target), std::move(place), std::move(done));
}

std::shared_ptr<StreamSource> MakeHostSource(std::shared_ptr<HostBlock> source, ByteRuns place, StreamDone done) {
  return std::make_shared<HostSource>(std::move(source), std::move(place), std::move(done));
}

}  // namespace causeway::worker
