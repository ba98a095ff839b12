// What waits for its turn in the controller core, and what comes after it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr auto kLaunch = proto::ToWorker::kLaunch;

class CoreHeldTest : public CoreTest {
 protected:
  explicit CoreHeldTest(bool sequential = false)
      : CoreTest({}, Collectives::kAuto, {.credits = 1, .ahead = absl::ZeroDuration(), .sequential = sequential}) {}

  // Device 0 is taken by a launch that makes A(100), and A(1) lies there.
  void Taken(bool donates = false) {
    TwoWorkers();
    Put(A(1), {0});
    ArrayDone(kLinkA, A(1));
    Compile(P(1), {0}, kLinkA, donates);
    Compile(P(2), {0}, kLinkA);
    Launch(P(2), A(1), A(100));
    out_.sent.clear();
  }
  // The launch that was sent last on `link` ends.
  void EndLast(LinkId link = kLinkA) { LaunchDone(link, last_ = last_ + 1); }

  std::vector<proto::ToWorker::MessageCase> Kinds(LinkId link) {
    std::vector<proto::ToWorker::MessageCase> kinds;
    for (const proto::ToWorker& message : out_.sent[Raw(link)]) kinds.push_back(message.message_case());
    return kinds;
  }

  uint64_t last_ = 0;
};

class CoreSequentialTest : public CoreHeldTest {
 protected:
  CoreSequentialTest() : CoreHeldTest(/*sequential=*/true) {}
};

TEST_F(CoreHeldTest, ALaunchWithoutACreditIsAcceptedAndSentLater) {
  Taken();
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(Done().ok());
  EXPECT_THAT(Sent(kLinkA, kLaunch), IsEmpty());
  EXPECT_EQ(core_.Counts().held, 1);
  EXPECT_EQ(core_.Counts().credits, 1);
  const uint64_t wait = Wait(A(2));
  EndLast();
  ASSERT_THAT(Sent(kLinkA, kLaunch), SizeIs(1));
  EXPECT_EQ(Sent(kLinkA, kLaunch)[0].launch().number(), 2) << "numbered when it is handed over";
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  EndLast();
  EXPECT_TRUE(Answer(wait).ok());
  EXPECT_EQ(core_.Counts().held, 0);
  EXPECT_EQ(core_.Counts().credits, 0);
}

TEST_F(CoreHeldTest, ALaunchWaitsForWhatItsClientHasStillToSend) {
  TwoWorkers();
  Open(kOther);
  Compile(P(1), {0}, kLinkA);
  Compile(P(2, kOther), {0}, kLinkA);
  for (const int64_t elements : {4, 1 << 20}) {
    out_.sent.clear();
    out_.wanted.clear();
    const auto base = static_cast<uint64_t>(elements);
    const auto arrived = [&] {
      Handle(HostDataArrived{out_.wanted[0].worker, out_.wanted[0].stream, std::string(elements == 4 ? 16 : 0, 'x')});
    };
    const HostPiece piece{.buffer = HostBufferId{base}, .shards = {0}, .total_bytes = elements * 4};
    Handle(PutArray{Next(), A(base + 1), On({2}, {elements}), {piece}});
    Handle(CopyArrays{Next(), {A(base + 1)}, {A(base + 2)}, {DeviceId{0}}, std::nullopt, false});
    Launch(P(1), A(base + 2), A(base + 3));
    EXPECT_TRUE(Done().ok());
    EXPECT_THAT(Sent(kLinkA, kLaunch), IsEmpty());
    EXPECT_EQ(core_.Counts().credits, 0);
    Put(A(base, kOther), {0});
    Launch(P(2, kOther), A(base, kOther), A(base + 1, kOther));
    EXPECT_THAT(Sent(kLinkA, kLaunch), SizeIs(1)) << "somebody else's";
    EndLast();
    ASSERT_THAT(out_.wanted, SizeIs(1));
    arrived();
    EXPECT_THAT(Sent(kLinkB, proto::ToWorker::kHostData), SizeIs(elements == 4 ? 1 : 0)) << "or it goes as a stream";
    EXPECT_THAT(Sent(kLinkA, kLaunch), SizeIs(2)) << "it is on its way";
    arrived();
    EXPECT_THAT(Sent(kLinkB, proto::ToWorker::kHostData), SizeIs(elements == 4 ? 1 : 0)) << "not twice";
    EndLast();
    EXPECT_EQ(core_.Counts().host_data, 0);
    EXPECT_EQ(core_.Counts().held, 0);
  }
}

TEST_F(CoreHeldTest, WhatAGoneClientHasNotSentHoldsNothing) {
  TwoWorkers();
  Compile(P(1), {0}, kLinkA);
  Handle(PutArray{Next(), A(1), On({0}, {1 << 20}), {HostPiece{HostBufferId{7}, {0}, {}, 4 << 20, std::nullopt}}});
  Launch(P(1), A(1), A(2));
  Handle(CloseSession{kSession});
  EXPECT_EQ(core_.Counts().host_data, 0);
  EXPECT_EQ(core_.Counts().held, 0);
  Handle(HostDataArrived{out_.wanted[0].worker, out_.wanted[0].stream, std::string()});
  EXPECT_THAT(Sent(kLinkA, kLaunch), IsEmpty());
}

TEST_F(CoreHeldTest, WhatNamesItsOutputsFollowsItAndAllElseDoesNotWait) {
  Taken();
  Launch(P(1), A(1), A(2));
  Handle(CopyArrays{Next(), {A(2)}, {A(3)}, {DeviceId{2}}, std::nullopt, false});
  EXPECT_TRUE(Done().ok());
  Handle(FetchShard{Next(), A(3), 0, {}});
  const uint64_t fetch = ticket_;
  EXPECT_THAT(Kinds(kLinkA), IsEmpty());
  EXPECT_THAT(Kinds(kLinkB), IsEmpty());
  Put(A(9), {0});
  Handle(FetchShard{Next(), A(1), 0, {}});
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(proto::ToWorker::kPut, proto::ToWorker::kFetch));
  out_.sent.clear();
  EndLast();
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(kLaunch, proto::ToWorker::kCopy));
  EXPECT_THAT(Kinds(kLinkB), ElementsAre(proto::ToWorker::kCopy, proto::ToWorker::kFetch));
  EXPECT_FALSE(out_.fetched.contains(fetch));
  EXPECT_EQ(core_.Counts().held, 0);
}

TEST_F(CoreHeldTest, ANameGoesAfterAllThatNeedsIt) {
  Taken();
  Launch(P(1), A(1), A(2));
  Launch(P(1), A(1), A(3));
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_TRUE(Done().ok());
  EXPECT_THAT(Sent(kLinkA, proto::ToWorker::kDelete), IsEmpty());
  EndLast();
  EXPECT_THAT(Sent(kLinkA, proto::ToWorker::kDelete), IsEmpty()) << "the second one needs it";
  EndLast();
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(kLaunch, kLaunch, proto::ToWorker::kDelete));
}

TEST_F(CoreHeldTest, ALaunchThatTakesAnArgumentComesAfterThoseThatReadIt) {
  Taken(/*donates=*/true);
  Launch(P(2), A(1), A(2));
  Handle(AliasShards{Next(), {{A(4), On({0}), {{A(2), 0}}}}, {}});
  Launch(P(1), A(2), A(3));  // takes it
  EXPECT_TRUE(core_.IsDeleted(A(2)));
  EndLast();
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(kLaunch, proto::ToWorker::kAlias));
  EndLast();
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(kLaunch, proto::ToWorker::kAlias, kLaunch));
}

TEST_F(CoreHeldTest, AProgramIsDroppedAfterItsLaunches) {
  Taken();
  Launch(P(1), A(1), A(2));
  Handle(DropProgram{Next(), P(1)});
  EXPECT_TRUE(Done().ok());
  EXPECT_THAT(Kinds(kLinkA), IsEmpty());
  EndLast();
  EXPECT_THAT(Kinds(kLinkA), ElementsAre(kLaunch, proto::ToWorker::kDropPrograms));
}

TEST_F(CoreHeldTest, LaunchesOnOtherDevicesDoNotWait) {
  Taken();
  Launch(P(1), A(1), A(2));
  Put(A(5), {2});
  ArrayDone(kLinkB, A(5));
  Compile(P(5), {2}, kLinkB);
  Launch(P(5), A(5), A(6));
  EXPECT_THAT(Sent(kLinkB, kLaunch), SizeIs(1));
}

TEST_F(CoreHeldTest, AnotherSessionTakesTurns) {
  Taken();
  for (int i = 2; i < 6; ++i) Launch(P(1), A(1), A(i));
  Open(kOther);
  Put(A(1, kOther), {0});
  ArrayDone(kLinkA, A(1, kOther));
  Compile(P(1, kOther), {0}, kLinkA);
  Launch(P(1, kOther), A(1, kOther), A(2, kOther));
  out_.sent.clear();
  EndLast();
  ASSERT_THAT(Sent(kLinkA, kLaunch), SizeIs(1));
  EXPECT_EQ(SessionOf(ProgramId{Sent(kLinkA, kLaunch)[0].launch().program()}), kOther) << "it has had nothing yet";
}

TEST_F(CoreHeldTest, ALostWorkerEndsWhatWaitsForItAndFreesWhatFollows) {
  Taken();
  Launch(P(1), A(1), A(2));
  Handle(CopyArrays{Next(), {A(2)}, {A(3)}, {DeviceId{2}}, std::nullopt, false});
  const uint64_t wait = Wait(A(2));
  const uint64_t copied = Wait(A(3));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("gone")});
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(core_.Counts().held, 0);
  EXPECT_EQ(core_.Counts().credits, 0);
  EXPECT_THAT(Kinds(kLinkB), testing::Contains(proto::ToWorker::kCopy)) << "the name is known there";
  EXPECT_THAT(Kinds(kLinkB), testing::Contains(proto::ToWorker::kFail)) << "and that its data will not come";
  ArrayDone(kLinkB, A(3), absl::DataLossError("lost"));
  EXPECT_EQ(Answer(copied).code(), absl::StatusCode::kDataLoss);
}

TEST_F(CoreHeldTest, NothingIsSentToAReceiverThatWasLostMeanwhile) {
  Taken();
  Launch(P(1), A(1), A(2));
  Handle(CopyArrays{Next(), {A(2)}, {A(3)}, {DeviceId{2}}, std::nullopt, false});
  Handle(LinkClosed{kLinkB, absl::UnavailableError("gone")});
  EndLast();
  EXPECT_THAT(Sent(kLinkA, proto::ToWorker::kCopy), IsEmpty());
  EXPECT_EQ(core_.Counts().held, 0);
  EXPECT_EQ(core_.Counts().makes, 0);
}

TEST_F(CoreHeldTest, ASessionThatClosesTakesWhatItHeldAlong) {
  Taken();
  Launch(P(1), A(1), A(2));
  Handle(DestructArrays{Next(), {A(1)}});
  Handle(CloseSession{kSession});
  EXPECT_EQ(core_.Counts().held, 0);
  EndLast();
  EXPECT_THAT(Sent(kLinkA, kLaunch), IsEmpty());
  EXPECT_EQ(core_.Counts().credits, 0);
  EXPECT_EQ(core_.Counts().launches, 0);
}

TEST_F(CoreHeldTest, StatusShowsQueuesCreditsAndShares) {
  Taken();
  Launch(P(1), A(1), A(2));
  proto::ToController done;
  done.mutable_launches_done()->add_done()->set_number(++last_);
  done.mutable_launches_done()->mutable_done(0)->set_run_us(5000);
  Handle(WorkerFrame{kLinkA, done, ""});
  Launch(P(1), A(1), A(3));
  const proto::ClusterStatus status = core_.Status(now_);
  EXPECT_EQ(status.sessions(0).device_us(), 5000);
  EXPECT_EQ(status.sessions(0).queued(), 1);
  EXPECT_EQ(status.islands(0).workers(0).devices(0).busy_us(), 5000);
  EXPECT_EQ(status.islands(0).workers(0).devices(0).credits_in_flight(), 1);
  EXPECT_EQ(status.islands(0).workers(0).devices(0).credits(), 1);
  EXPECT_EQ(status.islands(0).workers(0).devices(1).busy_us(), 0);
}

TEST_F(CoreSequentialTest, NothingIsSentBeforeItsInputsAreThere) {
  Taken();
  Handle(CopyArrays{Next(), {A(100)}, {A(3)}, {DeviceId{2}}, std::nullopt, false});
  EXPECT_THAT(Kinds(kLinkB), IsEmpty());
  EndLast();
  EXPECT_THAT(Kinds(kLinkB), ElementsAre(proto::ToWorker::kCopy));
  Compile(P(5), {2}, kLinkB);
  Launch(P(5), A(3), A(6));
  EXPECT_THAT(Sent(kLinkB, kLaunch), IsEmpty());
  ArrayDone(kLinkB, A(3));
  EXPECT_THAT(Sent(kLinkB, kLaunch), SizeIs(1));
}

}  // namespace
}  // namespace causeway
