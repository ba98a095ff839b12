#include "collectives/wire.h"

#include <cstring>

#include "net/little_endian.h"

namespace causeway::collectives {
namespace {

constexpr uint8_t kMagic = 0xc5;
constexpr uint8_t kVersion = 1;
constexpr uint64_t kHighestProcess = 0x7fffffff;
constexpr auto kHighestCode = static_cast<uint64_t>(absl::StatusCode::kUnauthenticated);

// No part of a launch, but all of it.
bool IsOfLaunch(const Header& header) {
  return header.instance == InstanceId{} && header.round == 0 && header.index == 0;
}

bool IsValid(const Header& header, size_t payload) {
  switch (header.type) {
    case MessageType::kPart:
      return header.length == payload && header.length >= 1 && header.value == 0;
    case MessageType::kWant:
      return payload == 0 && header.length >= 1 && header.length < kStreamBit && (header.value & kStreamBit) != 0;
    case MessageType::kAbort:
      return header.length == payload && payload <= kMaxAbortText && header.value >= 1 &&
             header.value <= kHighestCode && IsOfLaunch(header);
    case MessageType::kLook:
      return payload == 0 && header.length >= 1 && header.length < kStreamBit && header.value == 0;
    case MessageType::kHere:
      return header.length >= 1 && header.length < kStreamBit && header.value >= 1 && header.value <= kHighestProcess &&
             payload >= kStretchBytes && payload <= kMaxStretches * kStretchBytes && payload % kStretchBytes == 0;
    case MessageType::kTaken:
      return payload == 0 && header.length == 0 && header.value == 0;
    case MessageType::kLost:
      return payload == 0 && header.length == 0 && header.value == 0 && IsOfLaunch(header);
  }
  return false;
}

}  // namespace

void WriteHeader(const Header& header, char* to) {
  to[0] = static_cast<char>(kMagic);
  to[1] = static_cast<char>(kVersion);
  to[2] = static_cast<char>(header.type);
  to[3] = 0;
  StoreLittleEndian<uint32_t>(header.instance.collective, to + 4);
  StoreLittleEndian<uint64_t>(header.launch, to + 8);
  StoreLittleEndian<uint32_t>(header.instance.occurrence, to + 16);
  StoreLittleEndian<uint32_t>(header.instance.group, to + 20);
  StoreLittleEndian<uint32_t>(header.round, to + 24);
  StoreLittleEndian<uint32_t>(header.index, to + 28);
  StoreLittleEndian<uint64_t>(header.length, to + 32);
  StoreLittleEndian<uint64_t>(header.value, to + 40);
}

absl::StatusOr<Header> ParseHeader(absl::Span<const char> message) {
  if (message.size() < kHeaderBytes || static_cast<uint8_t>(message[0]) != kMagic) {
    return absl::InvalidArgumentError("what was sent is no message between collectives");
  }
  if (static_cast<uint8_t>(message[1]) != kVersion) {
    return absl::InvalidArgumentError(
        "a message between collectives is of another version: run the same Causeway on all workers");
  }
  const char* from = message.data();
  const Header header{
      .type = static_cast<MessageType>(from[2]),
      .launch = LoadLittleEndian<uint64_t>(from + 8),
      .instance = {.collective = LoadLittleEndian<uint32_t>(from + 4),
                   .occurrence = LoadLittleEndian<uint32_t>(from + 16),
                   .group = LoadLittleEndian<uint32_t>(from + 20)},
      .round = LoadLittleEndian<uint32_t>(from + 24),
      .index = LoadLittleEndian<uint32_t>(from + 28),
      .length = LoadLittleEndian<uint64_t>(from + 32),
      .value = LoadLittleEndian<uint64_t>(from + 40),
  };
  if (from[3] != 0 || !IsValid(header, message.size() - kHeaderBytes)) {
    return absl::InvalidArgumentError("a message between collectives has numbers that it cannot have");
  }
  return header;
}

}  // namespace causeway::collectives
