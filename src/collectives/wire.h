// The messages between the engines of two workers.
//
// All numbers are little-endian.
//
//   header    u8   0xc5
//             u8   version: 1
//             u8   type
//             u8   0
//             u32  collective
//             u64  launch
//             u32  occurrence
//             u32  group
//             u32  round        parts of one instance differ in round or index
//             u32  index        (abort, lost: all these but the launch are 0)
//             u64  length
//             u64  value
//   payload
//
//   type     from      length                  value                  payload              meaning
//   1 part   sender    of the payload          0                      the part's bytes     here it is
//   2 want   receiver  of the part, at least 1 stream, top bit set    none                 send it by this stream
//   3 abort  either    of the payload          absl::StatusCode       text, at most 1 KiB  the launch has failed
//   4 lost   sender    0                       0                      none                 parts may be lost, of this
//                                                                                          launch and those before it
//   5 look   receiver  of the part, at least 1 0                      none                 say where it lies: the
//   receiver
//                                                                                          is on the same machine
//   6 here   sender    of the part, at least 1 its process's id       of each stretch its  it lies here, and stays
//   until ...
//                                                                     address and bytes,
//                                                                     u64 each; 1 to 64
//   7 taken  receiver  0                       0                      none                 ... this, or a want
//
// Threading: pure functions.
#ifndef CAUSEWAY_COLLECTIVES_WIRE_H_
#define CAUSEWAY_COLLECTIVES_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace causeway::collectives {

inline constexpr size_t kHeaderBytes = 48;
inline constexpr size_t kMaxAbortText = 1024;
inline constexpr uint64_t kStreamBit = uint64_t{1} << 63;

inline constexpr size_t kMaxStretches = 64;
inline constexpr size_t kStretchBytes = 16;

enum class MessageType : uint8_t { kPart = 1, kWant = 2, kAbort = 3, kLost = 4, kLook = 5, kHere = 6, kTaken = 7 };

// Which meeting of a launch.
struct InstanceId {
  uint32_t collective = 0;
  uint32_t occurrence = 0;
  uint32_t group = 0;

  friend bool operator==(const InstanceId& a, const InstanceId& b) {
    return a.collective == b.collective && a.occurrence == b.occurrence && a.group == b.group;
  }
  template <typename H>
  friend H AbslHashValue(H h, const InstanceId& id) {
    return H::combine(std::move(h), id.collective, id.occurrence, id.group);
  }
};

struct Header {
  MessageType type = MessageType::kPart;
  uint64_t launch = 0;
  InstanceId instance;
  uint32_t round = 0;
  uint32_t index = 0;
  uint64_t length = 0;
  uint64_t value = 0;
};

// `to` has room for kHeaderBytes.
void WriteHeader(const Header& header, char* to);

// INVALID_ARGUMENT: no message of ours, or numbers that its type cannot have. What passes is followed by exactly the
// payload that the table says.
absl::StatusOr<Header> ParseHeader(absl::Span<const char> message);

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_WIRE_H_
