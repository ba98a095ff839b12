// Sessions with a say: what the core gives them, and that nobody gets at what is another's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CoreSlicesTest : public CoreTest {
 protected:
  using CoreTest::CoreTest;

  absl::Status Open(SessionId session, const std::string& name, const SessionWishes& wishes) {
    const RequestHeader header = Next(session);
    Handle(OpenSession{header, name, "peer", wishes});
    return Answer(Raw(header.ticket));
  }

  std::vector<int> DevicesOf(SessionId session) const {
    std::vector<int> ids;
    for (const DeviceView& view : core_.DevicesOf(session)) ids.push_back(Raw(view.id));
    return ids;
  }

  // Two workers of two devices each.
  void Workers() {
    Join(kLinkA, "a");
    Join(kLinkB, "b");
  }
};

TEST_F(CoreSlicesTest, ASessionHasTheDevicesThatItWishedAndNoOthers) {
  Workers();
  ASSERT_TRUE(Open(kSession, "one", {.devices = 2}).ok());
  ASSERT_TRUE(Open(kOther, "two", {.devices = 2}).ok());
  EXPECT_THAT(DevicesOf(kSession), ElementsAre(0, 1));
  EXPECT_THAT(DevicesOf(kOther), ElementsAre(2, 3));
  EXPECT_THAT(DevicesOf(SessionId{3}), IsEmpty()) << "it is not open";

  Put(A(1), {0, 1});
  EXPECT_TRUE(Done().ok()) << Done();
  Put(A(2), {1, 2});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Done().message(), "device 2 is not in this session's slice (0-1)");
  Put(A(3), {77});
  EXPECT_EQ(Done().message(), "device 77 is not in this cluster");
}

TEST_F(CoreSlicesTest, NoRequestReachesADeviceOutsideTheSlice) {
  Workers();
  ASSERT_TRUE(Open(kSession, "one", {.devices = 2}).ok());
  Put(A(1), {0});
  out_.sent.clear();
  const auto refused = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("device 2 is not in this session's slice (0-1)"));
  };
  Handle(CopyArrays{Next(), {A(1)}, {A(2)}, {DeviceId{2}}, std::nullopt, false});
  refused(Done());
  const auto there = std::make_shared<const Sharding>(Sharding::Replicated({DeviceId{2}}, ""));
  Handle(ReshardArrays{Next(), {A(1)}, {A(3)}, {there}, false});
  refused(Done());
  Handle(AliasShards{Next(), {{A(4), On({2}), {{A(1), 0}}}}, {}});
  refused(Done());
  Handle(CompileProgram{Next(), P(1), "mlir", "code", "", {DeviceId{0}, DeviceId{2}}});
  refused(out_.compiled.at(ticket_).status());
  Handle(QueryDefaultLayout{Next(), DType::kF32, {4}, DeviceId{2}, ""});
  refused(out_.queries.at(ticket_).status());
  EXPECT_THAT(out_.sent[Raw(kLinkB)], IsEmpty()) << "its worker was told nothing";
}

TEST_F(CoreSlicesTest, WhatCannotBeHadIsRefusedUntilSomebodyLeaves) {
  Workers();
  ASSERT_TRUE(Open(kSession, "greedy.py", {.devices = 3, .exclusive = true}).ok());
  const absl::Status refused = Open(kOther, "late.py", {.devices = 2});
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("1 of 4 in island i0; held: 3 devices exclusively by session 1 (greedy.py)"));
  EXPECT_EQ(core_.Counts().sessions, 1);
  Put(A(1, kOther), {3});
  EXPECT_EQ(Done().code(), absl::StatusCode::kFailedPrecondition) << "it was not opened";
  Handle(CloseSession{kOther});
  Handle(CloseSession{kSession});
  EXPECT_TRUE(Open(SessionId{3}, "late.py", {.devices = 2, .exclusive = true}).ok());
}

TEST_F(CoreSlicesTest, AWishThatNobodyCanHaveIsRefusedAndTakesNothing) {
  Workers();
  EXPECT_EQ(Open(kSession, "", {.weight = 0, .exclusive = true}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Open(kOther, "", {.devices = 4, .exclusive = true}).ok());
}

TEST_F(CoreSlicesTest, WorkersThatJoinAreForSessionsThatOpenAfterwards) {
  Join(kLinkA, "a");
  ASSERT_TRUE(Open(kSession, "one", {}).ok());
  Join(kLinkB, "b");
  ASSERT_TRUE(Open(kOther, "two", {}).ok());
  EXPECT_THAT(DevicesOf(kSession), ElementsAre(0, 1));
  EXPECT_THAT(DevicesOf(kOther), ElementsAre(0, 1, 2, 3));
  Put(A(1), {2});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  Put(A(1, kOther), {2});
  EXPECT_TRUE(Done().ok()) << Done();
}

TEST_F(CoreSlicesTest, DevicesThatAreLostAreNotGivenAndComeBackToWhoHadThem) {
  Workers();
  ASSERT_TRUE(Open(kSession, "one", {}).ok());
  Handle(LinkClosed{kLinkB, absl::UnavailableError("reset by peer")});
  ASSERT_TRUE(Open(kOther, "two", {}).ok());
  EXPECT_THAT(DevicesOf(kOther), ElementsAre(0, 1));
  EXPECT_EQ(Open(SessionId{3}, "three", {.devices = 3}).code(), absl::StatusCode::kResourceExhausted);
  Put(A(1), {2});
  EXPECT_EQ(Done().code(), absl::StatusCode::kDataLoss);
  Join(LinkId{20}, "b");
  Put(A(2), {2});
  EXPECT_TRUE(Done().ok()) << Done();
  EXPECT_THAT(DevicesOf(kOther), ElementsAre(0, 1));
}

TEST_F(CoreSlicesTest, StatusShowsWhatASessionWishedAndGot) {
  Workers();
  ASSERT_TRUE(
      Open(kSession, "one", {.weight = 2.5, .devices = 2, .memory_bytes = 1 << 30, .cap = 0.5, .exclusive = true})
          .ok());
  ASSERT_TRUE(Open(kOther, "two", {}).ok());
  const proto::ClusterStatus status = core_.Status(now_);
  ASSERT_EQ(status.sessions_size(), 2);
  EXPECT_EQ(status.sessions(0).devices(), "0-1");
  EXPECT_EQ(status.sessions(0).device_count(), 2);
  EXPECT_EQ(status.sessions(0).weight(), 2.5);
  EXPECT_EQ(status.sessions(0).cap(), 0.5);
  EXPECT_EQ(status.sessions(0).memory_cap_bytes(), 1 << 30);
  EXPECT_TRUE(status.sessions(0).exclusive());
  EXPECT_EQ(status.sessions(1).devices(), "2-3");
  EXPECT_EQ(status.sessions(1).weight(), 1);
  EXPECT_EQ(status.sessions(1).cap(), 1);
  EXPECT_EQ(status.sessions(1).memory_cap_bytes(), 0);
  EXPECT_FALSE(status.sessions(1).exclusive());
}

// Two sessions that always have launches of 10 ms waiting for device 0.
class CoreSharesTest : public CoreSlicesTest {
 protected:
  static constexpr absl::Duration kLaunchTime = absl::Milliseconds(10);

  CoreSharesTest() : CoreSlicesTest({}, Collectives::kAuto, {.credits = 1, .ahead = absl::ZeroDuration()}) {}

  void OpenBusy(SessionId session, const std::string& name, const SessionWishes& wishes) {
    ASSERT_TRUE(Open(session, name, wishes).ok());
    Put(A(1, session), {0});
    ArrayDone(kLinkA, A(1, session));
    Compile(P(1, session), {0}, kLinkA);
    for (uint64_t i = 2; i < 302; ++i) Launch(P(1, session), A(1, session), A(i, session));
  }

  // So many launches end, one after the other.
  void Run(int launches) {
    for (int i = 0; i < launches; ++i) {
      now_ += kLaunchTime;
      proto::ToController message;
      proto::LaunchDone& done = *message.mutable_launches_done()->add_done();
      done.set_number(++last_);
      done.set_run_us(absl::ToInt64Microseconds(kLaunchTime));
      Handle(WorkerFrame{kLinkA, message, ""});
    }
  }

  // Launches of the session that have ended.
  int64_t Ended(int session) const {
    return core_.Status(now_).sessions(session).device_us() / absl::ToInt64Microseconds(kLaunchTime);
  }

 private:
  uint64_t last_ = 0;
};

TEST_F(CoreSharesTest, DeviceTimeIsSharedByTheWeightsThatWereWished) {
  Workers();
  OpenBusy(kSession, "one", {.weight = 3});
  OpenBusy(kOther, "two", {});
  Run(200);
  EXPECT_EQ(Ended(0) + Ended(1), 200);
  EXPECT_NEAR(Ended(0), 150, 2);
  EXPECT_EQ(core_.Status(now_).sessions(0).weight(), 3);
}

TEST_F(CoreSharesTest, ACapThatWasWishedHolds) {
  Workers();
  OpenBusy(kSession, "one", {.weight = 1000, .cap = 0.25});
  OpenBusy(kOther, "two", {});
  Run(200);
  EXPECT_EQ(Ended(0) + Ended(1), 200);
  EXPECT_NEAR(Ended(0), 50, 12) << "and what a session may use at once";
}

}  // namespace
}  // namespace causeway
