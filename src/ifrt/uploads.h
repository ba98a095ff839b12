// Host data on their way in: what a session's client stores, and who takes it.
//
// The bytes come on one channel (HostBufferStore), the request that makes an array of them on another, in either order.
//
//   store side                                        request side
//   feed = uploads->Begin(handle, bytes, flow);       data = uploads->Claim(handle, bytes);      // small and here:
//   take it upload->Append(chunk);                            uploads->Want(handle, worker, stream, ...);  // the core
//   asks for it upload->End();
//
// Memory is bounded. Large data flow through: the client is read only as far as every taker is less than
// kStreamWindowBytes behind. Data whose request has not come yet must be read all the same (the stock client sends all
// stores of a batch before the request that names them, 64 at a time), so up to `staging_bytes` of them are held in
// memory, up to `spill_bytes` more in unlinked files; beyond that the client is read no further until a request comes,
// and a store that stood still for `stall_timeout` fails.
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
#include "net/data_plane.h"

namespace causeway {

struct UploadLimits {
  int64_t staging_bytes = int64_t{256} << 20;
  int64_t spill_bytes = int64_t{64} << 30;
  std::string spill_directory = "/var/tmp";  // empty: nothing is spilled
  absl::Duration stall_timeout = absl::Seconds(60);
  int max_buffers = 1 << 18;
};

// The reader of one store's stream.
class UploadFlow {
 public:
  virtual ~UploadFlow() = default;

  // Reading may go on, after an Append that said kPause. Called once for each, from any thread, and inside the core.
  virtual void Resume() = 0;

  // The store has failed: no more Append.
  virtual void Fail(const absl::Status& why) = 0;
};

class HostUploads;

// One store. Append, End and Abort are called by its reader alone.
class Upload {
 public:
  enum class Next { kRead, kPause };

  virtual ~Upload() = default;

  // INVALID_ARGUMENT where more comes than was announced. kPause: the flow's Resume says when to go on.
  virtual absl::StatusOr<Next> Append(absl::Cord chunk) = 0;

  // The client has sent all. DATA_LOSS where less came than was announced.
  virtual absl::Status End() = 0;

  // The client will send no more.
  virtual void Abort(const absl::Status& why) = 0;
};

class HostUploads : public std::enable_shared_from_this<HostUploads> {
 public:
  // Hands in-frame data to the core; never called inside it.
  using Deliver = std::function<void(HostDataArrived)>;

  // `postpone` runs a task when the core has been left. `plane` may be null where nothing large is sent.
  HostUploads(DataPlane* plane, Deliver deliver, std::function<void(std::function<void()>)> postpone,
              UploadLimits limits);
  ~HostUploads();

  // The client begins to store `total_bytes` under `buffer`. ALREADY_EXISTS: it did so before. RESOURCE_EXHAUSTED: too
  // many.
  absl::StatusOr<std::shared_ptr<Upload>> Begin(HostBufferId buffer, int64_t total_bytes,
                                                std::shared_ptr<UploadFlow> flow);

  // A request takes `buffer`, of which it expects `total_bytes`: gives them, if they are small and here (the buffer is
  // gone then); otherwise Want asks for them, or Discard gives them up. INVALID_ARGUMENT where the client announced
  // another size, ALREADY_EXISTS where another request took it.
  absl::StatusOr<std::optional<std::string>> Claim(HostBufferId buffer, int64_t total_bytes);

  // Nobody wants `buffer`: what comes of it is thrown away.
  void Discard(HostBufferId buffer);

  // As ControllerActions::WantHostData, of a claimed buffer.
  void Want(HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes, bool in_frame, bool last);

  // Fails stores that nobody took for too long.
  void Expire(absl::Time now);

  // The session is gone: ends every upload.
  void Close();

  // Buffers that are stored or wanted, and their bytes that wait for a request.
  int buffer_count() const;
  int64_t staged_bytes() const;

 private:
  class Entry;
  class Taker;

  std::shared_ptr<Entry> FindOrAdd(HostBufferId buffer, absl::Status& status);
  void Remove(HostBufferId buffer);

  // Counts `chunk` of the unclaimed `entry` as held in memory, or replaces it by a file; adds to what is counted for
  // it. False: there is room for neither, and the entry must pause until there is.
  bool Stage(const std::shared_ptr<Entry>& entry, absl::Cord& chunk, int64_t& memory_bytes, int64_t& file_bytes);
  void Unstage(int64_t memory_bytes, int64_t file_bytes);

  DataPlane* const plane_;
  const Deliver deliver_;
  const std::function<void(std::function<void()>)> postpone_;
  const UploadLimits limits_;

  mutable Mutex mutex_;  // after an Entry's
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<HostBufferId, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  int64_t staged_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t spilled_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::weak_ptr<Entry>> waiting_for_room_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_UPLOADS_H_
