// The bytes of a data connection.
//
// All numbers are little-endian. Each side first says one hello: the side that dialled at once, the other when it has
// checked it.
//
//   hello     6 bytes  "CWDATA"
//             u16      version: 4
//             i32      PeerId of the sender
//             i32      PeerId for whom it takes the other side
//             u64      the pair's key
//             u8       0: welcome; otherwise the absl::StatusCode why the connection is refused, and it closes
//             u8       lane: 0 streams, as follows here; 1 messages (message_reader.h)
//             u8       how many connections the sender would have for the pair's streams, 1 .. kMaxDataConnections;
//                      the pair has the smaller of the two numbers at most
//             u8       which of the pair's connections this is: 0 the first, otherwise one that is added to it
//             u32      set: chosen by the side that dials, with the first; the others of the pair show the same
//
// Then, for streams, in both directions:
//
//   header    u8       type
//             u8       detail
//             2 bytes  0
//             u32      length of the payload
//             u64      stream
//             i64      value
//             i64      total bytes of the stream (grant, data), the error's origin (abort, refuse), otherwise 0
//   payload
//
//   type        from      detail            value              payload                      meaning
//   1 grant     receiver  1: in order       bytes, at least 1  none                         so many more may be sent
//   2 data      sender    0                 offset             1 .. kChunkBytes bytes       the bytes from there on
//   3 abort     sender    absl::StatusCode  bytes sent before  message, <= kMaxReasonBytes  no more will come
//   4 refuse    receiver  absl::StatusCode  0                  message, <= kMaxReasonBytes  no more is wanted
//   5 finished  receiver  0                 0                  none                         all, or the abort, has come
//
// All but data is said on the first connection. Data come on any of the pair's, so the chunks of a stream overtake one
// another, and an abort overtakes them: each says where it belongs, and the abort how many bytes are still to come. A
// receiver that asks for the chunks in order (every grant of the stream says so) gets them all on one connection.
//
// How the two ends of a stream part: the sender says exactly one last thing (the data that make up the total, or
// abort), the receiver too (finished or refuse), and each forgets the stream when it has said its own and heard the
// other's, with all the data before it. So what crosses on the way is never taken for a message about a stream that is
// not known.
//
// The connections of a pair are lost together: what was on its way on one of them is not known to have come, and the
// sender's memory is no longer there to say it again. So the loss of one ends all the pair's streams.
//
// Version 4 (version 3 had one connection for a pair's streams: no `set`, no details, the code of an end as its value).
//
// Threading: pure functions.
#ifndef CAUSEWAY_NET_DATA_CODEC_H_
#define CAUSEWAY_NET_DATA_CODEC_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/data_plane.h"

namespace causeway {

inline constexpr size_t kDataHelloBytes = 32;
inline constexpr size_t kDataHeaderBytes = 32;
inline constexpr size_t kMaxReasonBytes = 1024;
inline constexpr int kMaxDataConnections = 64;  // of one pair, for streams

// What a connection carries.
enum class DataLane : uint32_t { kStreams = 0, kMessages = 1 };

struct DataHello {
  PeerId from{0};
  PeerId to{0};
  uint64_t key = 0;
  absl::StatusCode refusal = absl::StatusCode::kOk;
  DataLane lane = DataLane::kStreams;
  int connections = 1;
  int index = 0;
  uint32_t set = 0;
};

enum class DataType : uint8_t { kGrant = 1, kData = 2, kAbort = 3, kRefuse = 4, kFinished = 5 };

struct DataHeader {
  DataType type = DataType::kGrant;
  uint8_t detail = 0;
  uint32_t length = 0;
  StreamId stream{0};
  int64_t value = 0;
  int64_t total = 0;  // of an end: its origin (base/origin.h), bit for bit
};

// `to` has room for kDataHelloBytes.
void WriteDataHello(const DataHello& hello, char* to);

// `from` has kDataHelloBytes. INVALID_ARGUMENT: it is none, or one of another version.
absl::StatusOr<DataHello> ParseDataHello(const char* from);

// `to` has room for kDataHeaderBytes.
void WriteDataHeader(const DataHeader& header, char* to);

// `from` has kDataHeaderBytes. INVALID_ARGUMENT: no type, or numbers that its type cannot have. What passes has total
// >= 1 and a value within it (grant, data), a code that is a canonical error (abort, refuse), and all else as the table
// says.
absl::StatusOr<DataHeader> ParseDataHeader(const char* from);

}  // namespace causeway

#endif  // CAUSEWAY_NET_DATA_CODEC_H_
