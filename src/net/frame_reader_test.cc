#include "net/frame_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kLimit = 1 << 20;

std::string Preamble() { return std::string(kLinkPreamble.begin(), kLinkPreamble.end()); }

std::string Framed(const std::string& frame) {
  const auto header = FrameHeader(static_cast<uint32_t>(frame.size()));
  return std::string(header.begin(), header.end()) + frame;
}

struct Parsed {
  std::vector<std::string> frames;
  absl::Status status;
  size_t largest_room = 0;
};

// Feeds `bytes` in pieces of `piece` bytes, as far as the reader takes them.
Parsed Feed(FrameReader& reader, const std::string& bytes, size_t piece, int64_t limit = kLimit) {
  Parsed parsed;
  for (size_t at = 0; at < bytes.size();) {
    const absl::Span<char> room = reader.Buffer();
    EXPECT_FALSE(room.empty());
    parsed.largest_room = std::max(parsed.largest_room, room.size());
    const size_t n = std::min({room.size(), piece, bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, n);
    reader.Filled(n);
    at += n;
    while (true) {
      absl::StatusOr<std::optional<std::string>> frame = reader.Next(limit);
      if (!frame.ok()) {
        parsed.status = frame.status();
        return parsed;
      }
      if (!frame->has_value()) break;
      parsed.frames.push_back(**std::move(frame));
    }
  }
  return parsed;
}

TEST(FrameReader, FramesComeOutAsTheyWentInHoweverTheBytesAreCut) {
  const std::string large(300'000, 'L');
  const std::string bytes = Preamble() + Framed("one") + Framed("") + Framed(large) + Framed("last");
  for (size_t piece : {1, 2, 3, 7, 1000, 65536, 1 << 20}) {
    FrameReader reader;
    const Parsed parsed = Feed(reader, bytes, piece);
    EXPECT_TRUE(parsed.status.ok()) << parsed.status;
    EXPECT_THAT(parsed.frames, ElementsAre("one", "", large, "last")) << "in pieces of " << piece;
  }
}

TEST(FrameReader, AFrameThatJustFillsItsBufferComesOut) {
  for (size_t size = 65536 - 20; size < 65536 + 20; ++size) {
    FrameReader reader;
    const Parsed parsed = Feed(reader, Preamble() + Framed(std::string(size, 'x')) + Framed("after"), 4096);
    ASSERT_EQ(parsed.frames.size(), 2u) << size;
    EXPECT_EQ(parsed.frames[0].size(), size);
  }
}

TEST(FrameReader, GarbageIsRefusedAtItsFirstByte) {
  FrameReader reader;
  const Parsed parsed = Feed(reader, "GET / HTTP/1.1\r\n", 1);
  EXPECT_EQ(parsed.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status.message()), HasSubstr("no Causeway link"));
}

TEST(FrameReader, AnotherVersionIsRefusedAndNamedAsSuch) {
  std::string preamble = Preamble();
  preamble[6] = 9;
  FrameReader reader;
  const Parsed parsed = Feed(reader, preamble, 100);
  EXPECT_EQ(parsed.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status.message()), HasSubstr("version"));
}

TEST(FrameReader, AFrameAboveTheLimitIsRefusedWhenItIsAnnounced) {
  FrameReader reader;
  const auto header = FrameHeader(101);
  const Parsed parsed = Feed(reader, Preamble() + std::string(header.begin(), header.end()), 100,
                             /*limit=*/100);
  EXPECT_EQ(parsed.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status.message()), HasSubstr("101 bytes"));
}

TEST(FrameReader, AnAnnouncedLengthCostsNoMemoryBeforeItsBytesCome) {
  FrameReader reader;
  const auto header = FrameHeader(1 << 30);
  const Parsed parsed =
      Feed(reader, Preamble() + std::string(header.begin(), header.end()) + std::string(10'000, 'x'), 100, 1 << 30);
  EXPECT_TRUE(parsed.status.ok());
  EXPECT_THAT(parsed.frames, IsEmpty());
  EXPECT_LE(parsed.largest_room, 256u << 10);
}

TEST(FrameReader, RandomBytesNeverBreakIt) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = round % 2 == 0 ? Preamble() : std::string();
    for (int i = 0; i < 200; ++i) bytes.push_back(static_cast<char>(random() % (round % 3 == 0 ? 3 : 256)));
    FrameReader reader;
    const Parsed parsed = Feed(reader, bytes, 1 + random() % 50, 1 << 16);
    size_t total = 0;
    for (const std::string& frame : parsed.frames) total += frame.size() + kFrameHeaderBytes;
    EXPECT_LE(total, bytes.size());
  }
}

TEST(FrameReader, MutatedStreamsGiveFramesOrARefusalButNeverMoreThanWasSent) {
  std::mt19937 random(11);
  std::string good = Preamble();
  for (int i = 0; i < 30; ++i) good += Framed(std::string(random() % 3000, static_cast<char>('a' + i)));
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    FrameReader reader;
    const Parsed parsed = Feed(reader, bytes, 1 + random() % 5000);
    size_t total = 0;
    for (const std::string& frame : parsed.frames) total += frame.size() + kFrameHeaderBytes;
    EXPECT_LE(total, bytes.size());
    if (!parsed.status.ok()) {
      EXPECT_EQ(parsed.status.code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

}  // namespace
}  // namespace causeway
