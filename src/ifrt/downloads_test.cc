#include "ifrt/downloads.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace causeway {
namespace {

constexpr HostBufferId kBuffer{5};

class FakePlane final : public DataPlane {
 public:
  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId, int64_t, int64_t, std::shared_ptr<StreamSink>) override {}
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId, StreamId, int64_t, std::shared_ptr<StreamSource>) override {}
  void SendMessage(PeerId /*peer*/, absl::Span<const absl::Span<const char>> /*parts*/) override {}
  void SetMessageHandler(MessageHandler* /*handler*/) override {}
  void Wake(PeerId, StreamId) override {}
  void Cancel(PeerId, StreamId id, absl::Status) override { cancelled.insert(id); }

  std::set<StreamId> cancelled;
};

Fetched Small(const std::string& data) { return Fetched{static_cast<int64_t>(data.size()), data, WorkerId{-1}, {}}; }
Fetched Stream(uint64_t id) { return Fetched{1 << 20, "", WorkerId{0}, StreamId{id}}; }

// What a lookup of `buffer` gets at once: UNKNOWN where it has to wait.
absl::StatusOr<Fetched> Take(HostDownloads& downloads, HostBufferId buffer) {
  auto answer = std::make_shared<absl::StatusOr<Fetched>>(absl::UnknownError("it waits"));
  downloads.Take(buffer, [answer](absl::StatusOr<Fetched> fetched) { *answer = std::move(fetched); });
  return *answer;
}

TEST(DownloadsTest, SmallDataMayBeReadUntilTheyAreDeleted) {
  FakePlane plane;
  HostDownloads downloads(&plane);
  ASSERT_TRUE(downloads.Put(kBuffer, Small("abc"), {}).ok());
  EXPECT_EQ(Take(downloads, kBuffer)->data, "abc");
  EXPECT_EQ(Take(downloads, kBuffer)->data, "abc");
  downloads.Delete(kBuffer);
  downloads.Delete(kBuffer);
  EXPECT_EQ(Take(downloads, kBuffer).status().code(), absl::StatusCode::kNotFound);
}

TEST(DownloadsTest, AStreamIsReadOnce) {
  FakePlane plane;
  HostDownloads downloads(&plane);
  ASSERT_TRUE(downloads.Put(kBuffer, Stream(1), {}).ok());
  EXPECT_TRUE(Take(downloads, kBuffer).ok());
  EXPECT_EQ(Take(downloads, kBuffer).status().code(), absl::StatusCode::kFailedPrecondition);
  downloads.Delete(kBuffer);
  EXPECT_TRUE(plane.cancelled.empty()) << "whoever took the stream ends it";
}

TEST(DownloadsTest, WhatALostWorkerWasToSendIsLost) {
  FakePlane plane;
  HostDownloads downloads(&plane);
  ASSERT_TRUE(downloads.Put(kBuffer, Stream(1), {}).ok());
  ASSERT_TRUE(downloads.Put(HostBufferId{6}, Small("abc"), {}).ok());
  ASSERT_TRUE(downloads.Put(HostBufferId{7}, Stream(2), {}).ok());
  downloads.Lose(WorkerId{1}, absl::DataLossError("another worker"));
  EXPECT_TRUE(Take(downloads, HostBufferId{7}).ok());
  downloads.Lose(WorkerId{0}, absl::DataLossError("gone"));
  EXPECT_EQ(Take(downloads, kBuffer).status().message(), "gone") << "the worker may be back, but its stream is not";
  EXPECT_TRUE(Take(downloads, HostBufferId{6}).ok());
  downloads.Close();
  EXPECT_TRUE(plane.cancelled.empty());
}

TEST(DownloadsTest, StreamsThatNobodyReadAreCancelled) {
  FakePlane plane;
  HostDownloads downloads(&plane);
  ASSERT_TRUE(downloads.Put(kBuffer, Stream(1), {}).ok());
  ASSERT_TRUE(downloads.Put(HostBufferId{6}, Stream(2), {}).ok());
  downloads.Delete(kBuffer);
  EXPECT_EQ(plane.cancelled, std::set<StreamId>{StreamId{1}});
  downloads.Close();
  EXPECT_EQ(plane.cancelled.size(), 2u);
  EXPECT_FALSE(downloads.Put(HostBufferId{7}, Stream(3), {}).ok());
  EXPECT_EQ(plane.cancelled.size(), 3u);
}

TEST(DownloadsTest, DataThatWaitHoldMemoryUntilTheyAreDeleted) {
  FakePlane plane;
  const auto memory = std::make_shared<HostMemory>(HostMemoryLimits{});
  const auto used = [&] { return memory->used_bytes(HostPool::kFetched); };
  HostDownloads downloads(&plane);
  const std::string data(500, 'x');
  HostCharge charge(memory, HostPool::kFetched, SessionId{1}, HostDownloads::Cost(500));
  EXPECT_GE(used(), 500) << "from the fetch on";
  ASSERT_TRUE(downloads.Put(kBuffer, Small(data), std::move(charge)).ok());
  EXPECT_GE(used(), 500);
  EXPECT_EQ(downloads.Put(kBuffer, Small(data), {memory, HostPool::kFetched, SessionId{1}, 700}).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_LT(used(), 1000) << "what was refused holds nothing";
  downloads.Delete(kBuffer);
  EXPECT_EQ(used(), 0);
  ASSERT_TRUE(downloads.Put(kBuffer, Stream(1), {memory, HostPool::kFetched, SessionId{1}, 0}).ok());
  EXPECT_LT(used(), 500) << "large data are still on the worker";
  downloads.Close();
  EXPECT_EQ(used(), 0);
}

class ExpectedTest : public ::testing::Test {
 protected:
  ExpectedTest() { EXPECT_TRUE(downloads_.Expect(kBuffer, {memory_, HostPool::kFetched, SessionId{1}, 500}).ok()); }

  void Wait() {
    downloads_.Take(kBuffer, [this](absl::StatusOr<Fetched> fetched) { answers_.push_back(std::move(fetched)); });
  }

  const std::shared_ptr<HostMemory> memory_ = std::make_shared<HostMemory>(HostMemoryLimits{});
  FakePlane plane_;
  HostDownloads downloads_{&plane_};
  std::vector<absl::StatusOr<Fetched>> answers_;
};

TEST_F(ExpectedTest, ALookupThatIsEarlyGetsWhatArrives) {
  Wait();
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(Take(downloads_, kBuffer).status().code(), absl::StatusCode::kFailedPrecondition) << "one is enough";
  downloads_.Arrived(kBuffer, Small("abc"));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0]->data, "abc");
}

TEST_F(ExpectedTest, ALookupThatIsLateFindsWhatArrived) {
  downloads_.Arrived(kBuffer, Small("abc"));
  Wait();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0]->data, "abc");
}

TEST_F(ExpectedTest, AnErrorIsGivenOnceAndThenForgotten) {
  downloads_.Arrived(kBuffer, absl::DataLossError("the worker is lost"));
  Wait();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].status(), absl::DataLossError("the worker is lost"));
  EXPECT_EQ(Take(downloads_, kBuffer).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(memory_->used_bytes(HostPool::kFetched), 0);
}

TEST_F(ExpectedTest, AStreamThatArrivesForALookupIsTheLookups) {
  Wait();
  downloads_.Arrived(kBuffer, Stream(1));
  ASSERT_EQ(answers_.size(), 1u);
  downloads_.Delete(kBuffer);
  EXPECT_TRUE(plane_.cancelled.empty());
}

TEST_F(ExpectedTest, WhoeverWaitsForWhatIsForgottenIsToldAndAStreamThatComesLaterIsCancelled) {
  Wait();
  downloads_.Delete(kBuffer);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].status().code(), absl::StatusCode::kCancelled);
  downloads_.Arrived(kBuffer, Stream(1));
  EXPECT_EQ(plane_.cancelled, std::set<StreamId>{StreamId{1}});
  EXPECT_EQ(answers_.size(), 1u);
}

TEST_F(ExpectedTest, WhatIsExpectedHoldsItsNameAndItsMemory) {
  EXPECT_EQ(downloads_.Expect(kBuffer, {}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(memory_->used_bytes(HostPool::kFetched), 500);
  downloads_.Close();
  EXPECT_EQ(memory_->used_bytes(HostPool::kFetched), 0);
}

}  // namespace
}  // namespace causeway
