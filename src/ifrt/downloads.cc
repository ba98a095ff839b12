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

absl::Status HostDownloads::Add(HostBufferId buffer, Waiting& waiting) {
  MutexLock lock(&mutex_);
  if (closed_) return absl::CancelledError("the session is closed");
  if (!waiting_.try_emplace(buffer, std::move(waiting)).second) {
    return absl::AlreadyExistsError(absl::StrCat("host buffer ", Raw(buffer), " is in use"));
  }
  return absl::OkStatus();
}

absl::Status HostDownloads::Put(HostBufferId buffer, Fetched fetched, HostCharge charge) {
  charge.Resize(Cost(fetched.total_bytes));
  Waiting waiting{.fetched = std::move(fetched), .charge = std::move(charge)};
  absl::Status status = Add(buffer, waiting);
  if (!status.ok()) Cancel(*plane_, **waiting.fetched);
  return status;
}

absl::Status HostDownloads::Expect(HostBufferId buffer, HostCharge charge) {
  Waiting waiting{.charge = std::move(charge)};
  return Add(buffer, waiting);
}

void HostDownloads::Arrived(HostBufferId buffer, absl::StatusOr<Fetched> fetched) {
  Then then;
  Waiting gone;
  {
    MutexLock lock(&mutex_);
    const auto it = waiting_.find(buffer);
    if (it != waiting_.end() && !it->second.fetched) {
      then = std::move(it->second.then);
      if (then == nullptr) {
        it->second.fetched = std::move(fetched);
        return;
      }
      it->second.taken = fetched.ok() && IsStream(*fetched);
      it->second.fetched = fetched;
      if (!fetched.ok()) gone = std::move(waiting_.extract(it).mapped());
    }
  }
  if (then != nullptr) {
    then(std::move(fetched));
  } else if (fetched.ok()) {
    Cancel(*plane_, *fetched);
  }
}

void HostDownloads::Take(HostBufferId buffer, Then then) {
  absl::StatusOr<Fetched> answer = absl::NotFoundError(absl::StrCat("no host buffer ", Raw(buffer)));
  Waiting gone;
  {
    MutexLock lock(&mutex_);
    const auto it = waiting_.find(buffer);
    if (it != waiting_.end() && (it->second.taken || it->second.then != nullptr)) {
      answer = absl::FailedPreconditionError(absl::StrCat("host buffer ", Raw(buffer), " was read before"));
    } else if (it != waiting_.end() && !it->second.fetched) {
      it->second.then = std::move(then);
      return;
    } else if (it != waiting_.end()) {
      answer = *it->second.fetched;
      it->second.taken = answer.ok() && IsStream(*answer);
      if (!answer.ok()) gone = std::move(waiting_.extract(it).mapped());
    }
  }
  then(std::move(answer));
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
  Forget(std::move(gone));
}

void HostDownloads::Lose(WorkerId worker, const absl::Status& why) {
  MutexLock lock(&mutex_);
  for (auto& [buffer, waiting] : waiting_) {
    const bool is_there = waiting.fetched && waiting.fetched->ok() && !waiting.taken;
    if (is_there && (*waiting.fetched)->worker == worker) waiting.fetched = why;
  }
}

void HostDownloads::Close() {
  absl::flat_hash_map<HostBufferId, Waiting> gone;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    gone.swap(waiting_);
  }
  for (auto& [buffer, waiting] : gone) Forget(std::move(waiting));
}

void HostDownloads::Forget(Waiting gone) {
  if (gone.then != nullptr) gone.then(absl::CancelledError("the data are no longer wanted"));
  if (gone.fetched && gone.fetched->ok() && !gone.taken) Cancel(*plane_, **gone.fetched);
}

// The worker may be about to send: the stream is received for a moment, so that it learns that nobody wants it.
void HostDownloads::Cancel(DataPlane& plane, const Fetched& fetched) {
  if (!IsStream(fetched)) return;
  class NoSink final : public StreamSink {
   public:
    absl::Span<char> Buffer(int64_t, int64_t) override { return absl::MakeSpan(&nothing_, 1); }
    void OnData(int64_t, int64_t) override {}
    void OnDone(absl::Status) override {}

   private:
    char nothing_ = 0;
  };
  plane.Receive(PeerOf(fetched.worker), fetched.stream, fetched.total_bytes, /*window_bytes=*/0,
                std::make_shared<NoSink>());
  plane.Cancel(PeerOf(fetched.worker), fetched.stream, absl::CancelledError("the client no longer wants the data"));
}

}  // namespace causeway
