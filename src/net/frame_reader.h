// Cuts the bytes of one direction of a link into frames. A pure parser: no socket, no threads.
//
// Byte format, numbers little-endian:
//
//   preamble  8 bytes   "CWLINK", then the version as u16: 1. Once, at the start, in each direction
//   frame     4 bytes   length
//             length    the frame
//
//   FrameReader reader;
//   const absl::Span<char> room = reader.Buffer();
//   reader.Filled(recv(fd, room.data(), room.size(), 0));
//   while (true) {
//     ASSIGN_OR_RETURN(std::optional<std::string> frame, reader.Next(limit_bytes));
//     if (!frame) break;  // more bytes are needed
//   }
//
// Memory: 64 KiB, and for a larger frame at most twice what has come of it: an announced length costs nothing.
#ifndef CAUSEWAY_NET_FRAME_READER_H_
#define CAUSEWAY_NET_FRAME_READER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace causeway {

inline constexpr size_t kFrameHeaderBytes = 4;
inline constexpr std::array<char, 8> kLinkPreamble = {'C', 'W', 'L', 'I', 'N', 'K', 1, 0};

// The header of a frame of `length` bytes.
std::array<char, kFrameHeaderBytes> FrameHeader(uint32_t length);

class FrameReader {
 public:
  FrameReader();

  // Where the next bytes go; never empty. Valid until the next call of anything here.
  absl::Span<char> Buffer();

  // The first `bytes` bytes of Buffer() have come.
  void Filled(size_t bytes);

  // The next whole frame; nullopt: more bytes are needed. INVALID_ARGUMENT, after which nothing more may be asked: this
  // is no link, or not one of this version, or the next frame is longer than `limit_bytes`.
  absl::StatusOr<std::optional<std::string>> Next(int64_t limit_bytes);

 private:
  size_t staged() const { return end_ - begin_; }
  absl::Status CheckPreamble();

  std::vector<char> staging_;  // [begin_, end_) has come and is not consumed
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t preamble_seen_ = 0;

  // A frame too large for staging_, read in place.
  bool in_body_ = false;
  std::string body_;  // grows up to body_length_
  size_t body_filled_ = 0;
  size_t body_length_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_FRAME_READER_H_
