// Workers and sessions that go: what is lost with them, and that nothing of them is left.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

TEST_F(CoreTest, ALostWorkerFailsExactlyWhatDependedOnIt) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {2});
  ArrayDone(kLinkA, A(1));
  ArrayDone(kLinkB, A(2));
  Compile(P(1), {0}, kLinkA);
  Compile(P(2), {2}, kLinkB);
  Launch(P(1), A(1), A(3));
  Launch(P(2), A(2), A(4));
  const uint64_t dependent = Wait(A(3));
  const uint64_t independent = Wait(A(4));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(Answer(dependent).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kDataLoss) << "its data are gone";
  EXPECT_EQ(Answer(independent).code(), absl::StatusCode::kUnknown);
  LaunchDone(kLinkB, 2);
  EXPECT_TRUE(Answer(independent).ok());
  Launch(P(1), A(1), A(5));
  EXPECT_EQ(Answer(Wait(A(5))).code(), absl::StatusCode::kDataLoss);
  Put(A(6), {1});
  EXPECT_EQ(Done().code(), absl::StatusCode::kDataLoss);
}

TEST_F(CoreTest, AWorkerThatReturnsBringsItsDevicesBackToRunningSessions) {
  TwoWorkers();
  Compile(P(1), {0}, kLinkA);
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  Join(LinkId{20}, "a");
  Put(A(1), {0});
  EXPECT_TRUE(Done().ok()) << Done();
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(Done().ok()) << Done();
  const auto& sent = out_.sent[20];
  const auto kind = [&](proto::ToWorker::MessageCase k) {
    return std::find_if(sent.begin(), sent.end(), [&](const auto& m) { return m.message_case() == k; });
  };
  ASSERT_NE(kind(proto::ToWorker::kCompile), sent.end()) << "the program is sent again";
  EXPECT_LT(kind(proto::ToWorker::kCompile), kind(proto::ToWorker::kLaunch));
  const uint64_t wait = Wait(A(2));
  LaunchDone(LinkId{20}, 1);
  EXPECT_TRUE(Answer(wait).ok());
  Launch(P(1), A(1), A(3));
  EXPECT_EQ(Sent(LinkId{20}, proto::ToWorker::kCompile).size(), 1u) << "once";
}

TEST_F(CoreTest, WhoWaitsForACompilerThatDiesIsTold) {
  TwoWorkers();
  Handle(CompileProgram{Next(), P(1), "mlir", "code", "", {DeviceId{1}}});
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(out_.compiled.at(ticket_).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(core_.FindProgram(P(1)), nullptr);
  Handle(LaunchProgram{.request = Next(), .program = P(1)});
  EXPECT_EQ(Done().code(), absl::StatusCode::kNotFound) << "there is no such program";
  EXPECT_EQ(core_.Status(now_).sessions(0).programs(), 0) << "there is no such program";
}

TEST_F(CoreTest, WhoWaitsForALostArrayDoesNotWaitForItsOtherParts) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {2});
  ArrayDone(kLinkA, A(1));
  Handle(AliasShards{Next(), {{A(3), On({0, 2}), {{A(1), 0}, {A(2), 0}}}}, {}});
  const uint64_t both = Wait(A(3));
  const uint64_t other = Wait(A(2));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(Answer(both).code(), absl::StatusCode::kDataLoss) << "b still makes its part, but what for";
  EXPECT_EQ(Answer(other).code(), absl::StatusCode::kUnknown);
  out_.done.clear();
  ArrayDone(kLinkB, A(2));
  EXPECT_TRUE(Answer(other).ok());
  EXPECT_FALSE(out_.done.contains(both)) << "answered once";
}

TEST_F(CoreTest, WhatIsLostNoLongerCountsAsMemory) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {0, 2});
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(core_.Status(now_).sessions(0).arrays(), 0) << "nobody could use what b has of the second";
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kDelete).size(), 1u);
  Handle(DestructArrays{Next(), {A(1), A(2)}});
  EXPECT_EQ(core_.Status(now_).sessions(0).arrays(), 0);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kDelete).size(), 1u);
}

TEST_F(CoreTest, NothingIsWaitedForOnceASessionIsClosed) {
  TwoWorkers();
  HostPiece piece{.buffer = HostBufferId{1}, .shards = {0}, .total_bytes = 16};
  Handle(PutArray{Next(), A(1), On({0}), {piece}});
  Handle(CompileProgram{Next(), P(1), "mlir", "code", "", {DeviceId{1}}});
  Handle(FetchShard{Next(), A(1), 0, {}});
  EXPECT_EQ(core_.Status(now_).pending().host_data(), 1);
  EXPECT_EQ(core_.Status(now_).pending().makes(), 1);
  EXPECT_EQ(core_.Status(now_).pending().compiles(), 1);
  EXPECT_EQ(core_.Status(now_).pending().fetches(), 1);
  Handle(CloseSession{kSession});
  EXPECT_EQ(core_.Status(now_).pending().ByteSizeLong(), 0u) << core_.Status(now_).pending().ShortDebugString();
}

TEST_F(CoreTest, AClosedSessionFreesEverythingEverywhere) {
  TwoWorkers();
  Open(kOther);
  Put(A(1), {0, 2});
  Put(A(1, kOther), {0});
  Handle(CloseSession{kSession});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDropSession).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kDropSession).size(), 1u);
  EXPECT_EQ(core_.FindArray(A(1)), nullptr);
  EXPECT_NE(core_.FindArray(A(1, kOther)), nullptr) << "the other session is untouched";
  const proto::ClusterStatus status = core_.Status(now_);
  ASSERT_EQ(status.sessions_size(), 1);
  EXPECT_EQ(status.sessions(0).arrays(), 1);
  EXPECT_EQ(status.sessions(0).array_bytes(), 16);
}

TEST_F(CoreTest, HostDataThatAClosedSessionNeverSentAreNotWaitedFor) {
  TwoWorkers();
  Handle(PutArray{Next(), A(1), On({2}), {HostPiece{HostBufferId{7}, {0}, {}, 16, std::nullopt}}});
  EXPECT_EQ(core_.Counts().host_data, 1);
  Handle(CloseSession{kSession});
  EXPECT_EQ(core_.Counts().host_data, 0);
}

TEST_F(CoreTest, FramesOfAWorkerThatMakeNoSenseHarmNobody) {
  TwoWorkers();
  Put(A(1), {0});
  LaunchDone(kLinkA, 4711);
  ArrayDone(kLinkB, A(1), absl::InternalError("not b's to say"));
  proto::ToController message;
  message.mutable_compiled()->set_program(99);
  Handle(WorkerFrame{kLinkA, message, ""});
  ArrayDone(kLinkA, A(1));
  EXPECT_TRUE(Answer(Wait(A(1))).ok());
  Handle(WorkerFrame{kLinkB, HelloFrom("b", "i0", 2), ""});
  EXPECT_EQ(out_.closed[Raw(kLinkB)].code(), absl::StatusCode::kInvalidArgument) << "a second Hello";
}

}  // namespace
}  // namespace causeway
