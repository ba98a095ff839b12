// The object store: which buffers this worker holds, under which names, and how many bytes they take.
//
//   BufferRef out = store.Promise(device, origin);         // a launch's output, before it ran
//   store.Bind(array, shard, out);
//   store.WhenPlaced(out, [...] { ... });                  // an argument of the next launch
//   store.Place(out, bytes);  store.SetReady(out);         // the device runtime made it, and computed it
//
// A buffer lives as long as somebody refers to it: a name, or an operation that captured it when its message arrived.
// With the last reference goes the device memory, and the accounts say so at once.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_STORE_H_
#define CAUSEWAY_WORKER_STORE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "worker/events.h"

namespace causeway::worker {

class Store;

// What is to be done once something is so; `ok` is false where the buffer failed. Captures an owner and a key, so that
// it costs no allocation and keeps nothing alive; what the key names may be gone by then.
using Continuation = std::function<void(bool ok)>;

// One shard on one device, from promise to end.
class Buffer {
 public:
  enum class State {
    kPromised,  // nothing is there yet
    kPlaced,    // the device runtime has it; it may not be computed
    kReady,
    kFailed,  // it never will be
  };

  Buffer(Store& store, BufferKey key, int device, uint64_t origin)
      : store_(store), key_(key), device_(device), origin_(origin) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  BufferKey key() const { return key_; }
  int device() const { return device_; }
  State state() const { return state_; }
  bool promised() const { return state_ == State::kPromised; }
  bool ready() const { return state_ == State::kReady; }
  bool failed() const { return state_ == State::kFailed; }
  uint64_t origin() const { return origin_; }

  // Its device's own thread is to make it, ahead of all that it is given later: what is given to that thread may take
  // it, though it is still only promised.
  bool handed_over() const { return handed_over_; }

  // Why it failed. OK in every other state.
  const absl::Status& error() const { return error_; }

  // Why it could not be made. OK also where it was made and then taken by a launch.
  const absl::Status& making_error() const { return taken_ ? making_error_ : error_; }

 private:
  friend class Store;

  Store& store_;
  const BufferKey key_;
  const int device_;
  const uint64_t origin_;  // of its making, for the error that it may become
  State state_ = State::kPromised;
  bool handed_over_ = false;
  bool in_memory_ = false;  // counted in the accounts
  bool taken_ = false;      // a launch has consumed it; it may not have been computed by then
  bool aliased_ = false;    // it has had several names
  bool donated_ = false;    // a launch that is queued or has run takes it: no name reaches it any more
  int reads_ = 0;           // not over yet
  int64_t bytes_ = 0;
  absl::Status error_;
  absl::Status making_error_;  // where it was taken
  std::vector<Continuation> when_placed_;
  std::vector<Continuation> when_settled_;
  std::vector<Continuation> when_unread_;
};

using BufferRef = std::shared_ptr<Buffer>;

class Store {
 public:
  explicit Store(int devices) : device_bytes_(devices), device_buffers_(devices) {}
  ~Store();

  // ---- buffers

  // A buffer that is still to be made on `device`. If that fails, the error gets `origin`, unless it came with one.
  BufferRef Promise(int device, uint64_t origin);

  // A buffer that is nothing but an error, likewise.
  BufferRef Failed(const absl::Status& why, uint64_t origin);

  // The device runtime has made it, of `bytes` bytes. Where it has failed meanwhile, the memory goes back at once.
  void Place(const BufferRef& buffer, int64_t bytes);

  // Its device's thread makes it next.
  void HandOver(const BufferRef& buffer) { buffer->handed_over_ = true; }

  // It is computed.
  void SetReady(const BufferRef& buffer);

  // It will never be there. Its memory, if any, goes back. What has failed or is ready stays as it is.
  void Fail(const BufferRef& buffer, const absl::Status& why);

  // A launch takes the buffer: names do not reach it any more, while whoever captured it before still may use it.
  void Donate(const BufferRef& buffer) { buffer->donated_ = true; }

  // The launch has taken it: it is as good as failed, and its memory is not ours any more. Who waits for it to be
  // settled goes on waiting until it is known how its making ended, so that a report about that is true.
  void Consume(const BufferRef& buffer);

  // A launch was to take this, a shard of `array`, and has failed: no name keeps it any more, so that its memory goes
  // with whoever captured it before. Cost: where it has had other names, O(arrays of the session).
  void Forsake(ArrayId array, const BufferRef& buffer);

  // It gets another name.
  void SetAliased(const BufferRef& buffer) { buffer->aliased_ = true; }

  // Between these two the buffer's contents are needed: no launch that takes it starts.
  void BeginRead(const BufferRef& buffer) { ++buffer->reads_; }
  void EndRead(const BufferRef& buffer);
  static bool unread(const BufferRef& buffer) { return buffer->reads_ == 0; }

  // Runs `then`, from Settle, when the buffer is placed, or failed; when it is ready, or failed; when nothing reads it.
  void WhenPlaced(const BufferRef& buffer, Continuation then);
  void WhenSettled(const BufferRef& buffer, Continuation then);
  void WhenUnread(const BufferRef& buffer, Continuation then);

  // ---- names

  // Names `buffer`. ALREADY_EXISTS where the name is taken.
  absl::Status Bind(ArrayId array, int shard, BufferRef buffer);

  // NOT_FOUND where nothing has that name; FAILED_PRECONDITION where what had it was donated.
  absl::StatusOr<BufferRef> Find(ArrayId array, int shard) const;

  // What `array` names here, by ascending shard.
  using Shards = std::vector<std::pair<int, BufferRef>>;
  Shards* FindAll(ArrayId array);

  void Drop(ArrayId array) { arrays_.erase(array); }
  void DropSession(SessionId session);
  void DropAll() { arrays_.clear(); }

  // ---- at the end of every event

  // Runs what waits for what has happened, until nothing more does. True if anything was run.
  bool Settle();

  // Gives back the memory of buffers that are gone.
  void Sweep(WorkerActions& out);

  // ---- accounts

  absl::Span<const int64_t> device_bytes() const { return device_bytes_; }
  absl::Span<const int64_t> device_buffers() const { return device_buffers_; }
  int64_t array_count() const { return static_cast<int64_t>(arrays_.size()); }

 private:
  friend class Buffer;

  void Release(Buffer& buffer);
  void Wake(std::vector<Continuation>& waiting, bool ok);

  uint64_t last_key_ = 0;
  std::vector<int64_t> device_bytes_;
  std::vector<int64_t> device_buffers_;
  std::vector<BufferKey> gone_;                      // their memory is to be given back
  std::deque<std::pair<Continuation, bool>> ready_;  // a queue and not calls, so that long chains of errors do not nest
  absl::btree_map<ArrayId, Shards> arrays_;          // in order, so that a session's are together
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_STORE_H_
