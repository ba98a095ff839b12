#include "net/data_codec.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <random>

#include "base/limits.h"

namespace causeway {
namespace {

using HeaderBytes = std::array<char, kDataHeaderBytes>;
using HelloBytes = std::array<char, kDataHelloBytes>;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

HeaderBytes Bytes(const DataHeader& header) {
  HeaderBytes bytes;
  WriteDataHeader(header, bytes.data());
  return bytes;
}

bool IsRead(const DataHeader& header) { return ParseDataHeader(Bytes(header).data()).ok(); }

TEST(DataHello, IsReadAsItWasWritten) {
  HelloBytes bytes;
  WriteDataHello({.from = PeerId{7},
                  .to = kControllerPeer,
                  .key = ~uint64_t{5},
                  .refusal = absl::StatusCode::kNotFound,
                  .lane = DataLane::kMessages,
                  .connections = kMaxDataConnections,
                  .index = kMaxDataConnections - 1,
                  .set = 0xfedcba98},
                 bytes.data());
  const absl::StatusOr<DataHello> hello = ParseDataHello(bytes.data());
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(hello->from, PeerId{7});
  EXPECT_EQ(hello->to, kControllerPeer);
  EXPECT_EQ(hello->key, ~uint64_t{5});
  EXPECT_EQ(hello->refusal, absl::StatusCode::kNotFound);
  EXPECT_EQ(hello->lane, DataLane::kMessages);
  EXPECT_EQ(hello->connections, kMaxDataConnections);
  EXPECT_EQ(hello->index, kMaxDataConnections - 1);
  EXPECT_EQ(hello->set, 0xfedcba98u);
}

TEST(DataHello, OtherMagicOtherVersionAndImpossibleNumbersAreRefused) {
  HelloBytes good;
  WriteDataHello({.from = PeerId{1}, .to = PeerId{0}, .key = 3}, good.data());
  for (const size_t at : {0, 5, 6, 7, 24, 25, 27}) {
    HelloBytes bytes = good;
    bytes[at] = static_cast<char>(bytes[at] + 17);
    EXPECT_EQ(ParseDataHello(bytes.data()).status().code(), absl::StatusCode::kInvalidArgument) << "byte " << at;
  }
  for (const int connections : {0, kMaxDataConnections + 1, 255}) {
    HelloBytes bytes = good;
    bytes[26] = static_cast<char>(connections);
    EXPECT_FALSE(ParseDataHello(bytes.data()).ok()) << connections << " connections";
  }
}

TEST(DataHeader, IsReadAsItWasWritten) {
  const DataHeader header{.type = DataType::kData,
                          .length = kChunkBytes,
                          .stream = StreamId{0xfedcba9876543210},
                          .value = int64_t{1} << 40,
                          .total = (int64_t{1} << 40) + kChunkBytes};
  const absl::StatusOr<DataHeader> read = ParseDataHeader(Bytes(header).data());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->type, header.type);
  EXPECT_EQ(read->length, header.length);
  EXPECT_EQ(read->stream, header.stream);
  EXPECT_EQ(read->value, header.value);
  EXPECT_EQ(read->total, header.total);
}

TEST(DataHeader, DataMustLieWithinTheStream) {
  EXPECT_TRUE(IsRead({.type = DataType::kData, .length = 10, .value = 90, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = 11, .value = 90, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = 10, .value = -1, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = 0, .value = 0, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = 10, .value = kMax, .total = kMax}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = kChunkBytes + 1, .value = 0, .total = kMax}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .length = 10, .value = 0, .total = -5}));
  EXPECT_FALSE(IsRead({.type = DataType::kData, .detail = 1, .length = 10, .value = 0, .total = 100}));
}

TEST(DataHeader, AGrantIsPositiveAndWithinTheStream) {
  EXPECT_TRUE(IsRead({.type = DataType::kGrant, .value = 100, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kGrant, .value = 101, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kGrant, .value = 0, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kGrant, .value = -1, .total = 100}));
  EXPECT_FALSE(IsRead({.type = DataType::kGrant, .length = 1, .value = 1, .total = 100}));
  EXPECT_TRUE(IsRead({.type = DataType::kGrant, .detail = 1, .value = 1, .total = 100})) << "in order";
  EXPECT_FALSE(IsRead({.type = DataType::kGrant, .detail = 2, .value = 1, .total = 100}));
}

TEST(DataHeader, AnEndHasAnErrorCodeAndABoundedReason) {
  for (const DataType type : {DataType::kAbort, DataType::kRefuse}) {
    EXPECT_TRUE(IsRead({.type = type, .detail = 16, .length = kMaxReasonBytes}));
    EXPECT_FALSE(IsRead({.type = type, .detail = 16, .length = kMaxReasonBytes + 1}));
    EXPECT_FALSE(IsRead({.type = type, .detail = 0})) << "OK is no error";
    EXPECT_FALSE(IsRead({.type = type, .detail = 17}));
    EXPECT_FALSE(IsRead({.type = type, .detail = 1, .value = -1}));
    EXPECT_TRUE(IsRead({.type = type, .detail = 1, .total = -1})) << "an origin may be any number";
  }
  EXPECT_TRUE(IsRead({.type = DataType::kAbort, .detail = 1, .value = kMax})) << "so many bytes were sent";
  EXPECT_FALSE(IsRead({.type = DataType::kRefuse, .detail = 1, .value = 1}));
  EXPECT_TRUE(IsRead({.type = DataType::kFinished}));
  EXPECT_FALSE(IsRead({.type = DataType::kFinished, .value = 1}));
}

TEST(DataHeader, AnUnknownTypeIsRefused) {
  EXPECT_FALSE(IsRead({.type = static_cast<DataType>(0)}));
  EXPECT_FALSE(IsRead({.type = static_cast<DataType>(6), .value = 1, .total = 1}));
  HeaderBytes bytes = Bytes({.type = DataType::kFinished});
  bytes[2] = 1;
  EXPECT_FALSE(ParseDataHeader(bytes.data()).ok()) << "the reserved bytes are zero";
}

TEST(DataHeader, WhateverIsReadFromRandomBytesKeepsItsPromises) {
  std::mt19937_64 random(3);
  int read = 0;
  for (int round = 0; round < 200'000; ++round) {
    HeaderBytes bytes = Bytes({.type = static_cast<DataType>(random() % 7),
                               .detail = static_cast<uint8_t>(random() % 3),
                               .length = static_cast<uint32_t>(random() % (2 * kChunkBytes)),
                               .stream = StreamId{random()},
                               .value = static_cast<int64_t>(random() >> (random() % 64)),
                               .total = static_cast<int64_t>(random() >> (random() % 64))});
    if (round % 2 == 0) bytes[random() % bytes.size()] = static_cast<char>(random());
    const absl::StatusOr<DataHeader> header = ParseDataHeader(bytes.data());
    if (!header.ok()) continue;
    ++read;
    EXPECT_EQ(Bytes(*header), bytes) << "nothing is read that would be written otherwise";
    if (header->type == DataType::kData) {
      EXPECT_GE(header->value, 0);
      EXPECT_LE(header->value, header->total - header->length);
    }
  }
  EXPECT_GT(read, 1000);
}

}  // namespace
}  // namespace causeway
