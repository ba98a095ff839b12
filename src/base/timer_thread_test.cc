#include "base/timer_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <vector>

#include "base/clock.h"

namespace causeway {
namespace {

TEST(TimerThread, CallsComeInTheOrderOfTheirTimes) {
  std::vector<int> calls;
  {
    TimerThread timer;
    timer.RunAfter(absl::Hours(2), [&] { calls.push_back(4); });
    timer.RunAfter(absl::Hours(1), [&] { calls.push_back(2); });
    timer.RunAfter(absl::ZeroDuration(), [&] { calls.push_back(1); });
    timer.RunAfter(absl::Hours(1), [&] { calls.push_back(3); });
  }
  EXPECT_THAT(calls, testing::ElementsAre(1, 2, 3, 4));
}

TEST(TimerThread, ACallComesByItselfWhenItsTimeHasCome) {
  std::promise<void> called;
  TimerThread timer;
  timer.RunAfter(absl::Hours(1), [] {});
  timer.RunAfter(absl::Milliseconds(1), [&] { called.set_value(); });
  EXPECT_EQ(called.get_future().wait_for(std::chrono::minutes(1)), std::future_status::ready);
}

TEST(TimerThread, NoCallComesBeforeItsTime) {
  constexpr int kCalls = 50;
  std::vector<absl::Duration> lateness;
  std::promise<void> all;
  TimerThread timer;
  const absl::Time start = SteadyNow();
  for (int i = kCalls; i > 0; --i) {
    const absl::Time at = start + i * absl::Microseconds(123);
    timer.RunAt(at, [&, at] {
      lateness.push_back(SteadyNow() - at);
      if (lateness.size() == kCalls) all.set_value();
    });
  }
  ASSERT_EQ(all.get_future().wait_for(std::chrono::minutes(1)), std::future_status::ready);
  EXPECT_THAT(lateness, testing::Each(testing::Ge(absl::ZeroDuration())));
}

TEST(TimerThread, ATimeThatNeverComesHoldsNobodyUp) {
  std::promise<void> called;
  int never = 0;
  {
    TimerThread timer;
    timer.RunAt(absl::InfiniteFuture(), [&] { ++never; });
    timer.RunAt(absl::InfinitePast(), [&] { called.set_value(); });
    EXPECT_EQ(called.get_future().wait_for(std::chrono::minutes(1)), std::future_status::ready);
  }
  EXPECT_EQ(never, 1) << "only the destructor calls it";
}

TEST(TimerThread, TheDestructorCallsWhatIsLeftAndWhatThatAdds) {
  std::vector<int> calls;
  {
    TimerThread timer;
    timer.RunAfter(absl::Hours(1), [&] {
      calls.push_back(1);
      timer.RunAfter(absl::Hours(1), [&] { calls.push_back(2); });
    });
  }
  EXPECT_THAT(calls, testing::ElementsAre(1, 2));
}

}  // namespace
}  // namespace causeway
