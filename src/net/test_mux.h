// Bytes of the data protocol as tests write and read them: messages one by one, and what a mux takes and gives.
//
//   ASSERT_TRUE(Feed(mux, Grant(id, 600, 1000) + Data(id, 0, 300, 1000)).ok());
//   EXPECT_EQ(Drain(mux), Data(id, 0, 600, 1000));
#ifndef CAUSEWAY_NET_TEST_MUX_H_
#define CAUSEWAY_NET_TEST_MUX_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "base/origin.h"
#include "net/stream_mux.h"
#include "net/test_streams.h"

namespace causeway {

inline std::string Message(const DataHeader& header, const std::string& payload = "") {
  std::string bytes(kDataHeaderBytes, '\0');
  WriteDataHeader(header, bytes.data());
  return bytes + payload;
}

inline std::string Grant(StreamId id, int64_t bytes, int64_t total) {
  return Message({.type = DataType::kGrant, .stream = id, .value = bytes, .total = total});
}

inline std::string Data(StreamId id, int64_t offset, int64_t length, int64_t total) {
  std::string payload(length, '\0');
  for (int64_t i = 0; i < length; ++i) payload[i] = ByteOf(id, offset + i);
  return Message(
      {.type = DataType::kData, .length = static_cast<uint32_t>(length), .stream = id, .value = offset, .total = total},
      payload);
}

inline std::string Finished(StreamId id) { return Message({.type = DataType::kFinished, .stream = id}); }

// Of an abort: after `sent` bytes.
inline std::string End(DataType type, StreamId id, const absl::Status& why, int64_t sent = 0) {
  return Message({.type = type,
                  .detail = static_cast<uint8_t>(why.code()),
                  .length = static_cast<uint32_t>(why.message().size()),
                  .stream = id,
                  .value = sent,
                  .total = static_cast<int64_t>(OriginOf(why))},
                 std::string(why.message()));
}

// Gives `bytes` to `mux`, at most `piece` at a time.
inline absl::Status Feed(StreamMux& mux, absl::string_view bytes, size_t piece = 1 << 30, int connection = 0) {
  while (!bytes.empty()) {
    std::array<iovec, 2> room;
    const int count = mux.ReadBuffers(room, connection);
    size_t filled = 0;
    for (int i = 0; i < count; ++i) {
      EXPECT_GT(room[i].iov_len, 0u);
      const size_t n = std::min({room[i].iov_len, bytes.size(), piece - filled});
      std::memcpy(room[i].iov_base, bytes.data(), n);
      bytes.remove_prefix(n);
      filled += n;
    }
    if (absl::Status breach = mux.Filled(filled, connection); !breach.ok()) return breach;
  }
  return absl::OkStatus();
}

// Takes what `mux` has to write, at most `piece` bytes at a time.
inline std::string Drain(StreamMux& mux, size_t piece = 1 << 30, int connection = 0) {
  std::string bytes;
  while (true) {
    const absl::Span<const iovec> parts = mux.WriteBuffers(connection);
    if (parts.empty()) return bytes;
    size_t written = 0;
    for (const iovec& part : parts) {
      const size_t n = std::min(part.iov_len, piece - written);
      bytes.append(static_cast<const char*>(part.iov_base), n);
      written += n;
    }
    mux.Written(written, connection);
  }
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_TEST_MUX_H_
