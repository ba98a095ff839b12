#include "controller/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr SessionId kA{1};
constexpr SessionId kB{2};
constexpr absl::Duration kMs = absl::Milliseconds(1);

// A scheduler, and devices that do what they are handed, one launch after the other, in no time but the simulated.
class World {
 public:
  struct Launch : Scheduler::Item {
    int name = 0;
    absl::Duration takes;
    absl::Time begins = absl::InfiniteFuture();
    bool ended = false;
  };

  explicit World(const Scheduler::Options& options = {.ahead = absl::ZeroDuration()}) : scheduler(options) {}

  std::shared_ptr<const Placement> On(const std::vector<int>& devices) {
    auto& placement = placements_[devices];
    if (placement == nullptr) {
      auto made = std::make_shared<Placement>();
      for (int device : devices) made->devices.push_back(DeviceId{device});
      placement = std::move(made);
    }
    return placement;
  }

  Launch& Ask(SessionId session, const std::vector<int>& devices, absl::Duration takes = kMs,
              std::shared_ptr<Scheduler::Measured> measured = nullptr) {
    auto launch = std::make_unique<Launch>();
    launch->session = session;
    launch->order = launches.size() + 1;
    launch->name = static_cast<int>(launches.size());
    launch->placement = On(devices);
    launch->measured = measured != nullptr ? std::move(measured) : std::make_shared<Scheduler::Measured>();
    launch->future = std::make_shared<Future>(1, RequestHeader{}, out);
    launch->takes = takes;
    launches.push_back(std::move(launch));
    return *launches.back();
  }

  Launch& Add(SessionId session, const std::vector<int>& devices, absl::Duration takes = kMs,
              std::shared_ptr<Scheduler::Measured> measured = nullptr) {
    Launch& launch = Ask(session, devices, takes, std::move(measured));
    scheduler.Add(launch);
    return launch;
  }

  void Run() {
    scheduler.Run(now, [this](Scheduler::Item& item) {
      auto& launch = static_cast<Launch&>(item);
      order.push_back(launch.name);
      for (DeviceId device : launch.placement->devices) queues[Raw(device)].push_back(&launch);
    });
  }

  void End(Launch& launch) {
    EXPECT_FALSE(launch.ended);
    launch.ended = true;
    launch.future->PartDone(absl::OkStatus(), out);
    launch.measured->Add(launch.takes);
    scheduler.End(launch, launch.takes, now);
  }

  // Lets time pass until the next launch ends. False: nothing runs.
  bool Step() {
    Run();
    Launch* next = nullptr;
    for (auto& [device, queue] : queues) {
      if (queue.empty()) continue;
      Launch& launch = *queue.front();
      const bool everywhere = std::all_of(launch.placement->devices.begin(), launch.placement->devices.end(),
                                          [&](DeviceId d) { return queues[Raw(d)].front() == &launch; });
      if (!everywhere) continue;
      if (launch.begins == absl::InfiniteFuture()) launch.begins = now;
      if (next == nullptr || launch.begins + launch.takes < next->begins + next->takes) next = &launch;
    }
    if (next == nullptr) return false;
    now = std::max(now, next->begins + next->takes);
    for (DeviceId device : next->placement->devices) queues[Raw(device)].pop_front();
    End(*next);
    return true;
  }

  absl::Duration BusyOf(SessionId session) const { return scheduler.OfSession(session, now).busy; }

  Recorder out;
  Scheduler scheduler;
  absl::Time now = absl::FromUnixSeconds(1000);
  std::deque<std::unique_ptr<Launch>> launches;
  std::vector<int> order;
  std::map<int, std::deque<Launch*>> queues;

 private:
  std::map<std::vector<int>, std::shared_ptr<const Placement>> placements_;
};

TEST(SchedulerTest, HandsOverAsManyAsThereAreCredits) {
  World world({.credits = 2, .ahead = absl::ZeroDuration()});
  for (int i = 0; i < 4; ++i) world.Add(kA, {0});
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(0, 1));
  EXPECT_EQ(world.scheduler.queued(), 2);
  world.Step();
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(0, 1, 2));
}

TEST(SchedulerTest, TinyLaunchesAreHandedOverFurtherAhead) {
  World world({.credits = 2, .ahead = kMs});
  auto tiny = std::make_shared<Scheduler::Measured>();
  tiny->Add(absl::Microseconds(100));
  for (int i = 0; i < 40; ++i) world.Add(kA, {0}, absl::Microseconds(100), tiny);
  world.Run();
  EXPECT_EQ(world.order.size(), 10) << "as many as take a millisecond";
}

TEST(SchedulerTest, ALaunchWaitsForACreditOnEachOfItsDevicesAndOthersDoNotStarveIt) {
  World world({.credits = 2, .ahead = absl::ZeroDuration()});
  for (int i = 0; i < 8; ++i) world.Add(kA, {0});
  world.Run();
  const int gang = world.Add(kB, {0, 1}).name;
  for (int i = 0; i < 8; ++i) world.Add(kA, {0});
  for (int i = 0; i < 4; ++i) world.Step();
  const auto at = std::find(world.order.begin(), world.order.end(), gang);
  ASSERT_NE(at, world.order.end());
  EXPECT_LE(at - world.order.begin(), 3) << "after what was handed over already";
}

TEST(SchedulerTest, OneCreditIsKeptForAGangThatLacksOneElsewhereAndOthersHaveTheRest) {
  World world({.credits = 2, .ahead = absl::ZeroDuration()});
  world.Add(kA, {1}, absl::Seconds(1));
  world.Add(kA, {1}, absl::Seconds(1));
  world.Run();
  const int gang = world.Add(kB, {0, 1}).name;
  world.Run();
  for (int i = 0; i < 100; ++i) world.Add(SessionId{3}, {0});
  for (int i = 0; i < 50; ++i) world.Step();
  EXPECT_THAT(world.order, testing::Not(testing::Contains(gang))) << "device 1 is taken for a second";
  EXPECT_GE(world.order.size(), 50) << "device 0 is not idle for it";
  while (world.Step()) {
  }
  EXPECT_THAT(world.order, testing::Contains(gang));
}

TEST(SchedulerTest, FirstComeFirstServed) {
  World world({.policy = Scheduler::Policy::kFirstCome, .credits = 1, .ahead = absl::ZeroDuration()});
  for (int i = 0; i < 3; ++i) world.Add(kA, {0});
  for (int i = 0; i < 3; ++i) world.Add(kB, {0});
  while (world.Step()) {
  }
  EXPECT_THAT(world.order, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(SchedulerTest, FairByDeviceTimeNotByNumber) {
  World world;
  for (int i = 0; i < 2000; ++i) world.Add(kA, {0}, 1 * kMs);
  for (int i = 0; i < 2000; ++i) world.Add(kB, {0}, 5 * kMs);
  for (int i = 0; i < 1000; ++i) world.Step();
  EXPECT_NEAR(absl::FDivDuration(world.BusyOf(kA), world.BusyOf(kB)), 1.0, 0.03);
}

TEST(SchedulerTest, SharesFollowWeights) {
  World world;
  for (int s = 0; s < 4; ++s) world.scheduler.OpenSession(SessionId(s + 1), 1 << s, 1);
  for (int s = 0; s < 4; ++s) {
    auto measured = std::make_shared<Scheduler::Measured>();
    for (int i = 0; i < 3000; ++i) world.Add(SessionId(s + 1), {0, 1, 2, 3}, 2 * kMs, measured);
  }
  for (int i = 0; i < 3000; ++i) world.Step();
  const absl::Duration total = 3000 * 4 * 2 * kMs;
  for (int s = 0; s < 4; ++s) {
    EXPECT_NEAR(absl::FDivDuration(world.BusyOf(SessionId(s + 1)), total), (1 << s) / 15.0, 0.005) << s;
  }
}

TEST(SchedulerTest, IdlingSavesNothingUpAndGivesItsShareAwayAtOnce) {
  World world;
  for (int i = 0; i < 1000; ++i) world.Add(kA, {0});
  for (int i = 0; i < 500; ++i) world.Step();
  EXPECT_EQ(world.BusyOf(kA), 500 * kMs) << "alone";
  for (int i = 0; i < 400; ++i) world.Add(kB, {0});
  for (int i = 0; i < 200; ++i) world.Step();
  EXPECT_NEAR(absl::ToDoubleMilliseconds(world.BusyOf(kB)), 100, 5);
}

TEST(SchedulerTest, ACapHolds) {
  World world;
  world.scheduler.OpenSession(kA, 1, 0.25);
  world.scheduler.OpenSession(kB, 1, 1);
  for (int i = 0; i < 3000; ++i) world.Add(kA, {0});
  for (int i = 0; i < 3000; ++i) world.Add(kB, {0});
  const absl::Time began = world.now;
  for (int i = 0; i < 2000; ++i) {
    world.scheduler.LookAgain();
    world.Step();
  }
  EXPECT_NEAR(absl::FDivDuration(world.BusyOf(kA), world.now - began), 0.25, 0.03);
}

TEST(SchedulerTest, WhatIsNotHandedOverIsComeBeforeIt) {
  World world;
  World::Launch& waits = world.Ask(kA, {1});
  waits.missing = 1;
  world.scheduler.Add(waits);
  world.Run();
  EXPECT_THAT(world.order, IsEmpty());
  waits.missing = 0;
  world.scheduler.Release(waits);
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(waits.name));
}

TEST(SchedulerTest, ALaunchOfFarOffInputsIsHandedOverAtOnceWhereNobodyElseIs) {
  World world;
  World::Launch& launch = world.Ask(kA, {0});
  launch.inputs.push_back(std::make_shared<Future>(1, RequestHeader{}, world.out));
  launch.inputs.back()->Expect(world.now + absl::Seconds(10));
  world.scheduler.Add(launch);
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(launch.name));
}

TEST(SchedulerTest, WhatIsStillWithAClientHoldsNoDevice) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  auto data = std::make_shared<Future>(1, RequestHeader{}, world.out);
  data->SetMake();
  data->ExpectFromClient(2);
  auto copy = std::make_shared<Future>(1, RequestHeader{}, world.out);
  copy->ComesFrom(data);
  World::Launch& first = world.Ask(kA, {0, 1});
  first.inputs.push_back(copy);
  world.scheduler.Add(first);
  world.Run();
  EXPECT_THAT(world.order, IsEmpty()) << "though nobody else is there";
  const int other = world.Add(kB, {1}).name;
  world.Step();
  EXPECT_THAT(world.order, ElementsAre(other));
  data->ClientSent();
  world.scheduler.LookAgain();
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(other)) << "the other half is missing";
  data->ClientSent();
  world.scheduler.LookAgain();
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(other, first.name)) << "on its way";
}

TEST(SchedulerTest, WhatAClientWillNotSendIsNotWaitedFor) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  auto data = std::make_shared<Future>(1, RequestHeader{}, world.out);
  data->ExpectFromClient(1);
  auto copy = std::make_shared<Future>(1, RequestHeader{}, world.out);
  copy->ComesFrom(data);
  World::Launch& launch = world.Ask(kA, {0});
  launch.inputs.push_back(copy);
  world.scheduler.Add(launch);
  world.Run();
  EXPECT_THAT(world.order, IsEmpty());
  data->Fail(absl::CancelledError("broken off"), world.out);
  world.scheduler.LookAgain();
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(launch.name)) << "the worker knows how it ends";
}

TEST(SchedulerTest, ItHoldsNoDeviceAgainstOthers) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  auto measured = std::make_shared<Scheduler::Measured>();
  measured->Add(kMs);
  world.Add(kB, {0}, kMs, measured);
  world.Step();
  World::Launch& far = world.Ask(kA, {0});
  auto input = std::make_shared<Future>(1, RequestHeader{}, world.out);
  input->Expect(world.now + 20 * kMs);
  far.inputs.push_back(input);
  world.scheduler.Add(far);
  for (int i = 0; i < 30; ++i) world.Add(kB, {0}, kMs, measured);
  for (int i = 0; i < 15; ++i) {
    world.Step();
    world.scheduler.LookAgain();
  }
  EXPECT_THAT(world.order, testing::Not(testing::Contains(far.name)));
  for (int i = 0; i < 10; ++i) {
    world.Step();
    world.scheduler.LookAgain();
  }
  EXPECT_THAT(world.order, testing::Contains(far.name)) << "about when its input is expected";
}

TEST(SchedulerTest, SequentiallyNothingGoesBeforeItsInputs) {
  World world({.ahead = absl::ZeroDuration(), .sequential = true});
  World::Launch& launch = world.Ask(kA, {0});
  auto input = std::make_shared<Future>(1, RequestHeader{}, world.out);
  launch.inputs.push_back(input);
  world.scheduler.Add(launch);
  world.Run();
  EXPECT_THAT(world.order, IsEmpty());
  input->PartDone(absl::OkStatus(), world.out);
  world.scheduler.LookAgain();
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(launch.name));
}

TEST(SchedulerTest, ASessionThatClosesLeavesNothing) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  for (int i = 0; i < 5; ++i) world.Add(kA, {0, 1});
  world.Run();
  world.scheduler.CloseSession(kA);
  EXPECT_EQ(world.scheduler.queued(), 0);
  EXPECT_EQ(world.scheduler.in_flight(), 1);
  const int other = world.Add(kB, {1}).name;
  world.Step();
  EXPECT_EQ(world.scheduler.in_flight(), 0);
  world.Run();
  EXPECT_THAT(world.order, ElementsAre(0, other));
  EXPECT_THAT(world.scheduler.OfDevice(DeviceId{0}).sessions, IsEmpty());
}

TEST(SchedulerTest, ASessionsNumberMayBeUsedAgainBeforeAllHasEnded) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  world.scheduler.OpenSession(kA, 1, 1);
  world.Add(kA, {0});
  world.Run();
  world.scheduler.CloseSession(kA);
  world.scheduler.OpenSession(kA, 1, 1);
  const int again = world.Add(kA, {0}).name;
  while (world.Step()) {
  }
  EXPECT_THAT(world.order, ElementsAre(0, again));
  EXPECT_EQ(world.scheduler.in_flight(), 0);
}

TEST(SchedulerTest, SaysWhereALaunchStands) {
  World world({.credits = 1, .ahead = absl::ZeroDuration()});
  auto measured = std::make_shared<Scheduler::Measured>();
  measured->Add(10 * kMs);
  world.Add(kA, {0}, 10 * kMs, measured);
  world.Add(kA, {0}, 10 * kMs, measured);
  world.Run();
  world.Add(kB, {0}, 10 * kMs, measured);
  const Scheduler::SessionUse use = world.scheduler.OfSession(kB, world.now);
  EXPECT_EQ(use.queued, 1);
  EXPECT_EQ(use.place, 0) << "it has had less";
  EXPECT_EQ(use.expected_wait, 10 * kMs);
  EXPECT_EQ(world.scheduler.OfSession(kA, world.now).place, 1);
}

}  // namespace
}  // namespace causeway
