// Shards in the making: from host memory or from another buffer, and the report once all that one message asked for are
// there.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_MAKES_H_
#define CAUSEWAY_WORKER_MAKES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/events.h"

namespace causeway::worker {

class Makes {
 public:
  explicit Makes(Context& context) : context_(context) {}

  // Promises a buffer for `shard` and names it. Where that cannot be (no such device, the name is taken), gives a
  // failed buffer, which carries the name if the name was free.
  BufferRef Promise(ArrayId array, const proto::Shard& shard, uint64_t origin);

  // Reports ArrayDone for `array` when all `buffers` are ready or failed, with the first error in their order.
  void ReportWhenSettled(ArrayId array, std::vector<BufferRef> buffers);

  // Makes `buffer`, which is promised. Both it and the memory are held until it is ready or failed.
  void FromHost(const BufferRef& buffer, HostRef host, const HostShape& shape, const std::string& memory_kind,
                const std::string& layout);
  void FromBuffer(const BufferRef& buffer, const BufferRef& source, const std::string& memory_kind);

  void OnMade(const BufferMade& event);
  void OnReady(const BufferReady& event);

  // What is still promised under this array's name will not come.
  void Fail(ArrayId array, const absl::Status& why);

  // Shards in the making, and reports that wait for them.
  int64_t size() const { return static_cast<int64_t>(making_.size() + reports_.size()); }

 private:
  struct Making {
    BufferRef buffer;
    HostRef host;  // may be null
  };
  struct Report {
    ArrayId array;
    Life life;
    std::vector<BufferRef> buffers;
    size_t unsettled;
  };

  void OnSettled(uint64_t report);
  void Send(const Report& report);

  Context& context_;
  absl::flat_hash_map<BufferKey, Making> making_;
  uint64_t last_report_ = 0;
  absl::flat_hash_map<uint64_t, Report> reports_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_MAKES_H_
