#include "cli/status_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

proto::ClusterStatus Example() {
  proto::ClusterStatus status;
  status.set_client_address("127.0.0.1:29000");
  auto& island = *status.add_islands();
  island.set_name("rack7");
  auto& up = *island.add_workers();
  up.set_name("host0");
  up.set_alive(true);
  up.set_pid(4711);
  for (int i = 0; i < 2; ++i) {
    auto& device = *up.add_devices();
    device.set_device(i);
    device.set_kind("cpu");
    device.set_bytes(3 << 20);
    device.set_named_bytes(2 << 20);
    device.set_limit_bytes(int64_t{8} << 30);
    device.set_buffers(5);
  }
  auto& lost = *island.add_workers();
  lost.set_name("host1");
  lost.set_lost_because("connection reset");
  auto& session = *status.add_sessions();
  session.set_session(9);
  session.set_name("train.py");
  session.set_devices("0-3, 6");
  session.set_weight(2.5);
  session.set_cap(1);
  for (int i = 0; i < 2; ++i) {
    session.add_device_bytes()->set_device(i);
    session.mutable_device_bytes(i)->set_bytes(768);
  }
  session.set_memory_wait("program f needs 3 bytes");
  return status;
}

TEST(StatusTable, ShowsWhatAnOperatorAsks) {
  const std::string table = StatusTable(Example());
  EXPECT_THAT(table, HasSubstr("1 of 2 workers up"));
  EXPECT_THAT(table, HasSubstr("host0"));
  EXPECT_THAT(table, HasSubstr("0-1"));
  EXPECT_THAT(table, HasSubstr("6.0 MiB"));
  EXPECT_THAT(table, HasSubstr("4.0 MiB"));
  EXPECT_THAT(table, HasSubstr("16.0 GiB"));
  EXPECT_THAT(table, HasSubstr("LOST"));
  EXPECT_THAT(table, HasSubstr("connection reset"));
  EXPECT_THAT(table, HasSubstr("train.py"));
  EXPECT_THAT(table, HasSubstr("1.5 KiB"));
  EXPECT_THAT(table, HasSubstr("waits for memory: program f needs 3 bytes"));
}

TEST(StatusTable, ShowsWhatASessionWished) {
  proto::ClusterStatus status = Example();
  EXPECT_THAT(StatusTable(status), HasSubstr("    2.5  0-3, 6\n")) << "and nothing of what it did not wish";
  status.mutable_sessions(0)->set_cap(0.25);
  status.mutable_sessions(0)->set_memory_cap_bytes(int64_t{4} << 30);
  status.mutable_sessions(0)->set_exclusive(true);
  EXPECT_THAT(StatusTable(status), HasSubstr("2.5  0-3, 6, exclusive, cap 0.25, at most 4.0 GiB each\n"));
}

TEST(StatusTable, SaysWhereNothingIsComputed) {
  proto::ClusterStatus status = Example();
  status.mutable_islands(0)->mutable_workers(0)->set_plugin("cpu 0.1");
  EXPECT_THAT(StatusTable(status), Not(HasSubstr("timed")));
  status.mutable_islands(0)->mutable_workers(0)->set_plugin("cpu 0.1 (timed)");
  EXPECT_THAT(StatusTable(status), HasSubstr("timed: nothing is computed"));
}

TEST(StatusTable, LeavesSessionsOutWhereThereAreNone) {
  EXPECT_THAT(StatusTable(proto::ClusterStatus()), Not(HasSubstr("programs")));
}

TEST(StatusJson, HasEveryFieldAndNumbersAreNumbers) {
  const auto json = nlohmann::json::parse(StatusJson(Example()));
  EXPECT_EQ(json["islands"][0]["workers"][0]["devices"][1]["bytes"], 3 << 20);
  EXPECT_EQ(json["islands"][0]["workers"][0]["pid"], 4711);
  EXPECT_EQ(json["islands"][0]["workers"][1]["alive"], false);
  EXPECT_EQ(json["sessions"][0]["launches"], 0) << "zeros are there too";
  EXPECT_EQ(json["pending"]["fetches"], 0);
  EXPECT_EQ(json["sessions"][0]["weight"], 2.5);
  EXPECT_EQ(json["sessions"][0]["devices"], "0-3, 6");
  EXPECT_EQ(json["sessions"][0]["device_bytes"][1]["bytes"], 768);
}

TEST(QueryStatus, SaysWhatToDoWhenNobodyListens) {
  const auto status = QueryStatus("unix:/nonexistent/control", "", absl::Seconds(5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("causeway up"));
}

}  // namespace
}  // namespace causeway
