// Host data on their way in: what a session's client stores, and who takes it.
//
// The bytes come on one channel (HostBufferStore), the request that makes an array of them on another, in either order.
//
//   store side                                        request side
//   upload = uploads->Begin(handle, bytes, flow);     data = uploads->Claim(handle, bytes);    // small and here: take
//   it upload->Start(); upload->Append(chunk);           uploads->Want(handle, worker, stream, ...);  // the core asks
//   for it upload->End();
//
// Memory is bounded (host_memory.h), and taken before the client is read:
//
// - Data whose request has not come must be read all the same (the stock client sends all stores of a batch before the
//   request that names them, 64 at a time). They are staged in memory, then on disk; where there is room for neither,
//   the store waits, and fails once no store of its session got room for `stall_timeout`. Time in which the client's
//   requests were left unread does not count. Chunks that go to disk, or to nowhere, are few at a time (kReading).
// - Data whose request is here flow through: the client is read as far as every worker is less than kStreamWindowBytes
//   behind, and as memory allows. What a worker is ready for does not wait for what is read ahead of others, but in a
//   pool of its own (kAsked), in turns: workers are ready for hundreds of buffers at once, and sockets take one after
//   the other. Where that room does not move for a second, a few chunks come without: a worker that takes nothing more
//   must not hold up for ever what is meant for others.
//
// Threading: all calls are thread-safe. Want may be called inside the core.
// Lifetime: a HostUploads is held by shared_ptr; uploads under way hold it weakly. Close ends all of them.
#ifndef CAUSEWAY_IFRT_UPLOADS_H_
#define CAUSEWAY_IFRT_UPLOADS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "controller/events.h"
#include "ifrt/host_memory.h"
#include "net/data_plane.h"

namespace causeway {

struct UploadLimits {
  std::string spill_directory;  // empty: nothing is spilled
  absl::Duration stall_timeout = absl::Seconds(60);
  int max_buffers = 1 << 18;
};

// The reader of one store's stream.
class UploadFlow {
 public:
  virtual ~UploadFlow() = default;

  // Reading may go on, after a Start or Append that says kPause. Called once for each, from any thread, also inside
  // that Start or Append, before it says so, and inside the core.
  virtual void Resume() = 0;

  // The store has failed: no more Append.
  virtual void Fail(const absl::Status& why) = 0;
};

class HostUploads;

// One store. Called by its reader alone.
class Upload {
 public:
  enum class Next { kRead, kPause };

  virtual ~Upload() = default;

  // Whether to read the first chunk. kPause: the flow's Resume says when.
  virtual Next Start() = 0;

  // What was read. INVALID_ARGUMENT where more comes than was announced.
  virtual absl::StatusOr<Next> Append(absl::Cord chunk) = 0;

  // Instead of all of these: the data lie in a file, and `view` shows them.
  virtual absl::Status AppendFile(absl::Cord view) = 0;

  // The client has sent all. DATA_LOSS where less came than was announced.
  virtual absl::Status End() = 0;

  // The client will send no more.
  virtual void Abort(const absl::Status& why) = 0;
};

class HostUploads : public std::enable_shared_from_this<HostUploads> {
 public:
  // Tells the core that data have come, and hands it those that ride in frames; never called inside it.
  using Deliver = std::function<void(HostDataArrived)>;

  // `postpone` runs a task when the core has been left. `plane` may be null where nothing large is sent.
  HostUploads(SessionId session, std::shared_ptr<HostMemory> memory, DataPlane* plane, Deliver deliver,
              std::function<void(std::function<void()>)> postpone, UploadLimits limits);
  ~HostUploads();

  // The client begins to store `total_bytes` under `buffer`. ALREADY_EXISTS: it did so before. RESOURCE_EXHAUSTED: too
  // many.
  absl::StatusOr<std::shared_ptr<Upload>> Begin(HostBufferId buffer, int64_t total_bytes,
                                                std::shared_ptr<UploadFlow> flow);

  // A request takes `buffer`, of which it expects `total_bytes`: gives them, if they are small and here (the buffer is
  // gone then); otherwise Want asks for them, or Discard gives them up. INVALID_ARGUMENT where the client announced
  // another size, ALREADY_EXISTS where another request took it.
  absl::StatusOr<std::optional<std::string>> Claim(HostBufferId buffer, int64_t total_bytes);

  // Nobody wants `buffer`: what comes of it is thrown away. Ignored once it was wanted.
  void Discard(HostBufferId buffer);

  // As ControllerActions::WantHostData, of a claimed buffer.
  void Want(HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame, bool last);

  // Fails stores that have waited too long for room while others of this session got none either. To be called every
  // second or so. `held`: the client's requests are left unread, so that it cannot say who takes them.
  void Expire(absl::Time now, bool held);

  // The session is gone: ends every upload.
  void Close();

  // Buffers that are stored or wanted.
  int buffer_count() const;

 private:
  class Entry;
  class Taker;

  // When some entry that waited was last given room. That the client is held counts as room for data ahead of requests.
  struct Moves {
    absl::Time ahead = absl::InfinitePast();
    absl::Time asked = absl::InfinitePast();  // for what workers have asked for
  };

  std::shared_ptr<Entry> FindOrAdd(HostBufferId buffer, absl::Status& status);
  // Only this entry: a client may have named another one the same since.
  void Remove(HostBufferId buffer, const Entry* entry);

  void NoteWaiting(std::weak_ptr<Entry> entry);
  // Some entry was given the room that it waited for.
  void NoteRoom(HostPool pool);

  const SessionId session_;
  const std::shared_ptr<HostMemory> memory_;
  DataPlane* const plane_;
  const Deliver deliver_;
  const std::function<void(std::function<void()>)> postpone_;
  const UploadLimits limits_;

  mutable Mutex mutex_;  // after an Entry's
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<HostBufferId, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Entry>> waiting_ ABSL_GUARDED_BY(mutex_);  // for room; some no longer
  Moves moves_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_UPLOADS_H_
