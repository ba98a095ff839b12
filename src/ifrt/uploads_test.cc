#include "ifrt/uploads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/limits.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession{1};
constexpr HostBufferId kBuffer{5};
constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kBufferBytes = 1 << 10;  // what one costs beside its data
constexpr WorkerId kWorker{3};
constexpr WorkerId kOther{4};

// Keeps the sources that it was given, so that the test can take bytes from them when it likes.
class FakePlane final : public DataPlane {
 public:
  // Every source is told of its end once, whatever happens.
  ~FakePlane() override {
    for (const auto& [id, source] : sources) source->OnDone(absl::CancelledError("the plane is gone"));
  }

  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId, int64_t, int64_t, std::shared_ptr<StreamSink>) override {}
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId, StreamId id, int64_t, std::shared_ptr<StreamSource> source) override { sources[id] = source; }
  void SendMessage(PeerId /*peer*/, absl::Span<const absl::Span<const char>> /*parts*/) override {}
  void SetMessageHandler(MessageHandler* /*handler*/) override {}
  void Wake(PeerId, StreamId id) override { ++wakes[id]; }
  void Cancel(PeerId, StreamId id, absl::Status status) override {
    cancelled[id] = status;
    if (auto it = sources.find(id); it != sources.end()) {
      const auto source = it->second;
      sources.erase(it);
      source->OnDone(status);
    }
  }

  // Takes up to `bytes` from `offset` on.
  std::string Take(StreamId id, int64_t offset, int64_t bytes) {
    std::string taken;
    while (static_cast<int64_t>(taken.size()) < bytes) {
      const auto part = sources.at(id)->Read(offset + taken.size(), bytes - taken.size());
      if (part.empty()) break;
      taken.append(part.data(), part.size());
    }
    return taken;
  }
  void Finish(StreamId id) {
    sources.at(id)->OnDone(absl::OkStatus());
    sources.erase(id);
  }

  std::map<StreamId, std::shared_ptr<StreamSource>> sources;
  std::map<StreamId, int> wakes;
  std::map<StreamId, absl::Status> cancelled;
};

class FakeFlow final : public UploadFlow {
 public:
  void Resume() override { ++resumed; }
  void Fail(const absl::Status& why) override { failed = why; }
  int resumed = 0;
  absl::Status failed;
};

class UploadsTest : public ::testing::Test {
 protected:
  // By default there is memory for everything.
  std::shared_ptr<HostUploads> Make(UploadLimits limits = {}, HostMemoryLimits memory = {}) {
    memory_ = std::make_shared<HostMemory>(memory);
    return std::make_shared<HostUploads>(
        kSession, memory_, &plane_, [this](HostDataArrived arrived) { delivered_.push_back(std::move(arrived)); },
        [this](std::function<void()> task) { postponed_.push_back(std::move(task)); }, limits);
  }
  std::shared_ptr<Upload> Begin(HostUploads& uploads, int64_t bytes, HostBufferId buffer = kBuffer) {
    auto upload = uploads.Begin(buffer, bytes, flow_).value();
    started_ = upload->Start();
    return upload;
  }

  // What is counted as held, beside what buffers themselves cost.
  int64_t Held(const HostUploads& uploads, HostPool pool) const {
    return memory_->used_bytes(pool) - (pool == HostPool::kStaged ? uploads.buffer_count() * kBufferBytes : 0);
  }
  static absl::Cord Bytes(int64_t n, char c = 'x') { return absl::Cord(std::string(n, c)); }

  FakePlane plane_;
  std::shared_ptr<HostMemory> memory_;
  Upload::Next started_ = Upload::Next::kPause;
  std::shared_ptr<FakeFlow> flow_ = std::make_shared<FakeFlow>();
  std::vector<HostDataArrived> delivered_;
  std::vector<std::function<void()>> postponed_;
};

TEST_F(UploadsTest, SmallDataThatCameFirstAreGivenWithTheClaim) {
  auto uploads = Make();
  auto upload = Begin(*uploads, 6);
  ASSERT_TRUE(upload->Append(absl::Cord("abc")).ok());
  ASSERT_TRUE(upload->Append(absl::Cord("def")).ok());
  EXPECT_TRUE(upload->End().ok());
  EXPECT_EQ(uploads->Claim(kBuffer, 6).value(), "abcdef");
  EXPECT_EQ(uploads->buffer_count(), 0);
  EXPECT_EQ(memory_->used_bytes(HostPool::kStaged), 0);
}

TEST_F(UploadsTest, SmallDataThatComeAfterTheRequestAreDeliveredToEveryWorker) {
  auto uploads = Make();
  EXPECT_EQ(uploads->Claim(kBuffer, 3).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, 3, /*in_frame=*/true, /*last=*/false);
  uploads->Want(kBuffer, kOther, StreamId{2}, 3, true, true);
  auto upload = Begin(*uploads, 3);
  ASSERT_TRUE(upload->Append(absl::Cord("abc")).ok());
  ASSERT_EQ(delivered_.size(), 2u);
  EXPECT_EQ(delivered_[0].data.value(), "abc");
  EXPECT_EQ(delivered_[1].worker, kOther);
  EXPECT_EQ(uploads->buffer_count(), 0);
}

TEST_F(UploadsTest, DataThatCameBetweenClaimAndWantAreDeliveredOutsideTheCore) {
  auto uploads = Make();
  EXPECT_EQ(uploads->Claim(kBuffer, 3).value(), std::nullopt);
  auto upload = Begin(*uploads, 3);
  ASSERT_TRUE(upload->Append(absl::Cord("abc")).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, 3, true, true);
  EXPECT_TRUE(delivered_.empty());
  for (const auto& task : postponed_) task();
  ASSERT_EQ(delivered_.size(), 1u);
  EXPECT_EQ(delivered_[0].data.value(), "abc");
}

TEST_F(UploadsTest, OfLargeDataTheCoreHearsWhenAllHaveCome) {
  auto uploads = Make();
  const int64_t total = 2 * kMiB;
  EXPECT_EQ(uploads->Claim(kBuffer, total).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, /*in_frame=*/false, /*last=*/false);
  auto upload = Begin(*uploads, total);
  ASSERT_TRUE(upload->Append(Bytes(kMiB)).ok());
  EXPECT_TRUE(delivered_.empty());
  ASSERT_TRUE(upload->Append(Bytes(kMiB)).ok());
  ASSERT_EQ(delivered_.size(), 1u);
  EXPECT_EQ(delivered_[0].stream, StreamId{1});
  EXPECT_EQ(delivered_[0].data.value(), "") << "they go to the worker as a stream";
  uploads->Want(kBuffer, kOther, StreamId{2}, total, false, true);
  EXPECT_EQ(delivered_.size(), 1u) << "not inside the core";
  for (const auto& task : std::exchange(postponed_, {})) task();
  ASSERT_EQ(delivered_.size(), 2u);
  EXPECT_EQ(delivered_[1].worker, kOther);
  uploads->Want(HostBufferId{99}, kWorker, StreamId{3}, total, false, true);
  for (const auto& task : std::exchange(postponed_, {})) task();
  ASSERT_EQ(delivered_.size(), 3u);
  EXPECT_FALSE(delivered_[2].data.ok()) << "nobody has stored it";
}

TEST_F(UploadsTest, OfLargeDataThatBreakOffTheCoreHearsOnce) {
  auto uploads = Make();
  EXPECT_EQ(uploads->Claim(kBuffer, kMiB).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, kMiB, /*in_frame=*/false, /*last=*/true);
  auto upload = Begin(*uploads, kMiB);
  ASSERT_TRUE(upload->Append(Bytes(100)).ok());
  upload->Abort(absl::CancelledError("gone"));
  ASSERT_EQ(delivered_.size(), 1u);
  EXPECT_EQ(delivered_[0].data.status().code(), absl::StatusCode::kCancelled);
  uploads->Close();
  EXPECT_EQ(delivered_.size(), 1u);
}

TEST_F(UploadsTest, LargeDataFlowThroughAWindow) {
  auto uploads = Make();
  const int64_t total = 3 * kStreamWindowBytes;
  EXPECT_EQ(uploads->Claim(kBuffer, total).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, false, true);
  auto upload = Begin(*uploads, total);
  EXPECT_EQ(upload->Append(Bytes(kStreamWindowBytes - 1)).value(), Upload::Next::kRead);
  EXPECT_EQ(upload->Append(Bytes(1)).value(), Upload::Next::kPause);
  EXPECT_EQ(flow_->resumed, 0);
  EXPECT_EQ(plane_.Take(StreamId{1}, 0, 1000).size(), 1000u);
  EXPECT_EQ(plane_.Take(StreamId{1}, 1000, 1).size(), 1u);
  EXPECT_EQ(flow_->resumed, 1) << "the window has room again, so the client is read on";
}

TEST_F(UploadsTest, TheSlowestOfTwoWorkersSetsThePace) {
  auto uploads = Make();
  const int64_t total = 3 * kStreamWindowBytes;
  EXPECT_TRUE(uploads->Claim(kBuffer, total).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, false, false);
  uploads->Want(kBuffer, kOther, StreamId{2}, total, false, true);
  auto upload = Begin(*uploads, total);
  EXPECT_EQ(upload->Append(Bytes(kStreamWindowBytes)).value(), Upload::Next::kPause);
  plane_.Take(StreamId{1}, 0, kStreamWindowBytes);
  plane_.Take(StreamId{1}, kStreamWindowBytes, 1);
  EXPECT_EQ(flow_->resumed, 0);
  plane_.Finish(StreamId{2});
  EXPECT_EQ(flow_->resumed, 1) << "a worker that is gone holds nobody up";
}

TEST_F(UploadsTest, BothWorkersGetAllBytesInOrder) {
  auto uploads = Make();
  const int64_t half = 100 << 10;
  auto upload = Begin(*uploads, 2 * half);
  ASSERT_TRUE(upload->Append(Bytes(half, 'a')).ok());
  EXPECT_EQ(uploads->Claim(kBuffer, 2 * half).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, 2 * half, false, false);
  uploads->Want(kBuffer, kOther, StreamId{2}, 2 * half, false, true);
  ASSERT_TRUE(upload->Append(Bytes(half, 'b')).ok());
  EXPECT_TRUE(upload->End().ok());
  const std::string expected = std::string(half, 'a') + std::string(half, 'b');
  EXPECT_EQ(plane_.Take(StreamId{1}, 0, 2 * half), expected);
  EXPECT_EQ(plane_.Take(StreamId{2}, 0, 2 * half), expected);
  EXPECT_EQ(uploads->buffer_count(), 1);
  plane_.Finish(StreamId{1});
  plane_.Finish(StreamId{2});
  EXPECT_EQ(uploads->buffer_count(), 0);
}

// Room for 8.75 MiB to be staged, of which one session gets half, and 1.25 MiB to pass ahead.
constexpr HostMemoryLimits kLittle = {.bytes = 20 << 20, .spill_bytes = 64 << 20};

TEST_F(UploadsTest, WithoutRoomToStageAStoreWaitsUntilAnotherIsTaken) {
  auto uploads = Make({}, kLittle);
  const int64_t total = 4 * kMiB;
  auto first = Begin(*uploads, total);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(first->Append(Bytes(kMiB)).value(), Upload::Next::kRead);
  EXPECT_TRUE(first->End().ok());
  auto second = Begin(*uploads, total, HostBufferId{6});
  EXPECT_EQ(started_, Upload::Next::kPause) << "it is not even begun to read";
  EXPECT_TRUE(uploads->Claim(kBuffer, total).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, false, true);
  EXPECT_EQ(flow_->resumed, 0) << "the data are still here";
  plane_.Take(StreamId{1}, 0, total);
  plane_.Finish(StreamId{1});
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_EQ(second->Append(Bytes(kMiB)).value(), Upload::Next::kRead);
}

TEST_F(UploadsTest, AStoreThatWaitsForRoomGoesOnWhenItsOwnRequestComes) {
  auto uploads = Make({}, kLittle);
  auto staged = Begin(*uploads, 4 * kMiB);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(staged->Append(Bytes(kMiB)).ok());
  auto upload = Begin(*uploads, 2 * kMiB, HostBufferId{6});
  EXPECT_EQ(started_, Upload::Next::kPause);
  EXPECT_TRUE(uploads->Claim(HostBufferId{6}, 2 * kMiB).ok());
  EXPECT_EQ(flow_->resumed, 1);
}

TEST_F(UploadsTest, AWorkerThatIsReadyGetsDataWhateverOthersAreReadAhead) {
  auto uploads = Make({}, kLittle);
  // Others have taken all that may pass.
  memory_->Take(HostPool::kPassing, SessionId{2}, 2 * kMiB);
  const int64_t total = 3 * kMiB;
  EXPECT_TRUE(uploads->Claim(kBuffer, total).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, false, true);
  auto upload = Begin(*uploads, total);
  EXPECT_EQ(started_, Upload::Next::kPause) << "nobody asks for it yet";
  std::string all;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(plane_.Take(StreamId{1}, i * kMiB, 1).empty());
    EXPECT_EQ(flow_->resumed, i + 1);
    EXPECT_EQ(upload->Append(Bytes(kMiB)).value(), i < 2 ? Upload::Next::kPause : Upload::Next::kRead);
    all += plane_.Take(StreamId{1}, i * kMiB, kMiB);
  }
  EXPECT_EQ(static_cast<int64_t>(all.size()), total);
  plane_.Finish(StreamId{1});
  EXPECT_EQ(memory_->used_bytes(HostPool::kPassing, kSession), 0);
}

// A worker asks for a chunk, and others have taken all that may be here for workers that ask.
class CrowdedUploadsTest : public UploadsTest {
 protected:
  CrowdedUploadsTest() {
    memory_->Take(HostPool::kAsked, SessionId{2}, 2 * kMiB);
    EXPECT_TRUE(uploads_->Claim(kBuffer, kMiB).ok());
    uploads_->Want(kBuffer, kWorker, StreamId{1}, kMiB, false, true);
    EXPECT_TRUE(plane_.Take(StreamId{1}, 0, 1).empty());
    upload_ = Begin(*uploads_, kMiB);
  }

  const std::shared_ptr<HostUploads> uploads_ = Make({}, kLittle);
  std::shared_ptr<Upload> upload_;
};

TEST_F(CrowdedUploadsTest, WhatWorkersAskForIsReadAFewChunksAtATime) {
  EXPECT_EQ(started_, Upload::Next::kPause);
  EXPECT_EQ(flow_->resumed, 0);
  memory_->Give(HostPool::kAsked, SessionId{2}, 2 * kMiB);
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_TRUE(upload_->Append(Bytes(kMiB)).ok());
  EXPECT_EQ(static_cast<int64_t>(plane_.Take(StreamId{1}, 0, kMiB).size()), kMiB);
  plane_.Finish(StreamId{1});
  EXPECT_EQ(memory_->used_bytes(HostPool::kAsked, kSession), 0);
}

TEST_F(CrowdedUploadsTest, WhatAWorkerAsksForComesInTheEndHoweverLittleRoomThereIs) {
  uploads_->Expire(SteadyNow(), false);
  EXPECT_EQ(flow_->resumed, 0);
  uploads_->Expire(SteadyNow() + absl::Seconds(2), false);
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_EQ(memory_->used_bytes(HostPool::kAsked, kSession), kMiB);
  memory_->Give(HostPool::kAsked, SessionId{2}, 2 * kMiB);
  EXPECT_EQ(flow_->resumed, 1) << "once for each pause";
  EXPECT_TRUE(upload_->Append(Bytes(kMiB)).ok());
  plane_.Take(StreamId{1}, 0, kMiB);
  plane_.Finish(StreamId{1});
  EXPECT_EQ(memory_->used_bytes(HostPool::kAsked, kSession), 0);
}

TEST_F(CrowdedUploadsTest, AFewChunksAtATimeComeWithoutRoomAndNoneWhereItMoves) {
  constexpr int kMore = 20;
  std::vector<std::shared_ptr<Upload>> more;
  for (int i = 0; i < kMore; ++i) {
    const HostBufferId buffer{static_cast<uint64_t>(100 + i)};
    EXPECT_TRUE(uploads_->Claim(buffer, kMiB).ok());
    uploads_->Want(buffer, kWorker, StreamId{static_cast<uint64_t>(100 + i)}, kMiB, false, true);
    EXPECT_TRUE(plane_.Take(StreamId{static_cast<uint64_t>(100 + i)}, 0, 1).empty());
    more.push_back(Begin(*uploads_, kMiB, buffer));
  }
  const absl::Time begun = SteadyNow();
  memory_->Give(HostPool::kAsked, SessionId{2}, kMiB);
  EXPECT_EQ(flow_->resumed, 0) << "that is not enough for one";
  memory_->Give(HostPool::kAsked, SessionId{2}, kMiB);
  EXPECT_EQ(flow_->resumed, 1);
  uploads_->Expire(begun + absl::Milliseconds(900), false);
  EXPECT_EQ(flow_->resumed, 1) << "there was room a moment ago";
  uploads_->Expire(SteadyNow() + absl::Seconds(2), false);
  EXPECT_EQ(flow_->resumed, 9);
  EXPECT_EQ(memory_->used_bytes(HostPool::kAsked, kSession), 9 * kMiB);
}

TEST_F(UploadsTest, WhatIsCountedFollowsTheSlowestWorker) {
  auto uploads = Make();
  const int64_t total = 4 * kMiB;
  auto upload = Begin(*uploads, total);
  EXPECT_TRUE(upload->Append(Bytes(kMiB)).ok());
  EXPECT_EQ(Held(*uploads, HostPool::kStaged), 2 * kMiB) << "one is here, one is being read";
  EXPECT_TRUE(uploads->Claim(kBuffer, total).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, total, false, false);
  uploads->Want(kBuffer, kOther, StreamId{2}, total, false, true);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(upload->Append(Bytes(kMiB)).ok());
  EXPECT_EQ(Held(*uploads, HostPool::kStaged) + Held(*uploads, HostPool::kPassing), total);
  plane_.Take(StreamId{1}, 0, total);
  plane_.Finish(StreamId{1});
  plane_.Take(StreamId{2}, 0, 2 * kMiB);
  plane_.Take(StreamId{2}, 2 * kMiB, 1);
  EXPECT_EQ(Held(*uploads, HostPool::kStaged) + Held(*uploads, HostPool::kPassing), 2 * kMiB);
  plane_.Take(StreamId{2}, 2 * kMiB, 2 * kMiB);
  plane_.Finish(StreamId{2});
  EXPECT_EQ(memory_->used_bytes(HostPool::kStaged), 0);
  EXPECT_EQ(memory_->used_bytes(HostPool::kPassing), 0);
}

TEST_F(UploadsTest, AStoreThatNobodyTakesFailsAfterTheTimeout) {
  auto uploads = Make({.stall_timeout = absl::Seconds(60)}, {.bytes = 1 << 20});
  auto upload = Begin(*uploads, 3 * kMiB);
  EXPECT_EQ(started_, Upload::Next::kPause);
  uploads->Expire(SteadyNow(), /*held=*/false);
  EXPECT_TRUE(flow_->failed.ok());
  uploads->Expire(SteadyNow() + absl::Seconds(61), false);
  EXPECT_EQ(flow_->failed.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(flow_->failed.message()), HasSubstr("--host-memory"));
  EXPECT_FALSE(uploads->Claim(kBuffer, 3 * kMiB).ok());
}

TEST_F(UploadsTest, TimeInWhichTheClientIsHeldDoesNotCount) {
  auto uploads = Make({.stall_timeout = absl::Seconds(60)}, {.bytes = 1 << 20});
  auto upload = Begin(*uploads, 3 * kMiB);
  const absl::Time start = SteadyNow();
  for (int second = 1; second < 200; ++second) uploads->Expire(start + absl::Seconds(second), /*held=*/true);
  uploads->Expire(start + absl::Seconds(250), false);
  EXPECT_TRUE(flow_->failed.ok()) << "its request could not be read";
  uploads->Expire(start + absl::Seconds(260), false);
  EXPECT_EQ(flow_->failed.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(UploadsTest, ChunksThatMemoryHasNoRoomForGoToAFileAndBack) {
  auto uploads = Make({.spill_directory = ::testing::TempDir()}, {.bytes = 1 << 20});
  auto upload = Begin(*uploads, 2 * kMiB);
  EXPECT_EQ(upload->Append(Bytes(kMiB, 'a')).value(), Upload::Next::kPause);
  EXPECT_EQ(flow_->resumed, 1) << "as soon as the first is on disk";
  EXPECT_EQ(upload->Append(Bytes(kMiB, 'b')).value(), Upload::Next::kRead);
  EXPECT_EQ(Held(*uploads, HostPool::kStaged), 0);
  EXPECT_EQ(Held(*uploads, HostPool::kSpilled), 2 * kMiB);
  EXPECT_TRUE(uploads->Claim(kBuffer, 2 * kMiB).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, 2 * kMiB, false, true);
  EXPECT_EQ(plane_.Take(StreamId{1}, 0, 2 * kMiB), std::string(kMiB, 'a') + std::string(kMiB, 'b'));
  plane_.Finish(StreamId{1});
  EXPECT_EQ(memory_->used_bytes(HostPool::kSpilled), 0);
}

TEST_F(UploadsTest, ChunksGoToDiskAFewAtATime) {
  auto uploads = Make({.spill_directory = ::testing::TempDir()}, {.bytes = 1 << 20});
  auto first = Begin(*uploads, 2 * kMiB);
  EXPECT_EQ(started_, Upload::Next::kRead);
  auto second = Begin(*uploads, kMiB, HostBufferId{6});
  EXPECT_EQ(started_, Upload::Next::kPause) << "the first's chunk is on its way, in memory";
  EXPECT_EQ(first->Append(Bytes(kMiB)).value(), Upload::Next::kPause) << "now it is the second's turn";
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_EQ(second->Append(Bytes(kMiB)).value(), Upload::Next::kRead) << "it only has to end";
  EXPECT_EQ(flow_->resumed, 2);
  EXPECT_EQ(first->Append(Bytes(kMiB)).value(), Upload::Next::kRead);
  EXPECT_EQ(Held(*uploads, HostPool::kSpilled), 3 * kMiB);
  EXPECT_EQ(Held(*uploads, HostPool::kReading), 0);
}

TEST_F(UploadsTest, WhatNobodyWantsIsReadAFewChunksAtATime) {
  auto uploads = Make({}, {.bytes = 1 << 20});
  uploads->Discard(kBuffer);
  uploads->Discard(HostBufferId{6});
  auto first = Begin(*uploads, kMiB);
  EXPECT_EQ(started_, Upload::Next::kRead);
  auto second = Begin(*uploads, kMiB, HostBufferId{6});
  EXPECT_EQ(started_, Upload::Next::kPause);
  EXPECT_TRUE(first->Append(Bytes(kMiB)).ok());
  EXPECT_TRUE(first->End().ok());
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_TRUE(second->Append(Bytes(kMiB)).ok());
  EXPECT_TRUE(second->End().ok());
  EXPECT_EQ(uploads->buffer_count(), 0);
  EXPECT_EQ(Held(*uploads, HostPool::kReading), 0);
}

TEST_F(UploadsTest, AStoreThatWaitsBehindOthersThatGetRoomDoesNotFail) {
  auto uploads =
      Make({.spill_directory = ::testing::TempDir(), .stall_timeout = absl::Milliseconds(300)}, {.bytes = 1 << 20});
  auto first = Begin(*uploads, 2 * kMiB);
  auto second = Begin(*uploads, 2 * kMiB, HostBufferId{6});
  auto third = Begin(*uploads, 2 * kMiB, HostBufferId{7});
  const absl::Time begun = SteadyNow();
  while (SteadyNow() - begun < absl::Milliseconds(300)) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_TRUE(first->Append(Bytes(kMiB)).ok());  // the second is given room
  uploads->Expire(SteadyNow(), /*held=*/false);
  EXPECT_TRUE(flow_->failed.ok()) << "the third's turn will come";
  uploads->Expire(SteadyNow() + absl::Seconds(1), false);
  EXPECT_EQ(flow_->failed.code(), absl::StatusCode::kResourceExhausted) << "but the second takes none of it";
}

TEST_F(UploadsTest, AFullDiskMakesTheStoreWaitAndIsTriedAgain) {
  // Writes to it fail: there is no such folder.
  auto uploads = Make({.spill_directory = "/nonexistent", .stall_timeout = absl::Seconds(60)}, {.bytes = 1 << 20});
  auto upload = Begin(*uploads, 3 * kMiB);
  EXPECT_EQ(started_, Upload::Next::kRead) << "it is to go to disk";
  EXPECT_EQ(upload->Append(Bytes(kMiB)).value(), Upload::Next::kPause);
  EXPECT_EQ(Held(*uploads, HostPool::kSpilled), 0);
  EXPECT_EQ(Held(*uploads, HostPool::kStaged), kMiB) << "what came is kept";
  memory_->ReopenDisk();
  EXPECT_EQ(flow_->resumed, 1);
  EXPECT_EQ(upload->Append(Bytes(kMiB)).value(), Upload::Next::kPause);
  uploads->Expire(SteadyNow() + absl::Seconds(61), false);
  EXPECT_EQ(flow_->failed.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(flow_->failed.message()), HasSubstr("the disk takes no more"));
  EXPECT_EQ(Held(*uploads, HostPool::kStaged), 0);
}

TEST_F(UploadsTest, AFileOfTheClientsCostsNoMemory) {
  auto uploads = Make({}, {.bytes = 1 << 20});
  auto upload = uploads->Begin(kBuffer, 3 * kMiB, flow_).value();
  EXPECT_TRUE(upload->AppendFile(Bytes(3 * kMiB)).ok());
  EXPECT_TRUE(upload->End().ok());
  EXPECT_EQ(Held(*uploads, HostPool::kStaged), 0);
  EXPECT_TRUE(uploads->Claim(kBuffer, 3 * kMiB).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, 3 * kMiB, false, true);
  EXPECT_EQ(plane_.Take(StreamId{1}, 0, 3 * kMiB).size(), 3u * kMiB);
}

TEST_F(UploadsTest, AbandonedStoresHoldNothing) {
  auto uploads = Make({}, kLittle);
  auto first = Begin(*uploads, 4 * kMiB);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(first->Append(Bytes(kMiB)).ok());
  auto waits = Begin(*uploads, 3 * kMiB, HostBufferId{6});
  EXPECT_EQ(started_, Upload::Next::kPause);
  auto small = Begin(*uploads, 100, HostBufferId{7});
  waits->Abort(absl::CancelledError("gone"));
  small->Abort(absl::CancelledError("gone"));
  uploads->Discard(HostBufferId{6});
  uploads->Close();
  EXPECT_EQ(memory_->used_bytes(HostPool::kStaged), 0);
  EXPECT_EQ(flow_->resumed, 0);
}

TEST_F(UploadsTest, WrongSizesAreTheClientsErrorWhicheverSideComesFirst) {
  auto uploads = Make();
  auto upload = Begin(*uploads, 10);
  EXPECT_EQ(uploads->Claim(kBuffer, 12).status().code(), absl::StatusCode::kInvalidArgument);

  const HostBufferId other{6};
  EXPECT_TRUE(uploads->Claim(other, 12).ok());
  uploads->Want(other, kWorker, StreamId{1}, 12, true, true);
  EXPECT_FALSE(uploads->Begin(other, 10, flow_).ok());
  ASSERT_EQ(delivered_.size(), 1u);
  EXPECT_EQ(delivered_[0].data.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(UploadsTest, MoreOrFewerBytesThanAnnouncedFailTheStore) {
  auto uploads = Make();
  EXPECT_EQ(Begin(*uploads, 2)->Append(Bytes(3)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Begin(*uploads, 2, HostBufferId{6})->End().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(uploads->Begin(HostBufferId{7}, -1, flow_).ok());
}

TEST_F(UploadsTest, AStoreThatBreaksOffFailsWhoWaitsForIt) {
  auto uploads = Make();
  const int64_t large = 1 << 20;
  EXPECT_TRUE(uploads->Claim(kBuffer, large).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, large, false, true);
  auto upload = Begin(*uploads, large);
  ASSERT_TRUE(upload->Append(Bytes(10)).ok());
  upload->Abort(absl::CancelledError("gone"));
  EXPECT_EQ(plane_.cancelled.at(StreamId{1}).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(uploads->buffer_count(), 0);
}

TEST_F(UploadsTest, ABufferThatARequestHasTakenIsNotGivenUpByAnother) {
  auto uploads = Make();
  EXPECT_EQ(uploads->Claim(kBuffer, 200'000).value(), std::nullopt);
  uploads->Want(kBuffer, kWorker, StreamId{1}, 200'000, /*in_frame=*/false, /*last=*/true);
  uploads->Discard(kBuffer);
  auto upload = Begin(*uploads, 200'000);
  ASSERT_TRUE(upload->Append(Bytes(200'000)).ok());
  EXPECT_EQ(plane_.Take(StreamId{1}, 0, 200'000).size(), 200'000u) << "its worker would wait for ever";
  plane_.Finish(StreamId{1});
  EXPECT_EQ(uploads->buffer_count(), 0);
}

TEST_F(UploadsTest, DiscardedBuffersAreSwallowedSoThatTheClientGoesOn) {
  auto uploads = Make({}, {.bytes = 1 << 20});
  uploads->Discard(kBuffer);
  auto upload = Begin(*uploads, 1 << 20);
  EXPECT_EQ(upload->Append(Bytes(1 << 20)).value(), Upload::Next::kRead);
  EXPECT_TRUE(upload->End().ok());
  EXPECT_EQ(uploads->buffer_count(), 0);
  EXPECT_EQ(memory_->used_bytes(HostPool::kStaged), 0);
}

TEST_F(UploadsTest, ABufferIsStoredAndUsedOnce) {
  auto uploads = Make();
  Begin(*uploads, 10);
  EXPECT_EQ(uploads->Begin(kBuffer, 10, flow_).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(uploads->Claim(kBuffer, 10).ok());
  EXPECT_EQ(uploads->Claim(kBuffer, 10).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(UploadsTest, EmptyArraysNeedNoData) {
  auto uploads = Make();
  EXPECT_EQ(uploads->Claim(kBuffer, 0).value(), "");
  auto upload = Begin(*uploads, 0);
  EXPECT_TRUE(upload->End().ok());
  EXPECT_EQ(uploads->buffer_count(), 0);
}

TEST_F(UploadsTest, ClosingEndsStoresAndStreams) {
  auto uploads = Make();
  const int64_t large = 1 << 20;
  EXPECT_TRUE(uploads->Claim(kBuffer, large).ok());
  uploads->Want(kBuffer, kWorker, StreamId{1}, large, false, true);
  auto upload = Begin(*uploads, large);
  uploads->Close();
  EXPECT_FALSE(flow_->failed.ok());
  EXPECT_TRUE(plane_.cancelled.contains(StreamId{1}));
  EXPECT_FALSE(upload->Append(Bytes(1)).ok());
  EXPECT_EQ(uploads->Begin(HostBufferId{9}, 1, flow_).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(UploadsTest, TheNumberOfBuffersIsLimited) {
  auto uploads = Make({.max_buffers = 1});
  Begin(*uploads, 1);
  const absl::Status status = uploads->Begin(HostBufferId{6}, 1, flow_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1 host buffers"));
}

}  // namespace
}  // namespace causeway
