// Floating-point formats of a byte and less, by their numbers: value = (-1)^sign * mantissa * 2^exponent. One generic
// decoder and encoder (round to nearest even), which are slow and right; reduce.cc makes tables of the decoder.
//
//   float x = Decode(kF8E4M3Fn, 0x38);         // 1.0
//   uint8_t bits = Encode(kF8E4M3Fn, 1.03f);   // 0x38
//
// Threading: pure functions.
#ifndef CAUSEWAY_COLLECTIVES_NARROW_FLOAT_H_
#define CAUSEWAY_COLLECTIVES_NARROW_FLOAT_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace causeway::collectives {

struct NarrowFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  int highest;   // bits of the largest finite number
  int infinity;  // what is too large becomes this (the largest number where there is neither infinity nor NaN)
  int nan;
  bool has_negative_zero = true;
};

inline constexpr NarrowFormat kF8E5M2{5, 2, 15, 0x7b, 0x7c, 0x7e};
inline constexpr NarrowFormat kF8E4M3{4, 3, 7, 0x77, 0x78, 0x7c};
inline constexpr NarrowFormat kF8E3M4{3, 4, 3, 0x6f, 0x70, 0x78};
inline constexpr NarrowFormat kF8E4M3Fn{4, 3, 7, 0x7e, 0x7f, 0x7f};
inline constexpr NarrowFormat kF8E4M3B11Fnuz{4, 3, 11, 0x7f, 0x80, 0x80, false};
inline constexpr NarrowFormat kF8E5M2Fnuz{5, 2, 16, 0x7f, 0x80, 0x80, false};
inline constexpr NarrowFormat kF8E4M3Fnuz{4, 3, 8, 0x7f, 0x80, 0x80, false};
inline constexpr NarrowFormat kF4E2M1Fn{2, 1, 1, 0x7, 0x7, 0x8};

inline float Decode(const NarrowFormat& format, uint8_t bits) {
  const int sign_bit = 1 << (format.exponent_bits + format.mantissa_bits);
  const int magnitude = bits & (sign_bit - 1);
  const bool negative = (bits & sign_bit) != 0;
  const float sign = negative ? -1.0f : 1.0f;
  if (!format.has_negative_zero && magnitude == 0 && negative) return std::numeric_limits<float>::quiet_NaN();
  if (magnitude > format.highest) {
    const bool infinite = magnitude == format.infinity && format.infinity != format.nan;
    return infinite ? sign * std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  const int field = magnitude >> format.mantissa_bits;
  const int mantissa = magnitude & ((1 << format.mantissa_bits) - 1);
  const int shift = -format.bias - format.mantissa_bits;
  const float value = field == 0
                          ? std::ldexp(static_cast<float>(mantissa), 1 + shift)
                          : std::ldexp(static_cast<float>(mantissa + (1 << format.mantissa_bits)), field + shift);
  return sign * value;
}

inline uint8_t Encode(const NarrowFormat& format, float value) {
  const int sign = std::signbit(value) ? 1 << (format.exponent_bits + format.mantissa_bits) : 0;
  if (std::isnan(value)) return static_cast<uint8_t>(format.nan);
  int magnitude = 0;
  if (std::isinf(value)) {
    magnitude = format.infinity;
  } else if (value != 0) {
    const int lowest = 1 - format.bias;
    const int exponent = std::max(std::ilogb(value), lowest);
    // In units of the last place; what rounds up to the next power of two carries into the exponent by itself.
    const double units = std::nearbyint(std::ldexp(std::fabs(double{value}), format.mantissa_bits - exponent));
    const int64_t all = (int64_t{exponent - lowest} << format.mantissa_bits) + static_cast<int64_t>(units);
    magnitude = all > format.highest ? format.infinity : static_cast<int>(all);
  }
  if (!format.has_negative_zero && magnitude == 0) return 0;
  return static_cast<uint8_t>(magnitude | (magnitude == format.nan ? magnitude & sign : sign));
}

// f8e8m0fnu: powers of two from 2^-127 to 2^127, no sign, no zero.
inline float DecodeE8M0(uint8_t bits) {
  if (bits == 0xff) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, int{bits} - 127);
}

// The nearest power of two, of two as near the larger; below the smallest the smallest. Zero and less: NaN.
inline uint8_t EncodeE8M0(float value) {
  if (!(value > 0) || std::isinf(value)) return 0xff;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // value = fraction * 2^exponent, 0.5 <= fraction < 1
  const int bits = exponent - 1 + 127 + (fraction >= 0.75f ? 1 : 0);
  if (bits < 0) return 0;
  return static_cast<uint8_t>(bits > 0xfe ? 0xff : bits);
}

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_NARROW_FLOAT_H_
