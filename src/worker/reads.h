// Brings the contents of buffers to host memory, for fetches and for copies to other workers.
//
// Waits until the buffer is computed, without a thread; looks at its own memory where the host can (CPU devices), else
// reads it back to memory of a pool. While a read waits or runs, no launch that takes the buffer starts; a view stays
// valid whatever is launched after it.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_READS_H_
#define CAUSEWAY_WORKER_READS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "base/ids.h"
#include "worker/context.h"
#include "worker/events.h"

namespace causeway::worker {

// What was read.
struct HostShard {
  HostRef host;
  HostShape shape{DType::kInvalid, {}, {}};  // with the strides that were asked for
  int64_t bytes = 0;
};

class Reads {
 public:
  using Done = std::function<void(absl::StatusOr<HostShard>)>;

  explicit Reads(Context& context) : context_(context) {}

  // Reads `buffer`, dense and row-major or as `byte_strides` say, and calls `done`, never before this returns. A
  // read-back of more than kInlineBytes waits for room in `pool`.
  void Start(SessionId session, BufferRef buffer, std::vector<int64_t> byte_strides, Pool pool, Done done);

  void OnViewed(const Viewed& event);
  void OnFilled(const HostFilled& event);

  // Forgets its reads; `done` is not called.
  void DropSession(SessionId session);
  void DropAll();

  int64_t size() const { return static_cast<int64_t>(reads_.size()); }

 private:
  enum class ReadKey : uint64_t {};

  struct Read {
    SessionId session;
    BufferRef buffer;
    Pool pool;
    HostShard shard;
    Done done;
  };

  void OnSettled(ReadKey key);
  void OnRoom(ReadKey key, HostRef host);
  void Finish(ReadKey key, const absl::Status& status);
  Read* Find(ReadKey key);

  Context& context_;
  uint64_t last_key_ = 0;
  std::map<ReadKey, Read> reads_;
  absl::flat_hash_map<HostKey, ReadKey> by_host_;  // what is being viewed or filled
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_READS_H_
