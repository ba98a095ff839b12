#include "controller/device_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/cluster.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Claim = DeviceMemory::Claim;
using Watch = DeviceMemory::Watch;
using Others = DeviceMemory::Others;

constexpr int64_t kGiB = int64_t{1} << 30;

std::shared_ptr<const Placement> On(const std::vector<int>& devices) {
  auto placement = std::make_shared<Placement>();
  for (int device : devices) placement->devices.push_back(DeviceId{device});
  placement->ranges = RangesOf(placement->devices);
  return placement;
}

class DeviceMemoryTest : public ::testing::Test {
 protected:
  DeviceMemoryTest() { memory_.SetLimits({0, 0, 0, 0}); }

  int64_t Used(int device) const { return memory_.Of(DeviceId{device}).bytes; }
  std::vector<int64_t> Used() const { return {Used(0), Used(1), Used(2), Used(3)}; }

  Claim Array(const std::vector<int>& devices, int64_t bytes) {
    return memory_.Add(one_, On(devices), std::vector<int64_t>(devices.size(), bytes));
  }

  DeviceMemory memory_;
  DeviceMemory::Account& one_ = memory_.OpenSession(SessionId{1}, "one.py");
  DeviceMemory::Account& two_ = memory_.OpenSession(SessionId{2}, "two.py");
};

using Bytes = std::vector<int64_t>;

TEST_F(DeviceMemoryTest, ABlockGoesWithItsLastName) {
  Claim x = Array({0, 1}, 100);
  Claim y = x;
  EXPECT_EQ(Used(), (Bytes{100, 100, 0, 0}));
  x = {};
  EXPECT_EQ(Used(), (Bytes{100, 100, 0, 0}));
  y = {};
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
  EXPECT_EQ(memory_.Of(DeviceId{1}).peak, 100);
}

TEST_F(DeviceMemoryTest, WhatIsPlannedCountsOnceItsLaunchIsHandedOver) {
  const auto placement = On({0, 1, 3});
  const Claim x = memory_.Plan(one_, placement, 5);
  const Claim y = memory_.Plan(one_, placement, 7);
  std::optional<Claim> gone = memory_.Plan(one_, placement, 11);
  const std::vector<Watch> launch = {x, y, *gone};
  gone.reset();
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
  memory_.Commit(launch);
  EXPECT_EQ(Used(), (Bytes{12, 12, 0, 12}));
  memory_.Commit(launch);
  EXPECT_EQ(Used(), (Bytes{12, 12, 0, 12})) << "twice is once";
}

TEST_F(DeviceMemoryTest, ShardsHaveNamesOfTheirOwn) {
  Claim whole = Array({0, 1, 2}, 10);
  Claim last = memory_.Alias({{&whole, 2}});
  Claim again = memory_.Alias({{&last, 0}});
  whole = {};
  EXPECT_EQ(Used(), (Bytes{0, 0, 10, 0}));
  last = {};
  EXPECT_EQ(Used(), (Bytes{0, 0, 10, 0}));
  again = {};
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
}

TEST_F(DeviceMemoryTest, SinglesAreAssembledWithoutMemory) {
  std::vector<Claim> singles;
  for (int device : {0, 1, 2}) singles.push_back(Array({device}, device + 1));
  Claim whole = memory_.Alias({{&singles[0], 0}, {&singles[1], 0}, {&singles[2], 0}});
  singles.clear();
  EXPECT_EQ(Used(), (Bytes{1, 2, 3, 0}));
  EXPECT_EQ(one_.On(DeviceId{2}), 3);
  whole = {};
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
}

TEST_F(DeviceMemoryTest, WhatALaunchTakesIsGoneUnderAllItsNames) {
  const Claim x = Array({0, 1}, 10);
  const Claim second = memory_.Alias({{&x, 1}});
  memory_.Evict(second);
  EXPECT_EQ(Used(), (Bytes{10, 0, 0, 0}));
  memory_.Evict(x);
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
}

TEST_F(DeviceMemoryTest, ALostWorkersShardsAreGoneAlsoWhereTheirFirstNameIs) {
  std::optional<Claim> x = Array({0, 1, 2, 3}, 10);
  const Watch launch = *x;
  const Claim aliased = memory_.Alias({{&*x, 0}, {&*x, 3}});
  x.reset();
  EXPECT_EQ(Used(), (Bytes{10, 0, 0, 10}));
  memory_.Evict(launch, DeviceId{2}, DeviceId{4});
  EXPECT_EQ(Used(), (Bytes{10, 0, 0, 0}));
}

TEST_F(DeviceMemoryTest, SizesAreCorrectedWhereverTheBlockIsNamed) {
  Claim x = Array({0, 1}, 10);
  const Watch launch = x;
  memory_.Resize(launch, 16);
  EXPECT_EQ(Used(), (Bytes{16, 16, 0, 0}));
  Claim first = memory_.Alias({{&x, 0}});
  x = {};
  memory_.Resize(launch, 20);
  EXPECT_EQ(Used(), (Bytes{20, 0, 0, 0}));
}

TEST_F(DeviceMemoryTest, OtherMemoriesCountApart) {
  memory_.SetLimits({100, 0, 0, 0});
  const Claim x = memory_.Add(one_, On({0}), {1000}, DeviceMemory::Space::kElsewhere);
  EXPECT_EQ(Used(0), 0);
  EXPECT_EQ(memory_.Of(DeviceId{0}).elsewhere, 1000);
  EXPECT_TRUE(memory_.Fits(one_, *On({0}), {100, 0}));
}

TEST_F(DeviceMemoryTest, ASessionThatHasLeftIsForgottenWithItsLastBlock) {
  auto& third = memory_.OpenSession(SessionId{3}, "three.py");
  std::optional<Claim> x = memory_.Add(third, On({2}), {9});
  memory_.CloseSession(SessionId{3});
  ASSERT_EQ(memory_.Of(DeviceId{2}).sessions.size(), 1);
  x.reset();
  EXPECT_TRUE(memory_.Of(DeviceId{2}).sessions.empty());
}

TEST_F(DeviceMemoryTest, FitsBesideWhatIsThereAndReserved) {
  const Claim before = Array({0}, 30);
  memory_.SetLimits({100, 50, 0, 0});
  EXPECT_TRUE(memory_.Fits(one_, *On({0}), {60, 10}));
  EXPECT_FALSE(memory_.Fits(one_, *On({0}), {60, 11}));
  EXPECT_FALSE(memory_.Fits(one_, *On({0, 1}), {51, 0}));
  EXPECT_TRUE(memory_.Fits(one_, *On({2, 3}), {1000, 0}));
  memory_.Reserve(*On({0}), 10);
  EXPECT_FALSE(memory_.Fits(one_, *On({0}), {60, 10}));
  memory_.Release(*On({0}), 10);
  EXPECT_TRUE(memory_.Fits(one_, *On({0}), {60, 10}));
  memory_.SetLimits({0, 0, 0, 0});
  EXPECT_TRUE(memory_.Fits(one_, *On({0}), {1000, 0}));
}

TEST_F(DeviceMemoryTest, ACapIsOfOneSessionsArrays) {
  auto& capped = memory_.OpenSession(SessionId{3}, "three.py", /*cap=*/50);
  const Claim x = memory_.Add(capped, On({0, 1}), {20, 20});
  EXPECT_TRUE(memory_.Fits(capped, *On({0}), {30, 1000})) << "what a launch needs while it runs is no array";
  EXPECT_FALSE(memory_.Fits(capped, *On({1, 2}), {31, 0}));
  EXPECT_TRUE(memory_.Fits(one_, *On({1, 2}), {31, 0}));
  EXPECT_TRUE(memory_.NeverFits(capped, *On({0}), {50, 0}, 0, "array 7").ok());
  const absl::Status never = memory_.NeverFits(capped, *On({0}), {31, 0}, 20, "program f");
  EXPECT_EQ(never.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(never.message()),
              AllOf(HasSubstr("program f needs 31 bytes on device 0 beside its arguments of 20 bytes"),
                    HasSubstr("may have 50 bytes"), HasSubstr("session 3 (three.py) 20 bytes"), HasSubstr("cap")));
}

TEST_F(DeviceMemoryTest, WhatNeverFitsIsRefusedWithWhoHoldsWhat) {
  memory_.SetLimits({kGiB, kGiB, 0, 0});
  const Claim mine = Array({0}, 1000);
  const Claim other = memory_.Add(two_, On({0}), {kGiB / 2});
  std::vector<Claim> more;
  for (uint32_t i = 3; i < 8; ++i) {
    more.push_back(memory_.Add(memory_.OpenSession(SessionId{i}, "many.py"), On({0}), {i}));
  }
  EXPECT_TRUE(memory_.NeverFits(one_, *On({0, 1}), {kGiB, 0}, 0, "array 1").ok()) << "the others may free theirs";
  const absl::Status stays = memory_.NeverFits(one_, *On({1, 0}), {kGiB / 2, 0}, 0, "array 1", Others::kStay);
  EXPECT_THAT(std::string(stays.message()), HasSubstr("array 1 needs 512.0 MiB (536870912 bytes) on device 0"));
  const absl::Status never = memory_.NeverFits(one_, *On({1, 0}), {kGiB, 1}, 0, "program f");
  EXPECT_EQ(never.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(never.message()), HasSubstr("on device 1"));
  const absl::Status first = memory_.NeverFits(one_, *On({0}), {kGiB, 1}, 0, "program f");
  EXPECT_THAT(
      std::string(first.message()),
      AllOf(HasSubstr("held now: session 2 (two.py) 512.0 MiB (536870912 bytes), session 1 (one.py) 1000 bytes, "
                      "session 7 (many.py) 7 bytes"),
            HasSubstr("session 5 (many.py)"), Not(HasSubstr("session 4")), HasSubstr("others 2"),
            HasSubstr("--device-memory")));
}

TEST_F(DeviceMemoryTest, WhatIsKeptCountsEachBufferOnceWhereThereIsLeast) {
  const auto both = On({0, 1});
  const Claim x = memory_.Add(one_, both, {10, 10});
  const Claim again = x;
  const Claim uneven = memory_.Add(one_, both, {3, 5});
  const Claim alias = memory_.Alias({{&uneven, 0}, {&uneven, 1}});
  EXPECT_EQ(DeviceMemory::Kept(*both, {&x, &again, &uneven, &alias}), 13);
}

TEST_F(DeviceMemoryTest, AmountsThatNobodyHasDoNoHarm) {
  std::vector<Claim> claims;
  for (int i = 0; i < 100; ++i) claims.push_back(Array({0, 1, 2, 3}, int64_t{1} << 62));
  claims.clear();
  EXPECT_EQ(Used(), (Bytes{0, 0, 0, 0}));
}

// A row of buffers and names, without any cleverness.
class Model {
 public:
  struct Leaf {
    int device;
    int64_t bytes;
    int session;
    bool planned;
    bool elsewhere;
  };
  using Shards = std::vector<int>;  // buffers

  int NewLeaf(const Leaf& leaf) {
    leaves.push_back(leaf);
    return static_cast<int>(leaves.size()) - 1;
  }
  // By device; `session` -1: of all.
  std::vector<int64_t> Bytes(int devices, bool elsewhere, int session = -1) const {
    std::vector<int64_t> bytes(devices);
    std::set<int> named;
    for (const auto& name : names) named.insert(name.begin(), name.end());
    for (int l : named) {
      const Leaf& leaf = leaves[l];
      if (leaf.planned || leaf.elsewhere != elsewhere || (session >= 0 && leaf.session != session)) continue;
      bytes[leaf.device] += leaf.bytes;
    }
    return bytes;
  }

  std::vector<Leaf> leaves;
  std::vector<Shards> names;
};

TEST(DeviceMemoryProperty, IsWhatCountingBuffersGivesWhateverIsDone) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&random](size_t n) { return static_cast<int>(random() % n); };
    const int devices = 1 + below(9);
    DeviceMemory memory;
    std::vector<int64_t> limits(devices);
    memory.SetLimits(limits);
    std::vector<DeviceMemory::Account*> accounts;
    for (uint32_t i = 0; i < 2; ++i) {
      accounts.push_back(&memory.OpenSession(SessionId{i + 1}, "s", /*cap=*/i == 1 ? 60 : 0));
    }
    std::vector<std::shared_ptr<const Placement>> placements;
    for (int i = 0; i < 5; ++i) {
      std::vector<int> ids(devices);
      for (int d = 0; d < devices; ++d) ids[d] = d;
      std::shuffle(ids.begin(), ids.end(), random);
      ids.resize(1 + below(devices));
      placements.push_back(On(ids));
    }

    Model model;
    std::vector<Claim> claims;  // beside model.names
    struct Made {               // a launch or a make
      Watch watch;
      Model::Shards leaves;
      std::shared_ptr<const Placement> placement;
    };
    std::vector<Made> made;
    std::vector<int64_t> reserved(devices);
    std::vector<int64_t> peak(devices);
    for (int step = 0; step < 120; ++step) {
      const auto& placement = placements[below(placements.size())];
      const int some = claims.empty() ? -1 : below(claims.size());
      switch (below(10)) {
        case 0:
        case 1: {  // a make, even or not, or an output
          const int session = below(2);
          const bool planned = below(2) == 0;
          const bool elsewhere = below(5) == 0;
          const bool even = planned || below(2) == 0;
          std::vector<int64_t> bytes(placement->devices.size(), below(20));
          for (int64_t& b : bytes) b = even ? b : below(20);
          Model::Shards leaves;
          for (size_t i = 0; i < bytes.size(); ++i) {
            leaves.push_back(model.NewLeaf({Raw(placement->devices[i]), bytes[i], session, planned, elsewhere}));
          }
          const auto space = elsewhere ? DeviceMemory::Space::kElsewhere : DeviceMemory::Space::kDevice;
          claims.push_back(planned ? memory.Plan(*accounts[session], placement, bytes[0], space)
                                   : memory.Add(*accounts[session], placement, bytes, space));
          model.names.push_back(leaves);
          made.push_back({claims.back(), leaves, placement});
          break;
        }
        case 2:  // another name
          if (some < 0) break;
          claims.push_back(Claim(claims[some]));
          model.names.push_back(Model::Shards(model.names[some]));
          break;
        case 3: {  // of some shards of some arrays
          std::vector<DeviceMemory::Shard> shards;
          Model::Shards leaves;
          for (int i = below(4); some >= 0 && i >= 0; --i) {
            const int source = below(claims.size());
            const int shard = below(model.names[source].size());
            shards.push_back({&claims[source], shard});
            leaves.push_back(model.names[source][shard]);
          }
          if (shards.empty()) break;
          Claim alias = memory.Alias(shards);
          claims.push_back(std::move(alias));
          model.names.push_back(leaves);
          break;
        }
        case 4:
        case 5:  // a name goes
          if (some < 0) break;
          claims.erase(claims.begin() + some);
          model.names.erase(model.names.begin() + some);
          break;
        case 6: {  // launches are handed over
          std::vector<Watch> watches;
          for (Made& m : made) {
            if (below(2) == 0) continue;
            watches.push_back(m.watch);
            for (int leaf : m.leaves) model.leaves[leaf].planned = false;
          }
          memory.Commit(watches);
          break;
        }
        case 7:  // donated
          if (some < 0) break;
          memory.Evict(claims[some]);
          for (int leaf : model.names[some]) model.leaves[leaf].bytes = 0;
          break;
        case 8: {  // failed on a worker, or found to be larger
          if (made.empty()) break;
          Made& m = made[below(made.size())];
          const int first = below(devices);
          const int last = first + 1 + below(devices - first);
          const bool fails = below(2) == 0;
          if (fails) {
            memory.Evict(m.watch, DeviceId{first}, DeviceId{last});
          } else {
            memory.Resize(m.watch, 15);
          }
          for (int leaf : m.leaves) {
            int64_t& bytes = model.leaves[leaf].bytes;
            if (fails && first <= model.leaves[leaf].device && model.leaves[leaf].device < last) bytes = 0;
            if (!fails && bytes > 0) bytes = 15;
          }
          break;
        }
        case 9:
          if (below(3) == 0) {  // workers return with other limits
            for (int64_t& limit : limits) limit = below(3) == 0 ? 0 : 50 + below(100);
            if (below(3) == 0) std::fill(limits.begin(), limits.end(), 0);
            memory.SetLimits(limits);
          } else {
            const int64_t bytes = below(10);
            memory.Reserve(*placement, bytes);
            for (DeviceId device : placement->devices) reserved[Raw(device)] += bytes;
          }
          break;
      }
      const std::vector<int64_t> used = model.Bytes(devices, false);
      const std::vector<int64_t> elsewhere = model.Bytes(devices, true);
      const std::vector<int64_t> capped = model.Bytes(devices, false, 1);
      for (int d = 0; d < devices; ++d) {
        peak[d] = std::max(peak[d], used[d]);
        const DeviceMemory::Use use = memory.Of(DeviceId{d});
        ASSERT_EQ(use.bytes, used[d]) << "step " << step << ", device " << d;
        ASSERT_EQ(use.peak, peak[d]) << "step " << step << ", device " << d;
        ASSERT_EQ(use.elsewhere, elsewhere[d]) << "step " << step << ", device " << d;
        ASSERT_EQ(accounts[1]->On(DeviceId{d}), capped[d]) << "step " << step << ", device " << d;
      }
      const DeviceMemory::Need need{below(60), below(10)};
      const int session = below(2);
      const bool fits = std::all_of(placement->devices.begin(), placement->devices.end(), [&](DeviceId device) {
        const int d = Raw(device);
        const bool room = limits[d] == 0 || used[d] + reserved[d] + need.arrays + need.temp <= limits[d];
        return room && (session == 0 || capped[d] + need.arrays <= 60);
      });
      ASSERT_EQ(memory.Fits(*accounts[session], *placement, need), fits) << "step " << step;
    }
    claims.clear();
    for (int d = 0; d < devices; ++d) {
      const DeviceMemory::Use use = memory.Of(DeviceId{d});
      ASSERT_EQ(use.bytes, 0);
      ASSERT_EQ(use.elsewhere, 0);
    }
  }
}

}  // namespace
}  // namespace causeway
