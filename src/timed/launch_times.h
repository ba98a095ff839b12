// How long launches take, as an operator writes it: NAME=TIME[,NAME=TIME...].
//
//   ASSIGN_OR_RETURN(LaunchTimes times, LaunchTimes::Parse("stage*=20ms,embed=300us,*=cost:1e12"));
//   ASSIGN_OR_RETURN(absl::Duration d, times.Of("jit_stage_3", flops));     // 20 ms; `flops` is not asked
//
// NAME is a program's name, with or without JAX's "jit_" before it; * stands for any characters. TIME is a duration
// (300us, 5ms, 1s), or cost:FLOPS_PER_S, for what the plugin's cost analysis counts at that speed. The first NAME that
// matches counts.
//
// A program may also say it itself: one whose name ends in _for_5ms (_for_300us, _for_2s) takes that long, unless a
// NAME other than the plain * matches. What nobody gives a time takes none.
//
// Threading: const methods are thread-safe.
#ifndef CAUSEWAY_TIMED_LAUNCH_TIMES_H_
#define CAUSEWAY_TIMED_LAUNCH_TIMES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace causeway {

class LaunchTimes {
 public:
  static constexpr absl::Duration kLongest = absl::Hours(1);
  static constexpr size_t kMaxNames = 1000;
  static constexpr size_t kMaxNameLength = 256;

  // Everything takes no time, but what says it itself.
  LaunchTimes() = default;

  // INVALID_ARGUMENT, with the part and what to write instead, for anything but the above; also for a NAME that is
  // never reached, behind a plain *.
  static absl::StatusOr<LaunchTimes> Parse(absl::string_view spec);

  // Of the program of this name, of which one device does `flops()` floating-point operations. INVALID_ARGUMENT where
  // that is longer than kLongest; otherwise the errors of `flops`.
  absl::StatusOr<absl::Duration> Of(absl::string_view program,
                                    const std::function<absl::StatusOr<double>()>& flops) const;

 private:
  struct Rule {
    std::string name;
    absl::Duration time;
    double flops_per_s = 0;  // above 0: `time` comes from these
  };

  static absl::StatusOr<Rule> ParseRule(absl::string_view part);

  std::vector<Rule> rules_;
};

}  // namespace causeway

#endif  // CAUSEWAY_TIMED_LAUNCH_TIMES_H_
