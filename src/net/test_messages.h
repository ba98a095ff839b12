// A message handler for tests, which keeps what it gets.
#ifndef CAUSEWAY_NET_TEST_MESSAGES_H_
#define CAUSEWAY_NET_TEST_MESSAGES_H_

#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "net/data_plane.h"

namespace causeway {

class TestMessages final : public MessageHandler {
 public:
  void OnMessage(PeerId peer, absl::Span<const char> message) override {
    MutexLock lock(&mu_);
    messages_.emplace_back(peer, std::string(message.data(), message.size()));
  }
  void OnMessagesLost(PeerId peer, const absl::Status& why) override {
    MutexLock lock(&mu_);
    lost_.emplace_back(peer, why);
  }

  std::vector<std::pair<PeerId, std::string>> messages() {
    MutexLock lock(&mu_);
    return messages_;
  }
  std::vector<std::pair<PeerId, absl::Status>> lost() {
    MutexLock lock(&mu_);
    return lost_;
  }
  size_t count() {
    MutexLock lock(&mu_);
    return messages_.size();
  }

 private:
  Mutex mu_;
  std::vector<std::pair<PeerId, std::string>> messages_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<PeerId, absl::Status>> lost_ ABSL_GUARDED_BY(mu_);
};

// Message `i` of a test, of `size` bytes.
inline std::string TestMessage(int i, size_t size) {
  std::string text(size, '\0');
  for (size_t at = 0; at < size; ++at) text[at] = static_cast<char>(i * 7 + at * 13 + (at >> 8));
  return text;
}

// In `parts` parts.
inline void SendText(DataPlane& plane, PeerId peer, const std::string& text, size_t parts = 1) {
  std::vector<absl::Span<const char>> spans;
  for (size_t i = 0; i < parts; ++i) {
    const size_t begin = text.size() * i / parts;
    spans.emplace_back(text.data() + begin, text.size() * (i + 1) / parts - begin);
  }
  plane.SendMessage(peer, spans);
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_TEST_MESSAGES_H_
