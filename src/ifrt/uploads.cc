#include "ifrt/uploads.h"

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "ifrt/spill.h"

namespace causeway {
namespace {

// Smaller chunks stay in memory: a file and a mapping for each would cost more than they hold.
constexpr int64_t kMinSpillBytes = 256 << 10;

// What workers have asked for, of a session, waits no longer than this while its room does not move. Then a few chunks
// come without room, each time.
constexpr absl::Duration kAskedPatience = absl::Seconds(1);
constexpr int kMaxChunksWithoutRoom = 8;

// What a buffer costs beside its data.
constexpr int64_t kEntryBytes = 1 << 10;

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
  bool hungry = false;  // it was asked for bytes, and had none
  int64_t base = 0;     // offset of the queue's first byte
  absl::Cord queue;
  absl::Cord current;  // what the last Read showed
};

class HostUploads::Entry final : public Upload, public std::enable_shared_from_this<Entry> {
 public:
  Entry(const std::shared_ptr<HostUploads>& owner, HostBufferId id)
      : owner_(owner),
        memory_(owner->memory_),
        session_(owner->session_),
        spill_directory_(owner->limits_.spill_directory),
        plane_(owner->plane_),
        id_(id) {}
  ~Entry() override {
    for (const Segment& segment : segments_) memory_->Give(segment.pool, session_, segment.bytes);
    if (reserved_) memory_->GiveUnused(reserved_->pool, session_, reserved_->bytes);
  }

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
    std::array<int64_t, kHostPools> give = {};  // by HostPool
  };

  Next Start() override {
    MutexLock lock(&mutex_);
    started_ = true;
    reading_ = MayReadLocked();
    return reading_ ? Next::kRead : Next::kPause;
  }

  absl::StatusOr<Next> Append(absl::Cord chunk) override {
    Effects effects;
    absl::StatusOr<Next> next = Next::kRead;
    {
      MutexLock lock(&mutex_);
      reading_ = false;
      absl::Status status = KeepLocked(std::move(chunk), /*in_file=*/false, effects);
      if (status.ok()) {
        reading_ = MayReadLocked();
        next = reading_ ? Next::kRead : Next::kPause;
      } else {
        next = std::move(status);
      }
    }
    Carry(effects);
    return next;
  }

  absl::Status AppendFile(absl::Cord view) override {
    Effects effects;
    absl::Status status;
    {
      MutexLock lock(&mutex_);
      status = KeepLocked(std::move(view), /*in_file=*/true, effects);
    }
    Carry(effects);
    return status;
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
      // It is another request's, whose takers get all of it.
      if (all_wanted_ || !takers_.empty() || fills_frames()) return;
      claimed_ = true;
      DiscardLocked(effects);
    }
    Carry(effects);
  }

  void Want(WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame, bool last) {
    Effects effects;
    std::shared_ptr<Taker> taker;
    {
      MutexLock lock(&mutex_);
      in_frames_ = in_frame;
      asked_.emplace_back(worker, stream);
      if (!in_frame) {
        taker = std::make_shared<Taker>(shared_from_this(), worker, stream);
        taker->queue = staged_;
        takers_.push_back(taker);
      }
      if (complete() || !failed_.ok()) DeliverLocked(effects);
      if (last) {
        all_wanted_ = true;
        if (!in_frame) staged_.Clear();
      }
      ReleaseLocked(effects);
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

  // False: it does not wait for room. `moves`: when the session was last given any, or could not ask for its data.
  // `may_do_without`: how many chunks that workers have asked for may come without room.
  bool Expire(absl::Time now, const Moves& moves, absl::Duration timeout, int& may_do_without) {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      if (waiting_ == 0) return false;
      if (waits_for_ == HostPool::kAsked) {
        if (now - std::max(waiting_since_, moves.asked) < kAskedPatience || may_do_without == 0) return true;
        --may_do_without;
        const int64_t bytes = NextChunkBytes();
        memory_->Take(HostPool::kAsked, session_, bytes);
        ReadOnLocked(HostPool::kAsked, bytes, effects);
      } else {
        if (now - std::max(waiting_since_, moves.ahead) < timeout) return true;
        effects.fail = std::exchange(flow_, nullptr);
        FailLocked(absl::ResourceExhaustedError(absl::StrCat(
                       "host buffer ", Raw(id_), ": there is no room for it. The data that this session sent ahead of ",
                       "the requests that take them fill its share of the controller's memory and of the disk, and no ",
                       "request took any for ", absl::FormatDuration(timeout), memory_->DescribeDisk(),
                       "; send fewer bytes at a time, or raise the controller's --host-memory or --spill")),
                   effects);
      }
    }
    Carry(effects);
    return false;
  }

  void Close() {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      effects.fail = std::exchange(flow_, nullptr);
      asked_.clear();
      FailLocked(absl::CancelledError("the session is closed"), effects);
    }
    Carry(effects);
  }

  // There is room for the next chunk: `bytes` of `pool` are ours. False: they are not needed any more.
  bool OnRoom(uint64_t waiting, HostPool pool, int64_t bytes) {
    Effects effects;
    {
      MutexLock lock(&mutex_);
      if (waiting_ != waiting) return false;
      ReadOnLocked(pool, bytes, effects);
    }
    if (const auto owner = owner_.lock()) owner->NoteRoom(pool);
    Carry(effects);
    return true;
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
      taker.hungry = taker.queue.empty();
      ReleaseLocked(effects);
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
      ReleaseLocked(effects);
      ResumeLocked(effects);
      effects.remove = finished();
    }
    Carry(effects);
  }

 private:
  // Bytes that are counted for this buffer, up to an offset.
  struct Segment {
    int64_t end;
    HostPool pool;
    int64_t bytes;
  };
  struct Reserved {
    HostPool pool;
    int64_t bytes;
  };

  bool complete() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return announced_ >= 0 && received_ == announced_; }

  // All of it is needed at once, in the end.
  bool fills_frames() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_frames_ && !asked_.empty(); }

  // Nothing more will happen to it.
  bool finished() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!complete() && failed_.ok()) return false;
    return discarded_ || (all_wanted_ && takers_.empty() && asked_.empty());
  }

  absl::Status KeepLocked(absl::Cord chunk, bool in_file, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!failed_.ok()) return failed_;
    const int64_t length = static_cast<int64_t>(chunk.size());
    if (length > announced_ - received_) {
      const absl::Status too_much = absl::InvalidArgumentError(
          absl::StrCat("host buffer ", Raw(id_), ": more bytes than the ", announced_, " that were announced"));
      FailLocked(too_much, effects);
      return too_much;
    }
    received_ += length;
    if (!discarded_) {
      if (!in_file) CountLocked(chunk, effects);
      for (const auto& taker : takers_) {
        taker->queue.Append(chunk);
        taker->hungry = false;
        effects.streams_to_wake.push_back(taker->stream);
        effects.workers_to_wake.push_back(taker->worker);
      }
      if (!all_wanted_ || fills_frames()) staged_.Append(std::move(chunk));
    }
    ReturnReservedLocked(effects);
    if (complete()) CompleteLocked(effects);
    return absl::OkStatus();
  }

  // Counts what has just come, or puts it on disk where that is what there was room for.
  void CountLocked(absl::Cord& chunk, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int64_t length = static_cast<int64_t>(chunk.size());
    const Reserved reserved = std::exchange(reserved_, std::nullopt).value_or(Reserved{HostPool::kStaged, 0});
    HostPool pool = reserved.pool;
    if (pool == HostPool::kSpilled) {
      absl::StatusOr<absl::Cord> file = SpillToFile(chunk, spill_directory_);
      if (file.ok()) {
        chunk = *std::move(file);
      } else {
        memory_->CloseDisk(file.status());
        pool = HostPool::kStaged;
      }
    }
    const int64_t there = pool == reserved.pool ? std::min(length, reserved.bytes) : 0;
    GiveBack(reserved, effects);
    effects.give[static_cast<int>(reserved.pool)] -= there;
    memory_->Take(pool, session_, length - there);
    segments_.push_back({received_, pool, length});
  }

  void ReturnReservedLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (reserved_) GiveBack(*reserved_, effects);
    reserved_.reset();
  }

  static void GiveBack(const Reserved& reserved, Effects& effects) {
    effects.give[static_cast<int>(reserved.pool)] += reserved.bytes;
    if (reserved.pool == HostPool::kSpilled) effects.give[static_cast<int>(HostPool::kReading)] += reserved.bytes;
  }

  int64_t NextChunkBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::min(kChunkBytes, announced_ - received_);
  }

  // Whether the next chunk may be read now, with memory taken for it; otherwise ResumeLocked or OnRoom will say so.
  bool MayReadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!failed_.ok()) return false;
    if (complete()) return true;
    const int64_t bytes = NextChunkBytes();
    std::optional<HostPool> pool;
    if (discarded_) {
      pool = TakeOrWaitLocked({HostPool::kReading}, bytes);
    } else if (claimed_) {
      if (behind()) return false;
      const auto hungry =
          std::count_if(takers_.begin(), takers_.end(), [](const auto& taker) { return taker->hungry; });
      if (hungry > 0 && hungry == std::ssize(takers_)) {
        // They are many at a time, and one socket takes them: not all of them need to be here now.
        pool = TakeOrWaitLocked({HostPool::kAsked}, bytes);
      } else if (hungry > 0 || announced_ <= kInlineBytes) {
        memory_->Take(HostPool::kPassing, session_, bytes);
        pool = HostPool::kPassing;
      } else if (memory_->TryTake(HostPool::kPassing, session_, bytes)) {
        pool = HostPool::kPassing;
      }
    } else {
      std::vector<HostPool> pools = {HostPool::kStaged};
      if (!spill_directory_.empty() && bytes >= kMinSpillBytes) pools.push_back(HostPool::kSpilled);
      pool = TakeOrWaitLocked(std::move(pools), bytes);
    }
    if (pool) reserved_ = Reserved{*pool, bytes};
    return pool.has_value();
  }

  std::optional<HostPool> TakeOrWaitLocked(std::vector<HostPool> pools, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const uint64_t waiting = ++last_waiting_;
    const HostPool first = pools.front();
    const auto pool = memory_->TakeOrWait(std::move(pools), session_, bytes,
                                          [weak = weak_from_this(), waiting, bytes](HostPool pool) {
                                            const auto self = weak.lock();
                                            return self != nullptr && self->OnRoom(waiting, pool, bytes);
                                          });
    if (pool) return pool;
    waiting_ = waiting;
    waits_for_ = first;
    waiting_since_ = SteadyNow();
    if (const auto owner = owner_.lock()) owner->NoteWaiting(weak_from_this());
    return std::nullopt;
  }

  // A claimed buffer of which some taker has a full window still to take.
  bool behind() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!claimed_ || discarded_ || announced_ <= kInlineBytes) return false;
    if (!all_wanted_ && static_cast<int64_t>(staged_.size()) >= kStreamWindowBytes) return true;
    return std::any_of(takers_.begin(), takers_.end(), [](const auto& taker) {
      return static_cast<int64_t>(taker->queue.size()) >= kStreamWindowBytes;
    });
  }

  // Reads on, where that is possible now and was not.
  void ResumeLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // It has no use any more for the room ahead of its request that it waits for, if it does.
    if (claimed_ && waits_for_ == HostPool::kStaged) waiting_ = 0;
    if (!started_ || reading_ || waiting_ != 0 || flow_ == nullptr || !MayReadLocked()) return;
    reading_ = true;
    effects.resume = flow_;
  }

  // Gives back what is counted for bytes that every taker has taken.
  void ReleaseLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    int64_t taken = received_;
    if (failed_.ok() && !discarded_) {
      if (!all_wanted_ || fills_frames()) taken = 0;
      for (const auto& taker : takers_) taken = std::min(taken, taker->base);
    }
    while (!segments_.empty() && segments_.front().end <= taken) {
      effects.give[static_cast<int>(segments_.front().pool)] += segments_.front().bytes;
      segments_.pop_front();
    }
  }

  // Ends a wait for room: these bytes of the pool are there for the next chunk.
  void ReadOnLocked(HostPool pool, int64_t bytes, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    waiting_ = 0;
    reserved_ = Reserved{pool, bytes};
    reading_ = true;
    effects.resume = flow_;
  }

  void CompleteLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    DeliverLocked(effects);
    effects.remove = finished();
  }

  // The core gets what goes in frames, or hears that all of what goes by streams has come; or that it will not.
  void DeliverLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const auto& [worker, stream] : std::exchange(asked_, {})) {
      HostDataArrived& arrived = effects.deliver.emplace_back(HostDataArrived{worker, stream, std::string()});
      if (!failed_.ok()) {
        arrived.data = failed_;
      } else if (in_frames_) {
        arrived.data = std::string(staged_);
      }
    }
    ReleaseLocked(effects);
  }

  void DiscardLocked(Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    discarded_ = true;
    waiting_ = 0;
    staged_.Clear();
    ReleaseLocked(effects);
    ResumeLocked(effects);
    effects.remove = finished();
  }

  void FailLocked(const absl::Status& why, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    failed_ = why;
    waiting_ = 0;
    staged_.Clear();
    DeliverLocked(effects);
    ReturnReservedLocked(effects);
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
    for (int pool = 0; pool < kHostPools; ++pool) {
      if (effects.give[pool] > 0) memory_->Give(static_cast<HostPool>(pool), session_, effects.give[pool]);
    }
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
    if (effects.remove) owner->Remove(id_, this);
  }

  const std::weak_ptr<HostUploads> owner_;
  const std::shared_ptr<HostMemory> memory_;
  const SessionId session_;
  const std::string spill_directory_;
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
  bool started_ ABSL_GUARDED_BY(mutex_) = false;                    // the client is read
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;                    // its next chunk, or the end
  std::optional<Reserved> reserved_ ABSL_GUARDED_BY(mutex_);        // for that
  uint64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;                    // for room; 0: not
  HostPool waits_for_ ABSL_GUARDED_BY(mutex_) = HostPool::kStaged;  // if so: the pool that it wants first
  uint64_t last_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time waiting_since_ ABSL_GUARDED_BY(mutex_);
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
  absl::Cord staged_ ABSL_GUARDED_BY(mutex_);  // all that came, until all takers are known
  std::deque<Segment> segments_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Taker>> takers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<WorkerId, StreamId>> asked_ ABSL_GUARDED_BY(mutex_);  // the core is still to hear of these
  bool in_frames_ ABSL_GUARDED_BY(mutex_) = false;                            // so they go, not by streams
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

HostUploads::HostUploads(SessionId session, std::shared_ptr<HostMemory> memory, DataPlane* plane, Deliver deliver,
                         std::function<void(std::function<void()>)> postpone, UploadLimits limits)
    : session_(session),
      memory_(std::move(memory)),
      plane_(plane),
      deliver_(std::move(deliver)),
      postpone_(std::move(postpone)),
      limits_(std::move(limits)) {}

HostUploads::~HostUploads() { Close(); }

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
  memory_->Take(HostPool::kStaged, session_, kEntryBytes);
  return entries_[buffer] = std::make_shared<Entry>(shared_from_this(), buffer);
}

void HostUploads::Remove(HostBufferId buffer, const Entry* entry) {
  std::shared_ptr<Entry> gone;  // goes without the lock
  {
    MutexLock lock(&mutex_);
    const auto it = entries_.find(buffer);
    if (it == entries_.end() || it->second.get() != entry) return;
    gone = std::move(it->second);
    entries_.erase(it);
  }
  memory_->Give(HostPool::kStaged, session_, kEntryBytes);
}

void HostUploads::NoteWaiting(std::weak_ptr<Entry> entry) {
  MutexLock lock(&mutex_);
  waiting_.push_back(std::move(entry));
}

void HostUploads::NoteRoom(HostPool pool) {
  MutexLock lock(&mutex_);
  (pool == HostPool::kAsked ? moves_.asked : moves_.ahead) = SteadyNow();
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
  postpone_([self = shared_from_this(), worker, stream, gone] {
    self->deliver_(HostDataArrived{worker, stream, gone});
  });
  if (in_frame) return;
  plane_->Send(PeerOf(worker), stream, total_bytes, std::make_shared<NoSource>());
  plane_->Cancel(PeerOf(worker), stream, gone);
}

void HostUploads::Expire(absl::Time now, bool held) {
  std::vector<std::weak_ptr<Entry>> waiting;
  Moves moves;
  {
    MutexLock lock(&mutex_);
    waiting.swap(waiting_);
    if (held) moves_.ahead = now;
    moves = moves_;
  }
  int may_do_without = kMaxChunksWithoutRoom;
  std::erase_if(waiting, [&](const std::weak_ptr<Entry>& weak) {
    const auto entry = weak.lock();
    return entry == nullptr || !entry->Expire(now, moves, limits_.stall_timeout, may_do_without);
  });
  MutexLock lock(&mutex_);
  waiting_.insert(waiting_.end(), waiting.begin(), waiting.end());
}

void HostUploads::Close() {
  memory_->Forget(session_);
  absl::flat_hash_map<HostBufferId, std::shared_ptr<Entry>> entries;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    entries.swap(entries_);
  }
  for (const auto& [id, entry] : entries) {
    entry->Close();
    memory_->Give(HostPool::kStaged, session_, kEntryBytes);
  }
}

int HostUploads::buffer_count() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(entries_.size());
}

}  // namespace causeway
