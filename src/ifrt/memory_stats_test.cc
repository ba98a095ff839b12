#include "ifrt/memory_stats.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "controller/cluster.h"

namespace causeway {
namespace {

TEST(MemoryStatsTest, SaysWhoHasHowMuch) {
  DeviceMemory memory;
  memory.SetLimits(std::vector<int64_t>{1000});
  Placement placement{.devices = {DeviceId{0}}, .workers = {}, .by_id = {}, .ranges = {{0, 1}}};
  const auto here = std::make_shared<const Placement>(placement);
  DeviceMemory::Account& one = memory.OpenSession(SessionId{1}, "one.py");
  DeviceMemory::Account& two = memory.OpenSession(SessionId{2}, "\xff\"");
  const auto x = memory.Add(one, here, {100});
  const auto y = memory.Add(two, here, {50});
  { const auto gone = memory.Add(two, here, {70}); }
  const absl::Status answer = MemoryStats(memory.Of(DeviceId{0}), SessionId{2});
  EXPECT_EQ(answer.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(answer.message(),
            R"(causeway_memory_stats:{"bytes_in_use":150,"bytes_in_use_by_session":{"1 one.py":100,"2 \ufffd\"":50},)"
            R"("bytes_limit":1000,"other_memories_bytes_in_use":0,"peak_bytes_in_use":220,"session_bytes_in_use":50})");
}

}  // namespace
}  // namespace causeway
