// How late a TimerThread calls: the medians and tails stand beside the time, in microseconds.
#include "base/timer_thread.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <future>
#include <vector>

#include "base/clock.h"

namespace causeway {
namespace {

// A queue of calls, one every `range` microseconds.
void BM_Lateness(benchmark::State& state) {
  constexpr int kCalls = 200;
  std::vector<double> late_us;
  for (auto _ : state) {
    TimerThread timer;
    std::promise<void> all;
    const absl::Time start = SteadyNow();
    for (int i = 1; i <= kCalls; ++i) {
      const absl::Time at = start + i * absl::Microseconds(state.range(0));
      timer.RunAt(at, [&, at, last = i == kCalls] {
        late_us.push_back(absl::ToDoubleMicroseconds(SteadyNow() - at));
        if (last) all.set_value();
      });
    }
    all.get_future().wait();
  }
  std::sort(late_us.begin(), late_us.end());
  const auto at = [&](double share) {
    return late_us[static_cast<size_t>(share * static_cast<double>(late_us.size() - 1))];
  };
  state.counters["late_p50_us"] = at(0.5);
  state.counters["late_p99_us"] = at(0.99);
  state.counters["late_max_us"] = at(1);
}
BENCHMARK(BM_Lateness)->Arg(100)->Arg(300)->Arg(5000)->UseRealTime();

}  // namespace
}  // namespace causeway
