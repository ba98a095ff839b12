#include "controller/slices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A cluster for the tests to change: each worker has the next ids.
class Workers {
 public:
  struct Worker {
    std::string island;
    std::string platform;
    std::vector<DeviceId> devices;
    bool alive = true;
  };

  Workers& Add(const std::string& island, int devices, const std::string& platform = "cpu") {
    Worker worker{island, platform, {}};
    for (int i = 0; i < devices; ++i) worker.devices.push_back(DeviceId{next_++});
    workers.push_back(std::move(worker));
    return *this;
  }

  std::vector<SliceWorker> Views() const {
    std::vector<SliceWorker> views;
    for (const Worker& worker : workers)
      views.push_back({worker.island, worker.platform, worker.alive, worker.devices});
    return views;
  }

  int total() const { return next_; }

  std::vector<Worker> workers;

 private:
  int next_ = 0;
};

std::vector<int> Ids(absl::Span<const DeviceId> devices) {
  std::vector<int> ids;
  for (DeviceId device : devices) ids.push_back(Raw(device));
  return ids;
}

class SlicesTest : public ::testing::Test {
 protected:
  // The next session's slice; empty where it is refused.
  std::vector<int> Take(const SessionWishes& wishes) {
    const SessionId session{++last_};
    const auto devices = slices_.Take(session, "prog" + std::to_string(last_) + ".py", wishes, workers_.Views());
    refused_ = devices.status();
    return devices.ok() ? Ids(*devices) : std::vector<int>();
  }
  std::string Why() const {
    EXPECT_EQ(refused_.code(), absl::StatusCode::kResourceExhausted);
    return std::string(refused_.message());
  }

  Workers workers_;
  Slices slices_;
  absl::Status refused_;
  uint32_t last_ = 0;
};

TEST_F(SlicesTest, WithoutAWishASessionGetsEverythingAndSharesIt) {
  workers_.Add("a", 2).Add("b", 2);
  EXPECT_THAT(Take({}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Take({}), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(slices_.SessionsOn(DeviceId{3}), 2);
  EXPECT_TRUE(slices_.Has(SessionId{2}, DeviceId{3}));
  slices_.Release(SessionId{2});
  slices_.Release(SessionId{2});
  EXPECT_EQ(slices_.SessionsOn(DeviceId{3}), 1);
  EXPECT_FALSE(slices_.Has(SessionId{2}, DeviceId{3}));
  EXPECT_THAT(slices_.Of(SessionId{2}), IsEmpty());
}

TEST_F(SlicesTest, SessionsAreSpreadAndThenShare) {
  workers_.Add("a", 4);
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(0, 1));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(2, 3));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(0, 1));
  slices_.Release(SessionId{2});
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(1, 2, 3)) << "one that is shared, and both that are not";
}

TEST_F(SlicesTest, AnIslandIsNotSplitThoughAnotherIsIdle) {
  workers_.Add("a", 4).Add("b", 2);
  EXPECT_THAT(Take({.devices = 4}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Take({.devices = 4}), ElementsAre(0, 1, 2, 3)) << "shared rather than split";
  EXPECT_THAT(Take({.devices = 5}), ElementsAre(0, 1, 2, 3, 4)) << "split where it must be";
}

TEST_F(SlicesTest, TheIslandThatFitsBestIsTaken) {
  workers_.Add("a", 4).Add("b", 2).Add("c", 3);
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(4, 5));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(6, 7)) << "what is left of c is less than what would be of a";
  EXPECT_THAT(Take({.devices = 4}), ElementsAre(0, 1, 2, 3)) << "it was kept in one piece";
}

TEST_F(SlicesTest, AWorkerIsNotSplitWithoutNeed) {
  workers_.Add("a", 3).Add("a", 4).Add("a", 2);
  EXPECT_THAT(Take({.devices = 4}), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(7, 8));
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(0, 1, 2));
  EXPECT_THAT(Take({.devices = 6}), ElementsAre(3, 4, 5, 6, 7, 8)) << "two workers, of which nothing is left over";
}

TEST_F(SlicesTest, AWorkerIsSplitForTheSakeOfIdleDevices) {
  workers_.Add("a", 4).Add("a", 4);
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(0, 1, 2));
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(4, 5, 6));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(3, 7)) << "the only idle ones";
}

TEST_F(SlicesTest, IdsAreInARowWhereTheyCanBe) {
  workers_.Add("a", 8);
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(0, 1));
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(2, 3, 4));
  slices_.Release(SessionId{1});
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(5, 6, 7));
  EXPECT_THAT(Take({.devices = 2}), ElementsAre(0, 1)) << "the gap that it fits";
}

TEST_F(SlicesTest, AnExclusiveSliceIsSharedWithNobody) {
  workers_.Add("a", 4);
  EXPECT_THAT(Take({.devices = 2, .exclusive = true}), ElementsAre(0, 1));
  EXPECT_THAT(Take({}), ElementsAre(2, 3));
  EXPECT_THAT(Take({.devices = 2, .exclusive = true}), IsEmpty()) << "the others are somebody's";
  EXPECT_THAT(Take({.devices = 3}), IsEmpty());
  slices_.Release(SessionId{1});
  EXPECT_THAT(Take({.devices = 3}), ElementsAre(0, 1, 2));
  EXPECT_THAT(Take({.exclusive = true}), IsEmpty());
  slices_.Release(SessionId{5});
  slices_.Release(SessionId{2});
  EXPECT_THAT(Take({.exclusive = true}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Take({}), IsEmpty());
}

TEST_F(SlicesTest, ARefusalSaysWhatIsFreeAndWhoHoldsTheRest) {
  workers_.Add("a", 4).Add("b", 2);
  Take({.devices = 3, .exclusive = true});
  Take({.devices = 2});
  EXPECT_THAT(Take({.devices = 4}), IsEmpty());
  EXPECT_EQ(Why(),
            "this session asks for 4 devices. Free for it: 1 of 4 in island a, 2 of 2 in island b; held: 3 devices "
            "exclusively by session 1 (prog1.py). Ask for less, or wait until somebody has ended (`causeway status` "
            "shows who is there)");
  EXPECT_THAT(Take({.devices = 3, .one_island = true, .exclusive = true}), IsEmpty());
  EXPECT_THAT(Why(),
              HasSubstr("3 devices in one island, exclusively. Free for it: 1 of 4 in island a, 0 of 2 in island "
                        "b; held: 3 devices exclusively by session 1 (prog1.py), 2 devices by session 2 "
                        "(prog2.py)."));
}

TEST_F(SlicesTest, ARefusalInALargeClusterIsShort) {
  for (int i = 0; i < 100; ++i) workers_.Add("island" + std::to_string(100 + i), 2);
  for (int i = 0; i < 100; ++i) Take({.devices = 2, .exclusive = true});
  Take({});
  EXPECT_THAT(Why(), HasSubstr("92 more islands; held: "));
  EXPECT_THAT(Why(), HasSubstr("92 more sessions"));
  EXPECT_LT(Why().size(), 1000u);
}

TEST_F(SlicesTest, OneIslandWithoutANumberIsTheOneWithMost) {
  workers_.Add("a", 2).Add("b", 3).Add("c", 3);
  EXPECT_THAT(Take({.one_island = true}), ElementsAre(2, 3, 4));
  EXPECT_THAT(Take({.one_island = true}), ElementsAre(5, 6, 7)) << "as many, and nobody is there";
  EXPECT_THAT(Take({.devices = 4, .one_island = true}), IsEmpty());
}

TEST_F(SlicesTest, APlatformThatIsAskedFor) {
  workers_.Add("a", 2).Add("a", 2, "tpu");
  EXPECT_THAT(Take({.platform = "tpu"}), ElementsAre(2, 3));
  EXPECT_THAT(Take({.devices = 3, .platform = "tpu"}), IsEmpty());
  EXPECT_THAT(Why(), HasSubstr("3 devices of platform tpu. Free for it: 2 of 4 in island a; of platform cpu: 2."));
  EXPECT_THAT(Take({.platform = "cuda"}), IsEmpty());
  EXPECT_THAT(Take({}), ElementsAre(0, 1, 2, 3));
}

TEST_F(SlicesTest, DevicesOfLostWorkersAreNotGivenButKept) {
  workers_.Add("a", 2).Add("a", 2);
  EXPECT_THAT(Take({.devices = 2, .exclusive = true}), ElementsAre(0, 1));
  workers_.workers[0].alive = false;
  EXPECT_THAT(Take({}), ElementsAre(2, 3));
  EXPECT_THAT(Take({.devices = 3}), IsEmpty());
  EXPECT_THAT(Why(), HasSubstr("Free for it: 2 of 4 in island a; lost with their workers: 2."));
  workers_.workers[0].alive = true;
  EXPECT_THAT(slices_.Of(SessionId{1}), ElementsAre(DeviceId{0}, DeviceId{1}));
  EXPECT_THAT(Take({}), ElementsAre(2, 3)) << "they are still the first one's";
}

TEST_F(SlicesTest, WorkersThatJoinAreForSessionsThatComeAfter) {
  workers_.Add("a", 2);
  Take({});
  workers_.Add("a", 2);
  EXPECT_THAT(slices_.Of(SessionId{1}), ElementsAre(DeviceId{0}, DeviceId{1}));
  EXPECT_THAT(Take({.devices = 2, .exclusive = true}), ElementsAre(2, 3));
}

TEST(DeviceRangesTest, AreShort) {
  const auto text = [](std::vector<int> ids) {
    std::vector<DeviceId> devices;
    for (int id : ids) devices.push_back(DeviceId{id});
    return DescribeDevices(devices);
  };
  EXPECT_EQ(text({}), "");
  EXPECT_EQ(text({5}), "5");
  EXPECT_EQ(text({0, 1, 2, 3}), "0-3");
  EXPECT_EQ(text({0, 2, 3, 7}), "0, 2-3, 7");
  std::vector<int> every_other;
  for (int i = 0; i < 40; i += 2) every_other.push_back(i);
  EXPECT_THAT(text(every_other), HasSubstr("28, 30 and 4 more ranges"));
  EXPECT_THAT(text(every_other), Not(HasSubstr("32")));
}

// ---------------------------------------------------------------- whatever is wished

// What a wish could have, as the rules say it: counted without the manager's help.
class Reference {
 public:
  Reference(const Workers& workers, const std::map<uint32_t, std::pair<SessionWishes, std::set<int>>>& held,
            const SessionWishes& wishes) {
    for (const auto& worker : workers.workers) {
      for (DeviceId device : worker.devices) {
        const int id = Raw(device);
        int sessions = 0;
        bool exclusive = false;
        for (const auto& [session, slice] : held) {
          if (!slice.second.contains(id)) continue;
          ++sessions;
          exclusive |= slice.first.exclusive;
        }
        island_of[id] = worker.island;
        load_of[id] = sessions;
        const bool right = wishes.platform.empty() || wishes.platform == worker.platform;
        if (worker.alive && right && !exclusive && !(wishes.exclusive && sessions > 0)) {
          islands[worker.island].push_back(id);
          worker_of[id] = static_cast<int>(&worker - workers.workers.data());
        }
      }
    }
  }

  int Total() const {
    int total = 0;
    for (const auto& [island, ids] : islands) total += static_cast<int>(ids.size());
    return total;
  }
  int LargestIsland() const {
    size_t most = 0;
    for (const auto& [island, ids] : islands) most = std::max(most, ids.size());
    return static_cast<int>(most);
  }
  int FewestIslands(int count) const {
    std::vector<int> sizes;
    for (const auto& [island, ids] : islands) sizes.push_back(static_cast<int>(ids.size()));
    return Fewest(sizes, count);
  }
  // The lowest load that the fullest of `count` devices of one island can have.
  int Fullest(int count) const {
    int best = 1 << 30;
    for (const auto& [island, ids] : islands) {
      if (static_cast<int>(ids.size()) < count) continue;
      std::vector<int> loads;
      for (int id : ids) loads.push_back(load_of.at(id));
      std::sort(loads.begin(), loads.end());
      best = std::min(best, loads[count - 1]);
    }
    return best;
  }
  // The fewest workers of one island that have `count` devices with no more than `fullest` sessions.
  int FewestWorkers(int count, int fullest) const {
    int best = 1 << 30;
    for (const auto& [island, ids] : islands) {
      std::map<int, int> sizes;
      for (int id : ids) {
        if (load_of.at(id) <= fullest) ++sizes[worker_of.at(id)];
      }
      std::vector<int> counts;
      for (const auto& [worker, size] : sizes) counts.push_back(size);
      best = std::min(best, Fewest(counts, count));
    }
    return best;
  }
  template <typename Key>
  static int Distinct(const std::vector<int>& ids, const std::map<int, Key>& key) {
    std::set<Key> seen;
    for (int id : ids) seen.insert(key.at(id));
    return static_cast<int>(seen.size());
  }

  std::map<std::string, std::vector<int>> islands;
  std::map<int, std::string> island_of;
  std::map<int, int> worker_of;
  std::map<int, int> load_of;

 private:
  static int Fewest(std::vector<int> sizes, int count) {
    std::sort(sizes.rbegin(), sizes.rend());
    int used = 0;
    for (int size : sizes) {
      if (count <= 0) break;
      count -= size;
      ++used;
    }
    return count <= 0 ? used : 1 << 30;
  }
};

class AnyWishesTest : public ::testing::TestWithParam<int> {
 protected:
  int Below(int limit) { return static_cast<int>(random_() % static_cast<unsigned>(limit)); }

  SessionWishes AnyWish() {
    SessionWishes wishes;
    wishes.devices = Below(4) == 0 ? 0 : 1 + Below(Below(3) == 0 ? 24 : 6);
    wishes.one_island = Below(4) == 0;
    wishes.exclusive = Below(5) == 0;
    if (Below(6) == 0) wishes.platform = Below(2) == 0 ? "cpu" : "tpu";
    return wishes;
  }

  void Check(const Reference& world, const SessionWishes& wishes, const std::vector<int>& ids) {
    EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
    EXPECT_EQ(std::set<int>(ids.begin(), ids.end()).size(), ids.size());
    for (int id : ids) {
      const auto& may = world.islands.at(world.island_of.at(id));
      EXPECT_EQ(std::count(may.begin(), may.end(), id), 1) << id << " is not to be had";
    }
    const auto count = static_cast<int>(ids.size());
    if (wishes.devices == 0) {
      EXPECT_EQ(count, wishes.one_island ? world.LargestIsland() : world.Total());
    } else {
      EXPECT_EQ(count, wishes.devices);
    }
    const int islands = Reference::Distinct(ids, world.island_of);
    if (wishes.one_island) {
      EXPECT_EQ(islands, 1);
    }
    if (wishes.devices == 0) return;
    EXPECT_EQ(islands, world.FewestIslands(count)) << "no island is split without need";
    if (islands > 1) return;
    int fullest = 0;
    for (int id : ids) fullest = std::max(fullest, world.load_of.at(id));
    EXPECT_EQ(fullest, world.Fullest(count)) << "others have more room";
    EXPECT_EQ(Reference::Distinct(ids, world.worker_of), world.FewestWorkers(count, fullest))
        << "no worker is split without need";
  }

  std::mt19937 random_{static_cast<unsigned>(GetParam())};
};

TEST_P(AnyWishesTest, AreMetByTheRulesOrRefusedForAReason) {
  Workers workers;
  for (int i = 1 + Below(6); i > 0; --i) {
    workers.Add("i" + std::to_string(Below(3)), 1 + Below(6), Below(8) == 0 ? "tpu" : "cpu");
  }
  Slices slices;
  std::map<uint32_t, std::pair<SessionWishes, std::set<int>>> held;
  int refused = 0;
  for (uint32_t session = 1; session <= 120; ++session) {
    if (!held.empty() && Below(5) < 2) {
      auto gone = held.begin();
      std::advance(gone, Below(static_cast<int>(held.size())));
      slices.Release(SessionId{gone->first});
      held.erase(gone);
    }
    if (Below(10) == 0) workers.workers[Below(static_cast<int>(workers.workers.size()))].alive ^= true;
    if (Below(25) == 0 && workers.workers.size() < 9) workers.Add("i" + std::to_string(Below(4)), 1 + Below(4));
    const SessionWishes wishes = AnyWish();
    const Reference world(workers, held, wishes);
    Slices twin = slices;
    const auto devices = slices.Take(SessionId{session}, "prog.py", wishes, workers.Views());
    const auto again = twin.Take(SessionId{session}, "prog.py", wishes, workers.Views());
    EXPECT_EQ(devices.ok(), again.ok());
    const int most = wishes.one_island ? world.LargestIsland() : world.Total();
    if (!devices.ok()) {
      ++refused;
      EXPECT_EQ(devices.status().code(), absl::StatusCode::kResourceExhausted);
      EXPECT_LT(most, std::max(1, wishes.devices)) << "it could have been met: " << devices.status();
      EXPECT_THAT(slices.Of(SessionId{session}), IsEmpty());
      continue;
    }
    EXPECT_EQ(*devices, *again) << "the same once more";
    EXPECT_GE(most, wishes.devices);
    const std::vector<int> ids = Ids(*devices);
    Check(world, wishes, ids);
    held[session] = {wishes, std::set<int>(ids.begin(), ids.end())};
    if (HasFailure()) FAIL() << "at session " << session;
  }
  for (int id = 0; id < workers.total(); ++id) {
    int sessions = 0;
    bool exclusive = false;
    for (const auto& [session, slice] : held) {
      EXPECT_EQ(slices.Has(SessionId{session}, DeviceId{id}), slice.second.contains(id));
      if (!slice.second.contains(id)) continue;
      ++sessions;
      exclusive |= slice.first.exclusive;
    }
    EXPECT_EQ(slices.SessionsOn(DeviceId{id}), sessions);
    EXPECT_TRUE(!exclusive || sessions == 1) << "device " << id;
  }
  EXPECT_LT(refused, 120) << "nothing was tried";
  for (const auto& [session, slice] : held) slices.Release(SessionId{session});
  for (int id = 0; id < workers.total(); ++id) EXPECT_EQ(slices.SessionsOn(DeviceId{id}), 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, AnyWishesTest, ::testing::Range(0, 100));

}  // namespace
}  // namespace causeway
