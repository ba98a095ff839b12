// Where an error comes from: the number of the client's request that made what failed first.
//
//   status = WithOrigin(status, launch.origin);   // where something fails; what has an origin keeps it
//   OriginOf(status)                              // the number; 0: not known
//
// It rides in the status, so everything that holds the same error says the same origin, on whatever worker. The door
// chooses the numbers and knows what they mean (src/ifrt: the place in the user's program); to all others they mean
// nothing.
//
// Threading: pure functions. Nothing is allocated for a status that is OK.
#ifndef CAUSEWAY_BASE_ORIGIN_H_
#define CAUSEWAY_BASE_ORIGIN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace causeway {

inline constexpr char kOriginPayload[] = "causeway/origin";

inline uint64_t OriginOf(const absl::Status& status) {
  if (status.ok()) return 0;
  const auto payload = status.GetPayload(kOriginPayload);
  uint64_t origin = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &origin)) return 0;
  return origin;
}

inline absl::Status WithOrigin(absl::Status status, uint64_t origin) {
  if (status.ok() || origin == 0 || OriginOf(status) != 0) return status;
  status.SetPayload(kOriginPayload, absl::Cord(absl::StrCat(origin)));
  return status;
}

}  // namespace causeway

#endif  // CAUSEWAY_BASE_ORIGIN_H_
