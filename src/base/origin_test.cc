#include "base/origin.h"

#include <gtest/gtest.h>

#include <limits>

namespace causeway {
namespace {

TEST(OriginTest, AnErrorKeepsTheFirstOriginItWasGiven) {
  const absl::Status first = WithOrigin(absl::InternalError("broken"), 7);
  EXPECT_EQ(OriginOf(first), 7u);
  EXPECT_EQ(first.message(), "broken");
  EXPECT_EQ(OriginOf(WithOrigin(first, 8)), 7u);
}

TEST(OriginTest, EveryNumberButZeroIsOne) {
  constexpr uint64_t kLargest = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(OriginOf(WithOrigin(absl::InternalError("broken"), kLargest)), kLargest);
  EXPECT_EQ(OriginOf(WithOrigin(absl::InternalError("broken"), 0)), 0u);
  EXPECT_EQ(OriginOf(WithOrigin(WithOrigin(absl::InternalError("broken"), 0), 9)), 9u);
}

TEST(OriginTest, SuccessHasNone) {
  EXPECT_TRUE(WithOrigin(absl::OkStatus(), 7).ok());
  EXPECT_EQ(OriginOf(WithOrigin(absl::OkStatus(), 7)), 0u);
}

TEST(OriginTest, APayloadThatIsNoNumberIsNone) {
  absl::Status status = absl::InternalError("broken");
  status.SetPayload(kOriginPayload, absl::Cord("nonsense"));
  EXPECT_EQ(OriginOf(status), 0u);
}

}  // namespace
}  // namespace causeway
