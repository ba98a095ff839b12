// Host data on their way out: what a session fetched and has not looked up yet.
//
// CopyToHostBuffer is answered as soon as the fetch was: small data wait here for HostBufferLookup; of large data only
// the worker's stream is known, and Lookup receives it straight into the client's RPC. Small data hold memory from the
// fetch on (host_memory.h); the session reads no more requests while that is more than it may hold.
//
// Threading: all calls are thread-safe. Put may be called inside the core.
#ifndef CAUSEWAY_IFRT_DOWNLOADS_H_
#define CAUSEWAY_IFRT_DOWNLOADS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
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

  // What waits under `buffer`. Of a stream this is given once, and the caller must receive it: FAILED_PRECONDITION the
  // second time. NOT_FOUND: nothing waits.
  absl::StatusOr<Fetched> Take(HostBufferId buffer);

  // Forgets `buffer`; a stream that was not taken is cancelled.
  void Delete(HostBufferId buffer);

  // The session is gone: forgets everything.
  void Close();

 private:
  struct Waiting {
    Fetched fetched;
    HostCharge charge;
    bool taken = false;
  };

  static bool IsStream(const Fetched& fetched) { return Raw(fetched.worker) >= 0; }
  void Cancel(const Fetched& fetched);

  DataPlane* const plane_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<HostBufferId, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DOWNLOADS_H_
