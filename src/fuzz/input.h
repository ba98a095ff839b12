// The bytes of one fuzzing input, taken apart into choices.
//
//   FuzzInput in(data, size);
//   while (!in.empty()) {
//     switch (in.Below(3)) { ... }       // what to do next
//     const int64_t d = in.Number();     // mostly small, sometimes where arithmetic breaks
//   }
//
// Taken from the front, a byte a choice as far as possible, so that a mutation of a byte changes one choice and leaves
// the others what they are. An input that has been used up gives zeros for ever: make 0 the dullest choice.
//
// Threading: none. Lifetime: the bytes outlive it.
#ifndef CAUSEWAY_FUZZ_INPUT_H_
#define CAUSEWAY_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>

namespace causeway {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  bool empty() const { return at_ == end_; }
  size_t size() const { return static_cast<size_t>(end_ - at_); }

  uint8_t Byte() { return empty() ? 0 : *at_++; }
  bool Flag() { return (Byte() & 1) != 0; }

  // 0 <= result < n; n is at least 1 and at most 256.
  int Below(int n) { return Byte() % n; }

  // True in one of `n` cases.
  bool OneIn(int n) { return Byte() % n == n - 1; }

  // A number of any size: the byte itself, a negative one, a limit of some type, or eight bytes.
  int64_t Number() {
    constexpr int kPlain = 192;
    constexpr int kNegative = 16;
    constexpr int64_t kLimits[] = {
        std::numeric_limits<int64_t>::max(),
        std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::min() + 1,
        std::numeric_limits<int32_t>::max(),
        std::numeric_limits<int32_t>::min(),
        int64_t{std::numeric_limits<int32_t>::max()} + 1,
        std::numeric_limits<uint32_t>::max(),
        int64_t{1} << 40,
        int64_t{1} << 56,
        (int64_t{1} << 56) + 1,
        int64_t{1} << 62,
        int64_t{1} << 31,
        65536,
        65537,
        65535,
        1 << 20,
        (1 << 20) + 1,
        4096,
        1000,
        256,
    };
    const int byte = Byte();
    if (byte < kPlain) return byte;
    if (byte < kPlain + kNegative) return kPlain - 1 - byte;
    const size_t limit = byte - kPlain - kNegative;
    if (limit < std::size(kLimits)) return kLimits[limit];
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = (bits << 8) | Byte();
    return static_cast<int64_t>(bits);
  }

  // Up to `most` bytes; the first one says how many.
  std::string Bytes(size_t most) {
    const size_t length = std::min({most, size_t{Byte()}, size()});
    std::string bytes(reinterpret_cast<const char*>(at_), length);
    at_ += length;
    return bytes;
  }

  // All that is left.
  std::string Rest() {
    std::string bytes(reinterpret_cast<const char*>(at_), size());
    at_ = end_;
    return bytes;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace causeway

#endif  // CAUSEWAY_FUZZ_INPUT_H_
