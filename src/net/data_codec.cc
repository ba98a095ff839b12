#include "net/data_codec.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "net/little_endian.h"

namespace causeway {
namespace {

constexpr char kMagic[] = {'C', 'W', 'D', 'A', 'T', 'A'};
constexpr uint16_t kVersion = 4;

bool IsErrorCode(int64_t code) {
  return code >= static_cast<int64_t>(absl::StatusCode::kCancelled) &&
         code <= static_cast<int64_t>(absl::StatusCode::kUnauthenticated);
}

bool IsValid(const DataHeader& header) {
  switch (header.type) {
    case DataType::kGrant:
      return header.detail <= 1 && header.length == 0 && header.value >= 1 && header.value <= header.total;
    case DataType::kData:
      return header.detail == 0 && header.length >= 1 && header.length <= kChunkBytes && header.value >= 0 &&
             header.total >= header.length && header.value <= header.total - header.length;
    case DataType::kAbort:
      return header.length <= kMaxReasonBytes && IsErrorCode(header.detail) && header.value >= 0;
    case DataType::kRefuse:
      return header.length <= kMaxReasonBytes && IsErrorCode(header.detail) && header.value == 0;
    case DataType::kFinished:
      return header.detail == 0 && header.length == 0 && header.value == 0 && header.total == 0;
  }
  return false;
}

}  // namespace

void WriteDataHello(const DataHello& hello, char* to) {
  std::memcpy(to, kMagic, sizeof(kMagic));
  StoreLittleEndian<uint16_t>(kVersion, to + 6);
  StoreLittleEndian<int32_t>(static_cast<int32_t>(hello.from), to + 8);
  StoreLittleEndian<int32_t>(static_cast<int32_t>(hello.to), to + 12);
  StoreLittleEndian<uint64_t>(hello.key, to + 16);
  to[24] = static_cast<char>(hello.refusal);
  to[25] = static_cast<char>(hello.lane);
  to[26] = static_cast<char>(hello.connections);
  to[27] = static_cast<char>(hello.index);
  StoreLittleEndian<uint32_t>(hello.set, to + 28);
}

absl::StatusOr<DataHello> ParseDataHello(const char* from) {
  if (std::memcmp(from, kMagic, sizeof(kMagic)) != 0) {
    return absl::InvalidArgumentError("what was sent is no Causeway data connection");
  }
  if (LoadLittleEndian<uint16_t>(from + 6) != kVersion) {
    return absl::InvalidArgumentError(
        "the data connection is of another version: run the same Causeway on "
        "both sides");
  }
  const auto refusal = static_cast<uint8_t>(from[24]);
  const auto lane = static_cast<uint8_t>(from[25]);
  const int connections = static_cast<uint8_t>(from[26]);
  const int index = static_cast<uint8_t>(from[27]);
  if ((refusal != 0 && !IsErrorCode(refusal)) || lane > static_cast<uint8_t>(DataLane::kMessages) || connections < 1 ||
      connections > kMaxDataConnections || index >= connections) {
    return absl::InvalidArgumentError("a data connection's hello has numbers that it cannot have");
  }
  return DataHello{
      .from = PeerId{LoadLittleEndian<int32_t>(from + 8)},
      .to = PeerId{LoadLittleEndian<int32_t>(from + 12)},
      .key = LoadLittleEndian<uint64_t>(from + 16),
      .refusal = static_cast<absl::StatusCode>(refusal),
      .lane = static_cast<DataLane>(lane),
      .connections = connections,
      .index = index,
      .set = LoadLittleEndian<uint32_t>(from + 28),
  };
}

void WriteDataHeader(const DataHeader& header, char* to) {
  std::memset(to, 0, 4);
  to[0] = static_cast<char>(header.type);
  to[1] = static_cast<char>(header.detail);
  StoreLittleEndian<uint32_t>(header.length, to + 4);
  StoreLittleEndian<uint64_t>(Raw(header.stream), to + 8);
  StoreLittleEndian<int64_t>(header.value, to + 16);
  StoreLittleEndian<int64_t>(header.total, to + 24);
}

absl::StatusOr<DataHeader> ParseDataHeader(const char* from) {
  const DataHeader header{
      .type = static_cast<DataType>(from[0]),
      .detail = static_cast<uint8_t>(from[1]),
      .length = LoadLittleEndian<uint32_t>(from + 4),
      .stream = StreamId{LoadLittleEndian<uint64_t>(from + 8)},
      .value = LoadLittleEndian<int64_t>(from + 16),
      .total = LoadLittleEndian<int64_t>(from + 24),
  };
  if (from[2] != 0 || from[3] != 0 || !IsValid(header)) {
    return absl::InvalidArgumentError(absl::StrCat("a message of type ", static_cast<int>(header.type), " for stream ",
                                                   Raw(header.stream), " has numbers that it cannot have"));
  }
  return header;
}

}  // namespace causeway
