// The bytes of a data plane connection.
//
//   hello    8 bytes  "CWDATA" 0x00 VERSION(=1)        from the side that dialled, once
//            4        its PeerId, little-endian
//            8        the pair's key, little-endian
//   then, in both directions, messages:
//   header   1        type: 1 grant, 2 data, 3 cancel
//            3        0
//            4        length of what follows the header, little-endian
//            8        StreamId, little-endian
//   grant    8        bytes that may be sent more, little-endian       receiver to sender
//   data     length   the stream's next bytes; 1 .. kChunkBytes        sender to receiver
//   cancel   4        status code, little-endian, not 0                either way
//            rest     its message, at most kMaxCancelMessageBytes
//
// Threading: pure functions.
#ifndef CAUSEWAY_NET_DATA_CODEC_H_
#define CAUSEWAY_NET_DATA_CODEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "net/data_plane.h"

namespace causeway::data_codec {

inline constexpr size_t kHelloBytes = 20;
inline constexpr size_t kHeaderBytes = 16;
inline constexpr size_t kGrantBytes = 8;
inline constexpr size_t kMaxCancelMessageBytes = 4096;
inline constexpr size_t kMaxCancelBytes = 4 + kMaxCancelMessageBytes;

enum class Type : uint8_t { kGrant = 1, kData = 2, kCancel = 3 };

struct Hello {
  PeerId peer;
  uint64_t key = 0;
};

struct Header {
  Type type;
  uint32_t length = 0;
  StreamId stream;
};

std::string EncodeHello(const Hello& hello);

// `bytes` are kHelloBytes. INVALID_ARGUMENT: no Causeway data connection, or of another version.
absl::StatusOr<Hello> ParseHello(absl::Span<const char> bytes);

std::array<char, kHeaderBytes> EncodeHeader(const Header& header);

// `bytes` are kHeaderBytes. INVALID_ARGUMENT: an unknown type, or a length that the type cannot have.
absl::StatusOr<Header> ParseHeader(absl::Span<const char> bytes);

// Whole messages.
std::string EncodeGrant(StreamId stream, uint64_t bytes);
std::string EncodeCancel(StreamId stream, const absl::Status& status);

// What follows the header: kGrantBytes, or 4 .. kMaxCancelBytes. The parsed status is never OK.
uint64_t ParseGrant(absl::Span<const char> bytes);
absl::Status ParseCancel(absl::Span<const char> bytes);

}  // namespace causeway::data_codec

#endif  // CAUSEWAY_NET_DATA_CODEC_H_
