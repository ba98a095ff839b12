#include "ifrt/after_core.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace causeway {
namespace {

// A gate whose events do what the test says.
class FakeGate final : public CoreGate {
 public:
  explicit FakeGate(std::function<void()> inside) : inside_(std::move(inside)) {}
  void Handle(Event) override {
    in_core = true;
    inside_();
    in_core = false;
  }
  void Read(absl::FunctionRef<void(const ControllerCore&)>) override {}

  bool in_core = false;

 private:
  const std::function<void()> inside_;
};

void Nothing() {}

TEST(AfterCoreTest, WhatIsPostponedRunsOnTheSameThreadOnceTheCoreIsLeft) {
  AfterCore after(Nothing);
  bool ran = false;
  FakeGate* inner = nullptr;
  FakeGate gate([&] {
    EXPECT_TRUE(AfterCore::Inside());
    after.Do([&, thread = std::this_thread::get_id()] {
      ran = true;
      EXPECT_FALSE(inner->in_core);
      EXPECT_EQ(std::this_thread::get_id(), thread);
    });
    EXPECT_FALSE(ran);
  });
  inner = &gate;
  after.Enter(gate, Tick{});
  EXPECT_TRUE(ran);
  EXPECT_FALSE(AfterCore::Inside());
}

TEST(AfterCoreTest, ATaskMayEnterTheCoreAgainAndPostponeMore) {
  AfterCore after(Nothing);
  std::string order;
  FakeGate second([&] { after.Do([&] { order += "c"; }); });
  FakeGate first([&] {
    after.Do([&] {
      order += "a";
      after.Enter(second, Tick{});
    });
    after.Do([&] { order += "b"; });
  });
  after.Enter(first, Tick{});
  EXPECT_EQ(order, "abc");
}

TEST(AfterCoreTest, OutsideTheCoreATaskRunsOnAnotherThreadAndNoneIsLost) {
  std::atomic<int> ran = 0;
  const std::thread::id here = std::this_thread::get_id();
  {
    AfterCore after(Nothing);
    for (int i = 0; i < 100; ++i) {
      after.Do([&ran, here] {
        EXPECT_NE(std::this_thread::get_id(), here);
        ++ran;
      });
    }
  }
  EXPECT_EQ(ran, 100);
}

}  // namespace
}  // namespace causeway
