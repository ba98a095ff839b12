#include "controller/wishes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace causeway {
namespace {

using ::testing::HasSubstr;

std::string Refused(const SessionWishes& wishes) {
  const absl::Status status = CheckWishes(wishes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(WishesTest, NoWishAndTheEndsOfTheRangesAreGood) {
  EXPECT_TRUE(CheckWishes({}).ok());
  for (double weight : {0.001, 1000.0}) EXPECT_TRUE(CheckWishes({.weight = weight}).ok());
  EXPECT_TRUE(CheckWishes({.devices = kMaxWishedDevices, .memory_bytes = kMaxWishedMemoryBytes, .cap = 0.001}).ok());
}

TEST(WishesTest, ARefusalNamesTheWishAndItsRange) {
  for (double weight : {0.0, -1.0, 1000.1, 1e300, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(Refused({.weight = weight}), HasSubstr("weight is 0.001 to 1000, not "));
  }
  for (double cap : {0.0, -0.5, 1e-9, 1.001, std::nan("")}) {
    EXPECT_THAT(Refused({.cap = cap}), HasSubstr("cap is 0.001 to 1, not "));
  }
  EXPECT_THAT(Refused({.devices = -1}), HasSubstr("devices is 0 to 268435456, not -1"));
  EXPECT_THAT(Refused({.devices = kMaxWishedDevices + 1}), HasSubstr("not 268435457"));
  EXPECT_THAT(Refused({.memory_bytes = -1}), HasSubstr("memory in bytes is 0 to 1125899906842624, not -1"));
  EXPECT_THAT(Refused({.platform = std::string(65, 'x')}), HasSubstr("platform is a name of at most 64 bytes"));
  EXPECT_THAT(Refused({.platform = "a\nb"}), HasSubstr("platform"));
}

}  // namespace
}  // namespace causeway
