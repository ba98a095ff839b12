// Traces of the controller core: what a tool is told, what workers are asked, and that it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "controller/core_test_harness.h"
#include "controller/event_kind.h"
#include "controller/trace_book.h"

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr LinkId kTool{50};
constexpr LinkId kOtherTool{51};
constexpr auto kControl = proto::ToWorker::kTraceControl;
constexpr auto kReport = proto::ToWorker::kTraceReport;

class CoreTraceTest : public CoreTest {
 protected:
  explicit CoreTraceTest(const Scheduler::Options& scheduling = {.credits = 1000})
      : CoreTest({}, Collectives::kAuto, scheduling) {}

  void Ask(LinkId tool = kTool, int64_t ms = 5000, const std::string& token = "secret") {
    proto::ToController message;
    message.mutable_trace_request()->set_version(kControlVersion);
    message.mutable_trace_request()->set_token(token);
    message.mutable_trace_request()->set_duration_ms(ms);
    Handle(WorkerFrame{tool, message, "tool"});
  }
  void Stop(LinkId tool = kTool) {
    proto::ToController message;
    message.mutable_trace_request()->set_stop(true);
    Handle(WorkerFrame{tool, message, "tool"});
  }
  // Every worker stays alive.
  void Pass(absl::Duration time) {
    for (const absl::Time end = now_ + time; now_ < end;) {
      now_ += absl::Milliseconds(100);
      for (LinkId link : {kLinkA, kLinkB}) {
        proto::ToController message;
        message.mutable_pong();
        Handle(WorkerFrame{link, message, ""});
      }
      Handle(Tick{});
    }
  }

  // What was asked of the worker since the last look.
  std::vector<proto::TraceControl> Asked(LinkId link) {
    std::vector<proto::TraceControl> asked;
    for (const proto::ToWorker& message : Sent(link, kControl)) asked.push_back(message.trace_control());
    out_.sent[Raw(link)].clear();
    return asked;
  }
  // The worker answers the question about the latest trace.
  void Events(LinkId link, proto::TraceEvents events = {}, uint64_t trace = 1,
              absl::Duration offset = absl::ZeroDuration()) {
    events.set_trace(trace);
    events.set_now_ns(absl::ToUnixNanos(now_ + offset));
    proto::ToController message;
    *message.mutable_trace_events() = std::move(events);
    Handle(WorkerFrame{link, message, ""});
  }
  // What the tool was told since the last look, put together.
  proto::TraceReport Reported(LinkId tool = kTool) {
    proto::TraceReport all;
    for (const proto::ToWorker& message : Sent(tool, kReport)) all.MergeFrom(message.trace_report());
    out_.sent[Raw(tool)].clear();
    return all;
  }
  absl::Status Refused(LinkId tool) {
    const auto goodbye = Sent(tool, proto::ToWorker::kGoodbye);
    return goodbye.empty() ? absl::OkStatus() : FromProto(goodbye[0].goodbye().status());
  }

  // The recording's time is over, and the workers have nothing more to say.
  void Finish(absl::Duration time = absl::Seconds(5)) {
    Pass(time);
    for (LinkId link : {kLinkA, kLinkB}) Events(link);
    Handle(Tick{});
    for (LinkId link : {kLinkA, kLinkB}) Events(link);
  }

  // P(1) on device 0, P(2) on device 2; A(1) and A(3) lie there.
  void Programs() {
    TwoWorkers();
    Put(A(1), {0});
    ArrayDone(kLinkA, A(1));
    Put(A(3), {2});
    ArrayDone(kLinkB, A(3));
    Compile(P(1), {0}, kLinkA);
    Compile(P(2), {2}, kLinkB);
    out_.sent.clear();
  }
};

class CoreTraceOneCreditTest : public CoreTraceTest {
 protected:
  CoreTraceOneCreditTest() : CoreTraceTest({.credits = 1, .ahead = absl::ZeroDuration()}) {}
};

TEST_F(CoreTraceTest, AsksAllWorkersAndSaysWhoTheyAre) {
  TwoWorkers();
  EXPECT_FALSE(core_.traced());
  Ask();
  EXPECT_TRUE(core_.traced());
  EXPECT_EQ(core_.Counts().traces, 1);
  const proto::TraceReport report = Reported();
  EXPECT_EQ(report.begin().duration_ms(), 5000);
  ASSERT_THAT(report.workers(), SizeIs(2));
  EXPECT_EQ(report.workers(0).name(), "a");
  EXPECT_THAT(report.workers(0).devices(), SizeIs(2));
  for (LinkId link : {kLinkA, kLinkB}) {
    const auto asked = Asked(link);
    ASSERT_THAT(asked, SizeIs(1));
    EXPECT_TRUE(asked[0].record());
  }
}

TEST_F(CoreTraceTest, NothingIsKeptWhileNobodyAsks) {
  Programs();
  Launch(P(1), A(1), A(2));
  LaunchDone(kLinkA, 1);
  core_.Handled(0, now_, now_ + absl::Milliseconds(1));
  Ask();
  Finish();
  const proto::TraceReport report = Reported();
  EXPECT_THAT(report.accepted(), IsEmpty());
  EXPECT_THAT(report.handled(), IsEmpty());
}

TEST_F(CoreTraceTest, LaunchesAreNamedAndNumberedAndKnowWhoseOutputsTheyTake) {
  Programs();
  Ask();
  Launch(P(1), A(1), A(10));
  Launch(P(1), A(10), A(11));
  Handle(CopyArrays{Next(), {A(11)}, {A(12)}, {DeviceId{2}}, std::nullopt, false});
  Launch(P(2), A(12), A(13));
  Launch(P(2), A(3), A(14));
  Handle(Tick{});
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.programs(), SizeIs(2));
  EXPECT_EQ(report.programs(0).name(), "f");
  EXPECT_EQ(report.programs(0).session_name(), "test");
  ASSERT_THAT(report.accepted(), SizeIs(4));
  const auto& made = report.accepted();
  EXPECT_THAT(made[0].producers(), IsEmpty()) << "host data";
  EXPECT_THAT(made[1].producers(), ElementsAre(made[0].mark()));
  EXPECT_THAT(made[2].producers(), ElementsAre(made[1].mark())) << "by way of a copy";
  EXPECT_THAT(made[3].producers(), IsEmpty());
  ASSERT_THAT(report.handed_over(), SizeIs(4));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(report.handed_over(i).mark(), made[i].mark());
    EXPECT_EQ(report.handed_over(i).number(), static_cast<uint64_t>(i) + 1);
  }
}

TEST_F(CoreTraceOneCreditTest, WhatWaitsForACreditIsHandedOverLater) {
  Programs();
  Ask();
  Launch(P(1), A(1), A(10));
  Launch(P(1), A(10), A(11));
  Handle(Tick{});
  proto::TraceReport report = Reported();
  EXPECT_THAT(report.accepted(), SizeIs(2));
  EXPECT_THAT(report.handed_over(), SizeIs(1));
  now_ += absl::Milliseconds(30);
  LaunchDone(kLinkA, 1);
  Handle(Tick{});
  report = Reported();
  ASSERT_THAT(report.handed_over(), SizeIs(1));
  EXPECT_EQ(report.handed_over(0).number(), 2u);
  EXPECT_EQ(report.handed_over(0).at_ns(), absl::ToUnixNanos(now_));
}

TEST_F(CoreTraceOneCreditTest, WhatWaitsWhenItBeginsIsThereToo) {
  Programs();
  Launch(P(1), A(1), A(10));
  Launch(P(1), A(10), A(11));
  Launch(P(1), A(11), A(12));
  Launch(P(1), A(12), A(13));
  Handle(DestructArrays{Next(), {A(10), A(11), A(12)}});
  LaunchDone(kLinkA, 1);
  const absl::Time asked = now_;
  now_ += absl::Seconds(2);
  Ask();
  LaunchDone(kLinkA, 2);
  Handle(Tick{});
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.accepted(), SizeIs(2));
  EXPECT_EQ(report.accepted(0).at_ns(), absl::ToUnixNanos(asked));
  EXPECT_THAT(report.accepted(1).producers(), ElementsAre(report.accepted(0).mark())) << "though the name is gone";
  ASSERT_THAT(report.handed_over(), SizeIs(1));
  EXPECT_EQ(report.handed_over(0).mark(), report.accepted(0).mark());
  EXPECT_EQ(report.handed_over(0).number(), 3u);
  EXPECT_EQ(report.handed_over(0).at_ns(), absl::ToUnixNanos(now_));
}

TEST_F(CoreTraceTest, PassesOnWhatWorkersSayAndEnds) {
  Programs();
  Ask();
  Launch(P(1), A(1), A(10));
  proto::TraceEvents events;
  events.add_launches()->set_number(1);
  Asked(kLinkA);
  Events(kLinkA, events);
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.events().launches(), SizeIs(1));
  EXPECT_THAT(report.accepted(), SizeIs(1)) << "what names it comes first";
  Events(kLinkB);
  Pass(absl::Seconds(5));
  EXPECT_FALSE(core_.traced());
  EXPECT_TRUE(Asked(kLinkA).front().record()) << "again and again";
  Events(kLinkA);
  Events(kLinkB);
  Handle(Tick{});
  const auto last = Asked(kLinkA);
  ASSERT_THAT(last, SizeIs(1));
  EXPECT_FALSE(last[0].record());
  EXPECT_EQ(core_.Counts().traces, 1);
  Events(kLinkA);
  EXPECT_TRUE(Reported().end().why().empty()) << "the other one has not said all yet";
  EXPECT_EQ(core_.Counts().traces, 1);
  Asked(kLinkB);
  Events(kLinkB);
  const proto::TraceReport end = Reported();
  ASSERT_TRUE(end.has_end());
  EXPECT_THAT(end.end().clocks(), SizeIs(2));
  EXPECT_EQ(end.end().clocks(0).missing(), "");
  EXPECT_EQ(end.end().stop_ns() % 100'000'000, 0);
  EXPECT_TRUE(out_.closed.contains(Raw(kTool)));
  EXPECT_EQ(core_.Counts().traces, 0);
}

TEST_F(CoreTraceTest, AWorkerThatHasMoreIsAskedAgainAtOnce) {
  TwoWorkers();
  Ask();
  Asked(kLinkA);
  proto::TraceEvents events;
  events.add_launches()->set_number(1);
  events.set_more(true);
  Events(kLinkA, events);
  EXPECT_THAT(Asked(kLinkA), SizeIs(1));
  events.set_more(false);
  Events(kLinkA, events);
  EXPECT_THAT(Asked(kLinkA), IsEmpty()) << "now only with the next tick";
}

TEST_F(CoreTraceTest, AnswersThatNobodyAskedForAreDropped) {
  TwoWorkers();
  proto::TraceEvents events;
  events.add_launches()->set_number(1);
  Events(kLinkA, events);
  Ask();
  Events(kLinkA, events, /*trace=*/77);
  Events(kLinkA, events);
  Events(kLinkA, events);
  EXPECT_THAT(Reported().events().launches(), SizeIs(1));
}

TEST_F(CoreTraceTest, AToolThatDiesEndsItAtOnce) {
  TwoWorkers();
  Ask();
  Asked(kLinkA);
  Handle(LinkClosed{kTool, absl::UnavailableError("gone")});
  EXPECT_FALSE(core_.traced());
  EXPECT_EQ(core_.Counts().traces, 0);
  const auto asked = Asked(kLinkA);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_TRUE(asked[0].discard());
  Events(kLinkA);
  EXPECT_THAT(out_.sent[Raw(kTool)], SizeIs(1)) << "no more than the beginning";
  Ask(kOtherTool);
  EXPECT_TRUE(core_.traced());
}

TEST_F(CoreTraceTest, AToolThatDoesNotReadIsNotFedAndGivenUp) {
  Programs();
  Ask();
  Events(kLinkA);
  Asked(kLinkA);
  Handle(LinkFull{kTool, true});
  Launch(P(1), A(1), A(10));
  Reported();
  Pass(absl::Seconds(4));
  EXPECT_THAT(Asked(kLinkA), IsEmpty());
  EXPECT_THAT(Sent(kTool, kReport), IsEmpty());
  Pass(absl::Seconds(2));
  const auto asked = Asked(kLinkA);
  ASSERT_THAT(asked, SizeIs(1)) << "but nobody records longer than he must";
  EXPECT_FALSE(asked[0].record());
  Pass(absl::Seconds(20));
  EXPECT_EQ(core_.Counts().traces, 0);
  EXPECT_EQ(out_.closed.at(Raw(kTool)).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(CoreTraceTest, AToolThatReadsAgainGetsWhatWaited) {
  Programs();
  Ask();
  Handle(LinkFull{kTool, true});
  Launch(P(1), A(1), A(10));
  Handle(Tick{});
  Reported();
  Handle(LinkFull{kTool, false});
  EXPECT_THAT(Reported().accepted(), SizeIs(1));
}

TEST_F(CoreTraceTest, EndsEarlyWhenTheToolSaysSo) {
  TwoWorkers();
  Ask();
  Events(kLinkA);
  Events(kLinkB);
  Stop(kOtherTool);
  EXPECT_TRUE(core_.traced()) << "that is another one's";
  Stop();
  EXPECT_FALSE(core_.traced());
  Events(kLinkA);
  Events(kLinkB);
  EXPECT_THAT(Reported().end().why(), HasSubstr("early"));
  EXPECT_EQ(core_.Counts().traces, 0);
}

TEST_F(CoreTraceTest, OneAtATimeAndWithTheTokenOnly) {
  TwoWorkers();
  Ask(kOtherTool, 5000, "guessed");
  EXPECT_EQ(Refused(kOtherTool).code(), absl::StatusCode::kUnauthenticated);
  Ask(LinkId{60}, 0);
  EXPECT_EQ(Refused(LinkId{60}).code(), absl::StatusCode::kInvalidArgument);
  Ask(LinkId{61}, INT64_MAX);
  EXPECT_EQ(Refused(LinkId{61}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(core_.traced());
  Ask();
  EXPECT_TRUE(Refused(kTool).ok());
  Ask(LinkId{62});
  EXPECT_EQ(Refused(LinkId{62}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(Refused(LinkId{62}).message()), HasSubstr("tool already, until 5s from now"));
  EXPECT_TRUE(out_.closed.contains(62));
}

TEST_F(CoreTraceTest, AToolDoesNotBecomeAWorker) {
  Ask();
  Handle(WorkerFrame{kTool, HelloFrom("a", "i0", 2), "tool"});
  EXPECT_THAT(Sent(kTool, proto::ToWorker::kWelcome), IsEmpty());
  EXPECT_TRUE(core_.traced());
}

TEST_F(CoreTraceTest, ALostWorkerIsNotWaitedFor) {
  TwoWorkers();
  Ask();
  Events(kLinkA);
  Handle(LinkClosed{kLinkB, absl::UnavailableError("connection reset")});
  Pass(absl::Seconds(5));
  Events(kLinkA);
  Handle(Tick{});
  Events(kLinkA);
  const proto::TraceReport report = Reported();
  ASSERT_TRUE(report.has_end());
  EXPECT_EQ(report.end().clocks(0).missing(), "");
  EXPECT_THAT(report.end().clocks(1).missing(), HasSubstr("connection reset"));
}

TEST_F(CoreTraceTest, AWorkerThatSaysNothingIsNotWaitedForLong) {
  TwoWorkers();
  Ask();
  Events(kLinkA);
  Pass(absl::Seconds(5));
  Events(kLinkA);
  Handle(Tick{});
  Events(kLinkA);
  EXPECT_EQ(core_.Counts().traces, 1);
  Pass(absl::Seconds(16));
  EXPECT_EQ(core_.Counts().traces, 0);
  const proto::TraceReport report = Reported();
  EXPECT_THAT(report.end().clocks(1).missing(), HasSubstr("in time"));
  EXPECT_EQ(report.end().clocks(1).error_ns(), -1);
  EXPECT_TRUE(Asked(kLinkB).back().discard());
}

TEST_F(CoreTraceTest, AWorkerThatJoinsMeanwhileRecordsToo) {
  Join(kLinkA, "a");
  Open();
  Ask();
  Join(kLinkB, "b");
  EXPECT_THAT(Asked(kLinkB), SizeIs(1));
  Finish();
  const proto::TraceReport report = Reported();
  EXPECT_THAT(report.end().clocks(), SizeIs(2));
}

TEST_F(CoreTraceTest, ClocksOfOtherMachinesAreMeasured) {
  TwoWorkers();
  Ask();
  now_ += absl::Microseconds(400);
  Events(kLinkA);
  Events(kLinkB, {}, 1, absl::Seconds(7));
  Stop();
  now_ += absl::Microseconds(100);
  Events(kLinkA);
  Events(kLinkB, {}, 1, absl::Seconds(7));
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.end().clocks(), SizeIs(2));
  EXPECT_EQ(report.end().clocks(0).offset_ns(), 0) << "it may be the same clock";
  EXPECT_EQ(report.end().clocks(1).offset_ns(), 7'000'050'000) << "by the quicker answer";
  EXPECT_NEAR(report.end().clocks(1).error_ns(), 50'000, 100);
}

TEST_F(CoreTraceTest, WhatTheControllerDoesIsAddedUp) {
  TwoWorkers();
  Ask();
  const int launch = EventKindOf(LaunchProgram{});
  WorkerFrame frame;
  frame.message.mutable_launches_done();
  const int done = EventKindOf(frame);
  for (int i = 0; i < 3; ++i) core_.Handled(launch, now_, now_ + absl::Microseconds(5));
  core_.Handled(done, now_, now_ + absl::Microseconds(7));
  core_.Handled(launch, now_ + absl::Milliseconds(20), now_ + absl::Milliseconds(21));
  Finish();
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.handled(), SizeIs(3));
  std::map<std::string, std::pair<int64_t, int64_t>> first;
  for (int i : {0, 1}) first[report.handled(i).kind()] = {report.handled(i).count(), report.handled(i).total_ns()};
  EXPECT_EQ(first["LaunchProgram"], std::pair(int64_t{3}, int64_t{15'000}));
  EXPECT_EQ(first["WorkerFrame launches_done"], std::pair(int64_t{1}, int64_t{7'000}));
  EXPECT_EQ(report.handled(2).start_ns(), absl::ToUnixNanos(now_) - 5'000'000'000 + 20'000'000);
}

TEST_F(CoreTraceTest, MemoryIsBoundedAndWhatFindsNoRoomIsCounted) {
  TraceBook::Limits limits{.events = 10, .frame_events = 4, .programs = 2};
  TraceBook book(limits);
  Cluster cluster(/*key_seed=*/1);
  ASSERT_TRUE(book.Begin(kTool, "tool", absl::Seconds(5), cluster, now_, out_).ok());
  Reported();
  for (uint64_t i = 0; i < 5; ++i) book.Name(P(i), std::string(1 << 20, 'f'), kSession, "test");
  for (uint64_t mark = 1; mark <= 20; ++mark) book.Accepted(mark, P(1), {}, now_);
  std::vector<uint64_t> many(1000, 7);
  book.OnTick(cluster, now_, out_);
  const auto frames = Sent(kTool, kReport);
  EXPECT_THAT(frames, SizeIs(3)) << "of at most four";
  const proto::TraceReport report = Reported();
  ASSERT_THAT(report.programs(), SizeIs(2));
  EXPECT_THAT(report.programs(0).name(), SizeIs(256));
  EXPECT_THAT(report.accepted(), SizeIs(8));
  book.Accepted(21, P(1), many, now_);
  book.OnTick(cluster, now_ + absl::Seconds(6), out_);
  const proto::TraceReport end = Reported();
  ASSERT_THAT(end.accepted(), SizeIs(1)) << "there is room again";
  EXPECT_THAT(end.accepted(0).producers(), SizeIs(TraceBook::kMaxProducers));
  EXPECT_EQ(end.end().dropped(), 12);
  EXPECT_FALSE(book.busy());
}

TEST_F(CoreTraceTest, AWorkerCannotMakeAFrameToTheToolLargerThanWeSay) {
  TraceBook book({.events = 10, .frame_events = 4});
  Cluster cluster(/*key_seed=*/1);
  ASSERT_TRUE(cluster.Join(HelloFrom("a", "i0", 2).hello(), kLinkA, now_).ok());
  ASSERT_TRUE(book.Begin(kTool, "tool", absl::Seconds(5), cluster, now_, out_).ok());
  Reported();
  proto::TraceEvents events;
  events.set_trace(1);
  for (int i = 0; i < 3; ++i) events.add_launches();
  for (int i = 0; i < 3; ++i) events.add_transfers();
  book.OnEvents(cluster, WorkerId{0}, events, now_, out_);
  const proto::TraceReport report = Reported();
  EXPECT_THAT(report.events().launches(), SizeIs(3));
  EXPECT_THAT(report.events().transfers(), SizeIs(1));
}

}  // namespace
}  // namespace causeway
