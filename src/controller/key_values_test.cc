#include "controller/key_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

constexpr LinkId kA{1}, kB{2};
const absl::Time kNow = absl::FromUnixSeconds(1000);

TEST(KeyValuesTest, WhatIsPutIsFound) {
  KeyValues values;
  EXPECT_TRUE(values.Put(kA, 1, "job", "node/0", "topology").at(0).status.ok());
  const auto got = values.Get(kB, 7, "job", "node/0", absl::Seconds(1), kNow);
  ASSERT_THAT(got, SizeIs(1));
  EXPECT_EQ(got[0].link, kB);
  EXPECT_EQ(got[0].number, 7);
  EXPECT_EQ(got[0].value, "topology");
  EXPECT_EQ(values.Get(kB, 8, "job", "node/1", absl::ZeroDuration(), kNow).at(0).status.code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(values.Get(kB, 9, "other", "node/0", absl::ZeroDuration(), kNow).at(0).status.code(),
            absl::StatusCode::kNotFound)
      << "groups do not see one another";
}

TEST(KeyValuesTest, WhoWaitsIsAnsweredByThePut) {
  KeyValues values;
  EXPECT_THAT(values.Get(kB, 7, "job", "k", absl::Seconds(1), kNow), IsEmpty());
  EXPECT_THAT(values.Get(kB, 8, "job", "k", absl::Seconds(1), kNow), IsEmpty());
  const auto replies = values.Put(kA, 1, "job", "k", "v");
  ASSERT_THAT(replies, SizeIs(3));
  EXPECT_EQ(replies[0].link, kA);
  EXPECT_EQ(replies[1].number, 7);
  EXPECT_EQ(replies[2].value, "v");
  EXPECT_THAT(values.Expire(kNow + absl::Seconds(2)), IsEmpty());
}

TEST(KeyValuesTest, WaitingHasAnEnd) {
  KeyValues values;
  EXPECT_THAT(values.Get(kB, 7, "job", "k", absl::Seconds(1), kNow), IsEmpty());
  EXPECT_THAT(values.Get(kB, 8, "job", "k", absl::Seconds(9), kNow), IsEmpty());
  EXPECT_THAT(values.Expire(kNow + absl::Milliseconds(999)), IsEmpty());
  const auto expired = values.Expire(kNow + absl::Seconds(1));
  ASSERT_THAT(expired, SizeIs(1));
  EXPECT_EQ(expired[0].number, 7);
  EXPECT_EQ(expired[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(values.Put(kA, 1, "job", "k", "v"), SizeIs(2));
}

TEST(KeyValuesTest, AGroupGoesWithItsLastLink) {
  KeyValues values;
  values.Put(kA, 1, "job", "k", "v");
  values.Get(kB, 2, "job", "k", absl::Seconds(1), kNow);
  values.Get(kB, 3, "job", "later", absl::Seconds(1), kNow);
  values.Close(kA);
  EXPECT_EQ(values.groups(), 1);
  values.Close(kB);
  EXPECT_EQ(values.groups(), 0);
  EXPECT_THAT(values.Expire(kNow + absl::Seconds(2)), IsEmpty());
  EXPECT_TRUE(values.Put(kA, 1, "job", "k", "anew").at(0).status.ok());
}

TEST(KeyValuesTest, HasLimits) {
  KeyValues values({.groups = 1, .waits = 1, .group_bytes = 10});
  EXPECT_TRUE(values.Put(kA, 1, "job", "k", "12345").at(0).status.ok());
  EXPECT_EQ(values.Put(kA, 2, "job", "k", "xy").at(0).status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(values.Put(kA, 3, "job", "l", "12345").at(0).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(values.Put(kA, 4, "other", "k", "").at(0).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(values.Get(kA, 5, "job", "m", absl::Seconds(1), kNow), IsEmpty());
  EXPECT_EQ(values.Get(kA, 6, "job", "m", absl::Seconds(1), kNow).at(0).status.code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace causeway
