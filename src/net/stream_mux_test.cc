// What the contract suite of the planes cannot reach: single messages in chosen orders, and bytes that no honest peer
// sends.
#include "net/stream_mux.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/origin.h"
#include "net/test_mux.h"
#include "net/test_streams.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr StreamId kId{42};

// Bytes that lie in parts of `part_bytes` each, in memory that is overwritten when the stream has ended.
class ScatteredSource final : public StreamSource {
 public:
  ScatteredSource(StreamId id, int64_t total, int64_t part_bytes) : bytes_(total), part_bytes_(part_bytes) {
    for (int64_t i = 0; i < total; ++i) bytes_[i] = ByteOf(id, i);
  }

  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    return absl::MakeConstSpan(bytes_).subspan(offset, std::min(part_bytes_, max_bytes));
  }
  // More than it is asked for, which it may.
  void ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                 std::vector<absl::Span<const char>>& parts) override {
    for (const int64_t end = offset + max_bytes; offset < end && max_parts-- > 0; offset += parts.back().size()) {
      parts.push_back(absl::MakeConstSpan(bytes_).subspan(offset, part_bytes_));
    }
  }
  void OnDone(absl::Status) override { std::fill(bytes_.begin(), bytes_.end(), '\xee'); }

 private:
  std::vector<char> bytes_;
  const int64_t part_bytes_;
};

class StreamMuxTest : public ::testing::Test {
 protected:
  StreamMuxTest() { mux_.Connected(); }

  StreamMux mux_{"worker 9"};
  std::shared_ptr<TestSink> sink_ = std::make_shared<TestSink>(1000);
  std::shared_ptr<TestSource> source_ = std::make_shared<TestSource>(kId, 1000);
};

TEST_F(StreamMuxTest, ReceivingGrantsAndThenSaysThatItHasAll) {
  mux_.Receive(kId, 1000, 600, sink_);
  EXPECT_EQ(Drain(mux_), Grant(kId, 600, 1000));
  mux_.Grant(kId, 5000);
  EXPECT_EQ(Drain(mux_), Grant(kId, 400, 1000)) << "no more than the stream has";
  ASSERT_TRUE(Feed(mux_, Data(kId, 0, 300, 1000) + Data(kId, 300, 700, 1000)).ok());
  EXPECT_THAT(sink_->results(), ElementsAre(absl::OkStatus()));
  EXPECT_TRUE(sink_->Holds(kId));
  EXPECT_EQ(Drain(mux_), Finished(kId));
}

TEST_F(StreamMuxTest, SendingWritesWhatIsGrantedHoweverTheSocketTakesIt) {
  mux_.Send(kId, 1000, source_);
  EXPECT_EQ(Drain(mux_), "");
  ASSERT_TRUE(Feed(mux_, Grant(kId, 600, 1000), 5).ok());
  EXPECT_EQ(Drain(mux_, 7), Data(kId, 0, 600, 1000));
  EXPECT_FALSE(source_->done());
  ASSERT_TRUE(Feed(mux_, Grant(kId, 400, 1000)).ok());
  EXPECT_EQ(Drain(mux_), Data(kId, 600, 400, 1000));
  EXPECT_THAT(source_->results(), ElementsAre(absl::OkStatus()));
}

TEST_F(StreamMuxTest, DataOfAStreamThatNobodyReceivesIsABreachThatNamesThePeer) {
  const absl::Status breach = Feed(mux_, Data(kId, 0, 10, 10));
  EXPECT_EQ(breach.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(breach.message()), HasSubstr("worker 9"));
}

TEST_F(StreamMuxTest, DataThatWereNotGrantedAreABreach) {
  mux_.Receive(kId, 1000, 100, sink_);
  EXPECT_EQ(Feed(mux_, Data(kId, 0, 101, 1000)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StreamMuxTest, DataWithAGapOrOfAnotherLengthAreABreach) {
  for (const std::string& bytes : {Data(kId, 1, 10, 1000), Data(kId, 0, 10, 999)}) {
    StreamMux mux("worker 9");
    mux.Connected();
    auto sink = std::make_shared<TestSink>(1000);
    sink->in_order = true;
    mux.Receive(kId, 1000, 1000, sink);
    EXPECT_EQ(Feed(mux, bytes).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(StreamMuxTest, GrantsBeyondTheStreamAreABreach) {
  mux_.Send(kId, 1000, source_);
  ASSERT_TRUE(Feed(mux_, Grant(kId, 900, 1000)).ok());
  EXPECT_EQ(Feed(mux_, Grant(kId, 101, 1000)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StreamMuxTest, EarlyGrantsAreRememberedButNotWithoutEnd) {
  absl::Status status;
  uint64_t asked = 0;
  while (status.ok() && asked < 10 * kMaxRecentStreams) status = Feed(mux_, Grant(StreamId{++asked}, 1, 1));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(asked, kMaxRecentStreams + 1);
}

TEST_F(StreamMuxTest, AFloodOfEndsOfUnknownStreamsIsForgottenOldestFirst) {
  for (uint64_t i = 0; i <= kMaxRecentStreams; ++i) {
    ASSERT_TRUE(Feed(mux_, End(DataType::kAbort, StreamId{i}, absl::AbortedError("x"))).ok());
  }
  auto newest = std::make_shared<TestSink>(1);
  mux_.Receive(StreamId{kMaxRecentStreams}, 1, 1, newest);
  EXPECT_THAT(newest->results(), ElementsAre(absl::AbortedError("x")));
  auto oldest = std::make_shared<TestSink>(1);
  mux_.Receive(StreamId{0}, 1, 1, oldest);
  EXPECT_FALSE(oldest->done());
  EXPECT_EQ(Drain(mux_), Finished(StreamId{kMaxRecentStreams}) + Grant(StreamId{0}, 1, 1)) << "and said nothing before";
  mux_.Disconnected(absl::UnavailableError("the end"));
}

TEST_F(StreamMuxTest, WhatIsOnItsWayWhenAStreamIsRefusedIsDropped) {
  mux_.Receive(kId, 1000, 1000, sink_);
  (void)Drain(mux_);
  const std::string rest = Data(kId, 400, 600, 1000);
  ASSERT_TRUE(Feed(mux_, Data(kId, 0, 400, 1000) + rest.substr(0, 100)).ok());
  mux_.Cancel(kId, absl::AbortedError("enough"));
  EXPECT_EQ(Drain(mux_), End(DataType::kRefuse, kId, absl::AbortedError("enough")));
  ASSERT_TRUE(Feed(mux_, rest.substr(100)).ok()) << "not a breach: it had been sent before";
  EXPECT_EQ(sink_->received(), 400);
  EXPECT_EQ(Drain(mux_), "");
}

TEST_F(StreamMuxTest, ARefusedStreamIsForgottenWhenTheSenderHasSaidItsLast) {
  mux_.Receive(kId, 1000, 1000, sink_);
  mux_.Cancel(kId, absl::AbortedError("enough"));
  (void)Drain(mux_);
  ASSERT_TRUE(Feed(mux_, Data(kId, 0, 400, 1000) + End(DataType::kAbort, kId, absl::AbortedError("enough"), 400)).ok());
  EXPECT_FALSE(Feed(mux_, Data(kId, 400, 600, 1000)).ok());
}

TEST_F(StreamMuxTest, ARefusalThatCrossesTheLastByteIsNotTakenForAnEarlyOne) {
  mux_.Send(kId, 1000, source_);
  ASSERT_TRUE(Feed(mux_, Grant(kId, 1000, 1000)).ok());
  (void)Drain(mux_);
  EXPECT_THAT(source_->results(), ElementsAre(absl::OkStatus()));
  ASSERT_TRUE(Feed(mux_, End(DataType::kRefuse, kId, absl::AbortedError("enough"))).ok());
  auto again = std::make_shared<TestSource>(kId, 1000);
  mux_.Send(kId, 1000, again);
  EXPECT_FALSE(again->done()) << "nothing of it is left";
  mux_.Disconnected(absl::UnavailableError("the end"));
}

TEST_F(StreamMuxTest, AChunkWhoseStreamEndsWhileItIsWrittenIsCompletedFromACopy) {
  mux_.Send(kId, 1000, source_);
  ASSERT_TRUE(Feed(mux_, Grant(kId, 1000, 1000)).ok());
  (void)mux_.WriteBuffers();
  mux_.Written(100);
  mux_.Cancel(kId, absl::AbortedError("gone"));
  EXPECT_THAT(source_->results(), ElementsAre(absl::AbortedError("gone")));
  source_ = nullptr;
  const std::string all = Data(kId, 0, 1000, 1000) + End(DataType::kAbort, kId, absl::AbortedError("gone"), 1000);
  EXPECT_EQ(Drain(mux_, 33), all.substr(100));
}

TEST_F(StreamMuxTest, StreamsTakeTurnsChunkByChunk) {
  const int64_t total = 3 * kChunkBytes;
  for (uint64_t i = 0; i < 2; ++i) {
    mux_.Send(StreamId{i}, total, std::make_shared<TestSource>(StreamId{i}, total));
    ASSERT_TRUE(Feed(mux_, Grant(StreamId{i}, total, total)).ok());
  }
  std::string expected;
  for (int64_t offset = 0; offset < total; offset += kChunkBytes) {
    for (uint64_t i = 0; i < 2; ++i) expected += Data(StreamId{i}, offset, kChunkBytes, total);
  }
  EXPECT_TRUE(Drain(mux_) == expected);
}

TEST_F(StreamMuxTest, ASinkThatGivesNoRoomFailsItsStreamOnly) {
  struct Roomless final : StreamSink {
    absl::Span<char> Buffer(int64_t, int64_t) override { return {}; }
    void OnData(int64_t, int64_t) override { ADD_FAILURE(); }
    void OnDone(absl::Status status) override { result = status; }
    absl::Status result;
  };
  auto roomless = std::make_shared<Roomless>();
  mux_.Receive(kId, 10, 10, roomless);
  mux_.Receive(StreamId{1}, 1000, 1000, sink_);
  ASSERT_TRUE(Feed(mux_, Data(kId, 0, 10, 10) + Data(StreamId{1}, 0, 1000, 1000)).ok());
  EXPECT_EQ(roomless->result.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(sink_->results(), ElementsAre(absl::OkStatus()));
}

TEST_F(StreamMuxTest, StreamsAskedForWithoutAConnectionAreSaidOnTheNextOne) {
  mux_.Disconnected(absl::UnavailableError("lost"));
  mux_.Receive(kId, 1000, 600, sink_);
  EXPECT_TRUE(mux_.WantsConnection());
  EXPECT_EQ(Drain(mux_), "");
  mux_.Connected();
  EXPECT_EQ(Drain(mux_), Grant(kId, 600, 1000));
  mux_.Disconnected(absl::UnavailableError("the end"));
}

TEST_F(StreamMuxTest, StreamsThatALostConnectionEndedAreToldOnTheNextOne) {
  mux_.Receive(kId, 1000, 600, sink_);
  mux_.Send(StreamId{50}, 1000, source_);
  mux_.Disconnected(absl::UnavailableError("lost"));
  EXPECT_THAT(sink_->results(), ElementsAre(absl::UnavailableError("lost")));
  EXPECT_THAT(source_->results(), ElementsAre(absl::UnavailableError("lost")));
  EXPECT_TRUE(mux_.WantsConnection());
  mux_.Connected();
  EXPECT_EQ(Drain(mux_), End(DataType::kRefuse, kId, absl::UnavailableError("lost")) +
                             End(DataType::kAbort, StreamId{50}, absl::UnavailableError("lost")));
  EXPECT_FALSE(mux_.WantsConnection());
}

TEST_F(StreamMuxTest, AnEndThatWasNotAnsweredIsToldAgainOnTheNextConnection) {
  const absl::Status why = absl::AbortedError("enough");
  mux_.Receive(kId, 1000, 600, sink_);
  mux_.Send(StreamId{50}, 1000, source_);
  mux_.Cancel(kId, why);
  mux_.Cancel(StreamId{50}, why);
  const std::string ends = End(DataType::kRefuse, kId, why) + End(DataType::kAbort, StreamId{50}, why);
  EXPECT_EQ(Drain(mux_), Grant(kId, 600, 1000) + ends);
  for (int connection = 0; connection < 2; ++connection) {
    mux_.Disconnected(absl::UnavailableError("lost, perhaps with these words"));
    mux_.Connected();
    EXPECT_EQ(Drain(mux_), ends);
  }
  ASSERT_TRUE(Feed(mux_, End(DataType::kAbort, kId, why) + Finished(StreamId{50})).ok());
  mux_.Disconnected(absl::UnavailableError("lost"));
  mux_.Connected();
  EXPECT_EQ(Drain(mux_), "") << "the peer has heard";
}

TEST_F(StreamMuxTest, AnEndOfAStreamThatIsNotBegunYetIsRememberedBeyondTheConnection) {
  const absl::Status why = absl::AbortedError("enough");
  ASSERT_TRUE(Feed(mux_, End(DataType::kAbort, kId, why) + End(DataType::kRefuse, StreamId{50}, why)).ok());
  mux_.Disconnected(absl::UnavailableError("lost"));
  mux_.Receive(kId, 1000, 600, sink_);
  mux_.Connected();
  mux_.Send(StreamId{50}, 1000, source_);
  EXPECT_THAT(sink_->results(), ElementsAre(why));
  EXPECT_THAT(source_->results(), ElementsAre(why));
}

TEST_F(StreamMuxTest, WhatLiesScatteredTravelsAsOneChunk) {
  mux_.Send(kId, 1000, std::make_shared<ScatteredSource>(kId, 1000, 90));
  ASSERT_TRUE(Feed(mux_, Grant(kId, 400, 1000)).ok());
  EXPECT_EQ(Drain(mux_, 7), Data(kId, 0, 400, 1000)) << "no more than was granted, however many parts it takes";
  ASSERT_TRUE(Feed(mux_, Grant(kId, 600, 1000)).ok());
  EXPECT_EQ(Drain(mux_), Data(kId, 400, 600, 1000));
}

TEST_F(StreamMuxTest, AScatteredChunkThatIsHalfWrittenIsCompletedWhenItsStreamEnds) {
  mux_.Send(kId, 1000, std::make_shared<ScatteredSource>(kId, 1000, 90));
  ASSERT_TRUE(Feed(mux_, Grant(kId, 1000, 1000)).ok());
  const absl::Span<const iovec> parts = mux_.WriteBuffers();
  std::string bytes;
  for (const iovec& part : parts.subspan(0, 3)) bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
  mux_.Written(bytes.size());
  mux_.Cancel(kId, absl::AbortedError("enough"));
  EXPECT_EQ(bytes + Drain(mux_, 50),
            Data(kId, 0, 1000, 1000) + End(DataType::kAbort, kId, absl::AbortedError("enough"), 1000));
}

TEST_F(StreamMuxTest, AnEndSaysWhereTheErrorComesFrom) {
  const absl::Status why = WithOrigin(absl::AbortedError("enough"), uint64_t{1} << 63);
  mux_.Receive(kId, 1000, 1000, sink_);
  ASSERT_TRUE(Feed(mux_, End(DataType::kAbort, kId, why)).ok());
  EXPECT_THAT(sink_->results(), ElementsAre(why));
  Drain(mux_);
  mux_.Send(StreamId{7}, 1000, source_);
  mux_.Cancel(StreamId{7}, why);
  EXPECT_EQ(Drain(mux_), End(DataType::kAbort, StreamId{7}, why));
}

TEST_F(StreamMuxTest, ALongReasonIsCut) {
  mux_.Receive(kId, 1000, 0, sink_);
  mux_.Cancel(kId, absl::AbortedError(std::string(5000, 'r')));
  EXPECT_EQ(Drain(mux_), End(DataType::kRefuse, kId, absl::AbortedError(std::string(kMaxReasonBytes, 'r'))));
}

// A sink whose memory is watched by the sanitizer, and a mux with streams in all states.
void FeedArbitrary(const std::string& bytes, size_t piece) {
  StreamMux mux("worker 9");
  mux.Connected();
  std::vector<std::shared_ptr<TestSink>> sinks;
  std::vector<std::shared_ptr<TestSource>> sources;
  for (uint64_t i = 0; i < 4; ++i) {
    sinks.push_back(std::make_shared<TestSink>(500, /*room=*/77));
    mux.Receive(StreamId{i}, 500, 100 * static_cast<int64_t>(i + 1), sinks.back());
    sources.push_back(std::make_shared<TestSource>(StreamId{10 + i}, 500));
    mux.Send(StreamId{10 + i}, 500, sources.back());
  }
  mux.Cancel(StreamId{3}, absl::CancelledError("x"));
  mux.Cancel(StreamId{13}, absl::CancelledError("x"));
  const absl::Status status = Feed(mux, bytes, piece);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  } else {
    (void)Drain(mux, 1 + piece);
  }
  mux.Disconnected(absl::UnavailableError("the end"));
  for (const auto& sink : sinks) EXPECT_EQ(sink->results().size(), 1u);
  for (const auto& source : sources) EXPECT_EQ(source->results().size(), 1u);
}

TEST(StreamMuxFuzz, RandomBytesEndInARefusalAndEveryStreamEndsOnce) {
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::string bytes(random() % 300, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % (round % 2 == 0 ? 256 : 6));
    FeedArbitrary(bytes, 1 + random() % 64);
  }
}

TEST(StreamMuxFuzz, WellFormedMessagesInAnyOrderWithMutationsDoNoHarm) {
  std::mt19937 random(6);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 12; ++i) {
      const StreamId id{random() % 15};
      const int64_t total = random() % 4 == 0 ? 1 + random() % 600 : 500;
      const int64_t length = 1 + random() % std::min<int64_t>(total, 120);
      switch (random() % 5) {
        case 0:
          bytes += Grant(id, length, total);
          break;
        case 1:
          bytes += Data(id, random() % 2 == 0 ? 0 : random() % (total - length + 1), length, total);
          break;
        case 2:
          bytes += End(DataType::kAbort, id, absl::AbortedError("a"));
          break;
        case 3:
          bytes += End(DataType::kRefuse, id, absl::AbortedError("r"));
          break;
        case 4:
          bytes += Finished(id);
          break;
      }
    }
    if (round % 2 == 0) bytes[random() % bytes.size()] = static_cast<char>(random());
    FeedArbitrary(bytes, 1 + random() % 200);
  }
}

}  // namespace
}  // namespace causeway
