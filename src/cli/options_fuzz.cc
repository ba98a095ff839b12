// ReadToken, with whatever lies in a token file: what it gives can be sent.
#include "cli/options.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "fuzz/check.h"
#include "proto/control.pb.h"

namespace causeway {
namespace {

// A file without a name, of these contents.
std::string TokenFile(const uint8_t* data, size_t size) {
  static const int fd = [] {
    const int made = memfd_create("token", MFD_CLOEXEC);
    FUZZ_CHECK(made >= 0 && fchmod(made, 0600) == 0);
    return made;
  }();
  FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  return "/proc/self/fd/" + std::to_string(fd);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::StatusOr<std::string> token = causeway::ReadToken(causeway::TokenFile(data, size));
  if (!token.ok()) {
    FUZZ_CHECK(absl::IsFailedPrecondition(token.status()));
    return 0;
  }
  FUZZ_CHECK(!token->empty() && token->size() <= size);
  causeway::proto::Hello hello;
  hello.set_token(*token);
  FUZZ_CHECK(hello.ParseFromString(hello.SerializeAsString()));
  return 0;
}
