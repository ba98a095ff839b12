#include "ifrt/uploads.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "ifrt/spill.h"

namespace causeway {
namespace {

// Smaller chunks stay in memory: a file and a mapping for each would cost more than they hold.
constexpr size_t kMinSpillBytes = 256 << 10;

// Sent where data will not come: the stream exists for a moment, so that the other side learns of its end.
class NoSource final : public StreamSource {
 public:
  absl::Span<const char> Read(int64_t, int64_t) override { return {}; }
  void OnDone(absl::Status) override {}
};

absl::Status Misfit(int64_t announced, int64_t wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("the client stores ", announced, " bytes for an array that needs ", wanted));
}

}  // namespace

// Feeds one worker's stream.
class HostUploads::Taker final : public StreamSource {
 public:
  Taker(std::shared_ptr<Entry> entry, WorkerId worker, StreamId stream)
      : entry(std::move(entry)), worker(worker), stream(stream) {}

  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override;
  void ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                 std::vector<absl::Span<const char>>& parts) override;
  void OnDone(absl::Status status) override;

  const std::shared_ptr<Entry> entry;
  const WorkerId worker;
  const StreamId stream;

  // Guarded by the entry's mutex.
  bool done = false;
  int64_t base = 0;  // offset of the queue's first byte
  absl::Cord queue;
  absl::Cord current;  // what the last Read showed
};

class HostUploads::Entry final : public Upload, public std::enable_shared_from_this<Entry> {
 public:
  Entry(std::shared_ptr<HostUploads> owner, HostBufferId id) : owner_(owner), plane_(owner->plane_), id_(id) {}

  // What is to be done once the lock is given up.
  struct Effects {
    std::shared_ptr<UploadFlow> resume;
    std::shared_ptr<UploadFlow> fail;
    std::vector<StreamId> streams_to_wake;
    std::vector<WorkerId> workers_to_wake;
    std::vector<std::pair<WorkerId, StreamId>> cancel;
    std::vector<HostDataArrived> deliver;
    absl::Status why;
    bool remove = false;
    int64_t unstage_memory = 0;
    int64_t unstage_file = 0;
  };

  absl::StatusOr<Next> Append(absl::Cord chunk) override {
    Effects effects;
    absl::StatusOr<Next> next = Next::kRead;
    {
      MutexLock lock(&mutex_);
      next = AppendLocked(std::move(chunk), effects);
    }
    Carry(effects);
    return next;
  }

  absl::Status End() override {
    Effects effects;
    absl::Status status;
    {
      MutexLock lock(&mutex_);
      status = failed_;
      if (status.ok() && received_ != announced_) {
        status = absl::DataLossError(absl::StrCat("host buffer ", Raw(id_), ": ", received_, " bytes came of ",
                                                  announced_, " that were announced"));
        FailLocked(status, effects);
      }
      flow_.reset();
    }
    Carry(effects);
    return status;
  }

  void Abort(const absl::Status& why) override {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      flow_.reset();
      if (!complete()) FailLocked(why, effects);
    }
    Carry(effects);
  }

  absl::Status Begin(int64_t total_bytes, std::shared_ptr<UploadFlow> flow) {
    Effects effects;
    absl::Status status;
    {
      MutexLock lock(&mutex_);
      if (announced_ >= 0) return absl::AlreadyExistsError(absl::StrCat("host buffer ", Raw(id_), " is stored twice"));
      if (!failed_.ok()) return failed_;
      announced_ = total_bytes;
      flow_ = std::move(flow);
      if (claimed_ && !discarded_ && wanted_ != total_bytes) {
        status = Misfit(total_bytes, wanted_);
        FailLocked(status, effects);
      } else if (total_bytes == 0) {
        CompleteLocked(effects);
      }
    }
    Carry(effects);
    return status;
  }

  absl::StatusOr<std::optional<std::string>> Claim(int64_t total_bytes) {
    Effects effects;
    absl::StatusOr<std::optional<std::string>> data = std::nullopt;
    {
      MutexLock lock(&mutex_);
      if (claimed_) return absl::AlreadyExistsError(absl::StrCat("host buffer ", Raw(id_), " is used twice"));
      claimed_ = true;
      wanted_ = total_bytes;
      UnstageLocked(effects);
      if (!failed_.ok()) {
        data = failed_;
      } else if (announced_ >= 0 && announced_ != total_bytes) {
        data = Misfit(announced_, total_bytes);
      } else if (total_bytes == 0 || (complete() && total_bytes <= kInlineBytes)) {
        data = std::make_optional(std::string(staged_));
      }
      if (!data.ok() || data->has_value()) {
        DiscardLocked(effects);
      } else {
        ResumeLocked(effects);
      }
    }
    Carry(effects);
    return data;
  }

  void Discard() {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      claimed_ = true;
      UnstageLocked(effects);
      DiscardLocked(effects);
    }
    Carry(effects);
  }

  void Want(WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame, bool last) {
    Effects effects;
    std::shared_ptr<Taker> taker;
    {
      MutexLock lock(&mutex_);
      if (in_frame) {
        frames_.emplace_back(worker, stream);
        if (!failed_.ok()) {
          FailLocked(failed_, effects);
        } else if (complete()) {
          DeliverLocked(effects);
        }
      } else {
        taker = std::make_shared<Taker>(shared_from_this(), worker, stream);
        taker->queue = staged_;
        takers_.push_back(taker);
      }
      if (last) {
        all_wanted_ = true;
        if (!in_frame) staged_.Clear();
      }
      effects.remove = finished();
    }
    if (taker != nullptr) {
      plane_->Send(PeerOf(worker), stream, total_bytes, taker);
      MutexLock lock(&mutex_);
      // The store may have failed meanwhile, before the plane knew the stream.
      if (!failed_.ok()) {
        effects.cancel.emplace_back(worker, stream);
        effects.why = failed_;
      }
    }
    Carry(effects, /*in_core=*/true);
  }

  void Expire(absl::Time now, absl::Duration timeout) {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      if (!paused_ || claimed_ || now - paused_since_ < timeout) return;
      effects.fail = std::exchange(flow_, nullptr);
      FailLocked(absl::ResourceExhaustedError(
                     absl::StrCat("host buffer ", Raw(id_),
                                  ": the data staged for this session have reached their limit, and no "
                                  "request took any for ",
                                  absl::FormatDuration(timeout),
                                  "; send fewer bytes at a time, or raise "
                                  "the controller's staging limit")),
                 effects);
    }
    Carry(effects);
  }

  void Close() {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      effects.fail = std::exchange(flow_, nullptr);
      frames_.clear();
      FailLocked(absl::CancelledError("the session is closed"), effects);
    }
    Carry(effects);
  }

  // Another buffer has left room.
  void ResumeIfPaused() {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      if (paused_ && !claimed_) {
        paused_ = false;
        effects.resume = flow_;
      }
    }
    Carry(effects);
  }

  // gRPC cuts what the client sends into pieces of some kilobytes: several of them make one chunk.
  void Read(Taker& taker, int64_t offset, int64_t max_bytes, size_t max_parts,
            std::vector<absl::Span<const char>>& parts) {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      const int64_t used = std::min<int64_t>(offset - taker.base, taker.queue.size());
      if (used > 0) {
        taker.queue.RemovePrefix(used);
        taker.base += used;
      }
      taker.current = taker.queue.Subcord(0, max_bytes);
      for (const absl::string_view part : taker.current.Chunks()) {
        if (max_parts-- == 0) break;
        parts.emplace_back(part.data(), part.size());
      }
      ResumeLocked(effects);
    }
    Carry(effects);
  }

  void Done(Taker& taker) {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      taker.done = true;
      taker.queue.Clear();
      taker.current.Clear();
      takers_.erase(std::remove_if(takers_.begin(), takers_.end(), [](const auto& t) { return t->done; }),
                    takers_.end());
      ResumeLocked(effects);
      effects.remove = finished();
    }
    Carry(effects);
  }

 private:
  bool complete() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return announced_ >= 0 && received_ == announced_; }

  // Nothing more will happen to it.
  bool finished() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!complete() && failed_.ok()) return false;
    return discarded_ || (all_wanted_ && takers_.empty() && frames_.empty());
  }

  absl::StatusOr<Next> AppendLocked(absl::Cord chunk, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!failed_.ok()) return failed_;
    const int64_t length = static_cast<int64_t>(chunk.size());
    if (length > announced_ - received_) {
      const absl::Status too_much = absl::InvalidArgumentError(
          absl::StrCat("host buffer ", Raw(id_), ": more bytes than the ", announced_, " that were announced"));
      FailLocked(too_much, effects);
      return too_much;
    }
    received_ += length;
    bool room = true;
    if (!discarded_) {
      if (!claimed_) {
        const auto owner = owner_.lock();
        room = owner == nullptr || owner->Stage(shared_from_this(), chunk, staged_memory_, staged_file_);
      }
      for (const auto& taker : takers_) {
        taker->queue.Append(chunk);
        effects.streams_to_wake.push_back(taker->stream);
        effects.workers_to_wake.push_back(taker->worker);
      }
      if (!all_wanted_ || !frames_.empty()) staged_.Append(std::move(chunk));
    }
    if (complete()) {
      CompleteLocked(effects);
      return Next::kRead;
    }
    if (room && !behind()) return Next::kRead;
    paused_ = true;
    paused_since_ = absl::Now();
    return Next::kPause;
  }

  // A claimed buffer of which some taker has a full window still to take.
  bool behind() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!claimed_ || discarded_ || announced_ <= kInlineBytes) return false;
    if (!all_wanted_ && static_cast<int64_t>(staged_.size()) >= kStreamWindowBytes) return true;
    return std::any_of(takers_.begin(), takers_.end(), [](const auto& taker) {
      return static_cast<int64_t>(taker->queue.size()) >= kStreamWindowBytes;
    });
  }

  void ResumeLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!paused_ || !claimed_ || behind()) return;
    paused_ = false;
    effects.resume = flow_;
  }

  void CompleteLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    DeliverLocked(effects);
    effects.remove = finished();
  }

  void DeliverLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const auto& [worker, stream] : std::exchange(frames_, {})) {
      effects.deliver.push_back(HostDataArrived{worker, stream, std::string(staged_)});
    }
  }

  void UnstageLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    effects.unstage_memory += std::exchange(staged_memory_, 0);
    effects.unstage_file += std::exchange(staged_file_, 0);
  }

  void DiscardLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    discarded_ = true;
    staged_.Clear();
    ResumeLocked(effects);
    effects.remove = finished();
  }

  void FailLocked(const absl::Status& why, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    failed_ = why;
    paused_ = false;
    staged_.Clear();
    UnstageLocked(effects);
    for (const auto& [worker, stream] : std::exchange(frames_, {})) {
      effects.deliver.push_back(HostDataArrived{worker, stream, why});
    }
    for (const auto& taker : takers_) effects.cancel.emplace_back(taker->worker, taker->stream);
    effects.why = why;
    effects.remove = finished();
  }

  // Without the lock, since all of these may come back here.
  void Carry(Effects& effects, bool in_core = false) ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto owner = owner_.lock();
    for (size_t i = 0; i < effects.streams_to_wake.size(); ++i) {
      plane_->Wake(PeerOf(effects.workers_to_wake[i]), effects.streams_to_wake[i]);
    }
    for (const auto& [worker, stream] : effects.cancel) plane_->Cancel(PeerOf(worker), stream, effects.why);
    if (effects.resume != nullptr) effects.resume->Resume();
    if (effects.fail != nullptr) effects.fail->Fail(effects.why);
    if (owner == nullptr) return;
    for (HostDataArrived& arrived : effects.deliver) {
      if (in_core) {
        owner->postpone_([owner, arrived = std::move(arrived)] { owner->deliver_(arrived); });
      } else {
        owner->deliver_(std::move(arrived));
      }
    }
    if (effects.remove) owner->Remove(id_);
    if (effects.unstage_memory > 0 || effects.unstage_file > 0) {
      owner->Unstage(effects.unstage_memory, effects.unstage_file);
    }
  }

  const std::weak_ptr<HostUploads> owner_;
  DataPlane* const plane_;
  const HostBufferId id_;

  Mutex mutex_;
  std::shared_ptr<UploadFlow> flow_ ABSL_GUARDED_BY(mutex_);  // while the client stores
  int64_t announced_ ABSL_GUARDED_BY(mutex_) = -1;            // by the client; -1: it has not begun
  int64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t wanted_ ABSL_GUARDED_BY(mutex_) = 0;       // by the request
  bool claimed_ ABSL_GUARDED_BY(mutex_) = false;     // a request is here
  bool all_wanted_ ABSL_GUARDED_BY(mutex_) = false;  // no more takers will come
  bool discarded_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time paused_since_ ABSL_GUARDED_BY(mutex_);
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
  absl::Cord staged_ ABSL_GUARDED_BY(mutex_);          // all that came, until all takers are known
  int64_t staged_memory_ ABSL_GUARDED_BY(mutex_) = 0;  // what the owner counts of it
  int64_t staged_file_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<Taker>> takers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<WorkerId, StreamId>> frames_ ABSL_GUARDED_BY(mutex_);
};

absl::Span<const char> HostUploads::Taker::Read(int64_t offset, int64_t max_bytes) {
  std::vector<absl::Span<const char>> parts;
  ReadParts(offset, max_bytes, 1, parts);
  return parts.empty() ? absl::Span<const char>() : parts.front();
}

void HostUploads::Taker::ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                                   std::vector<absl::Span<const char>>& parts) {
  entry->Read(*this, offset, max_bytes, max_parts, parts);
}

void HostUploads::Taker::OnDone(absl::Status) { entry->Done(*this); }

HostUploads::HostUploads(DataPlane* plane, Deliver deliver, std::function<void(std::function<void()>)> postpone,
                         UploadLimits limits)
    : plane_(plane), deliver_(std::move(deliver)), postpone_(std::move(postpone)), limits_(std::move(limits)) {}

HostUploads::~HostUploads() = default;

std::shared_ptr<HostUploads::Entry> HostUploads::FindOrAdd(HostBufferId buffer, absl::Status& status) {
  MutexLock lock(&mutex_);
  if (closed_) {
    status = absl::CancelledError("the session is closed");
    return nullptr;
  }
  if (auto it = entries_.find(buffer); it != entries_.end()) return it->second;
  if (entries_.size() >= static_cast<size_t>(limits_.max_buffers)) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("a session may have ", limits_.max_buffers, " host buffers on their way; this one has as many"));
    return nullptr;
  }
  return entries_[buffer] = std::make_shared<Entry>(shared_from_this(), buffer);
}

void HostUploads::Remove(HostBufferId buffer) {
  MutexLock lock(&mutex_);
  entries_.erase(buffer);
}

bool HostUploads::Stage(const std::shared_ptr<Entry>& entry, absl::Cord& chunk, int64_t& memory_bytes,
                        int64_t& file_bytes) {
  const int64_t length = static_cast<int64_t>(chunk.size());
  bool spill = false;
  {
    MutexLock lock(&mutex_);
    if (staged_bytes_ + length <= limits_.staging_bytes) {
      staged_bytes_ += length;
      memory_bytes += length;
      return true;
    }
    spill = !limits_.spill_directory.empty() && chunk.size() >= kMinSpillBytes &&
            spilled_bytes_ + length <= limits_.spill_bytes;
    if (spill) spilled_bytes_ += length;
  }
  if (spill) {
    if (auto file = SpillToFile(chunk, limits_.spill_directory); file.ok()) {
      chunk = *std::move(file);
      file_bytes += length;
      return true;
    }
  }
  MutexLock lock(&mutex_);
  if (spill) spilled_bytes_ -= length;
  staged_bytes_ += length;
  memory_bytes += length;
  waiting_for_room_.push_back(entry);
  return false;
}

void HostUploads::Unstage(int64_t memory_bytes, int64_t file_bytes) {
  std::vector<std::weak_ptr<Entry>> waiting;
  {
    MutexLock lock(&mutex_);
    staged_bytes_ -= memory_bytes;
    spilled_bytes_ -= file_bytes;
    if (staged_bytes_ < limits_.staging_bytes) waiting.swap(waiting_for_room_);
  }
  for (const auto& weak : waiting) {
    if (const auto entry = weak.lock()) entry->ResumeIfPaused();
  }
}

absl::StatusOr<std::shared_ptr<Upload>> HostUploads::Begin(HostBufferId buffer, int64_t total_bytes,
                                                           std::shared_ptr<UploadFlow> flow) {
  if (total_bytes < 0) return absl::InvalidArgumentError("a host buffer of negative size");
  absl::Status status;
  const std::shared_ptr<Entry> entry = FindOrAdd(buffer, status);
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(entry->Begin(total_bytes, std::move(flow)));
  return entry;
}

absl::StatusOr<std::optional<std::string>> HostUploads::Claim(HostBufferId buffer, int64_t total_bytes) {
  absl::Status status;
  const std::shared_ptr<Entry> entry = FindOrAdd(buffer, status);
  RETURN_IF_ERROR(status);
  return entry->Claim(total_bytes);
}

void HostUploads::Discard(HostBufferId buffer) {
  absl::Status status;
  if (const std::shared_ptr<Entry> entry = FindOrAdd(buffer, status)) entry->Discard();
}

void HostUploads::Want(HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame,
                       bool last) {
  std::shared_ptr<Entry> entry;
  {
    MutexLock lock(&mutex_);
    if (auto it = entries_.find(buffer); it != entries_.end()) entry = it->second;
  }
  if (entry != nullptr) {
    entry->Want(worker, stream, total_bytes, in_frame, last);
    return;
  }
  const absl::Status gone = absl::CancelledError(absl::StrCat("host buffer ", Raw(buffer), " is gone"));
  if (in_frame) {
    postpone_([self = shared_from_this(), worker, stream, gone] {
      self->deliver_(HostDataArrived{worker, stream, gone});
    });
  } else {
    plane_->Send(PeerOf(worker), stream, total_bytes, std::make_shared<NoSource>());
    plane_->Cancel(PeerOf(worker), stream, gone);
  }
}

void HostUploads::Expire(absl::Time now) {
  std::vector<std::shared_ptr<Entry>> entries;
  {
    MutexLock lock(&mutex_);
    for (const auto& weak : waiting_for_room_) {
      if (auto entry = weak.lock()) entries.push_back(std::move(entry));
    }
  }
  for (const auto& entry : entries) entry->Expire(now, limits_.stall_timeout);
}

void HostUploads::Close() {
  absl::flat_hash_map<HostBufferId, std::shared_ptr<Entry>> entries;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    entries.swap(entries_);
  }
  for (const auto& [id, entry] : entries) entry->Close();
}

int HostUploads::buffer_count() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(entries_.size());
}

int64_t HostUploads::staged_bytes() const {
  MutexLock lock(&mutex_);
  return staged_bytes_;
}

}  // namespace causeway
