// Back-pressure: what the core counts as in flight, and when it has a client held back.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

class CoreLoadTest : public CoreTest {
 protected:
  CoreLoadTest() : CoreTest({.launches_per_device = 8, .items = 20, .bytes = 10'000, .host_bytes = 12 << 20}) {}

  // Two workers, an array on device 0 and a program there, and the same on device 2 of the other worker.
  void Prepare(SessionId session = kSession) {
    Put(A(1, session), {0});
    ArrayDone(kLinkA, A(1, session));
    Compile(P(1, session), {0}, kLinkA);
    Put(A(2, session), {2});
    ArrayDone(kLinkB, A(2, session));
    Compile(P(2, session), {2}, kLinkB);
    out_.throttled.clear();
  }

  // Launches on the first or the second worker, and returns the launch's number.
  uint64_t LaunchOn(LinkId link, SessionId session = kSession) {
    const uint64_t which = link == kLinkA ? 1 : 2;
    Launch(P(which, session), A(which, session), A(++last_output_, session));
    EXPECT_TRUE(Done().ok()) << Done();
    return out_.sent[Raw(link)].back().launch().number();
  }

  // An array in the making on device 0, from 16 bytes.
  ArrayId Make(SessionId session = kSession) {
    const ArrayId id = A(++last_output_, session);
    Put(id, {0});
    return id;
  }

  uint64_t last_output_ = 100;
};

TEST_F(CoreLoadTest, AClientIsHeldWhileADeviceHasManyOfItsLaunches) {
  TwoWorkers();
  Prepare();
  std::vector<uint64_t> launches;
  for (int i = 0; i < 7; ++i) launches.push_back(LaunchOn(kLinkA));
  EXPECT_TRUE(out_.throttled.empty());
  launches.push_back(LaunchOn(kLinkA));
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  launches.push_back(LaunchOn(kLinkA));  // it was on its way, and is carried out
  for (int i = 0; i < 4; ++i) LaunchDone(kLinkA, launches[i]);
  EXPECT_EQ(out_.throttled.size(), 1u) << "5 are left";
  LaunchDone(kLinkA, launches[4], absl::InternalError("it failed"));
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
}

TEST_F(CoreLoadTest, OthersAreNotHeld) {
  TwoWorkers();
  Open(kOther);
  Prepare();
  Prepare(kOther);
  for (int i = 0; i < 8; ++i) LaunchOn(kLinkA);
  for (int i = 0; i < 7; ++i) LaunchOn(kLinkA, kOther);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
}

TEST_F(CoreLoadTest, ArraysInTheMakingCountTogetherWithLaunches) {
  TwoWorkers();
  Prepare();
  std::vector<ArrayId> made;
  for (int i = 0; i < 13; ++i) made.push_back(Make());
  for (int i = 0; i < 6; ++i) LaunchOn(kLinkA);
  EXPECT_TRUE(out_.throttled.empty());
  const ArrayId target = A(50);
  Handle(CopyArrays{.request = Next(), .sources = {A(1)}, .targets = {target}, .devices = {DeviceId{2}}});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  EXPECT_EQ(core_.Status(now_).sessions(0).in_flight(), 20);
  EXPECT_TRUE(core_.Status(now_).sessions(0).held_back());
  for (int i = 0; i < 9; ++i) ArrayDone(kLinkA, made[i]);
  EXPECT_EQ(out_.throttled.size(), 1u);
  ArrayDone(kLinkB, target);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
}

TEST_F(CoreLoadTest, BytesInFramesCount) {
  TwoWorkers();
  Prepare();
  const auto put = [&](ArrayId id, int64_t bytes) {
    HostPiece piece{.buffer = HostBufferId{1}, .shards = {0}, .total_bytes = bytes, .data = std::string(bytes, 'x')};
    Handle(PutArray{Next(), id, On({0}, {bytes / 4}), {piece}});
  };
  put(A(50), 6000);
  EXPECT_TRUE(out_.throttled.empty());
  put(A(51), 6000);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  ArrayDone(kLinkA, A(50));
  ArrayDone(kLinkA, A(51));
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
}

TEST_F(CoreLoadTest, LargeHostDataCountByThemselves) {
  TwoWorkers();
  Prepare();
  const auto put = [&](ArrayId id) {
    Handle(PutArray{Next(), id, On({0}, {1 << 20}), {HostPiece{HostBufferId{8}, {0}, {}, 4 << 20, std::nullopt}}});
  };
  put(A(50));
  EXPECT_TRUE(out_.throttled.empty()) << "4 MiB that do not travel in frames";
  put(A(51));
  EXPECT_TRUE(out_.throttled.empty());
  put(A(52));
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  ArrayDone(kLinkA, A(50));
  EXPECT_EQ(out_.throttled.size(), 1u);
  ArrayDone(kLinkA, A(52));
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
}

TEST_F(CoreLoadTest, WhatIsRefusedIsNotInFlight) {
  TwoWorkers();
  Prepare();
  for (uint64_t i = 0; i < 30; ++i) Launch(P(1), A(999), A(200 + i));  // no such argument
  for (uint64_t i = 0; i < 30; ++i) Launch(P(1), A(200), A(300 + i));  // one that holds an error
  for (int i = 0; i < 30; ++i) Put(A(1), {0});                         // a name that is taken
  EXPECT_TRUE(out_.throttled.empty());
  EXPECT_EQ(core_.Status(now_).sessions(0).in_flight(), 0);
}

TEST_F(CoreLoadTest, DeletingArraysInTheMakingDoesNotMakeRoom) {
  TwoWorkers();
  Prepare();
  std::vector<ArrayId> made;
  for (int i = 0; i < 20; ++i) made.push_back(Make());
  Handle(DestructArrays{Next(), made});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}})) << "the worker has still to make them";
  for (ArrayId id : made) ArrayDone(kLinkA, id);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
}

TEST_F(CoreLoadTest, TheLossOfAWorkerReleasesItsClients) {
  TwoWorkers();
  Prepare();
  for (int i = 0; i < 8; ++i) LaunchOn(kLinkA);
  for (int i = 0; i < 20; ++i) Make();
  LaunchOn(kLinkB);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("gone")});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
  EXPECT_EQ(core_.Status(now_).sessions(0).in_flight(), 1) << "the other worker's launch";
}

TEST_F(CoreLoadTest, AClosedSessionIsNeverReleased) {
  TwoWorkers();
  Prepare();
  std::vector<uint64_t> launches;
  for (int i = 0; i < 8; ++i) launches.push_back(LaunchOn(kLinkA));
  Handle(CloseSession{kSession});
  for (uint64_t launch : launches) LaunchDone(kLinkA, launch);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
}

TEST_F(CoreLoadTest, WhoeverSendsToAWorkerThatDoesNotReadIsHeldUntilItReads) {
  TwoWorkers();
  Open(kOther);
  Prepare();
  Prepare(kOther);
  Handle(LinkFull{kLinkA, true});
  EXPECT_TRUE(out_.throttled.empty()) << "nobody sends anything";
  LaunchOn(kLinkB);
  LaunchOn(kLinkB, kOther);
  EXPECT_TRUE(out_.throttled.empty()) << "that is another worker";
  // Not only what is counted: names that go are frames as well.
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  LaunchOn(kLinkA, kOther);
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kOther, true}}));
  Handle(LinkFull{kLinkA, false});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kOther, true}, {kSession, false}, {kOther, false}}));
}

TEST_F(CoreLoadTest, TheLossOfAWorkerThatDoesNotReadReleasesWhoeverWaitsForIt) {
  TwoWorkers();
  Prepare();
  Handle(LinkFull{kLinkA, true});
  Make();
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("gone")});
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}, {kSession, false}}));
  Join(LinkId{12}, "a");
  Compile(P(3), {0}, LinkId{12});
  Put(A(60), {0});
  EXPECT_EQ(out_.throttled.size(), 2u) << "it is back, and reads";
}

// Random work of three sessions on two workers, which may be lost and return. The edges alternate, follow the counts,
// and nobody is held when nothing is left.
TEST_F(CoreLoadTest, RandomWorkNeverLeavesAClientHeld) {
  std::mt19937 random(7);
  const std::vector<SessionId> sessions = {kSession, kOther, SessionId{3}};
  LinkId link{10};
  Join(link, "a", "i0", 1);
  std::map<SessionId, uint64_t> programs;
  for (SessionId session : sessions) Open(session);
  const auto prepare = [&](SessionId session) {
    Put(A(++last_output_, session), {0});
    ArrayDone(link, A(last_output_, session));
    programs[session] = last_output_;
    Compile(P(last_output_, session), {0}, link);
  };
  for (SessionId session : sessions) prepare(session);
  std::vector<std::pair<SessionId, uint64_t>> launches;  // in flight
  std::vector<ArrayId> makes;
  std::map<SessionId, bool> held;
  size_t seen = 0;
  int holds = 0;
  const auto check = [&] {
    for (; seen < out_.throttled.size(); ++seen) {
      const auto& [session, hold] = out_.throttled[seen];
      ASSERT_NE(held[session], hold) << "told only of changes";
      held[session] = hold;
      holds += hold ? 1 : 0;
    }
    for (SessionId session : sessions) {
      int count = 0;
      int of_launches = 0;
      for (const auto& [owner, number] : launches) of_launches += owner == session ? 1 : 0;
      for (ArrayId id : makes) count += SessionOf(id) == session ? 1 : 0;
      count += of_launches;
      if (of_launches >= 8 || count >= 20) {
        ASSERT_TRUE(held[session]);
      }
      if (of_launches <= 4 && count <= 10) {
        ASSERT_FALSE(held[session]);
      }
    }
  };
  for (int step = 0; step < 20'000; ++step) {
    const SessionId session = sessions[random() % sessions.size()];
    const int what = static_cast<int>(random() % 1000);
    if (what < 300) {
      Launch(P(programs[session], session), A(programs[session], session), A(++last_output_, session));
      launches.emplace_back(session, out_.sent[Raw(link)].back().launch().number());
    } else if (what < 500) {
      makes.push_back(Make(session));
    } else if (what < 750 && !launches.empty()) {
      std::swap(launches[random() % launches.size()], launches.back());
      const uint64_t number = launches.back().second;
      launches.pop_back();
      LaunchDone(link, number);
    } else if (what < 998 && !makes.empty()) {
      std::swap(makes[random() % makes.size()], makes.back());
      const ArrayId id = makes.back();
      makes.pop_back();
      ArrayDone(link, id);
    } else if (what >= 998) {
      launches.clear();
      makes.clear();
      Handle(LinkClosed{link, absl::UnavailableError("gone")});
      link = LinkId{Raw(link) + 1};
      Join(link, "a", "i0", 1);
      for (SessionId other : sessions) prepare(other);
    }
    check();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(holds, 50);
  while (!launches.empty()) {
    const uint64_t number = launches.back().second;
    launches.pop_back();
    LaunchDone(link, number);
  }
  while (!makes.empty()) {
    const ArrayId id = makes.back();
    makes.pop_back();
    ArrayDone(link, id);
  }
  check();
  for (SessionId session : sessions) EXPECT_FALSE(held[session]);
}

}  // namespace
}  // namespace causeway
