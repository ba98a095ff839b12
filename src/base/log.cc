#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace causeway {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = spdlog::stderr_logger_mt("causeway");
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %L %P] %v");
    const char* level = std::getenv("CAUSEWAY_LOG_LEVEL");
    made->set_level(level == nullptr ? spdlog::level::info : spdlog::level::from_str(level));
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *logger;
}

}  // namespace

void Log(LogLevel level, absl::string_view text) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                   spdlog::level::err};
  Logger().log(kLevels[static_cast<int>(level)], "{}", std::string(text));
}

}  // namespace causeway
