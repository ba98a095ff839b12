#include "timed/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <utility>

namespace causeway {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);

// Ready when the test says so.
class SlowBuffer final : public DeviceBuffer {
 public:
  int64_t size_bytes() const override { return 0; }
  DType dtype() const override { return DType::kF32; }
  const std::vector<int64_t>& dims() const override { return dims_; }
  void OnReady(StatusCallback done) override { waiting_ = std::move(done); }
  void Resolve(const absl::Status& status) { std::exchange(waiting_, nullptr)(status); }

 private:
  const std::vector<int64_t> dims_ = {};
  StatusCallback waiting_;
};

class ManualClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Set(absl::Duration since_start) { now_ = absl::UnixEpoch() + since_start; }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

class ScheduleTest : public testing::Test {
 protected:
  ReadyRef Launch(int device, const std::vector<MomentRef>& arguments) {
    return schedule_->Launch({device}, 5 * kMs, arguments, absl::OkStatus(),
                             [this](const absl::Status& status) { ended_.push_back(status); });
  }

  // Calls what was to be called by now.
  void Call() {
    while (!calls_.empty() && calls_.begin()->first <= clock_.Now()) {
      std::function<void()> call = std::move(calls_.begin()->second);
      calls_.erase(calls_.begin());
      call();
    }
  }

  ManualClock clock_;
  std::multimap<absl::Time, std::function<void()>> calls_;
  std::shared_ptr<Schedule> schedule_ = std::make_shared<Schedule>(
      2, clock_, [this](absl::Time at, std::function<void()> call) { calls_.emplace(at, std::move(call)); });
  std::vector<absl::Status> ended_;
};

TEST_F(ScheduleTest, ALaunchWaitsForDataThatAreOnTheirWay) {
  SlowBuffer buffer;
  const ReadyRef data = schedule_->Follow(buffer);
  Launch(0, {data});
  Launch(0, {});
  clock_.Set(3 * kMs);
  EXPECT_TRUE(calls_.empty()) << "nobody knows when they end";
  buffer.Resolve(absl::OkStatus());
  ASSERT_EQ(calls_.size(), 2);
  EXPECT_EQ(calls_.begin()->first, absl::UnixEpoch() + 8 * kMs);
  EXPECT_EQ(calls_.rbegin()->first, absl::UnixEpoch() + 13 * kMs);
  clock_.Set(20 * kMs);
  Call();
  EXPECT_THAT(ended_, testing::ElementsAre(absl::OkStatus(), absl::OkStatus()));
}

TEST_F(ScheduleTest, DataThatNeverComeFailTheLaunchAndWhatDependsOnIt) {
  SlowBuffer buffer;
  const ReadyRef end = Launch(0, {schedule_->Follow(buffer)});
  Launch(1, {end});
  Launch(1, {});
  buffer.Resolve(absl::InternalError("lost"));
  clock_.Set(20 * kMs);
  Call();
  EXPECT_THAT(ended_, testing::ElementsAre(absl::InternalError("lost"), absl::InternalError("lost"), absl::OkStatus()));
  EXPECT_EQ(schedule_->Now(*end), absl::InternalError("lost"));
}

TEST_F(ScheduleTest, SomethingIsReadyWhenItsCallCameNotWhenItsTimeDid) {
  const ReadyRef end = Launch(0, {});
  int ready = 0;
  schedule_->OnReady(*end, [&](const absl::Status&) {
    ++ready;
    EXPECT_TRUE(ended_.empty()) << "outputs are there before the launch is over";
  });
  clock_.Set(20 * kMs);
  EXPECT_EQ(schedule_->Now(*end), std::nullopt);
  Call();
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(schedule_->Now(*end), absl::OkStatus());
  schedule_->OnReady(*end, [&](const absl::Status&) { ++ready; });
  EXPECT_EQ(ready, 2) << "at once";
}

TEST_F(ScheduleTest, StoppingEndsWhatHasNoPlaceAtOnceAndTheOthersWhenTheyAreCalled) {
  SlowBuffer buffer;
  const ReadyRef data = schedule_->Follow(buffer);
  Launch(0, {});      // over when its call comes
  Launch(0, {});      // not yet
  Launch(1, {data});  // has no place
  clock_.Set(5 * kMs);
  schedule_->Stop();
  EXPECT_THAT(ended_, testing::ElementsAre(absl::CancelledError("the devices are gone")));
  for (auto& [at, call] : std::exchange(calls_, {})) call();
  EXPECT_THAT(ended_, testing::ElementsAre(absl::CancelledError("the devices are gone"), absl::OkStatus(),
                                           absl::CancelledError("the devices are gone")));
  buffer.Resolve(absl::OkStatus());
  EXPECT_EQ(ended_.size(), 3) << "each once";
  EXPECT_TRUE(calls_.empty());
}

TEST_F(ScheduleTest, NothingIsLeftOfWhatIsOver) {
  SlowBuffer buffer;
  std::weak_ptr<Ready> end = Launch(0, {schedule_->Follow(buffer)});
  EXPECT_FALSE(end.expired());
  buffer.Resolve(absl::OkStatus());
  clock_.Set(20 * kMs);
  Call();
  EXPECT_TRUE(end.expired());
}

}  // namespace
}  // namespace causeway
