// Host data on their way out: what a session fetched and has not looked up yet.
//
// CopyToHostBuffer is answered as soon as the fetch was: small data wait here for HostBufferLookup; of large data only
// the worker's stream is known, and Lookup receives it straight into the client's RPC.
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
#include "net/data_plane.h"

namespace causeway {

class HostDownloads {
 public:
  // At most `max_bytes` of small data wait at a time.
  HostDownloads(DataPlane* plane, int64_t max_bytes) : plane_(plane), max_bytes_(max_bytes) {}

  // RESOURCE_EXHAUSTED: the client fetches without looking up. ALREADY_EXISTS: `buffer` waits already. After an error,
  // and after Close, the stream of `fetched` is cancelled.
  absl::Status Put(HostBufferId buffer, Fetched fetched);

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
    bool taken = false;
  };

  static bool IsStream(const Fetched& fetched) { return Raw(fetched.worker) >= 0; }
  void Cancel(const Fetched& fetched);

  DataPlane* const plane_;
  const int64_t max_bytes_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<HostBufferId, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DOWNLOADS_H_
