// Sums and products of numbers that peers choose: they stop at the limits of int64_t instead of overflowing, which C++
// leaves undefined.
//
//   total_bytes = SaturatingAdd(total_bytes, piece.bytes());
//
// Threading: pure functions.
#ifndef CAUSEWAY_BASE_SATURATE_H_
#define CAUSEWAY_BASE_SATURATE_H_

#include <cstdint>
#include <limits>

namespace causeway {

constexpr int64_t SaturatingAdd(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

constexpr int64_t SaturatingSubtract(int64_t a, int64_t b) {
  int64_t difference = 0;
  if (!__builtin_sub_overflow(a, b, &difference)) return difference;
  return a < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

constexpr int64_t SaturatingMultiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return product;
  return (a < 0) != (b < 0) ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

}  // namespace causeway

#endif  // CAUSEWAY_BASE_SATURATE_H_
