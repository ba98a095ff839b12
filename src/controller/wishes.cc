#include "controller/wishes.h"

#include "absl/strings/str_cat.h"
#include "base/utf8.h"

namespace causeway {
namespace {

template <typename Value, typename Low, typename High>
absl::Status OutOfRange(const char* wish, const Value& value, const Low& low, const High& high) {
  return absl::InvalidArgumentError(absl::StrCat("a session's ", wish, " is ", low, " to ", high, ", not ", value));
}

}  // namespace

absl::Status CheckWishes(const SessionWishes& wishes) {
  // Written so that a number that is none is outside.
  if (!(wishes.weight >= kMinWeight && wishes.weight <= kMaxWeight)) {
    return OutOfRange("weight", wishes.weight, kMinWeight, kMaxWeight);
  }
  if (!(wishes.cap >= kMinCap && wishes.cap <= 1)) return OutOfRange("cap", wishes.cap, kMinCap, 1);
  if (wishes.devices < 0 || wishes.devices > kMaxWishedDevices) {
    return OutOfRange("number of devices", wishes.devices, 0, kMaxWishedDevices);
  }
  if (wishes.memory_bytes < 0 || wishes.memory_bytes > kMaxWishedMemoryBytes) {
    return OutOfRange("memory in bytes", wishes.memory_bytes, int64_t{0}, kMaxWishedMemoryBytes);
  }
  if (wishes.platform.size() > kMaxPlatformBytes || PrintableUtf8(wishes.platform) != wishes.platform) {
    return absl::InvalidArgumentError(
        absl::StrCat("a session's platform is a name of at most ", kMaxPlatformBytes, " bytes, such as cpu or cuda"));
  }
  return absl::OkStatus();
}

}  // namespace causeway
