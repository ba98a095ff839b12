#include "controller/load.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace causeway {
namespace {

constexpr DeviceId kFirst{0};
constexpr DeviceId kSecond{1};

TEST(LoadTest, IsOverFromTheLimitOnUntilHalfOfItIsLeft) {
  Load load({.launches_per_device = 100, .items = 8, .bytes = 1000});
  for (int i = 0; i < 7; ++i) load.Add({});
  EXPECT_FALSE(load.is_over());
  load.Add({});
  EXPECT_TRUE(load.is_over());
  for (int i = 0; i < 3; ++i) load.Remove({});
  EXPECT_EQ(load.items(), 5);
  EXPECT_TRUE(load.is_over());
  load.Remove({});
  EXPECT_FALSE(load.is_over());
  load.Add({});
  EXPECT_FALSE(load.is_over()) << "only the limit itself is too much";
}

TEST(LoadTest, CountsLaunchesByDevice) {
  Load load({.launches_per_device = 4, .items = 100, .bytes = 1000});
  for (int i = 0; i < 3; ++i) {
    load.Add({.device = kFirst});
    load.Add({.device = kSecond});
  }
  EXPECT_FALSE(load.is_over());
  load.Add({.device = kSecond});
  EXPECT_TRUE(load.is_over());
  for (int i = 0; i < 3; ++i) load.Remove({.device = kFirst});
  EXPECT_TRUE(load.is_over()) << "the other device has as much to do as before";
  for (int i = 0; i < 2; ++i) load.Remove({.device = kSecond});
  EXPECT_FALSE(load.is_over());
}

TEST(LoadTest, CountsBytes) {
  Load load({.launches_per_device = 100, .items = 100, .bytes = 1000});
  load.Add({.bytes = 600});
  load.Add({.bytes = 399});
  EXPECT_FALSE(load.is_over());
  load.Add({.bytes = 5000});
  EXPECT_TRUE(load.is_over());
  load.Remove({.bytes = 5000});
  EXPECT_TRUE(load.is_over());
  load.Remove({.bytes = 600});
  EXPECT_FALSE(load.is_over());
}

TEST(LoadTest, IsOverWhileAWorkerIsSlow) {
  Load load({.launches_per_device = 100, .items = 100, .bytes = 1000});
  load.AddSlowWorker(WorkerId{0});
  load.AddSlowWorker(WorkerId{0});
  load.AddSlowWorker(WorkerId{1});
  EXPECT_TRUE(load.is_over());
  load.RemoveSlowWorker(WorkerId{0});
  EXPECT_TRUE(load.is_over());
  load.RemoveSlowWorker(WorkerId{1});
  EXPECT_FALSE(load.is_over());
}

TEST(LoadTest, StaysOverUnderHostDataOfAbsurdSizes) {
  Load load({.items = 1000, .bytes = 1000, .host_bytes = 1000});
  const Load::Item absurd = {.bytes = std::numeric_limits<int64_t>::max(),
                             .host_bytes = std::numeric_limits<int64_t>::max()};
  for (int i = 0; i < 5; ++i) {
    load.Add(absurd);
    EXPECT_TRUE(load.is_over());
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(load.is_over());
    load.Remove(absurd);
  }
  EXPECT_FALSE(load.is_over());
  EXPECT_EQ(load.bytes(), 0);
}

TEST(LoadTest, WhateverCameIsOverNoLongerWhenAllHasEnded) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Load load({.launches_per_device = 5, .items = 12, .bytes = 100});
    std::vector<Load::Item> items;
    bool was_over = false;
    for (int step = 0; step < 300 || !items.empty(); ++step) {
      if (step < 300 && random() % 5 < 3) {
        Load::Item item{.bytes = static_cast<int64_t>(random() % 20)};
        if (random() % 2 == 0) item.device = DeviceId{static_cast<int>(random() % 3)};
        items.push_back(item);
        load.Add(item);
        if (items.size() >= 12) {
          EXPECT_TRUE(load.is_over());
        }
      } else if (!items.empty()) {
        std::swap(items[random() % items.size()], items.back());
        load.Remove(items.back());
        items.pop_back();
      }
      was_over |= load.is_over();
    }
    EXPECT_FALSE(load.is_over());
    EXPECT_EQ(load.items(), 0);
    EXPECT_EQ(load.bytes(), 0);
    EXPECT_TRUE(was_over);
  }
}

}  // namespace
}  // namespace causeway
