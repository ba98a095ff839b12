#include "collectives/reduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "collectives/narrow_float.h"

namespace causeway::collectives {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using C = proto::Collective;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Operands in order, on one worker and divided between two.
template <typename T>
std::vector<T> Reduce(C::Reduction reduction, DType dtype, const std::vector<std::vector<T>>& operands) {
  const Reducer& r = *FindReducer(reduction, dtype);
  EXPECT_EQ(r.element_bytes, static_cast<int>(sizeof(T)));
  const auto n = static_cast<int64_t>(operands[0].size());
  const auto bytes = [](const std::vector<T>& v) { return reinterpret_cast<const char*>(v.data()); };
  std::vector<char> partial(n * r.partial_bytes), other(n * r.partial_bytes);
  std::vector<T> result(n), divided(n);
  r.first(bytes(operands[0]), partial.data(), n);
  for (size_t i = 1; i < operands.size(); ++i) r.add(bytes(operands[i]), partial.data(), n);
  r.last(partial.data(), reinterpret_cast<char*>(result.data()), n);
  if (operands.size() > 1) {
    r.first(bytes(operands[0]), partial.data(), n);
    r.first(bytes(operands[1]), other.data(), n);
    for (size_t i = 2; i < operands.size(); ++i) r.add(bytes(operands[i]), other.data(), n);
    r.merge(other.data(), partial.data(), n);
    r.last(partial.data(), reinterpret_cast<char*>(divided.data()), n);
    EXPECT_EQ(std::memcmp(result.data(), divided.data(), n * sizeof(T)), 0);
  }
  return result;
}

TEST(Reduce, WholeNumbersWrap) {
  EXPECT_THAT(Reduce<int8_t>(C::SUM, DType::kS8, {{100, -100, 1}, {100, -100, 2}}), ElementsAre(-56, 56, 3));
  EXPECT_THAT(Reduce<uint16_t>(C::PRODUCT, DType::kU16, {{65535, 3}, {65535, 5}}), ElementsAre(1, 15));
  EXPECT_THAT(Reduce<int32_t>(C::SUM, DType::kS32, {{std::numeric_limits<int32_t>::max()}, {1}}),
              ElementsAre(std::numeric_limits<int32_t>::min()));
  EXPECT_THAT(Reduce<int64_t>(C::PRODUCT, DType::kS64, {{std::numeric_limits<int64_t>::max()}, {2}}), ElementsAre(-2));
  EXPECT_THAT(Reduce<int64_t>(C::MIN, DType::kS64, {{-5}, {7}, {-9}}), ElementsAre(-9));
  EXPECT_THAT(Reduce<uint64_t>(C::MAX, DType::kU64, {{5}, {~uint64_t{0}}, {1}}), ElementsAre(~uint64_t{0}));
}

TEST(Reduce, Bits) {
  EXPECT_THAT(Reduce<uint8_t>(C::AND, DType::kU8, {{0xf0}, {0x3c}}), ElementsAre(0x30));
  EXPECT_THAT(Reduce<uint32_t>(C::OR, DType::kU32, {{0xf0}, {0x3c}}), ElementsAre(0xfc));
  EXPECT_THAT(Reduce<int16_t>(C::XOR, DType::kS16, {{0xf0}, {0x3c}}), ElementsAre(0xcc));
}

TEST(Reduce, TruthValues) {
  const std::vector<std::vector<uint8_t>> operands{{0, 0, 1, 1}, {0, 1, 0, 1}};
  for (const C::Reduction either : {C::SUM, C::MAX, C::OR}) {
    EXPECT_THAT(Reduce<uint8_t>(either, DType::kPred, operands), ElementsAre(0, 1, 1, 1));
  }
  for (const C::Reduction both : {C::PRODUCT, C::MIN, C::AND}) {
    EXPECT_THAT(Reduce<uint8_t>(both, DType::kPred, operands), ElementsAre(0, 0, 0, 1));
  }
  EXPECT_THAT(Reduce<uint8_t>(C::XOR, DType::kPred, operands), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(Reduce<uint8_t>(C::AND, DType::kPred, {{2}, {255}}), ElementsAre(1)) << "anything but 0 is true";
}

TEST(Reduce, LessThanAByteStaysSignExtended) {
  EXPECT_THAT(Reduce<uint8_t>(C::SUM, DType::kS4, {{7, 0xf8, 3}, {1, 0xff, 1}}), ElementsAre(0xf8, 7, 4));
  EXPECT_THAT(Reduce<uint8_t>(C::SUM, DType::kU4, {{15, 3}, {2, 1}}), ElementsAre(1, 4));
  EXPECT_THAT(Reduce<uint8_t>(C::MIN, DType::kS4, {{1}, {0xff}}), ElementsAre(0xff)) << "-1 is less than 1";
  EXPECT_THAT(Reduce<uint8_t>(C::MIN, DType::kS4, {{1}, {0x0f}}), ElementsAre(0xff)) << "however it is stored";
  EXPECT_THAT(Reduce<uint8_t>(C::SUM, DType::kU2, {{3}, {3}}), ElementsAre(2));
  EXPECT_THAT(Reduce<uint8_t>(C::SUM, DType::kS2, {{1}, {1}}), ElementsAre(0xfe));
}

TEST(Reduce, NansGoThroughMinimumAndMaximum) {
  for (const C::Reduction reduction : {C::MIN, C::MAX}) {
    const std::vector<float> floats =
        Reduce<float>(reduction, DType::kF32, {{kNan, 1, kNan}, {1, kNan, kNan}, {2, 2, 2}});
    for (const float x : floats) EXPECT_TRUE(std::isnan(x));
    const std::vector<double> doubles = Reduce<double>(reduction, DType::kF64, {{kNan, 1}, {1, kNan}});
    for (const double x : doubles) EXPECT_TRUE(std::isnan(x));
    EXPECT_THAT(Reduce<uint16_t>(reduction, DType::kBF16, {{0x7fc0, 0x3f80}, {0x3f80, 0x7fc0}}), Each(0x7fc0));
    EXPECT_THAT(Reduce<uint8_t>(reduction, DType::kF8E4M3FN, {{0x7f, 0x38}, {0x38, 0x7f}}), Each(0x7f));
  }
  EXPECT_THAT(Reduce<float>(C::MIN, DType::kF32, {{1, kInfinity}, {-kInfinity, 3}}), ElementsAre(-kInfinity, 3));
}

TEST(Reduce, ComplexNumbers) {
  using F = std::complex<float>;
  EXPECT_THAT(Reduce<F>(C::PRODUCT, DType::kC64, {{F(1, 2)}, {F(3, -1)}}), ElementsAre(F(5, 5)));
  using D = std::complex<double>;
  EXPECT_THAT(Reduce<D>(C::SUM, DType::kC128, {{D(1, 2)}, {D(3, -1)}}), ElementsAre(D(4, 1)));
}

TEST(Reduce, NarrowSumsAreRoundedOnce) {
  // 256 and three ones: 259 would be 256 if each step were rounded.
  EXPECT_THAT(Reduce<uint16_t>(C::SUM, DType::kBF16, {{0x4380}, {0x3f80}, {0x3f80}, {0x3f80}}), ElementsAre(0x4382));
  // The same in f16, with 2048.
  EXPECT_THAT(Reduce<uint16_t>(C::SUM, DType::kF16, {{0x6800}, {0x3c00}, {0x3c00}, {0x3c00}}), ElementsAre(0x6802));
}

TEST(Reduce, WhatMakesNoSenseIsNotThere) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kC64, DType::kF8E5M2}) {
    EXPECT_EQ(FindReducer(C::AND, dtype), nullptr);
    EXPECT_EQ(FindReducer(C::XOR, dtype), nullptr);
  }
  EXPECT_EQ(FindReducer(C::MIN, DType::kC64), nullptr);
  EXPECT_EQ(FindReducer(C::SUM, DType::kToken), nullptr);
  EXPECT_EQ(FindReducer(C::SUM, DType::kInvalid), nullptr);
  EXPECT_EQ(FindReducer(C::NONE, DType::kF32), nullptr);
}

// first and last are the formats' decoder and encoder.
float Widen(DType dtype, uint16_t bits) {
  float value = 0;
  FindReducer(C::SUM, dtype)->first(reinterpret_cast<const char*>(&bits), reinterpret_cast<char*>(&value), 1);
  return value;
}
uint16_t Narrowed(DType dtype, float value) {
  uint16_t bits = 0;
  FindReducer(C::SUM, dtype)->last(reinterpret_cast<const char*>(&value), reinterpret_cast<char*>(&bits), 1);
  return bits;
}

constexpr DType kNarrow[] = {DType::kF16,           DType::kBF16,     DType::kF8E5M2,     DType::kF8E4M3,
                             DType::kF8E3M4,        DType::kF8E4M3FN, DType::kF8E5M2FNUZ, DType::kF8E4M3FNUZ,
                             DType::kF8E4M3B11FNUZ, DType::kF4E2M1FN};

int CountOf(DType dtype) {
  if (dtype == DType::kF4E2M1FN) return 16;
  return HostByteWidth(dtype) == 1 ? 256 : 65536;
}

TEST(Reduce, EveryNarrowNumberIsItselfAgain) {
  for (const DType dtype : kNarrow) {
    for (int bits = 0; bits < CountOf(dtype); ++bits) {
      const float value = Widen(dtype, static_cast<uint16_t>(bits));
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(Widen(dtype, Narrowed(dtype, value)))) << Name(dtype) << " " << bits;
      } else {
        EXPECT_EQ(Narrowed(dtype, value), bits) << Name(dtype) << " " << value;
      }
    }
  }
}

TEST(Reduce, RoundingIsToTheNearestAndThenToEven) {
  std::mt19937 random(1);
  for (const DType dtype : kNarrow) {
    // Ascending positive numbers have ascending bits.
    for (int bits = 0; bits + 1 < CountOf(dtype) / 2; ++bits) {
      const float low = Widen(dtype, static_cast<uint16_t>(bits));
      const float high = Widen(dtype, static_cast<uint16_t>(bits + 1));
      if (!std::isfinite(low) || !std::isfinite(high)) break;
      // In bf16 the middle of the smallest is no f32.
      const float middle = low + (high - low) / 2;
      if (!(low < middle && middle < high)) continue;
      EXPECT_EQ(Narrowed(dtype, middle), bits + (bits & 1)) << Name(dtype) << " between " << low << " and " << high;
      EXPECT_EQ(Narrowed(dtype, std::nextafter(middle, low)), bits);
      EXPECT_EQ(Narrowed(dtype, std::nextafter(middle, high)), bits + 1);
    }
  }
}

TEST(Reduce, KnownNumbers) {
  EXPECT_EQ(Widen(DType::kF8E4M3FN, 0x7e), 448);
  EXPECT_EQ(Widen(DType::kF8E5M2, 0x7b), 57344);
  EXPECT_EQ(Widen(DType::kF8E4M3, 0x77), 240);
  EXPECT_EQ(Widen(DType::kF8E3M4, 0x6f), 15.5);
  EXPECT_EQ(Widen(DType::kF8E4M3FNUZ, 0x7f), 240);
  EXPECT_EQ(Widen(DType::kF8E5M2FNUZ, 0x7f), 57344);
  EXPECT_EQ(Widen(DType::kF8E4M3B11FNUZ, 0x7f), 30);
  EXPECT_EQ(Widen(DType::kF4E2M1FN, 0x7), 6);
  EXPECT_EQ(Widen(DType::kF16, 0x7bff), 65504);
  EXPECT_EQ(Widen(DType::kF8E8M0FNU, 127), 1);
  EXPECT_EQ(Narrowed(DType::kF8E8M0FNU, 4), 129);
  EXPECT_EQ(Narrowed(DType::kF8E8M0FNU, 1.5), 128) << "ties go up";
  EXPECT_EQ(Narrowed(DType::kF8E8M0FNU, 1.4f), 127);
  EXPECT_EQ(Narrowed(DType::kF8E8M0FNU, 0), 0xff) << "there is no zero";
  EXPECT_EQ(Narrowed(DType::kF16, 65520), 0x7c00) << "rounds to infinity";
  EXPECT_EQ(Narrowed(DType::kF16, 65519), 0x7bff);
  EXPECT_EQ(Narrowed(DType::kF8E4M3FN, 1000), 0x7f) << "there is no infinity: NaN";
  EXPECT_EQ(Narrowed(DType::kF8E5M2, -1e6f), 0xfc);
  EXPECT_EQ(Narrowed(DType::kF4E2M1FN, 100), 0x7) << "neither infinity nor NaN: the largest";
  EXPECT_EQ(Narrowed(DType::kF8E4M3FNUZ, -1e-10f), 0) << "there is no negative zero";
  EXPECT_EQ(Narrowed(DType::kBF16, kInfinity), 0x7f80);
  EXPECT_TRUE(std::isnan(Widen(DType::kBF16, Narrowed(DType::kBF16, kNan))));
}

}  // namespace
}  // namespace causeway::collectives
