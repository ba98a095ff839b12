#include "net/frame_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

std::array<char, kFrameHeaderBytes> FrameHeader(uint32_t size) {
  return {static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(size >> 16),
          static_cast<char>(size >> 24)};
}

absl::Status FrameReader::Feed(absl::Span<const char> bytes, absl::FunctionRef<void(std::string frame)> on_frame) {
  while (preamble_seen_ < kLinkPreamble.size() && !bytes.empty()) {
    if (bytes.front() != kLinkPreamble[preamble_seen_]) {
      return absl::InvalidArgumentError(
          preamble_seen_ + 1 == kLinkPreamble.size()
              ? "the other side speaks another version of the link: run the same Causeway release on both"
              : "the other side is no Causeway process: this port is for workers and `causeway status`");
    }
    ++preamble_seen_;
    bytes.remove_prefix(1);
  }
  while (!bytes.empty() || (in_frame_ && wanted_ == 0)) {
    if (!in_frame_) {
      const size_t take = std::min(bytes.size(), kFrameHeaderBytes - header_.size());
      header_.append(bytes.data(), take);
      bytes.remove_prefix(take);
      if (header_.size() < kFrameHeaderBytes) return absl::OkStatus();
      wanted_ = 0;
      for (size_t i = 0; i < kFrameHeaderBytes; ++i) wanted_ |= size_t{static_cast<unsigned char>(header_[i])} << (8 * i);
      header_.clear();
      if (static_cast<int64_t>(wanted_) > max_frame_bytes_) {
        return absl::InvalidArgumentError(absl::StrCat("a frame of ", wanted_, " bytes; at most ", max_frame_bytes_,
                                                       " are taken from this side"));
      }
      in_frame_ = true;
    }
    const size_t take = std::min(bytes.size(), wanted_);
    frame_.append(bytes.data(), take);
    bytes.remove_prefix(take);
    wanted_ -= take;
    if (wanted_ > 0) return absl::OkStatus();
    in_frame_ = false;
    on_frame(std::exchange(frame_, {}));
  }
  return absl::OkStatus();
}

}  // namespace causeway
