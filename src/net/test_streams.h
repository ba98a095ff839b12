// Ends of streams for tests: memory that knows what it should hold, and all that OnDone was called with.
//
//   auto sink = std::make_shared<TestSink>(total);
//   ...
//   EXPECT_THAT(sink->results(), ElementsAre(absl::OkStatus()));
//   EXPECT_TRUE(sink->Holds(id));
//
// Threading: the plane's calls and the test's may come from different threads.
#ifndef CAUSEWAY_NET_TEST_STREAMS_H_
#define CAUSEWAY_NET_TEST_STREAMS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "net/data_plane.h"

namespace causeway {

// The byte at `offset` of stream `id`, as tests send it.
inline char ByteOf(StreamId id, int64_t offset) {
  return static_cast<char>((Raw(id) * 31 + offset * 7 + (offset >> 11)) & 0xff);
}

// Takes a stream into memory, at most `room` bytes at a time.
class TestSink final : public StreamSink {
 public:
  explicit TestSink(int64_t total, int64_t room = int64_t{1} << 40) : room_(room), bytes_(total) {}

  // What OnData does besides: set before the stream begins.
  std::function<void(int64_t offset, int64_t length)> on_data;
  std::function<void()> on_done;
  bool in_order = false;  // the sender is told so

  bool TakesAnyOrder() const override { return !in_order; }
  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    EXPECT_TRUE(!in_order || offset == received()) << "there is room for the next bytes only";
    return absl::MakeSpan(bytes_).subspan(offset, std::min(length, room_));
  }
  void OnData(int64_t offset, int64_t length) override {
    {
      MutexLock lock(&mu_);
      EXPECT_EQ(offset, received_) << "offsets ascend without gaps";
      EXPECT_GE(length, 1);
      EXPECT_TRUE(results_.empty()) << "nothing comes after OnDone";
      received_ += length;
    }
    if (on_data) on_data(offset, length);
  }
  void OnDone(absl::Status status) override {
    {
      MutexLock lock(&mu_);
      results_.push_back(std::move(status));
    }
    if (on_done) on_done();
  }

  int64_t received() const {
    MutexLock lock(&mu_);
    return received_;
  }
  bool done() const {
    MutexLock lock(&mu_);
    return !results_.empty();
  }
  // All that OnDone was called with.
  std::vector<absl::Status> results() const {
    MutexLock lock(&mu_);
    return results_;
  }
  bool Holds(StreamId id) const {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      if (bytes_[i] != ByteOf(id, static_cast<int64_t>(i))) return false;
    }
    return true;
  }

 private:
  const int64_t room_;
  std::vector<char> bytes_;
  mutable Mutex mu_;
  int64_t received_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<absl::Status> results_ ABSL_GUARDED_BY(mu_);
};

// Gives the bytes of a stream as far as they are `available`, at most `piece` at a time.
class TestSource final : public StreamSource {
 public:
  TestSource(StreamId id, int64_t total, int64_t piece = int64_t{1} << 40)
      : piece_(piece), bytes_(total), available_(total) {
    for (int64_t i = 0; i < total; ++i) bytes_[i] = ByteOf(id, i);
  }

  bool forgets = false;  // set before the stream begins: the plane may not count on what it read before

  bool KeepsMemory() const override { return !forgets; }
  void SetAvailable(int64_t bytes) {
    MutexLock lock(&mu_);
    available_ = bytes;
  }
  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    MutexLock lock(&mu_);
    EXPECT_GE(max_bytes, 1);
    read_ = std::max(read_, std::min(available_, offset + std::min(max_bytes, piece_)));
    return absl::MakeConstSpan(bytes_).subspan(offset, std::min({piece_, max_bytes, available_ - offset}));
  }
  void OnDone(absl::Status status) override {
    MutexLock lock(&mu_);
    results_.push_back(std::move(status));
  }

  bool done() const {
    MutexLock lock(&mu_);
    return !results_.empty();
  }
  std::vector<absl::Status> results() const {
    MutexLock lock(&mu_);
    return results_;
  }
  // Bytes that the plane has asked for.
  int64_t read() const {
    MutexLock lock(&mu_);
    return read_;
  }

 private:
  const int64_t piece_;
  std::vector<char> bytes_;
  mutable Mutex mu_;
  int64_t available_ ABSL_GUARDED_BY(mu_);
  int64_t read_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<absl::Status> results_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_TEST_STREAMS_H_
