// absl::Status on the control link, and back.
#ifndef CAUSEWAY_PROTO_STATUS_H_
#define CAUSEWAY_PROTO_STATUS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/origin.h"
#include "proto/control.pb.h"

namespace causeway {

inline proto::Status ToProto(const absl::Status& status) {
  proto::Status out;
  out.set_code(static_cast<int32_t>(status.code()));
  out.set_message(std::string(status.message()));
  out.set_origin(OriginOf(status));
  return out;
}

inline absl::Status FromProto(const proto::Status& status) {
  return WithOrigin(absl::Status(static_cast<absl::StatusCode>(status.code()), status.message()), status.origin());
}

}  // namespace causeway

#endif  // CAUSEWAY_PROTO_STATUS_H_
