#include "cli/options.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/utf8.h"

namespace causeway {
namespace {

constexpr size_t kMaxTokenBytes = 4096;

}  // namespace

std::string ProgramFlags::DefaultProgramCache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return absl::StrCat(cache, "/causeway/programs");
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? "none" : absl::StrCat(home, "/.cache/causeway/programs");
}

absl::Status CheckTimeouts(const TimeoutFlags& flags) {
  if (flags.heartbeat_timeout_s > flags.heartbeat_s) return absl::OkStatus();
  return absl::InvalidArgumentError("--heartbeat-timeout must be longer than --heartbeat");
}

absl::StatusOr<std::string> ReadToken(const std::string& token_file) {
  if (token_file.empty()) {
    const char* token = std::getenv("CAUSEWAY_TOKEN");
    return std::string(token == nullptr ? "" : token);
  }
  std::ifstream file(token_file);
  struct stat info;
  if (!file || stat(token_file.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("cannot read the token file ", token_file, ": ", strerror(errno)));
  }
  if ((info.st_mode & (S_IRGRP | S_IROTH)) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the token file ", token_file, " can be read by others: chmod 600 ", token_file));
  }
  std::string token(kMaxTokenBytes + 1, '\0');
  file.read(token.data(), static_cast<std::streamsize>(token.size()));
  token.resize(static_cast<size_t>(file.gcount()));
  if (token.size() > kMaxTokenBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("the token file ", token_file, " has more than ", kMaxTokenBytes, " bytes"));
  }
  token = std::string(absl::StripAsciiWhitespace(token));
  if (!IsValidUtf8(token)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the token file ", token_file, " holds bytes that are no text: make one with `openssl rand -hex 32`"));
  }
  if (token.empty()) return absl::FailedPreconditionError(absl::StrCat("the token file ", token_file, " is empty"));
  return token;
}

}  // namespace causeway
