#include "base/utf8.h"

#include <cstdint>

namespace causeway {
namespace {

// Bytes of the character that `text` begins with; 0 where it begins with none. `text` is not empty.
size_t CharacterBytes(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  // The second byte's range keeps out what is spelled too long, surrogates, and what is beyond U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  size_t length = 0;
  if (byte(0) >= 0xc2 && byte(0) <= 0xdf) {
    length = 2;
  } else if (byte(0) >= 0xe0 && byte(0) <= 0xef) {
    length = 3;
    if (byte(0) == 0xe0) low = 0xa0;
    if (byte(0) == 0xed) high = 0x9f;
  } else if (byte(0) >= 0xf0 && byte(0) <= 0xf4) {
    length = 4;
    if (byte(0) == 0xf0) low = 0x90;
    if (byte(0) == 0xf4) high = 0x8f;
  }
  if (length == 0 || text.size() < length || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return length;
}

}  // namespace

bool IsValidUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string ValidUtf8(absl::string_view text, size_t limit) {
  std::string valid;
  valid.reserve(text.size() < limit ? text.size() : limit);
  while (!text.empty() && valid.size() < limit) {
    const size_t bytes = CharacterBytes(text);
    if (bytes > limit - valid.size()) break;
    if (bytes == 0) {
      valid.push_back('?');
      text.remove_prefix(1);
    } else {
      valid.append(text.data(), bytes);
      text.remove_prefix(bytes);
    }
  }
  return valid;
}

std::string PrintableUtf8(absl::string_view text, size_t limit) {
  std::string printable = ValidUtf8(text, limit);
  for (size_t i = 0; i < printable.size(); ++i) {
    const auto byte = static_cast<uint8_t>(printable[i]);
    if (byte < 0x20 || byte == 0x7f) printable[i] = '?';
    // U+0080 to U+009F, which some terminals obey.
    if (byte == 0xc2 && static_cast<uint8_t>(printable[i + 1]) < 0xa0) printable.replace(i, 2, "?");
  }
  return printable;
}

}  // namespace causeway
