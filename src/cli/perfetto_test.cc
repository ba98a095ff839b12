#include "cli/perfetto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/ids.h"

namespace causeway {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Track = std::pair<int64_t, int64_t>;  // process and thread

uint64_t Program(uint32_t session, uint64_t n) { return Raw(MakeProgramId(SessionId{session}, n)); }

std::string Write(const Recording& recording) {
  std::string text;
  EXPECT_TRUE(WritePerfetto(recording, [&text](absl::string_view part) {
                absl::StrAppend(&text, part);
                return absl::OkStatus();
              }).ok());
  return text;
}

json Parsed(const Recording& recording) { return json::parse(Write(recording)); }

std::vector<json> Events(const json& trace, const std::string& phase, const std::string& category = "") {
  std::vector<json> events;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == phase && (category.empty() || event.value("cat", "") == category)) events.push_back(event);
  }
  return events;
}

Track TrackOf(const json& event) { return {event["pid"].get<int64_t>(), event["tid"].get<int64_t>()}; }

// "worker host0 of rack / device 0, cpu" and so on, by track.
std::map<Track, std::string> TrackNames(const json& trace) {
  std::map<int64_t, std::string> processes;
  std::map<Track, std::string> names;
  for (const json& event : Events(trace, "M")) {
    if (event["name"] == "process_name") processes[event["pid"].get<int64_t>()] = event["args"]["name"];
  }
  for (const json& event : Events(trace, "M")) {
    if (event["name"] != "thread_name") continue;
    names[TrackOf(event)] = processes[event["pid"].get<int64_t>()] + " / " + event["args"]["name"].get<std::string>();
  }
  return names;
}

// Of each arrow: the slices of `category` from which and to which it leads, by their tracks' names.
std::vector<std::pair<std::string, std::string>> Arrows(const json& trace, const std::string& category) {
  const std::map<Track, std::string> names = TrackNames(trace);
  const auto slice_at = [&](const json& end) -> std::string {
    for (const json& slice : Events(trace, "X")) {
      const double start = slice["ts"].get<double>();
      const double at = end["ts"].get<double>();
      if (TrackOf(slice) == TrackOf(end) && start <= at && at <= start + slice["dur"].get<double>()) {
        return names.at(TrackOf(slice));
      }
    }
    return "nothing";
  };
  std::map<int64_t, json> starts;
  for (const json& start : Events(trace, "s", category)) starts[start["id"].get<int64_t>()] = start;
  std::vector<std::pair<std::string, std::string>> arrows;
  for (const json& end : Events(trace, "f", category)) {
    const json& start = starts.at(end["id"].get<int64_t>());
    EXPECT_LE(start["ts"].get<double>(), end["ts"].get<double>()) << "no arrow leads back in time";
    EXPECT_EQ(end["bp"], "e");
    arrows.emplace_back(slice_at(start), slice_at(end));
  }
  EXPECT_EQ(starts.size(), arrows.size());
  return arrows;
}

// Two workers with a device each. Session 1 runs `step` on the first, session 2 `eval`, which takes its output, on
// both.
Recording Example() {
  Recording recording;
  recording.complete = true;
  for (int32_t i = 0; i < 2; ++i) {
    proto::TraceReport::Worker& worker = recording.workers[i];
    worker.set_worker(i);
    worker.set_name("host" + std::to_string(i));
    worker.set_island("rack");
    worker.add_devices()->set_device(i);
    worker.mutable_devices(0)->set_kind("cpu");
    proto::TraceReport::Clock& clock = *recording.end.add_clocks();
    clock.set_worker(i);
    clock.set_error_ns(1500);
  }
  recording.sessions = {{1, "train.py"}, {2, "serve.py"}};
  recording.programs = {{Program(1, 1), {"step", 1}}, {Program(2, 1), {"eval", 2}}};
  recording.requests = {
      {.at = 1000, .mark = 1, .program = Program(1, 1), .handed_over = true, .number = 7, .handed_over_at = 2000},
      {.at = 5000,
       .mark = 2,
       .program = Program(2, 1),
       .producers = {1},
       .handed_over = true,
       .number = 8,
       .handed_over_at = 6000}};
  recording.launches = {
      {.span = {3000, 9000}, .worker = 0, .device = 0, .number = 7, .program = Program(1, 1)},
      {.span = {9000, 12000}, .worker = 0, .device = 0, .number = 8, .program = Program(2, 1)},
      {.span = {10000, 12345}, .worker = 1, .device = 0, .number = 8, .program = Program(2, 1)},
  };
  recording.transfers = {{.span = {9000, 10000}, .from = 0, .to = 1, .bytes = 2048, .session = 2},
                         {.span = {9500, 9900}, .from = 0, .to = 1, .bytes = 10, .session = 1},
                         {.span = {9950, 9990}, .from = 0, .to = 1, .bytes = 20, .session = 1},
                         {.span = {500, 900}, .from = -1, .to = 0, .bytes = 4, .session = 1}};
  recording.handled = {{{1000, 1100}, "LaunchProgram", 3}};
  return recording;
}

TEST(Perfetto, HasATrackForEachDeviceLinkSessionAndTheController) {
  const json trace = Parsed(Example());
  std::set<std::string> names;
  for (const auto& [track, name] : TrackNames(trace)) names.insert(name);
  EXPECT_THAT(names, ElementsAre("controller / handling events", "controller / requests of serve.py (session 2)",
                                 "controller / requests of train.py (session 1)", "links / controller to host0",
                                 "links / host0 to host1", "worker host0 of rack / device 0, cpu",
                                 "worker host1 of rack / device 1, cpu"));
}

TEST(Perfetto, ALaunchIsNamedAfterItsSessionWithItsProgramWithin) {
  const json trace = Parsed(Example());
  const std::vector<json> launches = Events(trace, "X", "launch");
  const std::vector<json> programs = Events(trace, "X", "program");
  ASSERT_THAT(launches, SizeIs(3));
  ASSERT_THAT(programs, SizeIs(3));
  EXPECT_EQ(launches[0]["name"], "train.py (session 1)");
  EXPECT_EQ(launches[0]["ts"], 3.0) << "microseconds";
  EXPECT_EQ(launches[0]["dur"], 6.0);
  EXPECT_EQ(launches[0]["args"]["program"], "step");
  EXPECT_EQ(launches[0]["args"]["launch"], 7);
  EXPECT_EQ(launches[2]["dur"], 2.345) << "to the nanosecond";
  for (size_t i = 0; i < launches.size(); ++i) {
    EXPECT_EQ(TrackOf(programs[i]), TrackOf(launches[i]));
    EXPECT_EQ(programs[i]["ts"], launches[i]["ts"]);
    EXPECT_EQ(programs[i]["dur"], launches[i]["dur"]);
    EXPECT_EQ(programs[i]["name"], launches[i]["args"]["program"]);
  }
  EXPECT_EQ(launches[1]["cname"], launches[2]["cname"]) << "of one session";
  EXPECT_NE(launches[0]["cname"], launches[1]["cname"]) << "of two";
}

TEST(Perfetto, SessionsOfOneNameDifferInMoreThanDigits) {
  Recording recording = Example();
  recording.sessions = {{1, "train.py"}, {2, "train.py"}, {3, "train7.py"}};
  const std::vector<json> launches = Events(Parsed(recording), "X", "launch");
  EXPECT_EQ(launches[0]["name"], "train.py (session 1)");
  EXPECT_EQ(launches[1]["name"], "train.py (session 2a)");
}

TEST(Perfetto, FailuresStandOut) {
  Recording recording = Example();
  recording.launches[0].failed = true;
  const std::vector<json> launches = Events(Parsed(recording), "X", "launch");
  EXPECT_EQ(launches[0]["name"], "FAILED train.py (session 1)");
  EXPECT_NE(launches[0]["cname"], launches[1]["cname"]);
  EXPECT_EQ(launches[0]["args"]["failed"], true);
}

TEST(Perfetto, ArrowsLeadFromRequestsToLaunchesAndToThoseThatTakeWhatTheyMade) {
  const json trace = Parsed(Example());
  const std::string kHost0 = "worker host0 of rack / device 0, cpu";
  const std::string kHost1 = "worker host1 of rack / device 1, cpu";
  EXPECT_THAT(Arrows(trace, "request"),
              ElementsAre(std::pair("controller / requests of train.py (session 1)", kHost0),
                          std::pair("controller / requests of serve.py (session 2)", kHost0),
                          std::pair("controller / requests of serve.py (session 2)", kHost1)));
  EXPECT_THAT(Arrows(trace, "data"), ElementsAre(std::pair(kHost0, kHost0), std::pair(kHost0, kHost1)));
}

TEST(Perfetto, WhatWasNotRecordedHasNoArrows) {
  Recording recording = Example();
  recording.requests.erase(recording.requests.begin());
  EXPECT_THAT(Arrows(Parsed(recording), "request"), SizeIs(2));
  EXPECT_THAT(Arrows(Parsed(recording), "data"), IsEmpty());
  recording.launches.clear();
  EXPECT_THAT(Arrows(Parsed(recording), "request"), IsEmpty());
}

TEST(Perfetto, NoArrowLeadsBackInTime) {
  Recording recording = Example();
  // Its clock is that wrong.
  recording.launches[2].span = {100, 900};
  EXPECT_THAT(Arrows(Parsed(recording), "request"), SizeIs(2));
  EXPECT_THAT(Arrows(Parsed(recording), "data"), SizeIs(1));
}

TEST(Perfetto, TransfersOfALinkThatOverlapLieBesideOneAnother) {
  const std::vector<json> transfers = Events(Parsed(Example()), "X", "transfer");
  ASSERT_THAT(transfers, SizeIs(4));
  std::map<Track, double> ends;
  std::map<int64_t, Track> of_bytes;
  for (const json& transfer : transfers) {
    of_bytes[transfer["args"]["bytes"].get<int64_t>()] = TrackOf(transfer);
  }
  EXPECT_NE(of_bytes[2048], of_bytes[10]);
  EXPECT_EQ(of_bytes[20], of_bytes[10]) << "after it";
  EXPECT_NE(of_bytes[4], of_bytes[2048]) << "another link";
}

TEST(Perfetto, ManyTransfersAtOnceShareABoundedNumberOfTracks) {
  Recording recording = Example();
  recording.transfers.clear();
  for (int64_t i = 0; i < 200; ++i) recording.transfers.push_back({.span = {i, 10000}, .from = 0, .to = 1, .bytes = i});
  const std::vector<json> transfers = Events(Parsed(recording), "X", "transfer");
  ASSERT_THAT(transfers, SizeIs(200));
  std::map<Track, double> ends;
  for (const json& transfer : transfers) {
    const double start = transfer["ts"].get<double>();
    const auto [end, fresh] = ends.try_emplace(TrackOf(transfer), 0);
    EXPECT_GE(start, end->second) << "slices of a track must not overlap";
    end->second = start + transfer["dur"].get<double>();
  }
  EXPECT_THAT(ends, SizeIs(64));
}

TEST(Perfetto, SaysHowGoodTheTraceIs) {
  Recording recording = Example();
  recording.end.set_dropped(3);
  recording.end.set_why("it was ended early");
  recording.end.mutable_clocks(1)->set_offset_ns(2'500'000);
  recording.end.mutable_clocks(1)->set_missing("it is lost");
  const json about = Parsed(recording)["otherData"];
  EXPECT_EQ(about["complete"], true);
  EXPECT_EQ(about["events_dropped_by_controller"], 3);
  EXPECT_EQ(about["ended"], "it was ended early");
  EXPECT_EQ(about["workers"][1]["name"], "host1");
  EXPECT_EQ(about["workers"][1]["clock_offset_us"], 2500.0);
  EXPECT_EQ(about["workers"][1]["clock_error_us"], 1.5);
  EXPECT_EQ(about["workers"][1]["missing"], "it is lost");
}

TEST(Perfetto, AnyTextIsJson) {
  Recording recording = Example();
  recording.sessions[1] = "a\"b\\c\n\x01\xff";
  recording.programs[Program(1, 1)].name = "jit(f)\"\t";
  EXPECT_EQ(Events(Parsed(recording), "X", "program")[0]["name"], "jit(f)\"\t");
  EXPECT_FALSE(json::parse(Write(Recording()))["traceEvents"].empty()) << "an empty one too";
}

TEST(Perfetto, TheSinksErrorIsReturned) {
  int parts = 0;
  const absl::Status status = WritePerfetto(Example(), [&parts](absl::string_view) {
    return ++parts < 4 ? absl::OkStatus() : absl::ResourceExhaustedError("the disk is full");
  });
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
  EXPECT_EQ(parts, 4) << "and nothing is written afterwards";
}

}  // namespace
}  // namespace causeway
