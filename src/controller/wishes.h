// What a session asks for when it opens: its share, and the devices that it wants for itself or with others.
//
//   SessionWishes wishes{.weight = 2, .devices = 4, .one_island = true};
//   RETURN_IF_ERROR(CheckWishes(wishes));
//
// Threading: plain data and pure functions.
#ifndef CAUSEWAY_CONTROLLER_WISHES_H_
#define CAUSEWAY_CONTROLLER_WISHES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace causeway {

// The same ranges stand in python/causeway/session.py, where a program's mistakes are found first.
inline constexpr double kMinWeight = 0.001;
inline constexpr double kMaxWeight = 1000;
inline constexpr double kMinCap = 0.001;           // with less, one launch would be for hours
inline constexpr int kMaxWishedDevices = 1 << 28;  // of 65,536 workers with 4,096 each
inline constexpr int64_t kMaxWishedMemoryBytes = int64_t{1} << 50;
inline constexpr size_t kMaxPlatformBytes = 64;

struct SessionWishes {
  double weight = 1;         // of its share of device time, beside those of others
  int devices = 0;           // how many; 0: all that it can have
  bool one_island = false;   // all of them in one island
  std::string platform;      // JAX's name of the hardware; empty: any
  int64_t memory_bytes = 0;  // what its arrays may take on each device; 0: no cap
  double cap = 1;            // the largest share of a device's time that it takes
  bool exclusive = false;    // its devices are given to nobody else
};

// INVALID_ARGUMENT, naming the wish and its range.
absl::Status CheckWishes(const SessionWishes& wishes);

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_WISHES_H_
