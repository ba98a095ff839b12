#include "ifrt/memory_stats.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// Of the sessions that hold the most: an answer must stay small.
constexpr size_t kMaxSessions = 1000;

}  // namespace

absl::Status MemoryStats(const DeviceMemory::Use& use, SessionId asker) {
  nlohmann::json sessions = nlohmann::json::object();
  int64_t own = 0;
  for (const auto& [account, bytes] : use.sessions) {
    if (account->id() == asker) own = bytes;
    if (sessions.size() < kMaxSessions) sessions[absl::StrCat(Raw(account->id()), " ", account->name())] = bytes;
  }
  const nlohmann::json stats = {{"bytes_in_use", use.bytes},   {"peak_bytes_in_use", use.peak},
                                {"bytes_limit", use.limit},    {"other_memories_bytes_in_use", use.elsewhere},
                                {"session_bytes_in_use", own}, {"bytes_in_use_by_session", sessions}};
  // Names are the clients' own, and may be no text.
  return absl::AbortedError(absl::StrCat(
      kMemoryStatsOption, ":", stats.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace)));
}

}  // namespace causeway
