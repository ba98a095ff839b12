#include "collectives/reduce.h"

#include <array>
#include <bit>
#include <complex>
#include <cstring>
#include <type_traits>

#include "collectives/narrow_float.h"

namespace causeway::collectives {
namespace {

// How the elements of a type are stored, what is computed with, and the way between the two.
template <typename T>
struct Plain {
  static constexpr bool kPlain = true;
  using Stored = T;
  using Value = T;
  static Value Decode(Stored x) { return x; }
  static Stored Encode(Value x) { return x; }
};

struct Bf16 {
  using Stored = uint16_t;
  using Value = float;
  static float Decode(uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); }
  static uint16_t Encode(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
};

struct F16 {
  using Stored = uint16_t;
  using Value = float;
  static float Decode(uint16_t x) {
    // As if it were an f32 with a small exponent; the multiplication mends that, for subnormals too.
    constexpr float kScale = 0x1p112f;
    const uint32_t magnitude = (uint32_t{x} & 0x7fff) << 13;
    const auto finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * kScale);
    const uint32_t bits = (x & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : finite;
    return std::bit_cast<float>(bits | ((uint32_t{x} & 0x8000) << 16));
  }
  static uint16_t Encode(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t magnitude = bits & 0x7fffffff;
    // Below 2^-14: adding 0.5 leaves the result's bits in the last places of the sum, rounded.
    const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
    const uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    uint32_t half = magnitude < 0x38800000 ? small : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? 0x7e00 : half;
    return static_cast<uint16_t>(half | ((bits >> 16) & 0x8000));
  }
};

template <const NarrowFormat& kFormat>
struct Narrow {
  using Stored = uint8_t;
  using Value = float;
  static float Decode(uint8_t x) {
    static const std::array<float, 256> table = [] {
      std::array<float, 256> t;
      for (int i = 0; i < 256; ++i) t[i] = collectives::Decode(kFormat, static_cast<uint8_t>(i));
      return t;
    }();
    return table[x];
  }
  static uint8_t Encode(float x) { return collectives::Encode(kFormat, x); }
};

struct E8M0 {
  using Stored = uint8_t;
  using Value = float;
  static float Decode(uint8_t x) { return DecodeE8M0(x); }
  static uint8_t Encode(float x) { return EncodeE8M0(x); }
};

template <int kBits, bool kSigned>
struct NarrowInt {
  using Stored = uint8_t;
  using Value = std::conditional_t<kSigned, int8_t, uint8_t>;
  static Value Decode(uint8_t x) {
    const auto high = static_cast<uint8_t>(x << (8 - kBits));
    return static_cast<Value>(static_cast<Value>(high) >> (8 - kBits));
  }
  static uint8_t Encode(Value x) { return static_cast<uint8_t>(Decode(static_cast<uint8_t>(x))); }
};

struct Pred {
  using Stored = uint8_t;
  using Value = bool;
  static bool Decode(uint8_t x) { return x != 0; }
  static uint8_t Encode(bool x) { return x ? 1 : 0; }
};

// Minimum and maximum choose one of two, so nothing need be decoded but for the comparison.
template <typename Codec>
struct Kept {
  static constexpr bool kPlain = true;
  using Stored = typename Codec::Stored;
  using Value = typename Codec::Stored;
  static Value Decode(Stored x) { return x; }
  static Stored Encode(Value x) { return x; }
};

template <typename T>
constexpr bool kIsComplex = std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>>;

// Integers as numbers whose overflow C++ defines.
template <typename T>
auto Wrapping(T x) {
  if constexpr (std::is_integral_v<T>) {
    // Of less than an int they would be promoted to one, and u16 products overflow that.
    return static_cast<std::conditional_t<(sizeof(T) < 8), uint32_t, uint64_t>>(x);
  } else {
    return x;
  }
}

struct Sum {
  template <typename T>
  static T Of(T a, T b) {
    if constexpr (std::is_same_v<T, bool>) return a | b;
    return static_cast<T>(Wrapping(a) + Wrapping(b));
  }
};

struct Product {
  template <typename T>
  static T Of(T a, T b) {
    if constexpr (std::is_same_v<T, bool>) return a & b;
    if constexpr (kIsComplex<T>) {
      // std::complex's own operator calls a function for the sake of infinities.
      return T(a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real());
    } else {
      return static_cast<T>(Wrapping(a) * Wrapping(b));
    }
  }
};

struct Min {
  template <typename T>
  static T Of(T a, T b) {
    return ((a != a) | (a < b)) ? a : b;  // NOLINT(misc-redundant-expression): NaN
  }
};

struct Max {
  template <typename T>
  static T Of(T a, T b) {
    return ((a != a) | (a > b)) ? a : b;  // NOLINT(misc-redundant-expression): NaN
  }
};

template <typename Codec, typename Op>
struct Choice {
  template <typename T>
  static T Of(T a, T b) {
    const float x = Codec::Decode(a);
    const float y = Codec::Decode(b);
    const float chosen = Op::Of(x, y);
    return std::bit_cast<uint32_t>(chosen) == std::bit_cast<uint32_t>(x) ? a : b;
  }
};

struct And {
  template <typename T>
  static T Of(T a, T b) {
    return static_cast<T>(a & b);
  }
};

struct Or {
  template <typename T>
  static T Of(T a, T b) {
    return static_cast<T>(a | b);
  }
};

struct Xor {
  template <typename T>
  static T Of(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

template <typename T>
T Load(const char* from, int64_t i) {
  T x;
  std::memcpy(&x, from + i * sizeof(T), sizeof(T));
  return x;
}

template <typename T>
void Store(T x, char* to, int64_t i) {
  std::memcpy(to + i * sizeof(T), &x, sizeof(T));
}

template <typename Codec>
void First(const char* __restrict from, char* __restrict partial, int64_t n) {
  for (int64_t i = 0; i < n; ++i) Store(Codec::Decode(Load<typename Codec::Stored>(from, i)), partial, i);
}

template <typename Codec, typename Op>
void Add(const char* __restrict from, char* __restrict partial, int64_t n) {
  using Value = typename Codec::Value;
  for (int64_t i = 0; i < n; ++i) {
    Store(Op::template Of<Value>(Load<Value>(partial, i), Codec::Decode(Load<typename Codec::Stored>(from, i))),
          partial, i);
  }
}

// A peer may send any byte for a bool, which C++ does not allow in one.
template <typename Codec, typename Op>
void Merge(const char* __restrict from, char* __restrict partial, int64_t n) {
  using Value = typename Codec::Value;
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<Value, bool>) {
      Store(Op::template Of<bool>(Load<uint8_t>(partial, i) != 0, Load<uint8_t>(from, i) != 0), partial, i);
    } else {
      Store(Op::template Of<Value>(Load<Value>(partial, i), Load<Value>(from, i)), partial, i);
    }
  }
}

template <typename Codec>
void Last(const char* __restrict partial, char* __restrict to, int64_t n) {
  using Value = typename Codec::Value;
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<Value, bool>) {
      Store(Codec::Encode(Load<uint8_t>(partial, i) != 0), to, i);
    } else {
      Store(Codec::Encode(Load<Value>(partial, i)), to, i);
    }
  }
}

template <typename Codec, typename Op>
const Reducer* Make() {
  static constexpr Reducer kReducer{.element_bytes = sizeof(typename Codec::Stored),
                                    .partial_bytes = sizeof(typename Codec::Value),
                                    .first = &First<Codec>,
                                    .add = &Add<Codec, Op>,
                                    .merge = &Merge<Codec, Op>,
                                    .last = &Last<Codec>,
                                    .plain = requires {Codec::kPlain;
}
,
};  // namespace
return &kReducer;
}  // namespace causeway::collectives

using Reduction = proto::Collective::Reduction;

template <typename Codec>
const Reducer* OfIntegers(Reduction reduction) {
  switch (reduction) {
    case proto::Collective::SUM:
      return Make<Codec, Sum>();
    case proto::Collective::PRODUCT:
      return Make<Codec, Product>();
    case proto::Collective::MIN:
      return Make<Codec, Min>();
    case proto::Collective::MAX:
      return Make<Codec, Max>();
    case proto::Collective::AND:
      return Make<Codec, And>();
    case proto::Collective::OR:
      return Make<Codec, Or>();
    case proto::Collective::XOR:
      return Make<Codec, Xor>();
    default:
      return nullptr;
  }
}

template <typename T>
const Reducer* OfFloats(Reduction reduction) {
  switch (reduction) {
    case proto::Collective::SUM:
      return Make<Plain<T>, Sum>();
    case proto::Collective::PRODUCT:
      return Make<Plain<T>, Product>();
    case proto::Collective::MIN:
      return Make<Plain<T>, Min>();
    case proto::Collective::MAX:
      return Make<Plain<T>, Max>();
    default:
      return nullptr;
  }
}

template <typename Codec>
const Reducer* OfNarrowFloats(Reduction reduction) {
  switch (reduction) {
    case proto::Collective::SUM:
      return Make<Codec, Sum>();
    case proto::Collective::PRODUCT:
      return Make<Codec, Product>();
    case proto::Collective::MIN:
      return Make<Kept<Codec>, Choice<Codec, Min>>();
    case proto::Collective::MAX:
      return Make<Kept<Codec>, Choice<Codec, Max>>();
    default:
      return nullptr;
  }
}

template <typename T>
const Reducer* OfComplex(Reduction reduction) {
  if (reduction == proto::Collective::SUM) return Make<Plain<std::complex<T>>, Sum>();
  if (reduction == proto::Collective::PRODUCT) return Make<Plain<std::complex<T>>, Product>();
  return nullptr;
}

}  // namespace

const Reducer* FindReducer(Reduction reduction, DType dtype) {
  switch (dtype) {
    case DType::kPred:
      return OfIntegers<Pred>(reduction);
    case DType::kS8:
      return OfIntegers<Plain<int8_t>>(reduction);
    case DType::kS16:
      return OfIntegers<Plain<int16_t>>(reduction);
    case DType::kS32:
      return OfIntegers<Plain<int32_t>>(reduction);
    case DType::kS64:
      return OfIntegers<Plain<int64_t>>(reduction);
    case DType::kU8:
      return OfIntegers<Plain<uint8_t>>(reduction);
    case DType::kU16:
      return OfIntegers<Plain<uint16_t>>(reduction);
    case DType::kU32:
      return OfIntegers<Plain<uint32_t>>(reduction);
    case DType::kU64:
      return OfIntegers<Plain<uint64_t>>(reduction);
    case DType::kS1:
      return OfIntegers<NarrowInt<1, true>>(reduction);
    case DType::kU1:
      return OfIntegers<NarrowInt<1, false>>(reduction);
    case DType::kS2:
      return OfIntegers<NarrowInt<2, true>>(reduction);
    case DType::kU2:
      return OfIntegers<NarrowInt<2, false>>(reduction);
    case DType::kS4:
      return OfIntegers<NarrowInt<4, true>>(reduction);
    case DType::kU4:
      return OfIntegers<NarrowInt<4, false>>(reduction);
    case DType::kF32:
      return OfFloats<float>(reduction);
    case DType::kF64:
      return OfFloats<double>(reduction);
    case DType::kF16:
      return OfNarrowFloats<F16>(reduction);
    case DType::kBF16:
      return OfNarrowFloats<Bf16>(reduction);
    case DType::kF8E5M2:
      return OfNarrowFloats<Narrow<kF8E5M2>>(reduction);
    case DType::kF8E4M3:
      return OfNarrowFloats<Narrow<kF8E4M3>>(reduction);
    case DType::kF8E3M4:
      return OfNarrowFloats<Narrow<kF8E3M4>>(reduction);
    case DType::kF8E4M3FN:
      return OfNarrowFloats<Narrow<kF8E4M3Fn>>(reduction);
    case DType::kF8E4M3B11FNUZ:
      return OfNarrowFloats<Narrow<kF8E4M3B11Fnuz>>(reduction);
    case DType::kF8E5M2FNUZ:
      return OfNarrowFloats<Narrow<kF8E5M2Fnuz>>(reduction);
    case DType::kF8E4M3FNUZ:
      return OfNarrowFloats<Narrow<kF8E4M3Fnuz>>(reduction);
    case DType::kF4E2M1FN:
      return OfNarrowFloats<Narrow<kF4E2M1Fn>>(reduction);
    case DType::kF8E8M0FNU:
      return OfNarrowFloats<E8M0>(reduction);
    case DType::kC64:
      return OfComplex<float>(reduction);
    case DType::kC128:
      return OfComplex<double>(reduction);
    default:
      return nullptr;
  }
}

}  // namespace causeway::collectives
