// The world of a simulation: its time, its chance, what happened in it, and what was found to be wrong.
//
//   World world(/*seed=*/7);
//   world.After(world.random().Delay(absl::Microseconds(50)), [&] { ... });
//   while (world.RunOne()) {
//   }
//   world.Note("launch ", number, " reaches worker ", id);    // in the trace, and in its hash
//   world.Fail("buffer 7 was dropped while launch 3 uses it");
//
// Everything that happens is a call at a time, and calls run one after the other in the order of their times; equal
// times in the order in which they were asked for. Nothing here reads a clock, an address or the environment, so the
// same seed gives the same run: the hash over all notes says whether it did.
//
// Threading: none. One world is one thread's.
#ifndef CAUSEWAY_SIM_WORLD_H_
#define CAUSEWAY_SIM_WORLD_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "sim/mixing.h"

namespace causeway::sim {

// Chance, the same on every machine and with every library (the distributions of <random> are not).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next();

  // Uniform in [0, n); n > 0.
  int64_t Pick(int64_t n) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(n)); }

  // Uniform in [low, high].
  int64_t Between(int64_t low, int64_t high) { return low + Pick(high - low + 1); }

  // True `percent` times of a hundred, which may be a fraction.
  bool Chance(double percent) { return static_cast<double>(Next() >> 11) * 0x1.0p-53 * 100 < percent; }

  // Mostly below `usual`, sometimes ten and rarely a hundred times as long.
  absl::Duration Delay(absl::Duration usual);

  template <typename T>
  const T& Of(const std::vector<T>& all) {
    return all[Pick(static_cast<int64_t>(all.size()))];
  }

  // A position in `weights`, each as likely as it weighs. At least one is not zero.
  int Weighted(const std::vector<int>& weights);

  template <typename T>
  void Shuffle(std::vector<T>& all) {
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[Pick(static_cast<int64_t>(i))]);
  }

 private:
  uint64_t state_;
};

class World final : public Clock {
 public:
  // `trace`, where given, gets a line for each note.
  explicit World(uint64_t seed, std::ostream* trace = nullptr) : random_(seed), trace_(trace) {}

  absl::Time Now() const override { return now_; }
  Random& random() { return random_; }

  // Calls `call` once, `delay` from now.
  void After(absl::Duration delay, std::function<void()> call) { At(now_ + delay, std::move(call)); }
  void At(absl::Time when, std::function<void()> call);

  // Goes on to the next call. False: there is none.
  bool RunOne();

  int64_t calls() const { return calls_; }

  // Something has happened: numbers, ids and strings.
  template <typename... Parts>
  void Note(const Parts&... parts) {
    (Add(parts), ...);
    Add(absl::ToUnixNanos(now_));
    if (trace_ != nullptr) Write(absl::StrCat(Plain(parts)...));
  }

  // As Note, of `bytes`, which only `describe` can show to people.
  void NoteBytes(absl::string_view bytes, const std::function<std::string()>& describe);

  uint64_t trace_hash() const { return hash_; }

  // Something is wrong. The simulation goes on to its end, but what follows from it may be as wrong.
  void Fail(std::string finding);
  const std::vector<std::string>& findings() const { return findings_; }

 private:
  struct Call {
    absl::Time when;
    uint64_t number;
    std::function<void()> call;
    // A heap has its largest first.
    bool operator<(const Call& other) const { return when != other.when ? when > other.when : number > other.number; }
  };

  template <typename T>
  static auto Plain(const T& part) {
    if constexpr (std::is_enum_v<T>) {
      return static_cast<std::underlying_type_t<T>>(part);
    } else {
      return absl::string_view(part);
    }
  }
  static int64_t Plain(int64_t part) { return part; }
  static int64_t Plain(uint64_t part) { return static_cast<int64_t>(part); }
  static int64_t Plain(int part) { return part; }
  static int64_t Plain(uint32_t part) { return part; }
  static int64_t Plain(bool part) { return part ? 1 : 0; }

  template <typename T>
  void Add(const T& part) {
    const auto plain = Plain(part);
    if constexpr (std::is_convertible_v<decltype(plain), absl::string_view>) {
      hash_ = MixBytes(hash_, plain);
    } else {
      hash_ = Mix(hash_, static_cast<uint64_t>(plain));
    }
  }
  void Write(absl::string_view line);

  absl::Time now_ = absl::UnixEpoch();
  Random random_;
  std::ostream* const trace_;
  std::vector<Call> queue_;  // a heap
  uint64_t last_number_ = 0;
  int64_t calls_ = 0;
  uint64_t hash_ = 0;
  std::vector<std::string> findings_;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_WORLD_H_
