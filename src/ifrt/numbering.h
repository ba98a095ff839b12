// What every response must carry besides its answer: its op id, its place in the sequence, and the user contexts that
// the client may forget.
//
// The client keeps the Python traceback of a request (its user context) alive until the server has returned its id as
// often as requests carried it, and all responses with smaller sequence numbers, from 0 on without a gap, have been
// consumed. So a gap makes it leak half a kilobyte a dispatch for ever, and an id returned too often makes it abort.
// Which ids are to be returned is the business of UserContexts. The client does not look at the numbers of
//   - the response to Init: the object lives as long as the connection, so a number of its own would block the
//   sequence;
//   - errors, and deletions, destructions and the futures of deletions.
// These get no number here, and carry no ids: those wait for the next response that has one.
//
// Threading: none of its own; the session's output lock.
#ifndef CAUSEWAY_IFRT_NUMBERING_H_
#define CAUSEWAY_IFRT_NUMBERING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "ifrt/user_contexts.h"
#include "xla/python/ifrt_proxy/common/ifrt_service.pb.h"

namespace causeway {

// A request that waits for its response.
struct IfrtCall {
  uint64_t op_id = 0;
  uint64_t user_context = 0;
  xla::ifrt::proxy::IfrtRequest::RequestCase kind = xla::ifrt::proxy::IfrtRequest::REQUEST_NOT_SET;
  bool of_deletion = false;  // CheckFuture of a deletion
  bool waited_for = true;    // the client goes on only when it has the response
};

class ResponseNumbering {
 public:
  // Completes a good response.
  void Stamp(const IfrtCall& call, xla::ifrt::proxy::IfrtResponse& response);

  // Makes `response` the error `status`. Where another request is the origin of it, it names that one's context, for
  // the client to show where in the program it was made; its own the client shows anyway.
  void StampError(const IfrtCall& call, const absl::Status& status, xla::ifrt::proxy::IfrtResponse& response);

  UserContexts& contexts() { return contexts_; }

 private:
  int64_t next_ = 0;
  UserContexts contexts_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_NUMBERING_H_
