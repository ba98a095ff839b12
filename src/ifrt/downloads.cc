#include "ifrt/downloads.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"

namespace causeway {
namespace {

// What a buffer without bytes costs, so that a client cannot have endlessly many of them.
constexpr int64_t kOverheadBytes = 256;

}  // namespace

int64_t HostDownloads::Cost(int64_t bytes) { return kOverheadBytes + (bytes <= kInlineBytes ? bytes : 0); }

absl::Status HostDownloads::Put(HostBufferId buffer, Fetched fetched, HostCharge charge) {
  charge.Resize(Cost(fetched.total_bytes));
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    if (closed_) {
      status = absl::CancelledError("the session is closed");
    } else if (waiting_.contains(buffer)) {
      status = absl::AlreadyExistsError(absl::StrCat("host buffer ", Raw(buffer), " is in use"));
    } else {
      waiting_[buffer] = Waiting{std::move(fetched), std::move(charge)};
      return absl::OkStatus();
    }
  }
  Cancel(fetched);
  return status;
}

absl::StatusOr<Fetched> HostDownloads::Take(HostBufferId buffer) {
  MutexLock lock(&mutex_);
  auto it = waiting_.find(buffer);
  if (it == waiting_.end()) return absl::NotFoundError(absl::StrCat("no host buffer ", Raw(buffer)));
  if (IsStream(it->second.fetched)) {
    if (it->second.taken) {
      return absl::FailedPreconditionError(absl::StrCat("host buffer ", Raw(buffer), " was read before"));
    }
    it->second.taken = true;
  }
  return it->second.fetched;
}

void HostDownloads::Delete(HostBufferId buffer) {
  Waiting gone;
  {
    MutexLock lock(&mutex_);
    auto it = waiting_.find(buffer);
    if (it == waiting_.end()) return;
    gone = std::move(it->second);
    waiting_.erase(it);
  }
  if (!gone.taken) Cancel(gone.fetched);
}

void HostDownloads::Close() {
  absl::flat_hash_map<HostBufferId, Waiting> gone;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    gone.swap(waiting_);
  }
  for (const auto& [buffer, waiting] : gone) {
    if (!waiting.taken) Cancel(waiting.fetched);
  }
}

// The worker may be about to send: the stream is received for a moment, so that it learns that nobody wants it.
void HostDownloads::Cancel(const Fetched& fetched) {
  if (!IsStream(fetched)) return;
  class NoSink final : public StreamSink {
   public:
    absl::Span<char> Buffer(int64_t, int64_t) override { return absl::MakeSpan(&nothing_, 1); }
    void OnData(int64_t, int64_t) override {}
    void OnDone(absl::Status) override {}

   private:
    char nothing_ = 0;
  };
  plane_->Receive(PeerOf(fetched.worker), fetched.stream, fetched.total_bytes, /*window_bytes=*/0,
                  std::make_shared<NoSink>());
  plane_->Cancel(PeerOf(fetched.worker), fetched.stream, absl::CancelledError("the client no longer wants the data"));
}

}  // namespace causeway
