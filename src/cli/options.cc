#include "cli/options.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace causeway {

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
  std::string token((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  token = std::string(absl::StripAsciiWhitespace(token));
  if (token.empty()) return absl::FailedPreconditionError(absl::StrCat("the token file ", token_file, " is empty"));
  return token;
}

}  // namespace causeway
