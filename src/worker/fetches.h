// Fetches: one shard to the controller each, in the answer itself where it is small, else as a stream behind it.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_FETCHES_H_
#define CAUSEWAY_WORKER_FETCHES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/reads.h"
#include "worker/stream_table.h"

namespace causeway::worker {

class Fetches {
 public:
  Fetches(Context& context, Reads& reads, StreamTable& streams) : context_(context), reads_(reads), streams_(streams) {}

  // Answered by one FetchDone.
  void Fetch(const proto::Fetch& message);

 private:
  struct Request {
    uint64_t fetch;
    Life life;
    SessionId session;
    StreamId stream;
  };

  void OnRead(const Request& request, absl::StatusOr<HostShard> shard);
  void ReportFailure(const Request& request, const absl::Status& status);

  Context& context_;
  Reads& reads_;
  StreamTable& streams_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_FETCHES_H_
