#include "ifrt/late_flush.h"

#include "gtest/gtest.h"

namespace causeway {
namespace {

class Counter final : public LateFlush::Holder {
 public:
  void Flush() override {
    MutexLock lock(&mutex_);
    ++count_;
    changed_.SignalAll();
  }
  // Waits, with a limit against hangs, until it was flushed `count` times.
  bool Reaches(int count) {
    MutexLock lock(&mutex_);
    while (count_ < count) {
      if (changed_.WaitWithTimeout(&mutex_, absl::Seconds(20))) return false;
    }
    return true;
  }
  int count() {
    MutexLock lock(&mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(LateFlushTest, EverybodyAddedIsFlushedOnce) {
  LateFlush late;
  const auto a = std::make_shared<Counter>();
  const auto b = std::make_shared<Counter>();
  late.Add(a);
  late.Add(b);
  EXPECT_TRUE(a->Reaches(1));
  EXPECT_TRUE(b->Reaches(1));
  late.Add(a);
  EXPECT_TRUE(a->Reaches(2));
  EXPECT_EQ(b->count(), 1);
}

TEST(LateFlushTest, WhoIsGoneIsLeftAlone) {
  LateFlush late;
  late.Add(std::make_shared<Counter>());
  const auto other = std::make_shared<Counter>();
  late.Add(other);
  EXPECT_TRUE(other->Reaches(1));
}

TEST(LateFlushTest, EndsWithSomebodyStillHeld) {
  const auto held = std::make_shared<Counter>();
  {
    LateFlush late;
    late.Add(held);
  }
  EXPECT_LE(held->count(), 1);
}

}  // namespace
}  // namespace causeway
