#include "net/message_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "net/data_plane.h"
#include "net/test_messages.h"

namespace causeway {
namespace {

std::string Framed(const std::string& message) {
  std::string bytes(kMessageHeaderBytes, '\0');
  WriteMessageHeader(message.size(), bytes.data());
  return bytes + message;
}

// Reads as from a socket that has at most `piece` bytes at a time, into a buffer of `room`.
absl::Status ReadAll(const std::string& bytes, size_t piece, size_t room, std::vector<std::string>& messages) {
  MessageReader reader;
  std::string buffer(room, '\0');
  for (size_t at = 0; at < bytes.size();) {
    const absl::Span<char> rest = reader.Rest();
    const size_t n = std::min({piece, bytes.size() - at, rest.size() + room});
    const size_t first = std::min(n, rest.size());
    if (first > 0) std::memcpy(rest.data(), bytes.data() + at, first);
    std::memcpy(buffer.data(), bytes.data() + at + first, n - first);
    at += n;
    const absl::Status status = reader.Filled(n, buffer, [&](absl::Span<const char> message) {
      messages.emplace_back(message.data(), message.size());
      return true;
    });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

TEST(MessageReader, ReadsTheSameHoweverTheBytesAreCut) {
  std::vector<std::string> sent;
  std::string bytes;
  int i = 0;
  for (const size_t size : {16, 0, 1, 7, 8, 9, 1000, 0, 0, 300, 5}) {
    sent.push_back(TestMessage(i++, size));
    bytes += Framed(sent.back());
  }
  for (const size_t room : {1, 7, 8, 9, 64, 4096}) {
    for (size_t piece = 1; piece < 40; ++piece) {
      std::vector<std::string> messages;
      ASSERT_TRUE(ReadAll(bytes, piece, room, messages).ok());
      EXPECT_EQ(messages, sent) << "pieces of " << piece << ", room for " << room;
    }
  }
}

TEST(MessageReader, TakesTheLargestMessageAndNoLargerOne) {
  const std::string largest = TestMessage(1, kMaxMessageBytes);
  std::vector<std::string> messages;
  ASSERT_TRUE(ReadAll(Framed(largest), 100'000, 64 << 10, messages).ok());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_TRUE(messages[0] == largest);
  EXPECT_EQ(ReadAll(Framed(largest + "x"), 100'000, 64 << 10, messages).code(), absl::StatusCode::kInvalidArgument);
}

TEST(MessageReader, WhatIsReservedMustBeZero) {
  std::string bytes = Framed("message");
  bytes[5] = 1;
  std::vector<std::string> messages;
  EXPECT_EQ(ReadAll(bytes, 100, 100, messages).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(messages.empty());
}

TEST(MessageReader, StopsWhenNoMoreAreWanted) {
  const std::string bytes = Framed("one") + Framed("two");
  MessageReader reader;
  int taken = 0;
  EXPECT_TRUE(reader.Filled(bytes.size(), bytes, [&](absl::Span<const char>) { return ++taken > 1; }).ok());
  EXPECT_EQ(taken, 1);
}

}  // namespace
}  // namespace causeway
