// FrameReader, with the bytes of a stranger, cut as the network cuts them.
//
// Input: how large the pieces are, the limit, then the bytes.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "net/frame_reader.h"

namespace causeway {
namespace {

struct Parsed {
  std::vector<std::string> frames;
  bool failed = false;
};

// `cut` gives the size of the next piece, at least 1.
template <typename Cut>
Parsed Parse(const std::string& bytes, int64_t limit, Cut cut) {
  FrameReader reader;
  Parsed parsed;
  for (size_t at = 0; at < bytes.size();) {
    const absl::Span<char> room = reader.Buffer();
    FUZZ_CHECK(!room.empty());
    // An announced length costs nothing: memory is asked for as bytes come.
    FUZZ_CHECK(room.size() <= std::max<size_t>(2 * bytes.size(), 64 << 10));
    const size_t piece = std::min({room.size(), cut(), bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, piece);
    reader.Filled(piece);
    at += piece;
    while (true) {
      absl::StatusOr<std::optional<std::string>> frame = reader.Next(limit);
      if (!frame.ok()) {
        FUZZ_CHECK(absl::IsInvalidArgument(frame.status()));
        parsed.failed = true;
        return parsed;
      }
      if (!frame->has_value()) break;
      FUZZ_CHECK(static_cast<int64_t>((*frame)->size()) <= limit);
      parsed.frames.push_back(**std::move(frame));
    }
  }
  return parsed;
}

void Feed(FuzzInput in) {
  const size_t piece = 1 + in.Byte();
  const int64_t limit = in.Number();
  // Most inputs are to get past the preamble.
  std::string bytes = in.OneIn(8) ? "" : std::string(kLinkPreamble.begin(), kLinkPreamble.end());
  // A body longer than the staging area, which the fuzzer would take long to write itself.
  const size_t stretch = in.OneIn(16) ? 70'000 : 0;
  bytes += in.Rest();
  if (stretch > 0 && bytes.size() > 16) bytes.insert(16, stretch, 'x');

  const Parsed whole = Parse(bytes, limit, [] { return std::string::npos; });
  const Parsed cut = Parse(bytes, limit, [&] { return stretch > 0 ? piece * 256 : piece; });
  // Where the bytes are cut makes no difference.
  FUZZ_CHECK(whole.frames == cut.frames && whole.failed == cut.failed);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
