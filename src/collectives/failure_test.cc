// What happens to those who wait when something goes wrong, and that nothing touches their memory afterwards
// (sanitizers look on).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "collectives/test_world.h"
#include "collectives/wire.h"

namespace causeway::collectives {
namespace {

using ::testing::HasSubstr;

const absl::Status kWhy = absl::OutOfRangeError("the program failed");

// Two workers of two devices each; launches of one all-reduce of `elements` floats.
class Failure : public ::testing::Test {
 protected:
  explicit Failure(const EngineOptions& options = {}) : world_({.workers = {0, 0, 1, 1}, .engine = options}) {}

  void Arrive(int device, int64_t elements = 3, uint64_t launch = 1, uint32_t occurrence = 0) {
    operands_[device] = {Zeros(DType::kF32, {elements})};
    results_[device] = {Zeros(DType::kF32, {elements})};
    world_.Arrive(launch, device, table_, 0, occurrence, operands_[device], results_[device],
                  [this, device, end = ends_.Of(device)](absl::Status status) {
                    // What is written later is written into freed memory.
                    operands_[device].clear();
                    results_[device].clear();
                    end(std::move(status));
                  });
  }
  absl::Status EndOf(int device) {
    const std::vector<absl::Status> all = ends_.AllOf(device);
    return all.size() == 1 ? all[0] : absl::UnknownError(absl::StrCat(all.size(), " ends"));
  }

  std::string Message(Header header, const std::string& payload) {
    header.length = payload.size();
    std::string bytes(kHeaderBytes, 0);
    WriteHeader(header, bytes.data());
    return bytes + payload;
  }

  std::shared_ptr<const proto::Collectives> table_ =
      World::TableOf({MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3}}, proto::Collective::SUM)});
  DeviceArrays operands_ = DeviceArrays(4), results_ = DeviceArrays(4);
  Ends ends_{4};
  World world_;
};

class FailureOfStreams : public Failure {
 protected:
  FailureOfStreams() : Failure(kTiny) {}
};

TEST_F(Failure, AnAbortReachesAllWhoWaitAndAllWhoComeLater) {
  world_.Announce(1);
  Arrive(0);
  Arrive(2);
  Arrive(3);
  EXPECT_EQ(ends_.count(), 0);
  world_.engine(0).Abort(1, kWhy);
  EXPECT_EQ(EndOf(0), kWhy) << "at once, here";
  ASSERT_TRUE(ends_.Wait(3));
  EXPECT_EQ(EndOf(2), kWhy);
  EXPECT_EQ(EndOf(3), kWhy);
  Arrive(1);
  EXPECT_EQ(EndOf(1), kWhy);
}

TEST_F(Failure, AnAbortThatComesBeforeTheAnnouncementCounts) {
  world_.Announce(1, 0);
  world_.engine(0).Abort(1, kWhy);
  world_.net().Settle();
  world_.Announce(1, 1);
  Arrive(2);
  EXPECT_EQ(EndOf(2), kWhy);
}

TEST_F(Failure, ALongReasonIsCutForTheOthers) {
  world_.Announce(1);
  Arrive(2);
  world_.engine(0).Abort(1, absl::InternalError(std::string(100'000, 'x')));
  ASSERT_TRUE(ends_.Wait(1));
  EXPECT_EQ(EndOf(2), absl::InternalError(std::string(kMaxAbortText, 'x')));
}

TEST_F(Failure, OtherLaunchesGoOn) {
  world_.Announce(1);
  world_.Announce(2);
  world_.engine(0).Abort(1, kWhy);
  for (int i = 0; i < 4; ++i) Arrive(i, 3, /*launch=*/2);
  ASSERT_TRUE(ends_.Wait(4));
  EXPECT_TRUE(ends_.All().ok()) << ends_.All();
}

TEST_F(Failure, ALostWorkerFailsTheLaunchesOfItsGangs) {
  world_.Announce(1);
  Arrive(0);
  world_.engine(0).PeerLost(WorkerId{7}, absl::DataLossError("not of this gang"));
  EXPECT_EQ(ends_.count(), 0);
  world_.engine(0).PeerLost(WorkerId{1}, absl::DataLossError("worker b is lost"));
  EXPECT_EQ(EndOf(0), absl::DataLossError("worker b is lost"));
}

TEST_F(Failure, LostMessagesFailLaunchesOnBothSides) {
  world_.Announce(1);
  Arrive(0);
  Arrive(1);
  Arrive(2);
  world_.net().Cut(0, 1, absl::UnavailableError("cable"));
  ASSERT_TRUE(ends_.Wait(3));
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(EndOf(0).message()), HasSubstr("worker 1"));
  EXPECT_EQ(EndOf(2).code(), absl::StatusCode::kDataLoss);
}

TEST_F(Failure, WhatALaunchSentBeforeItEndedMayBeLostToo) {
  table_ = World::TableOf({MakeCollective(proto::Collective::COLLECTIVE_BROADCAST, {{0, 1, 2, 3}})});
  world_.net().Pause();
  world_.Announce(1, 0);
  Arrive(0);
  Arrive(1);
  ASSERT_TRUE(ends_.Wait(2)) << "who sends need not wait for others";
  world_.engine(0).End(1);
  world_.net().Cut(0, 1, absl::UnavailableError("cable"));
  world_.net().Resume();
  world_.net().Settle();
  world_.Announce(1, 1);
  Arrive(2);
  EXPECT_EQ(EndOf(2).code(), absl::StatusCode::kDataLoss);
  // Later ones are not concerned.
  ends_.Clear();
  world_.Announce(2);
  for (int i = 0; i < 4; ++i) Arrive(i, 3, 2);
  ASSERT_TRUE(ends_.Wait(4));
  EXPECT_TRUE(ends_.All().ok()) << ends_.All();
}

TEST_F(Failure, TheEndGivesUpWhoStillWaits) {
  world_.Announce(1);
  Arrive(0);
  world_.End(1);
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kCancelled);
  Arrive(1);
  EXPECT_EQ(EndOf(1).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(Failure, WhatComesForAnEndedLaunchIsDropped) {
  world_.net().Pause();
  world_.Announce(1);
  Arrive(0);
  Arrive(1);
  world_.engine(1).End(1);
  world_.net().Resume();
  world_.net().Settle();
  world_.engine(0).End(1);
  ASSERT_TRUE(ends_.Wait(2));
}

TEST_F(Failure, ResetForgetsAllAndNumbersStartAnew) {
  world_.Announce(5);
  Arrive(0, 3, 5);
  for (int i = 0; i < 2; ++i) world_.engine(i).Reset(kWhy);
  EXPECT_EQ(EndOf(0), kWhy);
  ends_.Clear();
  world_.Announce(1);
  for (int i = 0; i < 4; ++i) Arrive(i);
  ASSERT_TRUE(ends_.Wait(4));
  EXPECT_TRUE(ends_.All().ok()) << ends_.All();
}

TEST_F(Failure, AnEngineThatGoesAnswersAll) {
  world_.Announce(1);
  Arrive(0);
  world_.Drop(0);
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kCancelled);
}

TEST_F(Failure, OperandsThatDoNotFitFailTheLaunchEverywhere) {
  world_.Announce(1);
  Arrive(2);
  Arrive(0, 3);
  Arrive(1, 4);
  ASSERT_TRUE(ends_.Wait(3));
  for (const int device : {0, 1, 2}) {
    EXPECT_EQ(EndOf(device).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(EndOf(device).message()), HasSubstr("it: the operands of devices 0 and 1 differ"));
  }
}

TEST_F(Failure, WorkersThatDisagreeAboutTheShapeAreToldOf) {
  world_.Announce(1);
  for (int i = 0; i < 4; ++i) Arrive(i, i < 2 ? 3 : 4);
  ASSERT_TRUE(ends_.Wait(4));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(EndOf(i).code(), absl::StatusCode::kInternal) << EndOf(i);
    EXPECT_THAT(std::string(EndOf(i).message()), HasSubstr("it: worker"));
  }
}

TEST_F(Failure, ADeviceThatComesTwiceFailsTheLaunch) {
  world_.Announce(1);
  Arrive(0);
  Arrays none;
  Ends twice(1);
  world_.Arrive(1, 0, table_, 0, 0, none, none, twice.Of(0));
  EXPECT_EQ(twice.All().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Failure, WhatIsNotInTheTableIsAnError) {
  Arrays none;
  const auto strange = World::TableOf({MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 9}}),
                                       MakeCollective(proto::Collective::ALL_REDUCE, {{0, 0}}),
                                       MakeCollective(proto::Collective::ALL_REDUCE, {{1}})});
  uint64_t launch = 0;
  for (const int collective : {0, 1, 2, 3, -1}) {
    Ends ends(1);
    world_.Announce(++launch);
    world_.Arrive(launch, 0, strange, collective, 0, none, none, ends.Of(0));
    EXPECT_EQ(ends.All().code(), absl::StatusCode::kInvalidArgument) << collective;
  }
}

TEST_F(Failure, APartOfAnotherSizeFailsTheLaunch) {
  world_.Announce(1);
  Arrive(0);
  Arrive(1);
  world_.net().Inject(1, 0, Message({.launch = 1, .round = 1}, "short"));
  ASSERT_TRUE(ends_.Wait(2));
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(EndOf(0).message()), HasSubstr("5 bytes there, 12 here"));
}

TEST_F(Failure, WhatCannotBeReadCountsAsLost) {
  world_.Announce(1);
  Arrive(0);
  world_.net().Inject(1, 0, "garbage");
  ASSERT_TRUE(ends_.Wait(1));
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kDataLoss);
}

TEST_F(Failure, StrangersAreNotHeard) {
  world_.Announce(1);
  world_.net().Inject(7, 0, Message({.type = MessageType::kAbort, .launch = 1, .value = 13}, "stop"));
  world_.net().Inject(7, 0, "garbage");
  world_.net().Settle();
  for (int i = 0; i < 4; ++i) Arrive(i);
  ASSERT_TRUE(ends_.Wait(4));
  EXPECT_TRUE(ends_.All().ok()) << ends_.All();
}

TEST_F(FailureOfStreams, AnAbortCutsThemOffBeforeTheMemoryGoes) {
  for (uint64_t launch = 1; launch <= 150; ++launch) {
    ends_.Clear();
    world_.Announce(launch);
    for (int i = 0; i < 4; ++i) Arrive(i, 4'000, launch);
    if (launch % 3 != 0) std::this_thread::sleep_for(std::chrono::microseconds(launch * 10));
    world_.engine(static_cast<int>(launch % 2)).Abort(launch, kWhy);
    ASSERT_TRUE(ends_.Wait(4));
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(EndOf(i).ok() || EndOf(i) == kWhy) << EndOf(i);
    world_.End(launch);
  }
}

TEST_F(FailureOfStreams, TheEndCutsThemOffBeforeTheMemoryGoes) {
  for (uint64_t launch = 1; launch <= 100; ++launch) {
    ends_.Clear();
    world_.Announce(launch);
    for (int i = 0; i < 4; ++i) Arrive(i, 4'000, launch);
    std::this_thread::sleep_for(std::chrono::microseconds(launch * 10));
    world_.End(launch);
    ASSERT_TRUE(ends_.Wait(4));
  }
}

TEST_F(FailureOfStreams, ALostConnectionIsTheWorkersLoss) {
  for (uint64_t launch = 1; launch <= 100; ++launch) {
    ends_.Clear();
    world_.Announce(launch);
    for (int i = 0; i < 4; ++i) Arrive(i, 4'000, launch);
    std::this_thread::sleep_for(std::chrono::microseconds(launch * 10));
    world_.net().Cut(0, 1, absl::UnavailableError("cable"));
    ASSERT_TRUE(ends_.Wait(4));
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(EndOf(i).ok() || EndOf(i).code() == absl::StatusCode::kDataLoss) << EndOf(i);
    }
    world_.End(launch);
    world_.net().Settle();
  }
}

class FailureOfRoom : public Failure {
 protected:
  FailureOfRoom() : Failure({.max_early_bytes = 5000, .max_early_count = 10}) {}
};

TEST_F(FailureOfRoom, APeerThatRunsAheadTooFarFailsItsLaunches) {
  world_.Announce(1);
  for (uint32_t i = 0; i < 20; ++i) {
    world_.net().Inject(1, 0, Message({.launch = 1, .instance = {.occurrence = i + 5}}, "early"));
    world_.net().Inject(1, 0, Message({.launch = 2, .instance = {.occurrence = i + 5}}, "earlier"));
  }
  world_.net().Settle();
  Arrive(0);
  EXPECT_EQ(EndOf(0).code(), absl::StatusCode::kResourceExhausted);
  world_.Announce(2);
  Arrive(1, 3, 2);
  EXPECT_EQ(EndOf(1).code(), absl::StatusCode::kResourceExhausted);
  world_.End(1);
  world_.End(2);
  // The room is there again.
  ends_.Clear();
  world_.Announce(3);
  for (int i = 0; i < 4; ++i) Arrive(i, 3, 3);
  ASSERT_TRUE(ends_.Wait(4));
  EXPECT_TRUE(ends_.All().ok()) << ends_.All();
}

}  // namespace
}  // namespace causeway::collectives
