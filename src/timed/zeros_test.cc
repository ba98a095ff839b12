#include "timed/zeros.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace causeway {
namespace {

bool AllZero(absl::Span<const char> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

TEST(Zeros, AreAsManyAsAskedFor) {
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{4096}, int64_t{3} << 20}) {
    const absl::StatusOr<HostBytes> zeros = Zeros(bytes);
    ASSERT_TRUE(zeros.ok()) << zeros.status();
    EXPECT_EQ(zeros->bytes.size(), bytes);
    EXPECT_TRUE(AllZero(zeros->bytes));
  }
}

TEST(Zeros, StayWhenMoreAreAskedForLater) {
  const absl::StatusOr<HostBytes> few = Zeros(100);
  const absl::StatusOr<HostBytes> many = Zeros(int64_t{100} << 20);
  ASSERT_TRUE(few.ok() && many.ok());
  EXPECT_TRUE(AllZero(few->bytes));
}

TEST(Zeros, ReadingThemTakesNoMemory) {
  constexpr int64_t kBytes = int64_t{256} << 20;
  const absl::StatusOr<HostBytes> zeros = Zeros(kBytes);
  ASSERT_TRUE(zeros.ok()) << zeros.status();
  const int64_t before = ResidentBytes();
  EXPECT_TRUE(AllZero(zeros->bytes));
  EXPECT_LT(ResidentBytes() - before, kBytes / 4);
}

TEST(Zeros, MoreThanThereAreAddressesForAreRefused) {
  EXPECT_EQ(Zeros(int64_t{1} << 56).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Zeros(1).ok()) << "and nothing is lost";
}

TEST(WriteZeros, LeavesWhatIsBetweenTheElementsAlone) {
  std::string rows(7, 'x');
  WriteZeros({DType::kS8, {2, 3}, {4, 1}}, absl::MakeSpan(rows.data(), rows.size()));
  EXPECT_EQ(rows, std::string("\0\0\0x\0\0\0", 7));
  std::string wide(12, 'x');
  WriteZeros({DType::kS32, {2}, {8}}, absl::MakeSpan(wide.data(), wide.size()));
  EXPECT_EQ(wide, std::string("\0\0\0\0xxxx\0\0\0\0", 12));
  std::string dense(6, 'x');
  WriteZeros({DType::kS8, {2, 3}, {}}, absl::MakeSpan(dense.data(), dense.size()));
  EXPECT_EQ(dense, std::string(6, '\0'));
  WriteZeros({DType::kS8, {0, 3}, {3, 1}}, {});
}

}  // namespace
}  // namespace causeway
