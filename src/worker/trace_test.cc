// What a worker records while it is told to: the ring, and what the core puts there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/core_test_harness.h"
#include "worker/trace_ring.h"

namespace causeway::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint64_t kProgram = ProgramNumber(1);
constexpr uint64_t kGang = ProgramNumber(2);
constexpr uint64_t kX = Array(1);
constexpr uint64_t kY = Array(2);

proto::TraceControl Control(uint64_t trace, bool record = true) {
  proto::TraceControl control;
  control.set_trace(trace);
  control.set_record(record);
  return control;
}

absl::Time At(int64_t us) { return absl::FromUnixMicros(us); }

void AddOne(TraceRing& ring, uint64_t number, int64_t started_us, int64_t ended_us, int device = 0) {
  ring.AddLaunch(number, ProgramId{kProgram}, {device}, At(started_us), At(ended_us), /*failed=*/false,
                 /*worker_bytes=*/0);
}

TEST(TraceRing, KeepsNothingUntilItIsTold) {
  TraceRing ring(1);
  EXPECT_FALSE(ring.on());
  AddOne(ring, 1, 0, 10);
  ring.AddTransfer(kControllerPeer, true, 4, kSession, At(0), At(1), false);
  EXPECT_EQ(ring.size(), 0u);
  const auto answer = ring.OnControl(Control(1), At(20));
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->launches(), IsEmpty());
  EXPECT_EQ(answer->now_ns(), 20'000);
  EXPECT_TRUE(ring.on());
}

TEST(TraceRing, ADeviceBeginsWhenTheLaunchBeforeHasEndedThere) {
  TraceRing ring(2);
  ring.OnControl(Control(1), At(0));
  AddOne(ring, 1, 10, 50);
  AddOne(ring, 2, 20, 80);
  ring.AddLaunch(3, ProgramId{kGang}, {0, 1}, At(30), At(90), false, 8);
  const auto answer = ring.OnControl(Control(1), At(100));
  ASSERT_THAT(answer->launches(), SizeIs(4));
  EXPECT_EQ(answer->launches(0).start_ns(), 10'000);
  EXPECT_EQ(answer->launches(1).start_ns(), 50'000) << "not when it was handed over";
  EXPECT_EQ(answer->launches(1).end_ns(), 80'000);
  EXPECT_EQ(answer->launches(2).start_ns(), 80'000);
  EXPECT_EQ(answer->launches(3).device(), 1);
  EXPECT_EQ(answer->launches(3).start_ns(), 30'000);
  EXPECT_EQ(answer->launches(3).worker_bytes(), 8);
  EXPECT_EQ(ring.size(), 0u) << "said once";
}

TEST(TraceRing, WhatRanWhenItBeganBeginsThen) {
  TraceRing ring(1);
  ring.OnControl(Control(1), At(100));
  AddOne(ring, 1, 10, 150);
  EXPECT_EQ(ring.OnControl(Control(1), At(200))->launches(0).start_ns(), 100'000);
}

TEST(TraceRing, IsBoundedAndCountsWhatGoes) {
  TraceRing ring(1, /*max_events=*/5, /*max_frame_events=*/2);
  ring.OnControl(Control(1), At(0));
  for (int64_t i = 1; i <= 8; ++i) AddOne(ring, i, i, i + 1);
  EXPECT_EQ(ring.size(), 5u);
  std::vector<uint64_t> numbers;
  for (bool more = true; more;) {
    const auto answer = ring.OnControl(Control(1, /*record=*/false), At(20));
    EXPECT_LE(answer->launches_size(), 2);
    EXPECT_EQ(answer->dropped(), 3);
    for (const auto& launch : answer->launches()) numbers.push_back(launch.number());
    more = answer->more();
  }
  EXPECT_THAT(numbers, ElementsAre(4, 5, 6, 7, 8)) << "the oldest went";
  EXPECT_FALSE(ring.on());
}

TEST(TraceRing, AnotherTraceBeginsWithNothing) {
  TraceRing ring(1);
  ring.OnControl(Control(1), At(0));
  AddOne(ring, 1, 1, 2);
  EXPECT_THAT(ring.OnControl(Control(2), At(3))->launches(), IsEmpty());
  AddOne(ring, 2, 4, 5);
  proto::TraceControl discard = Control(1);
  discard.set_discard(true);
  EXPECT_FALSE(ring.OnControl(discard, At(6))) << "of another one, and no answer";
  EXPECT_EQ(ring.size(), 1u);
  discard.set_trace(2);
  EXPECT_FALSE(ring.OnControl(discard, At(6)));
  EXPECT_EQ(ring.size(), 0u);
  EXPECT_FALSE(ring.on());
}

class CoreTrace : public testing::Test {
 protected:
  CoreTrace() : h_(2) {
    h_.now = At(1000);
    h_.Compile(kProgram, {0});
  }

  proto::TraceEvents Ask(bool record = true) {
    h_.sent.clear();
    proto::ToWorker message;
    *message.mutable_trace_control() = Control(1, record);
    h_.Frame(message);
    return h_.Only().trace_events();
  }
  void Pass(int64_t us) { h_.now += absl::Microseconds(us); }

  Harness h_;
};

TEST_F(CoreTrace, RecordsLaunchesFromWhenTheirInputsAreThere) {
  Ask();
  h_.Launch(1, kProgram, {}, {kX});
  h_.Return(h_.executes[0], 8);
  h_.Launch(2, kProgram, {kX}, {kY});
  h_.Return(h_.executes[1], 8);
  Pass(50);
  h_.Finish(h_.executes[0]);
  Pass(30);
  h_.Finish(h_.executes[1]);
  const proto::TraceEvents events = Ask();
  ASSERT_THAT(events.launches(), SizeIs(2));
  EXPECT_EQ(events.launches(0).number(), 1u);
  EXPECT_EQ(events.launches(0).program(), kProgram);
  EXPECT_EQ(events.launches(0).start_ns(), 1'000'000);
  EXPECT_EQ(events.launches(0).end_ns(), 1'050'000);
  EXPECT_EQ(events.launches(1).start_ns(), 1'050'000);
  EXPECT_EQ(events.launches(1).end_ns(), 1'080'000);
}

TEST_F(CoreTrace, AFailedLaunchIsMarked) {
  Ask();
  h_.Launch(1, kProgram, {}, {kX});
  h_.Return(h_.executes[0], 8);
  h_.Finish(h_.executes[0], absl::InternalError("no"));
  const proto::TraceEvents events = Ask();
  ASSERT_THAT(events.launches(), SizeIs(1));
  EXPECT_TRUE(events.launches(0).failed());
}

TEST_F(CoreTrace, RecordsWhatIsExchangedWithTheController) {
  Ask();
  h_.PutReady(kX, /*elements=*/4);
  h_.Fetch(/*fetch=*/1, kX, /*shard=*/0, /*stream=*/9);
  ASSERT_THAT(h_.views, SizeIs(1));
  const proto::TraceEvents events = Ask();
  ASSERT_GE(events.transfers_size(), 1);
  EXPECT_EQ(events.transfers(0).peer(), static_cast<int32_t>(kControllerPeer));
  EXPECT_TRUE(events.transfers(0).received());
  EXPECT_EQ(events.transfers(0).bytes(), 16);
  EXPECT_EQ(events.transfers(0).session(), Raw(kSession));
}

TEST_F(CoreTrace, StopsWhenItsControllerIsGone) {
  Ask();
  h_.Launch(1, kProgram, {}, {kX});
  h_.Do(LinkLost{});
  h_.Return(h_.executes[0], 8);
  h_.Finish(h_.executes[0]);
  h_.Do(LinkUp{});
  proto::ToWorker welcome;
  welcome.mutable_welcome()->set_worker(0);
  h_.Frame(welcome);
  EXPECT_THAT(Ask(/*record=*/false).launches(), IsEmpty());
}

}  // namespace
}  // namespace causeway::worker
