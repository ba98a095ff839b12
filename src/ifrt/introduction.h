// What a client says of itself in the header with which it begins: its name, and what it wishes of the cluster.
//
//   ASSIGN_OR_RETURN(Introduction client, ParseIntroduction(header));   // "train.py", {.weight = 2}
//
// The stock client carries it as initialisation data, whose values are bytes, whole numbers and flags. Ours (all may be
// left out):
//
//   causeway_session_name        bytes
//   causeway_session_weight      a decimal number as bytes, or a whole number
//   causeway_session_devices     whole number
//   causeway_session_one_island  flag
//   causeway_session_platform    bytes
//   causeway_session_memory      whole number
//   causeway_session_cap         as the weight
//   causeway_session_exclusive   flag
//
// One that begins like these and is none is refused: whoever wishes something is not to believe that it was heard.
// What else is there is somebody else's.
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_INTRODUCTION_H_
#define CAUSEWAY_IFRT_INTRODUCTION_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "controller/wishes.h"
#include "xla/python/ifrt/attribute_map.pb.h"

namespace causeway {

inline constexpr char kSessionHeader[] = "ifrt-proxy-grpc-ifrt-session-metadata-bin";

struct Introduction {
  std::string name;  // as it can be shown; empty where it has none
  SessionWishes wishes;
  // INVALID_ARGUMENT where it wishes what nobody can. For the answer to Init: of a stream that ends before that, the
  // stock client knows no more than that it has ended, and tries again and again.
  absl::Status mistake;
};

// INVALID_ARGUMENT where the header cannot be parsed; FAILED_PRECONDITION where its version is not served.
absl::StatusOr<Introduction> ParseIntroduction(absl::string_view header);

// Of the initialisation data alone.
Introduction ParseIntroduction(const xla::ifrt::AttributeMapProto& data);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_INTRODUCTION_H_
