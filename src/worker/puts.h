// Arrays from host data: with the message, behind it in a frame, or as a stream from the controller's data plane. All
// shards of one message share one host memory.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_PUTS_H_
#define CAUSEWAY_WORKER_PUTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/makes.h"
#include "worker/stream_table.h"

namespace causeway::worker {

class Puts {
 public:
  Puts(Context& context, Makes& makes, StreamTable& streams) : context_(context), makes_(makes), streams_(streams) {}

  // Each is answered by one ArrayDone.
  void Put(proto::Put message);
  void Receive(const proto::ReceiveHost& message);

  // The bytes for a Receive. Ignored where none waits for them.
  void OnHostData(proto::HostData message);

  // Data that are still to come for these arrays will not be taken; their shards fail.
  void Fail(ArrayId array, const absl::Status& why);
  void DropSession(SessionId session, const absl::Status& why);
  void DropAll(const absl::Status& why);

  // Puts that wait for their data.
  int64_t size() const { return static_cast<int64_t>(pending_.size()); }

 private:
  enum class PutKey : uint64_t {};

  struct Pending {
    ArrayId array;
    std::vector<BufferRef> buffers;
    HostShape shape;
    std::string memory_kind;
    std::string layout;
    StreamId stream;
    int64_t total_bytes = 0;
    std::optional<StreamKey> receiving;
    bool received = false;  // the stream has ended, well or badly
  };

  // Promises the shards, and checks that `data_bytes` are enough for one. An error is in the shards already.
  absl::StatusOr<Pending> Begin(const proto::Put& message, int64_t data_bytes);
  void Make(const Pending& put, const HostRef& host);
  void TraceFrame(const Pending& put);  // whose data came in a frame
  void OnRoom(PutKey key, HostRef host);
  void OnReceived(PutKey key, const HostRef& host, const absl::Status& status);
  void Refuse(StreamId stream, int64_t bytes, const absl::Status& why);
  void End(std::map<PutKey, Pending>::iterator put, const absl::Status& why);

  Context& context_;
  Makes& makes_;
  StreamTable& streams_;
  uint64_t last_key_ = 0;
  std::map<PutKey, Pending> pending_;    // waiting for their data
  std::map<StreamId, PutKey> in_frame_;  // those whose data come as HostData
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_PUTS_H_
