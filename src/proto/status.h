// absl::Status on the control link, and back.
#ifndef CAUSEWAY_PROTO_STATUS_H_
#define CAUSEWAY_PROTO_STATUS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/origin.h"
#include "base/utf8.h"
#include "proto/control.pb.h"

namespace causeway {

// Plugins may say anything in any encoding, and a frame with a text that is no UTF-8 would end the link.
inline proto::Status ToProto(const absl::Status& status) {
  proto::Status out;
  out.set_code(static_cast<int32_t>(status.code()));
  out.set_message(ValidUtf8(status.message()));
  out.set_origin(OriginOf(status));
  return out;
}

// Codes that are none are UNKNOWN.
inline absl::Status FromProto(const proto::Status& status) {
  const bool known = status.code() >= 0 && status.code() <= static_cast<int32_t>(absl::StatusCode::kUnauthenticated);
  return WithOrigin(
      absl::Status(known ? static_cast<absl::StatusCode>(status.code()) : absl::StatusCode::kUnknown, status.message()),
      status.origin());
}

}  // namespace causeway

#endif  // CAUSEWAY_PROTO_STATUS_H_
