// Cuts a byte stream into frames.
//
// Format, both directions of a link:
//   preamble   8 bytes   "CWLINK" 0x00 VERSION(=1), once, first
//   frame      4 bytes   length, little-endian
//              length    the frame
//
//   FrameReader reader(limit_bytes);
//   RETURN_IF_ERROR(reader.Feed(bytes, [&](std::string frame) { ... }));
//
// A frame's memory grows with the bytes that come, not with the length that is announced.
// Threading: none of its own.
#ifndef CAUSEWAY_NET_FRAME_READER_H_
#define CAUSEWAY_NET_FRAME_READER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace causeway {

inline constexpr size_t kFrameHeaderBytes = 4;
inline constexpr std::array<char, 8> kLinkPreamble = {'C', 'W', 'L', 'I', 'N', 'K', '\0', '\1'};

// The four bytes that announce a frame of `size` bytes.
std::array<char, kFrameHeaderBytes> FrameHeader(uint32_t size);

class FrameReader {
 public:
  explicit FrameReader(int64_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}

  void set_max_frame_bytes(int64_t limit_bytes) { max_frame_bytes_ = limit_bytes; }

  // Takes the next bytes and calls `on_frame` for each frame that they complete. INVALID_ARGUMENT: this is not a link, or a
  // frame is above the limit; nothing more may be fed.
  absl::Status Feed(absl::Span<const char> bytes, absl::FunctionRef<void(std::string frame)> on_frame);

 private:
  int64_t max_frame_bytes_;
  size_t preamble_seen_ = 0;
  std::string header_;
  std::string frame_;
  size_t wanted_ = 0;        // bytes of the frame at hand
  bool in_frame_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_FRAME_READER_H_
