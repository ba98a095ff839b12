// Logging: one line an event, for an operator at 3 a.m. Goes to stderr, through spdlog.
//
//   Log(LogLevel::kInfo, absl::StrCat("worker ", name, " has joined"));
//
// The level comes from CAUSEWAY_LOG_LEVEL (debug, info, warning, error; default info). Thread-safe. Not for hot paths.
#ifndef CAUSEWAY_BASE_LOG_H_
#define CAUSEWAY_BASE_LOG_H_

#include "absl/strings/string_view.h"

namespace causeway {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void Log(LogLevel level, absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_BASE_LOG_H_
