#include "cli/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

proto::TraceEvents::Launch& AddLaunch(proto::TraceReport& report, uint64_t number, int64_t start, int64_t end,
                                      int device = 0) {
  proto::TraceEvents::Launch& launch = *report.mutable_events()->add_launches();
  launch.set_number(number);
  launch.set_device(device);
  launch.set_start_ns(start);
  launch.set_end_ns(end);
  return launch;
}

proto::TraceReport EndWith(int32_t worker, int64_t offset) {
  proto::TraceReport report;
  proto::TraceReport::Clock& clock = *report.mutable_end()->add_clocks();
  clock.set_worker(worker);
  clock.set_offset_ns(offset);
  return report;
}

TEST(Recorder, PutsAllTimesOnTheControllersClock) {
  Recorder recorder;
  proto::TraceReport report;
  report.mutable_begin()->set_start_ns(1000);
  report.add_accepted()->set_mark(1);
  report.mutable_accepted(0)->set_at_ns(1100);
  recorder.Add(report);
  proto::TraceReport events;
  events.set_worker(3);
  AddLaunch(events, 7, 51'200, 51'300);
  events.mutable_events()->add_transfers()->set_start_ns(51'250);
  events.mutable_events()->mutable_transfers(0)->set_end_ns(51'260);
  recorder.Add(events);
  EXPECT_FALSE(recorder.ended());
  recorder.Add(EndWith(3, 50'000));
  EXPECT_TRUE(recorder.ended());
  EXPECT_EQ(recorder.events(), 3);
  const Recording recording = recorder.Finish();
  EXPECT_TRUE(recording.complete);
  EXPECT_EQ(recording.start_ns, 1000);
  ASSERT_THAT(recording.launches, SizeIs(1));
  EXPECT_EQ(recording.launches[0].span.start, 200) << "51'200 there is 1'200 here";
  EXPECT_EQ(recording.launches[0].span.end, 300);
  ASSERT_THAT(recording.transfers, SizeIs(1));
  EXPECT_EQ(recording.transfers[0].span.start, 250);
  ASSERT_THAT(recording.requests, SizeIs(1));
  EXPECT_EQ(recording.requests[0].at, 100);
}

TEST(Recorder, ATransferLeadsFromWhoSentToWhoReceived) {
  Recorder recorder;
  proto::TraceReport report;
  report.set_worker(1);
  auto* sent = report.mutable_events()->add_transfers();
  sent->set_peer(2);
  sent->set_end_ns(1);
  auto* received = report.mutable_events()->add_transfers();
  received->set_peer(-1);
  received->set_received(true);
  received->set_start_ns(1);
  received->set_end_ns(2);
  recorder.Add(report);
  const Recording recording = recorder.Finish();
  ASSERT_THAT(recording.transfers, SizeIs(2));
  EXPECT_EQ(recording.transfers[0].from, 1);
  EXPECT_EQ(recording.transfers[0].to, 2);
  EXPECT_EQ(recording.transfers[1].from, -1);
  EXPECT_EQ(recording.transfers[1].to, 1);
}

TEST(Recorder, JoinsRequestsWithTheNumbersTheyGot) {
  Recorder recorder;
  proto::TraceReport report;
  for (uint64_t mark : {1, 2}) {
    report.add_accepted()->set_mark(mark);
    report.mutable_accepted(mark - 1)->set_at_ns(10 * mark);
  }
  report.mutable_accepted(1)->add_producers(1);
  auto* sent = report.add_handed_over();
  sent->set_mark(2);
  sent->set_number(77);
  sent->set_at_ns(25);
  recorder.Add(report);
  const Recording recording = recorder.Finish();
  ASSERT_THAT(recording.requests, SizeIs(2));
  EXPECT_FALSE(recording.requests[0].handed_over) << "it was still waiting";
  EXPECT_TRUE(recording.requests[1].handed_over);
  EXPECT_EQ(recording.requests[1].number, 77u);
  EXPECT_THAT(recording.requests[1].producers, ElementsAre(1));
}

TEST(Recorder, LaunchesOfADeviceDoNotOverlapWhateverIsSaid) {
  Recorder recorder;
  proto::TraceReport report;
  AddLaunch(report, 2, 50, 120);
  AddLaunch(report, 1, 0, 100);
  AddLaunch(report, 3, 60, 70);
  AddLaunch(report, 4, 0, 100, /*device=*/1);
  AddLaunch(report, 5, 500, 400);
  recorder.Add(report);
  const Recording recording = recorder.Finish();
  ASSERT_THAT(recording.launches, SizeIs(5));
  int64_t end = 0;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(recording.launches[i].device, 0);
    EXPECT_GE(recording.launches[i].span.start, end);
    EXPECT_GE(recording.launches[i].span.end, recording.launches[i].span.start);
    end = recording.launches[i].span.end;
  }
  EXPECT_EQ(recording.launches[4].span.start, 0) << "devices do not care for one another";
}

TEST(Recorder, AnyNumbersAreBorne) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  Recorder recorder;
  proto::TraceReport report;
  AddLaunch(report, 1, kLeast, kMost);
  AddLaunch(report, 2, kMost, kLeast);
  report.add_accepted()->set_at_ns(kLeast);
  report.add_accepted()->set_at_ns(kMost);
  report.add_handled()->set_start_ns(kMost);
  report.mutable_handled(0)->set_total_ns(kMost);
  report.mutable_events()->add_transfers()->set_start_ns(kMost);
  recorder.Add(report);
  recorder.Add(EndWith(0, kLeast));
  const Recording recording = recorder.Finish();
  for (const auto& launch : recording.launches) {
    EXPECT_GE(launch.span.start, 0);
    EXPECT_GE(launch.span.end, launch.span.start);
  }
  for (const auto& transfer : recording.transfers) EXPECT_GE(transfer.span.end, transfer.span.start);
  for (const auto& request : recording.requests) EXPECT_GE(request.at, 0);
}

}  // namespace
}  // namespace causeway
