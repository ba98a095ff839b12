#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>

#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

// The numbers are XLA's: every type that XLA has and that holds data must be known here under the same number and name.
TEST(DType, IsNumberedAndNamedAsXlaDoes) {
  const auto* values = xla::PrimitiveType_descriptor();
  int known = 0;
  for (int i = 0; i < values->value_count(); ++i) {
    const int number = values->value(i)->number();
    const DType type{number};
    if (HostByteWidth(type) == 0) continue;
    ++known;
    std::string name = values->value(i)->name();
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(std::string(Name(type)), name);
  }
  EXPECT_EQ(known, 30);
}

TEST(DType, NumbersThatAreNoTypeHaveNoWidth) {
  EXPECT_EQ(HostByteWidth(DType{0}), 0);
  EXPECT_EQ(HostByteWidth(DType{-5}), 0);
  EXPECT_EQ(HostByteWidth(DType{1000}), 0);
  EXPECT_EQ(HostByteWidth(DType::kString), 0);
  EXPECT_EQ(Name(DType{1000}), "?");
}

TEST(DType, ElementsSmallerThanAByteArePacked) {
  EXPECT_EQ(PackedBytes(DType::kF32, 7), 28);
  EXPECT_EQ(PackedBytes(DType::kPred, 7), 7);
  EXPECT_EQ(PackedBytes(DType::kC128, 3), 48);
  EXPECT_EQ(PackedBytes(DType::kS4, 7), 4);
  EXPECT_EQ(PackedBytes(DType::kU2, 9), 3);
  EXPECT_EQ(PackedBytes(DType::kS1, 8), 1);
  EXPECT_EQ(PackedBytes(DType::kF4E2M1FN, 0), 0);
  EXPECT_EQ(PackedBytes(DType::kC128, int64_t{1} << 56), int64_t{1} << 60);
  EXPECT_EQ(PackedBytes(DType{1000}, 7), 0);
}

}  // namespace
}  // namespace causeway
