#include "timed/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr absl::Duration kMs = absl::Milliseconds(1);
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1000);

MomentRef At(absl::Duration after_start, const absl::Status& status = absl::OkStatus()) {
  auto moment = std::make_shared<Moment>();
  moment->at = kStart + after_start;
  moment->status = status;
  return moment;
}

class TimelineTest : public testing::Test {
 protected:
  // Hands a launch over at `now`. Its end, known or not.
  MomentRef Add(const std::vector<int>& devices, absl::Duration duration, absl::Duration now,
                const std::vector<MomentRef>& arguments = {}) {
    auto end = std::make_shared<Moment>();
    placed_ = timeline_.Add({devices, duration, kStart + now, absl::OkStatus(), end}, arguments);
    return end;
  }

  static absl::Duration EndOf(const MomentRef& moment) {
    EXPECT_TRUE(moment->at.has_value());
    return moment->at.value_or(absl::InfinitePast()) - kStart;
  }

  Timeline timeline_{3};
  std::vector<MomentRef> placed_;  // by the last Add
};

TEST_F(TimelineTest, AnIdleDeviceBeginsAtOnce) {
  const MomentRef end = Add({0}, 5 * kMs, 2 * kMs);
  EXPECT_EQ(EndOf(end), 7 * kMs);
  EXPECT_THAT(placed_, ElementsAre(end));
}

TEST_F(TimelineTest, ADeviceRunsOneLaunchAfterTheOther) {
  Add({0}, 5 * kMs, 0 * kMs);
  EXPECT_EQ(EndOf(Add({0}, 3 * kMs, 1 * kMs)), 8 * kMs) << "it is busy";
  EXPECT_EQ(EndOf(Add({0}, 3 * kMs, 20 * kMs)), 23 * kMs) << "it was idle";
  EXPECT_EQ(EndOf(Add({0}, 0 * kMs, 20 * kMs)), 23 * kMs) << "no time, but its turn";
}

TEST_F(TimelineTest, DevicesRunSideBySide) {
  EXPECT_EQ(EndOf(Add({0}, 5 * kMs, 0 * kMs)), 5 * kMs);
  EXPECT_EQ(EndOf(Add({1}, 5 * kMs, 0 * kMs)), 5 * kMs);
}

TEST_F(TimelineTest, AThousandShortLaunchesTakeAThousandTimesTheirTime) {
  MomentRef end;
  for (int i = 0; i < 1000; ++i) end = Add({0}, absl::Microseconds(300), i * absl::Microseconds(17));
  EXPECT_EQ(EndOf(end), 300 * kMs) << "whenever they were handed over";
}

TEST_F(TimelineTest, AChainIsKnownToItsEndAtOnce) {
  MomentRef end = At(0 * kMs);
  for (int i = 0; i < 1000; ++i) end = Add({i % 3}, absl::Microseconds(300), 0 * kMs, {end});
  EXPECT_EQ(EndOf(end), 300 * kMs) << "over three devices, but one at a time";
}

TEST_F(TimelineTest, ALaunchBeginsWhenItsLastArgumentIsReadyExactly) {
  const MomentRef first = Add({0}, 5 * kMs, 0 * kMs);
  const MomentRef second = Add({1}, 7 * kMs, 0 * kMs);
  EXPECT_EQ(EndOf(Add({2}, 1 * kMs, 2 * kMs, {second, first, At(-kMs)})), 8 * kMs);
  EXPECT_EQ(EndOf(Add({0}, 1 * kMs, 9 * kMs, {second})), 10 * kMs) << "handed over later than that";
}

TEST_F(TimelineTest, ALaunchOverSeveralDevicesBeginsWhenAllAreFreeAndLeavesThemTogether) {
  Add({0}, 5 * kMs, 0 * kMs);
  Add({1}, 2 * kMs, 0 * kMs);
  EXPECT_EQ(EndOf(Add({1, 0}, 10 * kMs, 0 * kMs)), 15 * kMs);
  EXPECT_EQ(EndOf(Add({1}, 1 * kMs, 0 * kMs)), 16 * kMs);
  EXPECT_EQ(EndOf(Add({0}, 2 * kMs, 0 * kMs)), 17 * kMs);
  EXPECT_EQ(EndOf(Add({2}, 2 * kMs, 0 * kMs)), 2 * kMs) << "has nothing to do with it";
}

TEST_F(TimelineTest, AnUnknownArgumentHoldsUpItsDevicesUntilItIsKnown) {
  const auto unknown = std::make_shared<Moment>();
  const MomentRef waits = Add({0, 1}, 5 * kMs, 0 * kMs, {unknown, unknown});
  EXPECT_THAT(placed_, IsEmpty());
  const MomentRef behind = Add({1}, 1 * kMs, 0 * kMs);
  EXPECT_THAT(placed_, IsEmpty()) << "a device keeps the order";
  const MomentRef after = Add({2}, 1 * kMs, 0 * kMs, {waits});
  EXPECT_THAT(placed_, IsEmpty());
  const MomentRef later = Add({0}, 1 * kMs, 50 * kMs);
  EXPECT_FALSE(waits->at.has_value() || behind->at.has_value() || after->at.has_value() || later->at.has_value());

  EXPECT_THAT(timeline_.Settle(*unknown, kStart + 10 * kMs, absl::OkStatus()),
              testing::UnorderedElementsAre(waits, behind, after, later));
  EXPECT_EQ(EndOf(waits), 15 * kMs);
  EXPECT_EQ(EndOf(behind), 16 * kMs);
  EXPECT_EQ(EndOf(after), 16 * kMs);
  EXPECT_EQ(EndOf(later), 51 * kMs);
}

TEST_F(TimelineTest, TwoUnknownArgumentsMustBothBeKnown) {
  const auto one = std::make_shared<Moment>();
  const auto two = std::make_shared<Moment>();
  const MomentRef end = Add({0}, 5 * kMs, 0 * kMs, {one, two});
  EXPECT_THAT(timeline_.Settle(*two, kStart + 9 * kMs, absl::OkStatus()), IsEmpty());
  EXPECT_THAT(timeline_.Settle(*one, kStart + 4 * kMs, absl::OkStatus()), ElementsAre(end));
  EXPECT_EQ(EndOf(end), 14 * kMs);
}

TEST_F(TimelineTest, LaunchesThatFreeOneAnotherAreAllPlaced) {
  const auto unknown = std::make_shared<Moment>();
  MomentRef end = unknown;
  for (int i = 0; i < 100'000; ++i) end = Add({i % 2}, kMs, 0 * kMs, {end});
  EXPECT_EQ(timeline_.Settle(*unknown, kStart, absl::OkStatus()).size(), 100'000) << "however many, without recursion";
  EXPECT_EQ(EndOf(end), 100'000 * kMs);
}

TEST_F(TimelineTest, AFailedArgumentFailsItsDependentsWhichTakeNoTime) {
  const MomentRef failed = At(4 * kMs, absl::AbortedError("first"));
  const MomentRef end = Add({0}, 5 * kMs, 0 * kMs, {At(1 * kMs), failed, At(2 * kMs, absl::InternalError("second"))});
  EXPECT_EQ(EndOf(end), 4 * kMs);
  EXPECT_EQ(end->status, absl::AbortedError("first"));
  const MomentRef dependent = Add({1}, 5 * kMs, 0 * kMs, {end});
  EXPECT_EQ(dependent->status, absl::AbortedError("first"));
  const MomentRef other = Add({0}, 5 * kMs, 0 * kMs);
  EXPECT_EQ(EndOf(other), 9 * kMs);
  EXPECT_TRUE(other->status.ok());
}

TEST_F(TimelineTest, AnArgumentThatTurnsOutToHaveFailedDoesTheSame) {
  const auto unknown = std::make_shared<Moment>();
  const MomentRef end = Add({0}, 5 * kMs, 0 * kMs, {unknown});
  const MomentRef dependent = Add({1}, 5 * kMs, 0 * kMs, {end});
  timeline_.Settle(*unknown, kStart + 3 * kMs, absl::AbortedError("no"));
  EXPECT_EQ(end->status, absl::AbortedError("no"));
  EXPECT_EQ(dependent->status, absl::AbortedError("no"));
  EXPECT_EQ(EndOf(dependent), 3 * kMs);
}

TEST_F(TimelineTest, ALaunchThatFailsByItselfTakesItsTime) {
  auto end = std::make_shared<Moment>();
  timeline_.Add({{0}, 5 * kMs, kStart, absl::InternalError("NaN"), end}, {});
  EXPECT_EQ(EndOf(end), 5 * kMs);
  EXPECT_EQ(end->status, absl::InternalError("NaN"));
}

TEST_F(TimelineTest, WhatIsAbandonedIsNeverPlaced) {
  const auto unknown = std::make_shared<Moment>();
  const MomentRef both = Add({0, 1}, kMs, 0 * kMs, {unknown});
  const MomentRef behind = Add({1}, kMs, 0 * kMs);
  EXPECT_THAT(timeline_.Abandon(), testing::UnorderedElementsAre(both, behind));
  EXPECT_THAT(timeline_.Settle(*unknown, kStart, absl::OkStatus()), IsEmpty());
  EXPECT_FALSE(both->at.has_value());
  EXPECT_EQ(EndOf(Add({1}, kMs, 0 * kMs)), kMs);
}

}  // namespace
}  // namespace causeway
