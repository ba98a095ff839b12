// What every Link must do: the contract of link.h as tests. Each implementation instantiates it with a factory:
//
//   INSTANTIATE_TEST_SUITE_P(Local, LinkContract, ::testing::Values(&MakeLocalEnds));
#ifndef CAUSEWAY_NET_LINK_CTS_H_
#define CAUSEWAY_NET_LINK_CTS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "net/link.h"

namespace causeway {

// What the links of a contract test are made with, so that their limits are soon reached.
inline constexpr int64_t kContractQueueBytes = 4 << 20;
inline constexpr int64_t kContractFullBytes = 1 << 20;

// The two ends of one link.
struct LinkEnds {
  virtual ~LinkEnds() = default;

  std::unique_ptr<Link> a;
  std::unique_ptr<Link> b;
  // Lets the links work until `done`; false: they did not get there.
  virtual bool RunUntil(const std::function<bool()>& done) = 0;
  // Lets them work for as long as it takes to see that something does not happen.
  virtual void Settle() = 0;
};

using LinkFactory = std::unique_ptr<LinkEnds> (*)();

// Keeps all that a link tells its handler.
class TestHandler final : public LinkHandler {
 public:
  // What OnFrame does besides: set before the link is started.
  std::function<void(const std::string& frame)> on_frame;

  void OnFrame(std::string frame) override {
    EXPECT_FALSE(busy_.exchange(true)) << "one call at a time";
    if (on_frame) on_frame(frame);
    {
      MutexLock lock(&mu_);
      EXPECT_TRUE(closed_.empty()) << "nothing comes after OnClosed";
      frames_.push_back(std::move(frame));
    }
    busy_ = false;
  }
  void OnClosed(absl::Status why) override {
    EXPECT_FALSE(busy_) << "one call at a time";
    MutexLock lock(&mu_);
    closed_.push_back(std::move(why));
  }
  void OnFull(bool full) override {
    EXPECT_FALSE(busy_) << "one call at a time";
    MutexLock lock(&mu_);
    EXPECT_TRUE(closed_.empty()) << "nothing comes after OnClosed";
    full_.push_back(full);
  }

  std::vector<std::string> frames() const {
    MutexLock lock(&mu_);
    return frames_;
  }
  size_t frame_count() const {
    MutexLock lock(&mu_);
    return frames_.size();
  }
  // All that OnClosed was called with.
  std::vector<absl::Status> closed() const {
    MutexLock lock(&mu_);
    return closed_;
  }
  bool is_closed() const {
    MutexLock lock(&mu_);
    return !closed_.empty();
  }
  // All that OnFull was called with.
  std::vector<bool> full() const {
    MutexLock lock(&mu_);
    return full_;
  }

 private:
  std::atomic<bool> busy_ = false;
  mutable Mutex mu_;
  std::vector<std::string> frames_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
  std::vector<bool> full_ ABSL_GUARDED_BY(mu_);
};

MATCHER_P(IsClosedWith, code, "") { return arg.size() == 1 && arg[0].code() == code; }

class LinkContract : public ::testing::TestWithParam<LinkFactory> {
 protected:
  LinkContract() : ends_(GetParam()()) {}
  ~LinkContract() override {
    // Handlers outlive OnClosed.
    if (ends_->a != nullptr) ends_->a->Close(absl::OkStatus());
    if (ends_->b != nullptr) ends_->b->Close(absl::OkStatus());
    EXPECT_TRUE(ends_->RunUntil([&] { return !a_started_ || on_a_.is_closed(); }));
    EXPECT_TRUE(ends_->RunUntil([&] { return !b_started_ || on_b_.is_closed(); }));
    EXPECT_LE(on_a_.closed().size(), 1u);
    EXPECT_LE(on_b_.closed().size(), 1u);
  }

  Link& a() { return *ends_->a; }
  Link& b() { return *ends_->b; }
  void StartA() {
    a_started_ = true;
    a().Start(&on_a_);
  }
  void StartB() {
    b_started_ = true;
    b().Start(&on_b_);
  }
  void StartBoth() {
    StartA();
    StartB();
  }
  bool Closed(const TestHandler& handler) {
    return ends_->RunUntil([&] { return handler.is_closed(); });
  }
  bool HasFrames(const TestHandler& handler, size_t count) {
    return ends_->RunUntil([&] { return handler.frame_count() >= count; });
  }

  std::unique_ptr<LinkEnds> ends_;
  TestHandler on_a_;
  TestHandler on_b_;
  bool a_started_ = false;
  bool b_started_ = false;
};

TEST_P(LinkContract, FramesArriveInOrderInBothDirections) {
  StartBoth();
  std::vector<std::string> sent;
  for (int i = 0; i < 1000; ++i) {
    sent.push_back(absl::StrCat("frame ", i));
    a().Send(sent.back());
    b().Send(sent.back());
  }
  ASSERT_TRUE(HasFrames(on_a_, sent.size()) && HasFrames(on_b_, sent.size()));
  EXPECT_EQ(on_a_.frames(), sent);
  EXPECT_EQ(on_b_.frames(), sent);
}

TEST_P(LinkContract, AFrameMayBeEmptyOrHoldAnyBytes) {
  StartBoth();
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  a().Send("");
  a().Send(all);
  ASSERT_TRUE(HasFrames(on_b_, 2));
  EXPECT_THAT(on_b_.frames(), ::testing::ElementsAre("", all));
}

TEST_P(LinkContract, WhatWasSentBeforeTheOtherSideStartedIsDelivered) {
  StartA();
  a().Send("early");
  ends_->Settle();
  StartB();
  ASSERT_TRUE(HasFrames(on_b_, 1));
  EXPECT_THAT(on_b_.frames(), ::testing::ElementsAre("early"));
}

TEST_P(LinkContract, ALargeFrameArrivesOnceTheLimitIsRaised) {
  StartBoth();
  b().SetMaxFrameBytes(kMaxControlFrameBytes);
  std::string large(40 << 20, '\0');
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 + (i >> 13));
  a().Send(large);
  a().Send("after");
  ASSERT_TRUE(HasFrames(on_b_, 2));
  EXPECT_TRUE(on_b_.frames()[0] == large);
  EXPECT_EQ(on_b_.frames()[1], "after");
}

TEST_P(LinkContract, AFrameAboveTheLimitClosesTheLink) {
  StartBoth();
  a().Send("small");
  a().Send(std::string(kMaxHelloBytes + 1, 'x'));
  ASSERT_TRUE(Closed(on_b_) && Closed(on_a_));
  EXPECT_THAT(on_b_.frames(), ::testing::ElementsAre("small"));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(on_b_.closed()[0].message()), ::testing::HasSubstr(b().PeerName())) << "it names the sender";
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_P(LinkContract, TheLimitThatTheFirstFramesHandlerSetsHoldsForTheSecond) {
  on_b_.on_frame = [&](const std::string&) { b().SetMaxFrameBytes(kMaxControlFrameBytes); };
  a().Send("hello");
  a().Send(std::string(kMaxHelloBytes + 1, 'x'));
  StartBoth();
  ASSERT_TRUE(HasFrames(on_b_, 2));
  EXPECT_FALSE(on_b_.is_closed());
}

TEST_P(LinkContract, ManyThreadsMaySendAndEachOnesFramesStayInOrder) {
  StartBoth();
  constexpr int kThreads = 6;
  constexpr int kFrames = 2000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kFrames; ++i) a().Send(absl::StrCat(t, ":", i, std::string(i % 100, '.')));
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(HasFrames(on_b_, kThreads * kFrames));
  std::vector<int> next(kThreads, 0);
  for (const std::string& frame : on_b_.frames()) {
    const int t = frame[0] - '0';
    EXPECT_EQ(frame, absl::StrCat(t, ":", next[t], std::string(next[t] % 100, '.')));
    ++next[t];
  }
}

TEST_P(LinkContract, TheHandlerMayAnswerFromWithin) {
  on_b_.on_frame = [&](const std::string& frame) { b().Send("re: " + frame); };
  StartBoth();
  for (int i = 0; i < 100; ++i) a().Send(absl::StrCat(i));
  ASSERT_TRUE(HasFrames(on_a_, 100));
  EXPECT_EQ(on_a_.frames()[99], "re: 99");
}

TEST_P(LinkContract, ClosingDeliversWhatWasSentBeforeAndTellsBothSides) {
  StartBoth();
  b().SetMaxFrameBytes(kMaxControlFrameBytes);
  const std::string large(8 << 20, 'x');
  a().Send(large);
  a().Send("goodbye");
  a().Close(absl::OkStatus());
  a().Send("too late");
  ASSERT_TRUE(Closed(on_a_) && Closed(on_b_));
  ASSERT_EQ(on_b_.frame_count(), 2u);
  EXPECT_EQ(on_b_.frames()[1], "goodbye");
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kOk));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_P(LinkContract, AGoodbyeArrivesAlsoWhenTheOtherSideKeepsSending) {
  on_b_.on_frame = [&](const std::string& frame) {
    if (frame == "goodbye") return;
    for (int i = 0; i < 20; ++i) b().Send(std::string(1'000, 'b'));
  };
  StartBoth();
  for (int i = 0; i < 20; ++i) a().Send("go on");
  a().Send("goodbye");
  a().Close(absl::OkStatus());
  ASSERT_TRUE(Closed(on_a_) && Closed(on_b_));
  EXPECT_EQ(on_b_.frames().back(), "goodbye");
}

TEST_P(LinkContract, ClosingWithAnErrorReportsItHereAndUnavailableThere) {
  StartBoth();
  a().Close(absl::PermissionDeniedError("wrong token"));
  ASSERT_TRUE(Closed(on_a_) && Closed(on_b_));
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_P(LinkContract, ClosingTwiceAndFromBothSidesIsReportedOnceEach) {
  StartBoth();
  a().Close(absl::OkStatus());
  a().Close(absl::InternalError("again"));
  b().Close(absl::OkStatus());
  b().Close(absl::OkStatus());
  ASSERT_TRUE(Closed(on_a_) && Closed(on_b_));
  ends_->Settle();
  EXPECT_EQ(on_a_.closed().size(), 1u);
  EXPECT_EQ(on_b_.closed().size(), 1u);
}

TEST_P(LinkContract, NothingIsDeliveredAfterTheHandlerHasClosedTheLink) {
  on_b_.on_frame = [&](const std::string&) { b().Close(absl::OkStatus()); };
  a().Send("first");
  a().Send("second");
  a().Send("third");
  StartBoth();
  ASSERT_TRUE(Closed(on_b_) && Closed(on_a_));
  EXPECT_THAT(on_b_.frames(), ::testing::ElementsAre("first"));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kOk));
}

TEST_P(LinkContract, ALinkThatIsClosedBeforeItStartsReportsItWhenItStarts) {
  a().Close(absl::OkStatus());
  StartB();
  ASSERT_TRUE(Closed(on_b_));
  StartA();
  ASSERT_TRUE(Closed(on_a_));
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kOk));
}

TEST_P(LinkContract, ADroppedLinkClosesTheOtherSideAndStillReports) {
  StartBoth();
  a().Send("last");
  ends_->Settle();
  ends_->a = nullptr;
  ASSERT_TRUE(Closed(on_b_) && Closed(on_a_));
  EXPECT_THAT(on_b_.frames(), ::testing::ElementsAre("last"));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kCancelled));
}

TEST_P(LinkContract, ALinkThatWasNeverStartedAndIsDroppedClosesTheOtherSide) {
  StartB();
  ends_->a = nullptr;
  ASSERT_TRUE(Closed(on_b_));
  EXPECT_THAT(on_b_.closed(), IsClosedWith(absl::StatusCode::kUnavailable));
}

TEST_P(LinkContract, APeerThatDoesNotReadIsClosedWhenTooMuchWaitsForIt) {
  StartA();
  // b is not started, so nothing is read; the system's own buffers take some of it.
  for (int i = 0; i < 1000 && !on_a_.is_closed(); ++i) a().Send(std::string(64 << 10, 'x'));
  ASSERT_TRUE(Closed(on_a_));
  EXPECT_THAT(on_a_.closed(), IsClosedWith(absl::StatusCode::kResourceExhausted));
}

TEST_P(LinkContract, OneFrameLargerThanTheQueueMayBeSent) {
  b().SetMaxFrameBytes(kMaxControlFrameBytes);
  StartA();
  a().Send(std::string(5 * kContractQueueBytes, 'x'));
  a().Send("a little more");
  StartB();
  ASSERT_TRUE(HasFrames(on_b_, 2));
  EXPECT_FALSE(on_a_.is_closed());
}

TEST_P(LinkContract, TheSenderIsToldThatTheQueueIsFullAndThatItIsNoLonger) {
  StartA();
  // Sockets take some megabytes before anything waits here.
  const std::string frame(256 << 10, 'x');
  size_t sent = 0;
  while (on_a_.full().empty() && sent < 200) {
    for (int i = 0; i < 4; ++i) a().Send(frame);
    sent += 4;
    ends_->Settle();
  }
  ASSERT_FALSE(on_a_.is_closed());
  ASSERT_EQ(on_a_.full(), std::vector<bool>{true});
  StartB();
  ASSERT_TRUE(HasFrames(on_b_, sent));
  ASSERT_TRUE(ends_->RunUntil([&] { return on_a_.full().size() == 2; }));
  EXPECT_EQ(on_a_.full(), (std::vector<bool>{true, false}));
}

TEST_P(LinkContract, ALinkThatIsReadIsNeverFull) {
  StartBoth();
  for (int i = 0; i < 100; ++i) {
    a().Send(std::string(64 << 10, 'x'));
    ASSERT_TRUE(HasFrames(on_b_, i + 1));
  }
  EXPECT_TRUE(on_a_.full().empty());
}

TEST_P(LinkContract, EachSideKnowsWhomItTalksTo) {
  EXPECT_FALSE(a().PeerName().empty());
  EXPECT_FALSE(b().PeerName().empty());
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_LINK_CTS_H_
