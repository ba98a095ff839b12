// What waits for device memory: until when, behind whom, and for how long at most.
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
using ::testing::SizeIs;

// Arrays are of 16 bytes, so are programs' outputs: two fit on a device, three do not.
class CoreMemoryWaitTest : public CoreTest {
 protected:
  explicit CoreMemoryWaitTest(const LoadLimits& limits = {}, int credits = 1000)
      : CoreTest(limits, Collectives::kHost, {.credits = credits}) {}

  // Sessions kSession and kOther, and a program of each on device 0.
  void Start(int64_t bytes = 40) {
    for (const auto& [link, name] : {std::pair(kLinkA, "a"), std::pair(kLinkB, "b")}) {
      proto::ToController hello = HelloFrom(name, "i0", 2);
      for (proto::Device& device : *hello.mutable_hello()->mutable_devices()) device.set_memory_bytes(bytes);
      Handle(WorkerFrame{link, hello, "test"});
    }
    Open();
    Open(kOther);
    Compile(P(1), {0}, kLinkA);
    Compile(P(1, kOther), {0}, kLinkA);
    out_.sent.clear();
  }

  // A program on `devices` with one parameter of 16 bytes and an output of so many elements of 4 bytes.
  void CompileTo(ProgramId id, std::vector<int> devices, int64_t elements, bool donates, int64_t temp = 0) {
    std::vector<DeviceId> ids;
    ids.reserve(devices.size());
    for (int device : devices) ids.push_back(DeviceId{device});
    const bool gang = devices.size() > 1;
    Handle(CompileProgram{Next(SessionOf(id)), id, "mlir", "code", "", ids});
    proto::ToController message;
    proto::Compiled& compiled = *message.mutable_compiled();
    compiled.set_program(Raw(id));
    proto::ProgramInfo& info = gang ? *compiled.mutable_portable()->mutable_info() : *compiled.mutable_info();
    info.set_name("g");
    info.add_parameters();
    info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    info.mutable_outputs(0)->mutable_type()->add_dims(elements);
    info.mutable_memory()->set_temp_size_bytes(temp);
    if (donates) info.add_donated_parameters(0);
    Handle(WorkerFrame{kLinkA, message, ""});
    if (!gang) return;
    compiled.clear_portable();
    Handle(WorkerFrame{kLinkB, message, ""});
    ASSERT_TRUE(out_.compiled.at(ticket_).ok()) << out_.compiled.at(ticket_).status();
  }

  size_t Launches() { return Sent(kLinkA, proto::ToWorker::kLaunch).size(); }
  int64_t Bytes(int device = 0) const { return core_.MemoryOf(DeviceId{device}).bytes; }

  // Both workers say all the while that they are there.
  void Pass(absl::Duration time) {
    for (const absl::Time end = now_ + time; now_ < end;) {
      now_ = std::min(end, now_ + absl::Seconds(2));
      proto::ToController pong;
      pong.mutable_pong();
      Handle(WorkerFrame{kLinkA, pong, ""});
      Handle(WorkerFrame{kLinkB, pong, ""});
      Handle(Tick{});
    }
  }

  void ExpectNothingLeft() {
    Handle(CloseSession{kSession});
    Handle(CloseSession{kOther});
    const ControllerCounts counts = core_.Counts();
    EXPECT_EQ(counts.named_bytes, 0);
    EXPECT_EQ(counts.held, 0);
    EXPECT_EQ(counts.memory_waits, 0);
    EXPECT_EQ(counts.makes, 0);
  }
};

TEST_F(CoreMemoryWaitTest, ALaunchThatDoesNotFitWaitsUntilSomethingIsDeleted) {
  Start();
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  Launch(P(1), A(1), A(3));
  EXPECT_TRUE(Done().ok()) << Done();
  EXPECT_EQ(Launches(), 1u);
  EXPECT_EQ(Bytes(), 32);
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  EXPECT_EQ(core_.Status(now_).sessions(0).memory_wait(),
            "program f needs 16 bytes on device 0, which has 40 bytes in all; held now: session 1 (test) 32 bytes");
  Handle(DeleteArrays{Next(), {A(2)}});
  EXPECT_EQ(Launches(), 2u);
  EXPECT_EQ(Bytes(), 32);
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  EXPECT_EQ(core_.Status(now_).sessions(0).memory_wait(), "");
  LaunchDone(kLinkA, 1);
  LaunchDone(kLinkA, 2);
  EXPECT_TRUE(Answer(Wait(A(3))).ok());
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, AnotherSessionsEndLetsItGo) {
  Start();
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  EXPECT_EQ(Launches(), 0u);
  Handle(CloseSession{kOther});
  EXPECT_EQ(Launches(), 1u);
  EXPECT_EQ(Bytes(), 32);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, ItsOwnSessionsEndForgetsIt) {
  Start();
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  Handle(CloseSession{kSession});
  EXPECT_EQ(Bytes(), 16);
  EXPECT_EQ(core_.Counts().held, 0);
  Pass(absl::Seconds(120));
  EXPECT_EQ(Launches(), 0u);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, ADonationLetsItGo) {
  Start();
  CompileTo(P(2, kOther), {0}, 1, /*donates=*/true);
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  EXPECT_EQ(Launches(), 0u);
  Launch(P(2, kOther), A(1, kOther), A(2, kOther));
  EXPECT_EQ(Launches(), 2u) << "16 bytes became 4";
  EXPECT_EQ(Bytes(), 16 + 4 + 16);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, ALaunchThatTakesItsArgumentsPlaceNeedNotWait) {
  Start(36);
  Compile(P(2), {0}, kLinkA, /*donates=*/true);
  CompileTo(P(3), {0}, 1, /*donates=*/false);
  Put(A(1), {0});
  Put(A(2), {0});
  Launch(P(3), A(1), A(3));
  EXPECT_EQ(Launches(), 1u);
  Launch(P(2), A(2), A(4));
  EXPECT_EQ(Launches(), 1u) << "its compiler does not say that it puts the output there";
  Handle(DeleteArrays{Next(), {A(1)}});
  EXPECT_EQ(Launches(), 2u);
  EXPECT_EQ(Bytes(), 20);
}

TEST_F(CoreMemoryWaitTest, WhatALaunchThatWaitsReadsStaysCountedUntilItGoes) {
  Start();
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_EQ(Bytes(), 32) << "the worker has it";
  EXPECT_EQ(Launches(), 0u);
  Handle(DeleteArrays{Next(kOther), {A(1, kOther)}});
  EXPECT_EQ(Launches(), 1u);
  EXPECT_EQ(Bytes(), 16);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, ALostWorkerEndsTheWaitOfItsGangs) {
  Start();
  CompileTo(P(2), {0, 2}, 4, /*donates=*/false);
  Put(A(1, kOther), {2});
  Put(A(1), {0, 2});
  Launch(P(2), A(1), A(2));
  EXPECT_EQ(Launches(), 0u);
  const uint64_t wait = Wait(A(2));
  Handle(LinkClosed{kLinkB, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  EXPECT_EQ(Bytes(0), 0);
  EXPECT_EQ(Bytes(2), 0);
  ASSERT_FALSE(out_.sent[Raw(kLinkA)].empty());
  EXPECT_THAT(out_.sent[Raw(kLinkA)].back().delete_().arrays(), ElementsAre(Raw(A(1)), Raw(A(2))))
      << "its name goes after it is known";
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, WhatALostWorkerMadeUselessGivesItsMemoryBack) {
  Start();
  Put(A(1, kOther), {0, 2});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  EXPECT_EQ(Launches(), 0u);
  Handle(LinkClosed{kLinkB, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(Launches(), 1u);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, AWorkerThatReturnsWithMoreLetsItGo) {
  Start();
  CompileTo(P(2), {0}, 6, /*donates=*/false);
  Put(A(1), {0});
  Put(A(2), {0});
  Launch(P(2), A(1), A(3));
  EXPECT_EQ(Launches(), 0u);
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  Join(kLinkA, "a");
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, TemporaryMemoryCountsWhileALaunchIsUnderWay) {
  Start();
  CompileTo(P(2), {0}, 1, /*donates=*/false, /*temp=*/12);
  Put(A(1), {0});
  Launch(P(2), A(1), A(2));
  EXPECT_EQ(Launches(), 1u);
  EXPECT_EQ(Bytes(), 20) << "it has no name";
  Launch(P(2), A(1), A(3));
  EXPECT_EQ(Launches(), 1u);
  EXPECT_THAT(core_.Status(now_).sessions(0).memory_wait(), HasSubstr("; launches under way keep 12 bytes"));
  LaunchDone(kLinkA, 1);
  EXPECT_EQ(Launches(), 2u);
  LaunchDone(kLinkA, 2, absl::InternalError("no"));
  Put(A(4), {0});
  EXPECT_EQ(core_.Counts().memory_waits, 0) << "it was given back";
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, WaitingHasAnEndThatSaysWhoHoldsWhat) {
  Start();
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  Handle(CopyArrays{.request = Next(), .sources = {A(2)}, .targets = {A(3)}, .devices = {DeviceId{3}}});
  const uint64_t wait = Wait(A(2));
  out_.sent.clear();
  Pass(absl::Seconds(58));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  Pass(absl::Seconds(4));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Answer(wait).message()),
              HasSubstr("program f needs 16 bytes on device 0, which has 40 bytes in all; held now: session 1 (test) "
                        "16 bytes, session 2 (test) 16 bytes. Nobody has let go of enough"));
  // The worker knows the name, since the copy has it, and the error.
  const auto received = Sent(kLinkA, proto::ToWorker::kReceiveHost);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].receive_host().put().array(), Raw(A(2)));
  EXPECT_EQ(received[0].receive_host().total_bytes(), 0);
  ASSERT_EQ(Sent(kLinkA, proto::ToWorker::kFail).size(), 1u);
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kCopy).size(), 1u);
  EXPECT_EQ(Launches(), 0u);
  EXPECT_EQ(Bytes(), 32);
  Launch(P(1), A(1), A(4));
  EXPECT_EQ(core_.Counts().memory_waits, 1) << "the next waits anew";
  Handle(DeleteArrays{Next(kOther), {A(1, kOther)}});
  EXPECT_EQ(Launches(), 1u);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, WhereOnlyItsOwnSessionCouldLetGoTheEndComesSooner) {
  Start();
  Put(A(1), {0});
  Put(A(2), {0});
  Launch(P(1), A(1), A(3));
  const uint64_t wait = Wait(A(3));
  Pass(absl::Seconds(14));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  Pass(absl::Seconds(2));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kResourceExhausted);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, WhatARefusedLaunchWouldHaveTakenIsGone) {
  Start();
  Compile(P(2), {0}, kLinkA, /*donates=*/true);
  Put(A(1, kOther), {0});
  Put(A(1), {0});
  Launch(P(2), A(1), A(2));
  EXPECT_EQ(Launches(), 0u);
  Pass(absl::Seconds(62));
  EXPECT_EQ(Bytes(), 16);
  const auto deleted = Sent(kLinkA, proto::ToWorker::kDelete);
  ASSERT_EQ(deleted.size(), 1u);
  EXPECT_THAT(deleted[0].delete_().arrays(), ElementsAre(Raw(A(1))));
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, APutWaitsAndWhatTakesItWaitsForIt) {
  Start();
  Compile(P(2), {0}, kLinkA, /*donates=*/true);
  Put(A(1, kOther), {0});
  Put(A(2, kOther), {0});
  out_.sent.clear();
  Handle(PutArray{Next(), A(1), On({0}), {HostPiece{HostBufferId{1}, {0}, {}, 16, std::nullopt}}});
  EXPECT_TRUE(Done().ok());
  EXPECT_EQ(Bytes(), 32);
  EXPECT_THAT(out_.wanted, IsEmpty());
  EXPECT_THAT(core_.Status(now_).sessions(0).memory_wait(), HasSubstr("array 1 (f32[4]) needs 16 bytes on device 0"));
  Launch(P(2), A(1), A(2));
  EXPECT_EQ(out_.sent[Raw(kLinkA)].size(), 0u);
  Handle(DeleteArrays{Next(kOther), {A(1, kOther)}});
  ASSERT_THAT(out_.wanted, SizeIs(1));
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kReceiveHost).size(), 1u);
  Handle(HostDataArrived{out_.wanted[0].worker, out_.wanted[0].stream, std::string(16, 'x')});
  EXPECT_EQ(Launches(), 0u) << "it has no room beside its argument";
  Handle(DeleteArrays{Next(kOther), {A(2, kOther)}});
  EXPECT_EQ(Launches(), 1u);
  EXPECT_EQ(Bytes(), 16);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, ACopyWaitsForRoomWhereItGoes) {
  Start();
  Put(A(1, kOther), {2});
  Put(A(2, kOther), {2});
  Put(A(1), {0});
  Handle(CopyArrays{.request = Next(), .sources = {A(1)}, .targets = {A(2)}, .devices = {DeviceId{2}}, .donate = true});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kCopy).size(), 0u);
  EXPECT_EQ(Bytes(0), 16) << "it is still to be read";
  Handle(DestructArrays{Next(kOther), {A(1, kOther)}});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kCopy).size(), 1u);
  EXPECT_EQ(Bytes(0), 0);
  EXPECT_EQ(Bytes(2), 32);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, APutAndACopyThatHaveWaitedTooLongFail) {
  Start();
  Put(A(1, kOther), {0});
  Put(A(2, kOther), {0});
  Put(A(3), {2});
  out_.sent.clear();
  Put(A(1), {0});
  Handle(CopyArrays{.request = Next(), .sources = {A(3)}, .targets = {A(2)}, .devices = {DeviceId{0}}});
  Handle(PutArray{Next(), A(4), On({0}), {HostPiece{HostBufferId{7}, {0}, {}, 16, std::nullopt}}});
  const std::vector<uint64_t> waits = {Wait(A(1)), Wait(A(2)), Wait(A(4))};
  Pass(absl::Seconds(62));
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kPut).size(), 0u);
  const auto failed = Sent(kLinkA, proto::ToWorker::kFail);
  ASSERT_EQ(failed.size(), 3u);
  // The worker says how it ends.
  for (const proto::ToWorker& fail : failed) {
    proto::ToController done;
    done.mutable_array_done()->set_array(fail.fail().array());
    *done.mutable_array_done()->mutable_status() = fail.fail().status();
    done.mutable_array_done()->add_failed_devices(0);
    Handle(WorkerFrame{kLinkA, done, ""});
  }
  for (uint64_t wait : waits) EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kResourceExhausted) << Answer(wait);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kCopy).size(), 0u);
  EXPECT_THAT(out_.wanted, SizeIs(1)) << "so that the door can let go of them";
  EXPECT_EQ(Bytes(), 32);
  Handle(DestructArrays{Next(), {A(1), A(2), A(4)}});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDelete).back().delete_().arrays_size(), 3);
  ExpectNothingLeft();
}

TEST_F(CoreMemoryWaitTest, APutThatNobodyCanUseAnyMoreNeedNotWait) {
  Start();
  Put(A(1), {0});
  Put(A(2), {0});
  out_.sent.clear();
  Put(A(3), {0});
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  Handle(DestructArrays{Next(), {A(3)}});
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  EXPECT_EQ(core_.Counts().held, 0);
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDelete).size(), 1u);
  EXPECT_EQ(Bytes(), 32);
}

class CoreMemoryCreditsTest : public CoreMemoryWaitTest {
 protected:
  CoreMemoryCreditsTest() : CoreMemoryWaitTest({}, /*credits=*/1) {}
};

TEST_F(CoreMemoryCreditsTest, APutLeavesRoomForTheLaunchesBeforeIt) {
  Start(60);
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  Launch(P(1), A(2), A(3));  // for want of a credit, held
  Put(A(4), {0});
  EXPECT_EQ(Bytes(), 32);
  EXPECT_EQ(core_.Counts().memory_waits, 1) << "or there would be no room for A(3), which may be what frees A(2)";
  Put(A(1, kOther), {1});
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  LaunchDone(kLinkA, 1);
  EXPECT_EQ(Launches(), 2u);
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  EXPECT_EQ(Bytes(), 48);
  ExpectNothingLeft();
}

class CoreMemoryThrottleTest : public CoreMemoryWaitTest {
 protected:
  CoreMemoryThrottleTest() : CoreMemoryWaitTest({.launches_per_device = 2, .items = 6}) {}
};

TEST_F(CoreMemoryThrottleTest, AClientMayDeleteWhileItsLaunchesWaitForMemory) {
  Start();
  Put(A(1), {0});
  ArrayDone(kLinkA, A(1));
  Launch(P(1), A(1), A(2));
  for (int i = 3; i < 6; ++i) Launch(P(1), A(1), A(i));
  EXPECT_EQ(core_.Counts().memory_waits, 1);
  EXPECT_THAT(out_.throttled, IsEmpty()) << "four launches are more than two, but it must be able to delete";
  Handle(DestructArrays{Next(), {A(2)}});
  EXPECT_EQ(Launches(), 2u);
  EXPECT_THAT(out_.throttled, IsEmpty()) << "the next one waits";
  Launch(P(1), A(1), A(6));
  Launch(P(1), A(1), A(7));
  EXPECT_THAT(out_.throttled, ElementsAre(std::pair(kSession, true))) << "but not for ever more";
  for (int i = 3; i < 8; ++i) Handle(DestructArrays{Next(), {A(i)}});
  EXPECT_EQ(core_.Counts().memory_waits, 0);
  EXPECT_EQ(Launches(), 6u);
  ExpectNothingLeft();
}

}  // namespace
}  // namespace causeway
