#include "net/frame_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "net/little_endian.h"

namespace causeway {
namespace {

constexpr size_t kStagingBytes = 64 << 10;
constexpr size_t kMagicBytes = 6;

}  // namespace

std::array<char, kFrameHeaderBytes> FrameHeader(uint32_t length) {
  std::array<char, kFrameHeaderBytes> header;
  StoreLittleEndian<uint32_t>(length, header.data());
  return header;
}

FrameReader::FrameReader() : staging_(kStagingBytes) {}

absl::Span<char> FrameReader::Buffer() {
  if (in_body_) {
    if (body_filled_ == body_.size()) body_.resize(std::min(body_length_, 2 * body_.size()));
    return absl::MakeSpan(&body_[body_filled_], body_.size() - body_filled_);
  }
  if (begin_ > 0) {
    std::memmove(staging_.data(), staging_.data() + begin_, staged());
    end_ -= begin_;
    begin_ = 0;
  }
  return absl::MakeSpan(staging_).subspan(end_);
}

void FrameReader::Filled(size_t bytes) { (in_body_ ? body_filled_ : end_) += bytes; }

absl::Status FrameReader::CheckPreamble() {
  for (; preamble_seen_ < kLinkPreamble.size() && staged() > 0; ++preamble_seen_, ++begin_) {
    if (staging_[begin_] == kLinkPreamble[preamble_seen_]) continue;
    if (preamble_seen_ < kMagicBytes) return absl::InvalidArgumentError("what was sent is no Causeway link");
    return absl::InvalidArgumentError("the link is of another version: run the same Causeway on both sides");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next(int64_t limit_bytes) {
  if (in_body_) {
    if (body_filled_ < body_length_) return std::nullopt;
    in_body_ = false;
    return std::exchange(body_, std::string());
  }
  RETURN_IF_ERROR(CheckPreamble());
  if (staged() < kFrameHeaderBytes) return std::nullopt;
  const size_t length = LoadLittleEndian<uint32_t>(staging_.data() + begin_);
  if (limit_bytes < 0 || length > static_cast<uint64_t>(limit_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", length, " bytes was announced; the limit is ", limit_bytes));
  }
  const size_t available = staged() - kFrameHeaderBytes;
  const char* const start = staging_.data() + begin_ + kFrameHeaderBytes;
  if (available >= length) {
    begin_ += kFrameHeaderBytes + length;
    return std::string(start, length);
  }
  if (kFrameHeaderBytes + length <= staging_.size()) return std::nullopt;
  body_.assign(start, available);
  body_.resize(std::min(length, std::max(2 * available, staging_.size())));
  body_filled_ = available;
  body_length_ = length;
  in_body_ = true;
  begin_ = end_ = 0;
  return std::nullopt;
}

}  // namespace causeway
