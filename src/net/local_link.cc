#include "net/local_link.h"

#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/mutex.h"

namespace causeway {
namespace {

// Both ends under one lock: what one does to the other takes effect at once.
class LocalPair : public std::enable_shared_from_this<LocalPair> {
 public:
  LocalPair(Executor& executor, const LocalLinkOptions& options)
      : executor_(executor), max_queued_bytes_(options.max_queued_bytes), full_bytes_(options.full_bytes) {
    ends_[0].peer_name = options.second_name;
    ends_[1].peer_name = options.first_name;
  }

  void Start(int end, LinkHandler* handler) {
    MutexLock lock(&mu_);
    ends_[end].handler = handler;
    Schedule(end);
    if (ends_[end].full) executor_.Post([pair = shared_from_this(), end] { pair->TellFull(end); });
  }

  void Send(int end, std::string frame) {
    MutexLock lock(&mu_);
    End& from = ends_[end];
    End& to = ends_[1 - end];
    // An end that closed has sent its last; one that is closed by the other side notices in its turn.
    if (from.closed.has_value() || to.closed.has_value()) return;
    if (!to.inbox.empty()) to.waiting_bytes += static_cast<int64_t>(frame.size());
    to.inbox.push_back(std::move(frame));
    if (to.waiting_bytes > max_queued_bytes_) {
      return CloseEnd(end, absl::ResourceExhaustedError(
                               absl::StrCat("it does not read: more than ", max_queued_bytes_, " bytes wait for it")));
    }
    Schedule(1 - end);
    NoteFull(end);
  }

  void Close(int end, const absl::Status& why) {
    MutexLock lock(&mu_);
    CloseEnd(end, why);
  }

  void SetMaxFrameBytes(int end, int64_t limit_bytes) {
    MutexLock lock(&mu_);
    ends_[end].max_frame_bytes = limit_bytes;
  }

  const std::string& peer_name(int end) const { return ends_[end].peer_name; }

 private:
  struct End {
    std::string peer_name;  // never changes
    LinkHandler* handler = nullptr;
    std::deque<std::string> inbox;
    int64_t waiting_bytes = 0;  // of inbox, behind its front
    int64_t max_frame_bytes = kMaxHelloBytes;
    std::optional<absl::Status> closed;  // by this side
    bool scheduled = false;              // a Deliver is on its way, or in the handler
    bool full = false;                   // what this end sends piles up
    bool told_full = false;              // as its handler knows
  };

  void CloseEnd(int end, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    End& self = ends_[end];
    if (self.closed.has_value()) return;
    self.closed = why.ok() ? why : absl::Status(why.code(), absl::StrCat(self.peer_name, ": ", why.message()));
    self.inbox.clear();
    Schedule(0);
    Schedule(1);
  }

  void Schedule(int end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    End& self = ends_[end];
    const bool has_news = !self.inbox.empty() || self.closed.has_value() || ends_[1 - end].closed.has_value();
    if (self.handler == nullptr || self.scheduled || !has_news) return;
    self.scheduled = true;
    executor_.Post([pair = shared_from_this(), end] { pair->Deliver(end); });
  }

  // Sees whether `end` has to be told that what it sends piles up, or no longer.
  void NoteFull(int end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    End& self = ends_[end];
    const bool full = ends_[1 - end].waiting_bytes > (self.full ? full_bytes_ / 2 : full_bytes_);
    if (std::exchange(self.full, full) == full) return;
    executor_.Post([pair = shared_from_this(), end] { pair->TellFull(end); });
  }

  void TellFull(int end) {
    LinkHandler* handler;
    bool full;
    {
      MutexLock lock(&mu_);
      End& self = ends_[end];
      handler = self.handler;
      full = self.full;
      if (handler == nullptr || std::exchange(self.told_full, full) == full) return;
    }
    handler->OnFull(full);
  }

  // On the executor: the next frame, or that there will be none.
  void Deliver(int end) {
    LinkHandler* handler;
    std::string frame;
    std::optional<absl::Status> closed;
    {
      MutexLock lock(&mu_);
      End& self = ends_[end];
      handler = self.handler;
      if (!self.closed.has_value() && !self.inbox.empty()) {
        frame = std::move(self.inbox.front());
        self.inbox.pop_front();
        if (!self.inbox.empty()) self.waiting_bytes -= static_cast<int64_t>(self.inbox.front().size());
        NoteFull(1 - end);
        if (static_cast<int64_t>(frame.size()) > self.max_frame_bytes) {
          CloseEnd(end, absl::InvalidArgumentError(absl::StrCat("a frame of ", frame.size(),
                                                                " bytes came; the limit is ", self.max_frame_bytes)));
        }
      } else if (!self.closed.has_value()) {
        self.closed = absl::UnavailableError(absl::StrCat(self.peer_name, ": the other side closed the link"));
      }
      closed = self.closed;
      if (closed.has_value()) self.handler = nullptr;
    }
    if (closed.has_value()) return handler->OnClosed(*closed);
    handler->OnFrame(std::move(frame));
    MutexLock lock(&mu_);
    ends_[end].scheduled = false;
    Schedule(end);
  }

  Executor& executor_;
  const int64_t max_queued_bytes_;
  const int64_t full_bytes_;
  Mutex mu_;
  End ends_[2];  // under mu_, but for peer_name
};

class LocalLink final : public Link {
 public:
  LocalLink(std::shared_ptr<LocalPair> pair, int end) : pair_(std::move(pair)), end_(end) {}
  ~LocalLink() override { pair_->Close(end_, absl::CancelledError("the link was dropped on this side")); }

  void Start(LinkHandler* handler) override { pair_->Start(end_, handler); }
  void Send(std::string frame) override { pair_->Send(end_, std::move(frame)); }
  void Close(absl::Status why) override { pair_->Close(end_, why); }
  void SetMaxFrameBytes(int64_t limit_bytes) override { pair_->SetMaxFrameBytes(end_, limit_bytes); }
  std::string PeerName() const override { return pair_->peer_name(end_); }

 private:
  const std::shared_ptr<LocalPair> pair_;
  const int end_;
};

}  // namespace

std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> MakeLocalLinkPair(Executor& executor,
                                                                          const LocalLinkOptions& options) {
  auto pair = std::make_shared<LocalPair>(executor, options);
  return {std::make_unique<LocalLink>(pair, 0), std::make_unique<LocalLink>(pair, 1)};
}

}  // namespace causeway
