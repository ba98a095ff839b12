#include "sim/control_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace causeway::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct LinkedWorld {
  explicit LinkedWorld(uint64_t seed)
      : world(seed), link(std::make_shared<ControlLink>(world, LinkId{1}, absl::Milliseconds(1))) {
    link->Open(ControlLink::kWorker, UserOf(at_worker, worker_closed));
    link->Open(ControlLink::kController, UserOf(at_controller, controller_closed));
  }
  static ControlLink::User UserOf(std::vector<std::string>& frames, std::vector<absl::Status>& closed) {
    return {[&](const std::string& frame) { frames.push_back(frame); },
            [&](const absl::Status& why) { closed.push_back(why); }};
  }
  void Run() {
    while (world.RunOne()) {
    }
  }

  World world;
  std::shared_ptr<ControlLink> link;
  std::vector<std::string> at_worker, at_controller;
  std::vector<absl::Status> worker_closed, controller_closed;
};

TEST(ControlLink, FramesArriveInOrderWhateverTheirDelays) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    LinkedWorld linked(seed);
    linked.link->Send(ControlLink::kWorker, "a");
    linked.link->Send(ControlLink::kController, "x");
    linked.link->Send(ControlLink::kWorker, "b");
    linked.link->Send(ControlLink::kWorker, "c");
    linked.Run();
    EXPECT_THAT(linked.at_worker, ElementsAre("a", "b", "c"));
    EXPECT_THAT(linked.at_controller, ElementsAre("x"));
  }
}

TEST(ControlLink, AStallHoldsEverythingUpAndReordersNothing) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    LinkedWorld linked(seed);
    linked.link->Send(ControlLink::kWorker, "a");
    const absl::Time end = linked.world.Now() + absl::Seconds(1);
    linked.link->Stall(end);
    linked.world.After(absl::Microseconds(1), [&] { linked.link->Send(ControlLink::kWorker, "b"); });
    while (linked.world.Now() < end && linked.world.RunOne()) {
      if (linked.world.Now() < end) {
        EXPECT_THAT(linked.at_worker, IsEmpty());
      }
    }
    linked.Run();
    EXPECT_THAT(linked.at_worker, ElementsAre("a", "b"));
  }
}

TEST(ControlLink, WhatWasSentBeforeAGoodCloseArrives) {
  LinkedWorld linked(1);
  linked.link->Send(ControlLink::kWorker, "goodbye");
  linked.link->Close(ControlLink::kController, absl::OkStatus());
  linked.link->Send(ControlLink::kWorker, "too late");
  linked.Run();
  EXPECT_THAT(linked.at_worker, ElementsAre("goodbye"));
  EXPECT_THAT(linked.controller_closed, ElementsAre(absl::OkStatus()));
  EXPECT_THAT(linked.worker_closed, SizeIs(1));
}

TEST(ControlLink, ABreakLosesSomeOfWhatIsInFlightAndIsHeardOnceByEachSide) {
  size_t arrived = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    LinkedWorld linked(seed);
    for (int i = 0; i < 10; ++i) linked.link->Send(ControlLink::kWorker, std::to_string(i));
    linked.link->Break();
    linked.Run();
    for (size_t i = 0; i < linked.at_worker.size(); ++i) EXPECT_EQ(linked.at_worker[i], std::to_string(i));
    arrived += linked.at_worker.size();
    EXPECT_THAT(linked.worker_closed, SizeIs(1));
    EXPECT_THAT(linked.controller_closed, SizeIs(1));
  }
  EXPECT_GT(arrived, 0u);
  EXPECT_LT(arrived, 500u);
}

TEST(ControlLink, AKilledProcessHearsNothingAndIsMissed) {
  LinkedWorld linked(1);
  linked.link->Send(ControlLink::kWorker, "a");
  linked.link->Abandon(ControlLink::kWorker);
  linked.Run();
  EXPECT_THAT(linked.at_worker, IsEmpty());
  EXPECT_THAT(linked.worker_closed, IsEmpty());
  EXPECT_THAT(linked.controller_closed, SizeIs(1));
}

}  // namespace
}  // namespace causeway::sim
