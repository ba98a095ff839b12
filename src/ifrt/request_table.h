// Every request of the protocol and what this server does with it: the list in docs/COMPATIBILITY.md, and the texts of
// refusals. A test holds the page and the protocol's own list against it.
//
// Threading: constants.
#ifndef CAUSEWAY_IFRT_REQUEST_TABLE_H_
#define CAUSEWAY_IFRT_REQUEST_TABLE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "xla/python/ifrt_proxy/common/ifrt_service.pb.h"

namespace causeway {

enum class RequestState {
  kWorks,
  kPartly,   // the note says what is refused
  kRefused,  // UNIMPLEMENTED; the note says why
};

struct RequestEntry {
  const char* name;  // of the field in IfrtRequest without "_request", or of the gRPC method
  RequestState state;
  const char* note;
};

absl::Span<const RequestEntry> RequestTable();

// The table in Markdown, as it stands in docs/COMPATIBILITY.md.
std::string RequestTableMarkdown();

// UNIMPLEMENTED with the note of a refused request.
absl::Status WhyRefused(xla::ifrt::proxy::IfrtRequest::RequestCase request);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_REQUEST_TABLE_H_
