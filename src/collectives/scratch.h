// Memory for partial results: what is given back is kept for the next, as the system clears fresh memory more slowly
// than it is filled.
//
//   Scratch scratch(64 << 20);
//   Scratch::Block block = scratch.Get(bytes);       // without a value; goes back when it goes
//
// Threading: thread-safe. Lifetime: outlives its blocks.
#ifndef CAUSEWAY_COLLECTIVES_SCRATCH_H_
#define CAUSEWAY_COLLECTIVES_SCRATCH_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace causeway::collectives {

class Scratch {
 public:
  class Block {
   public:
    Block() = default;
    Block(Block&& other) noexcept { *this = std::move(other); }
    Block& operator=(Block&& other) noexcept {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = other.size_;
      home_ = other.home_;
      return *this;
    }
    ~Block() { Reset(); }

    char* get() const { return data_; }

   private:
    friend class Scratch;
    Block(char* data, int64_t size, Scratch* home) : data_(data), size_(size), home_(home) {}
    void Reset() {
      if (data_ != nullptr) home_->Give(data_, size_);
      data_ = nullptr;
    }

    char* data_ = nullptr;
    int64_t size_ = 0;
    Scratch* home_ = nullptr;
  };

  // Keeps so many bytes.
  explicit Scratch(int64_t max_kept) : max_kept_(max_kept) {}
  ~Scratch() {
    for (const auto& [size, data] : kept_) delete[] data;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Block Get(int64_t bytes) {
    if (bytes >= kSmallest) {
      MutexLock lock(&mu_);
      for (auto it = kept_.rbegin(); it != kept_.rend(); ++it) {
        const auto [size, data] = *it;
        if (size < bytes || size / 2 > bytes) continue;
        *it = kept_.back();
        kept_.pop_back();
        kept_bytes_ -= size;
        return {data, size, this};
      }
    }
    return {new char[bytes], bytes, this};
  }

 private:
  // Smaller ones malloc keeps itself.
  static constexpr int64_t kSmallest = 64 << 10;

  void Give(char* data, int64_t size) {
    if (size >= kSmallest) {
      MutexLock lock(&mu_);
      if (kept_bytes_ + size <= max_kept_) {
        kept_.emplace_back(size, data);
        kept_bytes_ += size;
        return;
      }
    }
    delete[] data;
  }

  const int64_t max_kept_;
  Mutex mu_;
  std::vector<std::pair<int64_t, char*>> kept_ ABSL_GUARDED_BY(mu_);
  int64_t kept_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_SCRATCH_H_
