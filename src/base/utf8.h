// Texts from elsewhere, as messages can carry them. Protobuf refuses a whole message for one string field that is no
// UTF-8, and what plugins, data connections and the cutting of long texts give may be none.
//
//   message.set_text(ValidUtf8(status.message(), kMaxTextBytes));
//
// Threading: pure functions.
#ifndef CAUSEWAY_BASE_UTF8_H_
#define CAUSEWAY_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace causeway {

bool IsValidUtf8(absl::string_view text);

// The first `limit` bytes of `text`, or a little less so that no character is cut, with '?' for each byte that belongs
// to none.
std::string ValidUtf8(absl::string_view text, size_t limit = absl::string_view::npos);

// The same, with '?' also for control characters: a name that a stranger chose, to be shown on a terminal.
std::string PrintableUtf8(absl::string_view text, size_t limit = absl::string_view::npos);

}  // namespace causeway

#endif  // CAUSEWAY_BASE_UTF8_H_
