#include "worker/strand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace causeway::worker {
namespace {

using ::testing::ElementsAre;

TEST(Strand, RunsATaskOnTheThreadThatBringsIt) {
  Strand strand;
  std::thread::id where;
  strand.Run([&] { where = std::this_thread::get_id(); });
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(Strand, ATaskBroughtByATaskRunsAfterIt) {
  Strand strand;
  std::vector<int> order;
  strand.Run([&] {
    strand.Run([&] {
      order.push_back(2);
      strand.Run([&] { order.push_back(4); });
    });
    strand.Run([&] { order.push_back(3); });
    order.push_back(1);
  });
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

TEST(Strand, RunsOneTaskAtATimeAndKeepsEachThreadsOrder) {
  Strand strand;
  constexpr int kThreads = 4, kTasks = 2000;
  std::vector<int> last(kThreads, -1);
  int inside = 0, total = 0;
  std::atomic<bool> good = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        strand.Run([&, t, i] {
          if (++inside != 1 || last[t] != i - 1) good = false;
          last[t] = i;
          ++total;
          --inside;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  strand.Close();
  EXPECT_TRUE(good);
  EXPECT_EQ(total, kThreads * kTasks);
}

TEST(Strand, RunsNothingOnceItIsClosed) {
  Strand strand;
  strand.Close();
  bool ran = false;
  strand.Run([&] { ran = true; });
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace causeway::worker
