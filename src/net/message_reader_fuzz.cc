// MessageReader, with the bytes of a stranger, cut as the network cuts them.
//
// Input: a seed for the pieces, how much room the buffer has, then the bytes.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz/check.h"
#include "net/data_plane.h"
#include "net/message_reader.h"

namespace causeway {
namespace {

struct Parsed {
  std::vector<std::string> messages;
  bool failed = false;
};

// `cut` gives the size of the next piece, at least 1.
template <typename Cut>
Parsed Parse(const std::string& bytes, size_t room, Cut cut) {
  MessageReader reader;
  std::string buffer(room, '\0');
  Parsed parsed;
  for (size_t at = 0; at < bytes.size();) {
    const absl::Span<char> rest = reader.Rest();
    FUZZ_CHECK(rest.size() <= static_cast<size_t>(kMaxMessageBytes));
    const size_t n = std::min({static_cast<size_t>(cut()), bytes.size() - at, rest.size() + room});
    const size_t first = std::min(n, rest.size());
    if (first > 0) std::memcpy(rest.data(), bytes.data() + at, first);
    std::memcpy(buffer.data(), bytes.data() + at + first, n - first);
    at += n;
    const absl::Status status = reader.Filled(n, buffer, [&](absl::Span<const char> message) {
      FUZZ_CHECK(message.size() <= static_cast<size_t>(kMaxMessageBytes));
      parsed.messages.emplace_back(message.data(), message.size());
      return true;
    });
    if (status.ok()) continue;
    FUZZ_CHECK(absl::IsInvalidArgument(status));
    parsed.failed = true;
    break;
  }
  return parsed;
}

void Feed(const uint8_t* data, size_t size) {
  if (size < 2) return;
  uint32_t seed = data[0];
  const std::string bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Parsed pieces = Parse(bytes, 1 + data[1], [&] {
    seed = seed * 1664525 + 1013904223;
    return 1 + (seed >> 24) % 50;
  });
  // However they are cut, the messages are the same.
  const Parsed whole = Parse(bytes, size, [&] { return size; });
  FUZZ_CHECK(pieces.failed == whole.failed);
  FUZZ_CHECK(pieces.messages == whole.messages);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(data, size);
  return 0;
}
