#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace causeway {
namespace {

TEST(Mutex, LetsOneThreadInAtATime) {
  Mutex mu;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        MutexLock lock(&mu);
        ++count;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(count, 4000);
}

TEST(CondVar, WakesWhoWaitsAndHoldsTheLockAfterwards) {
  Mutex mu;
  CondVar changed;
  bool ready = false;
  std::thread waker([&] {
    MutexLock lock(&mu);
    ready = true;
    changed.SignalAll();
  });
  {
    MutexLock lock(&mu);
    while (!ready) changed.Wait(&mu);
    EXPECT_TRUE(ready);
    std::thread([&] { EXPECT_FALSE(mu.TryLock()) << "held by the waiter"; }).join();
  }
  waker.join();
}

TEST(CondVar, SaysThatTheTimeRanOut) {
  Mutex mu;
  CondVar never;
  MutexLock lock(&mu);
  bool ran_out = false;
  for (int i = 0; i < 100 && !ran_out; ++i) ran_out = never.WaitWithTimeout(&mu, absl::Milliseconds(1));
  EXPECT_TRUE(ran_out);
}

}  // namespace
}  // namespace causeway
