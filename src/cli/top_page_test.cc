#include "cli/top_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

proto::ClusterStatus::Share& AddShare(proto::ClusterStatus::DeviceStatus& device, uint32_t session, int64_t busy_us,
                                      int64_t bytes) {
  proto::ClusterStatus::Share& share = *device.add_shares();
  share.set_session(session);
  share.set_busy_us(busy_us);
  share.set_bytes(bytes);
  return share;
}

// Two sessions on device 0; device 1 is a lost worker's.
proto::ClusterStatus Before() {
  proto::ClusterStatus status;
  status.set_uptime_ms(10'000);
  status.set_client_address("127.0.0.1:29000");
  auto& island = *status.add_islands();
  island.set_name("rack7");
  auto& up = *island.add_workers();
  up.set_name("host0");
  up.set_alive(true);
  auto& device = *up.add_devices();
  device.set_kind("cpu");
  device.set_bytes(3 << 20);
  device.set_busy_us(1'000'000);
  device.set_credits(4);
  device.set_credits_in_flight(3);
  device.set_launches_in_flight(7);
  AddShare(device, 1, 600'000, 1 << 20);
  AddShare(device, 2, 400'000, 2 << 20);
  auto& lost = *island.add_workers();
  lost.set_name("host1");
  lost.add_devices()->set_device(1);
  auto& train = *status.add_sessions();
  train.set_session(1);
  train.set_name("train.py");
  train.set_weight(1);
  train.set_device_us(600'000);
  train.set_launches(100);
  auto& serve = *status.add_sessions();
  serve.set_session(2);
  serve.set_name("serve.py");
  serve.set_weight(2.5);
  serve.set_device_us(400'000);
  serve.set_array_bytes(2 << 20);
  serve.set_in_flight(9);
  serve.set_queued(5);
  serve.set_place(3);
  serve.set_expected_wait_us(12'500);
  return status;
}

// Two seconds later: device 0 was busy for 1.6 s, of which `serve` had three quarters.
proto::ClusterStatus Now() {
  proto::ClusterStatus status = Before();
  status.set_uptime_ms(12'000);
  auto& device = *status.mutable_islands(0)->mutable_workers(0)->mutable_devices(0);
  device.set_busy_us(2'600'000);
  device.mutable_shares(0)->set_busy_us(1'000'000);
  device.mutable_shares(1)->set_busy_us(1'600'000);
  status.mutable_sessions(0)->set_device_us(1'000'000);
  status.mutable_sessions(0)->set_launches(300);
  status.mutable_sessions(1)->set_device_us(1'600'000);
  return status;
}

std::string LineWith(const std::string& page, const std::string& text) {
  for (absl::string_view line : absl::StrSplit(page, '\n')) {
    if (absl::StrContains(line, text)) return std::string(line);
  }
  return "";
}

TEST(TopPage, ShowsWhoUsesHowMuch) {
  const std::string page = TopPage(Before(), Now());
  EXPECT_THAT(page, HasSubstr("2 devices, 1 of 2 workers up, 2 sessions"));
  EXPECT_THAT(page, HasSubstr("the last 2.0 s"));
  const std::vector<std::string> train = absl::StrSplit(LineWith(page, "train.py"), ' ', absl::SkipEmpty());
  EXPECT_THAT(train,
              ElementsAre("1", "train.py", "1", "25.0", "%", "38.5", "%", "100.0", "0", "0", "-", "-", "0", "B"));
  const std::vector<std::string> serve = absl::StrSplit(LineWith(page, "serve.py"), ' ', absl::SkipEmpty());
  EXPECT_THAT(serve, ElementsAre("2", "serve.py", "2.5", "75.0", "%", "61.5", "%", "0.0", "5", "9", "3", "12.5", "ms",
                                 "2.0", "MiB"));
  EXPECT_THAT(LineWith(page, "host0"),
              AllOf(HasSubstr("80.0 %"), HasSubstr("3/4"), HasSubstr(" 7 "), HasSubstr("3.0 MiB"),
                    HasSubstr("serve.py (2) 2.0 MiB 60.0 %, train.py (1) 1.0 MiB 20.0 %")));
  EXPECT_THAT(LineWith(page, "host1"), AllOf(HasSubstr("LOST"), HasSubstr(" - ")));
}

TEST(TopPage, TheFirstInTheQueueIsNext) {
  proto::ClusterStatus now = Now();
  now.mutable_sessions(1)->set_place(0);
  EXPECT_THAT(LineWith(TopPage(Before(), now), "serve.py"), HasSubstr(" next "));
}

TEST(TopPage, SaysNothingOfWhatItCannotKnow) {
  // The same moment twice: there are no rates.
  const std::string page = TopPage(Now(), Now());
  const std::vector<std::string> train = absl::StrSplit(LineWith(page, "train.py"), ' ', absl::SkipEmpty());
  EXPECT_THAT(train, ElementsAre("1", "train.py", "1", "-", "38.5", "%", "-", "0", "0", "-", "-", "0", "B"));
  EXPECT_THAT(TopPage({}, {}), Not(HasSubstr("session  ")));
}

TEST(TopPage, ARestartedControllerCountsFromTheBeginning) {
  proto::ClusterStatus now = Now();
  now.set_uptime_ms(2'000);
  now.mutable_islands(0)->mutable_workers(0)->mutable_devices(0)->set_busy_us(500'000);
  EXPECT_THAT(LineWith(TopPage(Before(), now), "host0"), HasSubstr("25.0 %"));
}

TEST(TopPage, IsNoWiderAndNoHigherThanTheTerminal) {
  const std::string page = TopPage(Before(), Now(), /*columns=*/40, /*rows=*/5);
  const std::vector<std::string> lines = absl::StrSplit(page, '\n');
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[5], "");
  EXPECT_EQ(lines[4], "... 5 more lines");
  for (const std::string& line : lines) EXPECT_LE(line.size(), 40u);
}

TEST(TopPage, NamesCannotMoveTheCursor) {
  proto::ClusterStatus now = Now();
  now.mutable_sessions(0)->set_name("a\x1b[2Jb\nc");
  now.mutable_islands(0)->mutable_workers(0)->set_name("w\r\x07");
  const std::string page = TopPage(Before(), now);
  for (char c : page) EXPECT_TRUE(c == '\n' || (c >= 0x20 && c != 0x7f)) << static_cast<int>(c);
  const std::string ordinary = TopPage(Before(), Now());
  EXPECT_EQ(std::count(page.begin(), page.end(), '\n'), std::count(ordinary.begin(), ordinary.end(), '\n'));
}

TEST(TopJson, HasTheSameForPrograms) {
  const auto json = nlohmann::json::parse(TopJson(Before(), Now()));
  EXPECT_EQ(json["interval_s"], 2.0);
  EXPECT_EQ(json["workers"], 2);
  EXPECT_EQ(json["workers_alive"], 1);
  const auto& serve = json["sessions"][1];
  EXPECT_EQ(serve["name"], "serve.py");
  EXPECT_EQ(serve["weight"], 2.5);
  EXPECT_DOUBLE_EQ(serve["share"], 0.75);
  EXPECT_EQ(serve["queued"], 5);
  EXPECT_EQ(serve["place"], 3);
  EXPECT_EQ(serve["expected_wait_us"], 12'500);
  EXPECT_EQ(serve["memory_bytes"], 2 << 20);
  EXPECT_DOUBLE_EQ(json["sessions"][0]["launches_per_s"], 100);
  const auto& device = json["devices"][0];
  EXPECT_EQ(device["worker"], "host0");
  EXPECT_EQ(device["island"], "rack7");
  EXPECT_DOUBLE_EQ(device["busy"], 0.8);
  EXPECT_EQ(device["credits_in_flight"], 3);
  EXPECT_EQ(device["credits"], 4);
  EXPECT_EQ(device["memory_bytes"], 3 << 20);
  EXPECT_EQ(device["held_by"][0]["name"], "serve.py");
  EXPECT_EQ(device["held_by"][0]["memory_bytes"], 2 << 20);
  EXPECT_DOUBLE_EQ(device["held_by"][1]["busy"], 0.2);
}

TEST(TopJson, NullWhereThereIsNothingToSay) {
  const auto json = nlohmann::json::parse(TopJson(Now(), Now()));
  EXPECT_TRUE(json["sessions"][0]["share"].is_null());
  EXPECT_TRUE(json["devices"][0]["busy"].is_null());
}

}  // namespace
}  // namespace causeway
