// ParseAddress, with whatever people and peers write for an address.
#include <string>

#include "fuzz/check.h"
#include "net/address.h"

namespace causeway {
namespace {

void Feed(const std::string& text) {
  const absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(address.status()));
    return;
  }
  IsLocal(*address);
  const absl::StatusOr<Address> again = ParseAddress(ToString(*address));
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(again->kind == address->kind && again->host == address->host && again->port == address->port &&
             again->path == address->path);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
