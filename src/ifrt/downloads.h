// Host data on their way out: what a session fetched and has not looked up yet.
//
// Small data wait here for HostBufferLookup; of large data only the worker's stream is known, and Lookup receives it
// straight into the client's RPC. Data may be looked up before they are here: what is known to be ready is promised
// (Expect), so that the client's next round trip and the worker's overlap. Small data hold memory from the
// fetch on (host_memory.h); the session reads no more requests while that is more than it may hold.
//
// Threading: all calls are thread-safe. Put, Arrived and Lose may be called inside the core.
#ifndef CAUSEWAY_IFRT_DOWNLOADS_H_
#define CAUSEWAY_IFRT_DOWNLOADS_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "controller/events.h"
#include "ifrt/host_memory.h"
#include "net/data_plane.h"

namespace causeway {

class HostDownloads {
 public:
  explicit HostDownloads(DataPlane* plane) : plane_(plane) {}

  // What a fetch of `bytes` costs while it waits; large ones, whose data do not, cost little.
  static int64_t Cost(int64_t bytes);

  // `charge` is kept as long as the data wait. ALREADY_EXISTS: `buffer` waits already. After an error, and after Close,
  // the stream of `fetched` is cancelled.
  absl::Status Put(HostBufferId buffer, Fetched fetched, HostCharge charge);

  // Data will come under `buffer`, or an error instead. As Put otherwise.
  absl::Status Expect(HostBufferId buffer, HostCharge charge);

  // They are here. Where nobody wants them any more, a stream is cancelled.
  void Arrived(HostBufferId buffer, absl::StatusOr<Fetched> fetched);

  // Gives what waits under `buffer` to `then`, which is called once: now, or when it has arrived. A stream is given
  // once, and the caller must receive it or Cancel it: FAILED_PRECONDITION the second time, and to a second one that
  // waits. An error is given once, too. NOT_FOUND: nothing waits. CANCELLED: it was forgotten meanwhile.
  using Then = absl::AnyInvocable<void(absl::StatusOr<Fetched>)>;
  void Take(HostBufferId buffer, Then then);

  // Ends a stream that nobody will receive; does nothing where `fetched` is none.
  static void Cancel(DataPlane& plane, const Fetched& fetched);

  // Forgets `buffer`; a stream that was not taken is cancelled.
  void Delete(HostBufferId buffer);

  // A worker is gone: what waits to be received from it is gone too, and Take says `why`. If it returns, it knows
  // nothing of these streams.
  void Lose(WorkerId worker, const absl::Status& why);

  // The session is gone: forgets everything.
  void Close();

 private:
  struct Waiting {
    std::optional<absl::StatusOr<Fetched>> fetched;  // none: expected
    HostCharge charge;
    bool taken = false;  // a stream, by whoever receives it
    Then then;           // waits for it
  };

  static bool IsStream(const Fetched& fetched) { return Raw(fetched.worker) >= 0; }
  // Takes `waiting` unless it is refused.
  absl::Status Add(HostBufferId buffer, Waiting& waiting);
  void Forget(Waiting gone);

  DataPlane* const plane_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<HostBufferId, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DOWNLOADS_H_
