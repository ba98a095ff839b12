#include "sim/timer_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <vector>

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
