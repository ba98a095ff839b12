#include "net/message_reader.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "net/data_plane.h"
#include "net/little_endian.h"

namespace causeway {

void WriteMessageHeader(size_t length, char* to) {
  StoreLittleEndian<uint32_t>(static_cast<uint32_t>(length), to);
  StoreLittleEndian<uint32_t>(0, to + 4);
}

bool MessageReader::TakeBody(Take take) {
  const std::unique_ptr<char[]> body = std::move(body_);
  const size_t size = size_;
  size_ = have_ = 0;
  return take({body.get(), size});
}

absl::Status MessageReader::Filled(size_t bytes, absl::Span<const char> buffer, Take take) {
  const size_t rest = std::min(bytes, size_ - have_);
  have_ += rest;
  if (body_ != nullptr && have_ == size_ && !TakeBody(take)) return absl::OkStatus();
  buffer = buffer.first(bytes - rest);
  while (!buffer.empty()) {
    const char* header = buffer.data();
    if (header_bytes_ > 0 || buffer.size() < kMessageHeaderBytes) {
      const size_t n = std::min(kMessageHeaderBytes - header_bytes_, buffer.size());
      std::memcpy(header_.data() + header_bytes_, buffer.data(), n);
      header_bytes_ += n;
      buffer.remove_prefix(n);
      if (header_bytes_ < kMessageHeaderBytes) break;
      header_bytes_ = 0;
      header = header_.data();
    } else {
      buffer.remove_prefix(kMessageHeaderBytes);
    }
    const size_t length = LoadLittleEndian<uint32_t>(header);
    if (length > static_cast<size_t>(kMaxMessageBytes) || LoadLittleEndian<uint32_t>(header + 4) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a message of ", length, " bytes with a header that none can have"));
    }
    if (buffer.size() >= length) {
      if (!take(buffer.first(length))) break;
      buffer.remove_prefix(length);
    } else {
      body_.reset(new char[length]);
      size_ = length;
      have_ = buffer.size();
      std::memcpy(body_.get(), buffer.data(), have_);
      break;
    }
  }
  return absl::OkStatus();
}

}  // namespace causeway
