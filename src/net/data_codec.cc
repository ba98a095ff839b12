#include "net/data_codec.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/string_view.h"
#include "base/limits.h"

namespace causeway::data_codec {
namespace {

constexpr std::array<char, 8> kMagic = {'C', 'W', 'D', 'A', 'T', 'A', '\0', '\1'};

template <typename T>
void Put(T value, char* to) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<char>(static_cast<std::make_unsigned_t<T>>(value) >> (8 * i));
}

template <typename T>
T Get(const char* from) {
  std::make_unsigned_t<T> value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<std::make_unsigned_t<T>>(static_cast<unsigned char>(from[i])) << (8 * i);
  }
  return static_cast<T>(value);
}

}  // namespace

std::string EncodeHello(const Hello& hello) {
  std::string bytes(kHelloBytes, '\0');
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  Put<int32_t>(static_cast<int32_t>(hello.peer), bytes.data() + 8);
  Put<uint64_t>(hello.key, bytes.data() + 12);
  return bytes;
}

absl::StatusOr<Hello> ParseHello(absl::Span<const char> bytes) {
  if (bytes.size() != kHelloBytes || !std::equal(kMagic.begin(), kMagic.end(), bytes.begin())) {
    return absl::InvalidArgumentError("this is no Causeway data connection, or one of another release");
  }
  return Hello{PeerId{Get<int32_t>(bytes.data() + 8)}, Get<uint64_t>(bytes.data() + 12)};
}

std::array<char, kHeaderBytes> EncodeHeader(const Header& header) {
  std::array<char, kHeaderBytes> bytes = {};
  bytes[0] = static_cast<char>(header.type);
  Put<uint32_t>(header.length, bytes.data() + 4);
  Put<uint64_t>(Raw(header.stream), bytes.data() + 8);
  return bytes;
}

absl::StatusOr<Header> ParseHeader(absl::Span<const char> bytes) {
  const Header header{Type{static_cast<uint8_t>(bytes[0])}, Get<uint32_t>(bytes.data() + 4),
                      StreamId{Get<uint64_t>(bytes.data() + 8)}};
  const bool padded = bytes[1] == 0 && bytes[2] == 0 && bytes[3] == 0;
  bool fits = false;
  switch (header.type) {
    case Type::kGrant:
      fits = header.length == kGrantBytes;
      break;
    case Type::kData:
      fits = header.length >= 1 && header.length <= kChunkBytes;
      break;
    case Type::kCancel:
      fits = header.length >= 4 && header.length <= kMaxCancelBytes;
      break;
  }
  if (!padded || !fits) return absl::InvalidArgumentError("a message that the data plane does not know");
  return header;
}

std::string EncodeGrant(StreamId stream, uint64_t bytes) {
  const auto header = EncodeHeader({Type::kGrant, kGrantBytes, stream});
  std::string message(header.begin(), header.end());
  message.resize(kHeaderBytes + kGrantBytes);
  Put<uint64_t>(bytes, message.data() + kHeaderBytes);
  return message;
}

std::string EncodeCancel(StreamId stream, const absl::Status& status) {
  const absl::string_view text = status.message().substr(0, kMaxCancelMessageBytes);
  const auto header = EncodeHeader({Type::kCancel, static_cast<uint32_t>(4 + text.size()), stream});
  std::string message(header.begin(), header.end());
  message.resize(kHeaderBytes + 4);
  Put<uint32_t>(static_cast<uint32_t>(status.code()), message.data() + kHeaderBytes);
  message.append(text.data(), text.size());
  return message;
}

uint64_t ParseGrant(absl::Span<const char> bytes) { return Get<uint64_t>(bytes.data()); }

absl::Status ParseCancel(absl::Span<const char> bytes) {
  const uint32_t code = Get<uint32_t>(bytes.data());
  const absl::string_view text(bytes.data() + 4, bytes.size() - 4);
  const bool known = code >= 1 && code <= static_cast<uint32_t>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, text);
}

}  // namespace causeway::data_codec
