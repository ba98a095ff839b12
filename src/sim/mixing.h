// Hashes that are the same in every process and on every machine, unlike absl's. Not for anything that an enemy
// chooses.
#ifndef CAUSEWAY_SIM_MIXING_H_
#define CAUSEWAY_SIM_MIXING_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace causeway::sim {

constexpr uint64_t Scramble(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr uint64_t Mix(uint64_t hash, uint64_t number) { return Scramble(hash * 0x100000001b3 + number + 1); }

inline uint64_t MixBytes(uint64_t hash, absl::string_view bytes) {
  hash = Mix(hash, bytes.size());
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t taken = std::min(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), taken);
    hash = Mix(hash, word);
    bytes.remove_prefix(taken);
  }
  return hash;
}

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_MIXING_H_
