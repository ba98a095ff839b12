// A message of another engine: what parses is what would have been written, and its payload is as long as it says.
#include <cstring>
#include <string>

#include "collectives/wire.h"
#include "fuzz/check.h"
#include "fuzz/input.h"

namespace causeway::collectives {
namespace {

void Feed(const std::string& bytes) {
  const absl::StatusOr<Header> header = ParseHeader(bytes);
  if (!header.ok()) return;
  char written[kHeaderBytes];
  WriteHeader(*header, written);
  FUZZ_CHECK(std::memcmp(written, bytes.data(), kHeaderBytes) == 0);
  const size_t payload = bytes.size() - kHeaderBytes;
  switch (header->type) {
    case MessageType::kPart:
      FUZZ_CHECK(header->length == payload && payload >= 1);
      break;
    case MessageType::kWant:
      FUZZ_CHECK(payload == 0 && static_cast<int64_t>(header->length) >= 1);
      FUZZ_CHECK((header->value & kStreamBit) != 0);
      break;
    case MessageType::kAbort:
      FUZZ_CHECK(header->length == payload && payload <= kMaxAbortText);
      FUZZ_CHECK(!absl::Status(static_cast<absl::StatusCode>(header->value), "").ok());
      break;
    case MessageType::kLook:
      FUZZ_CHECK(payload == 0 && static_cast<int64_t>(header->length) >= 1);
      break;
    case MessageType::kHere:
      FUZZ_CHECK(static_cast<int64_t>(header->length) >= 1 && header->value >= 1);
      FUZZ_CHECK(payload >= kStretchBytes && payload <= kMaxStretches * kStretchBytes);
      break;
    case MessageType::kLost:
    case MessageType::kTaken:
      FUZZ_CHECK(payload == 0);
      break;
  }
}

}  // namespace
}  // namespace causeway::collectives

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  // The first bytes need not be guessed each time.
  const bool whole = in.Flag();
  std::string bytes = whole ? "" : std::string("\xc5\x01", 2);
  causeway::collectives::Feed(bytes + in.Rest());
  return 0;
}
