// The version of control.proto. Both ends of a control link must have the same: a cluster is one release.
#ifndef CAUSEWAY_PROTO_CONTROL_VERSION_H_
#define CAUSEWAY_PROTO_CONTROL_VERSION_H_

#include <cstdint>

namespace causeway {

inline constexpr uint32_t kControlVersion = 1;

}  // namespace causeway

#endif  // CAUSEWAY_PROTO_CONTROL_VERSION_H_
