// Takes messages out of the bytes of a connection. All numbers are little-endian:
//
//   header    u32      length of the payload, at most kMaxMessageBytes
//             u32      0
//   payload
//
// Small messages are handed over where they lie in the buffer into which many of them were read at once; what a message
// still lacks at the buffer's end is read straight into a place of its own:
//
//   iovec room[] = {reader.Rest(), buffer};
//   RETURN_IF_ERROR(reader.Filled(n, buffer, take));
//
// Threading: none. Holds at most one message.
#ifndef CAUSEWAY_NET_MESSAGE_READER_H_
#define CAUSEWAY_NET_MESSAGE_READER_H_

#include <array>
#include <cstddef>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace causeway {

inline constexpr size_t kMessageHeaderBytes = 8;

// `to` has room for kMessageHeaderBytes.
void WriteMessageHeader(size_t length, char* to);

class MessageReader {
 public:
  // A message, which is only there during the call. False: no more of them are wanted now; the rest is dropped.
  using Take = absl::FunctionRef<bool(absl::Span<const char>)>;

  // Where the next bytes go first; may be empty.
  absl::Span<char> Rest() { return {body_.get() + have_, size_ - have_}; }

  // `bytes` have come: as many as it takes into Rest(), the others into `buffer`. INVALID_ARGUMENT: it is no message.
  absl::Status Filled(size_t bytes, absl::Span<const char> buffer, Take take);

 private:
  bool TakeBody(Take take);

  std::array<char, kMessageHeaderBytes> header_;
  size_t header_bytes_ = 0;  // of one that is not whole
  std::unique_ptr<char[]> body_;
  size_t size_ = 0;
  size_t have_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_MESSAGE_READER_H_
