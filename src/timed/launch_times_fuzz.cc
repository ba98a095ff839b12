// LaunchTimes, with whatever people write for a flag and clients for a program's name: what is not refused is a time
// within the limits.
#include "timed/launch_times.h"

#include "fuzz/check.h"
#include "fuzz/input.h"

namespace causeway {
namespace {

void Feed(FuzzInput in) {
  const double flops = static_cast<double>(in.Number()) * (in.Flag() ? 1 : 1e300);
  const std::string name = in.Bytes(255);
  const absl::StatusOr<LaunchTimes> times = LaunchTimes::Parse(in.Rest());
  if (!times.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(times.status()));
    return;
  }
  int asked = 0;
  const absl::StatusOr<absl::Duration> time = times->Of(name, [&] {
    ++asked;
    return flops;
  });
  FUZZ_CHECK(asked <= 1);
  if (time.ok()) {
    FUZZ_CHECK(*time >= absl::ZeroDuration() && *time <= LaunchTimes::kLongest);
  } else {
    FUZZ_CHECK(absl::IsInvalidArgument(time.status()));
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
