// How programs and data say what is to become of them in a simulation, so that whoever made them can foretell it.
#ifndef CAUSEWAY_SIM_BEHAVIOURS_H_
#define CAUSEWAY_SIM_BEHAVIOURS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace causeway::sim {

// By the program's name.
enum class ProgramKind {
  kGood,
  kBroken,    // the compiler refuses it
  kOnce,      // the compiler refuses it from the second time on, whichever process it runs in
  kRejected,  // the plugin takes no launch of it
  kFailing,   // every launch of it fails
};

inline std::string NameProgram(ProgramKind kind, int64_t number) {
  constexpr absl::string_view kWords[] = {"good", "broken", "once", "rejected", "failing"};
  return absl::StrCat(kWords[static_cast<int>(kind)], "-", number);
}

inline ProgramKind KindOf(absl::string_view name) {
  if (absl::StartsWith(name, "broken-")) return ProgramKind::kBroken;
  if (absl::StartsWith(name, "once-")) return ProgramKind::kOnce;
  if (absl::StartsWith(name, "rejected-")) return ProgramKind::kRejected;
  if (absl::StartsWith(name, "failing-")) return ProgramKind::kFailing;
  return ProgramKind::kGood;
}

inline absl::Status CompilerError(absl::string_view name) {
  return absl::InvalidArgumentError(absl::StrCat("the compiler does not like ", name));
}
inline absl::Status RejectionError(absl::string_view name) {
  return absl::ResourceExhaustedError(absl::StrCat("no device takes ", name));
}
inline absl::Status LaunchError(absl::string_view name) { return absl::InternalError(absl::StrCat("NaN in ", name)); }

// By the first bytes of dense host data.
inline constexpr absl::string_view kRefusedData = "REFUSED!";  // no buffer is made of them
inline constexpr absl::string_view kSpoiltData = "SPOILT!!";   // the buffer is made, and never ready

inline absl::Status RefusalError() { return absl::ResourceExhaustedError("the device has no room for these data"); }
inline absl::Status SpoilError() { return absl::InternalError("the transfer to the device failed"); }

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_BEHAVIOURS_H_
