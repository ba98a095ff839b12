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

#include "absl/strings/string_view.h"
#include "base/limits.h"
#include "base/origin.h"
#include "net/test_streams.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const DataHeader& header, const std::string& payload = "") {
  std::string bytes(kDataHeaderBytes, '\0');
  WriteDataHeader(header, bytes.data());
  return bytes + payload;
}

std::string Grant(StreamId id, int64_t bytes, int64_t total) {
  return Message({.type = DataType::kGrant, .stream = id, .value = bytes, .total = total});
}

std::string Data(StreamId id, int64_t offset, int64_t length, int64_t total) {
  std::string payload(length, '\0');
  for (int64_t i = 0; i < length; ++i) payload[i] = ByteOf(id, offset + i);
  return Message(
      {.type = DataType::kData, .length = static_cast<uint32_t>(length), .stream = id, .value = offset, .total = total},
      payload);
}

std::string Finished(StreamId id) { return Message({.type = DataType::kFinished, .stream = id}); }

// Of an abort: after `sent` bytes.
std::string End(DataType type, StreamId id, const absl::Status& why, int64_t sent = 0) {
  return Message({.type = type,
                  .detail = static_cast<uint8_t>(why.code()),
                  .length = static_cast<uint32_t>(why.message().size()),
                  .stream = id,
                  .value = sent,
                  .total = static_cast<int64_t>(OriginOf(why))},
                 std::string(why.message()));
}

// Gives `bytes` to `mux`, at most `piece` at a time.
absl::Status Feed(StreamMux& mux, absl::string_view bytes, size_t piece = 1 << 30, int connection = 0) {
  while (!bytes.empty()) {
    std::array<iovec, 2> room;
    const int count = mux.ReadBuffers(room, connection);
    size_t filled = 0;
    for (int i = 0; i < count; ++i) {
      EXPECT_GT(room[i].iov_len, 0u);
      const size_t n = std::min({room[i].iov_len, bytes.size(), piece - filled});
      std::memcpy(room[i].iov_base, bytes.data(), n);
      bytes.remove_prefix(n);
      filled += n;
    }
    if (absl::Status breach = mux.Filled(filled, connection); !breach.ok()) return breach;
  }
  return absl::OkStatus();
}

// Takes what `mux` has to write, at most `piece` bytes at a time.
std::string Drain(StreamMux& mux, size_t piece = 1 << 30, int connection = 0) {
  std::string bytes;
  while (true) {
    const absl::Span<const iovec> parts = mux.WriteBuffers(connection);
    if (parts.empty()) return bytes;
    size_t written = 0;
    for (const iovec& part : parts) {
      const size_t n = std::min(part.iov_len, piece - written);
      bytes.append(static_cast<const char*>(part.iov_base), n);
      written += n;
    }
    mux.Written(written, connection);
  }
}

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

// ---------------------------------------------------------------- several connections

// Takes one batch of what `mux` has to write on `connection`, the first `most` bytes of it.
std::string Take(StreamMux& mux, int connection, size_t most = 1 << 30) {
  std::string bytes;
  for (const iovec& part : mux.WriteBuffers(connection)) {
    bytes.append(static_cast<const char*>(part.iov_base), std::min(part.iov_len, most - bytes.size()));
  }
  mux.Written(bytes.size(), connection);
  return bytes;
}

class SeveralConnections : public StreamMuxTest {
 protected:
  SeveralConnections() {
    EXPECT_EQ(mux_.AddConnection(), 1);
    EXPECT_EQ(mux_.AddConnection(), 2);
  }
  ~SeveralConnections() override { mux_.Disconnected(absl::UnavailableError("the end")); }

  absl::Status FeedOn(int connection, const std::string& bytes, size_t piece = 1 << 30) {
    return Feed(mux_, bytes, piece, connection);
  }
};

TEST_F(SeveralConnections, TheChunksOfAStreamGoOutOnWhicheverConnectionAsks) {
  const int64_t total = 3 * kChunkBytes + 5;
  const auto source = std::make_shared<TestSource>(kId, total);
  mux_.Send(kId, total, source);
  ASSERT_TRUE(Feed(mux_, Grant(kId, total, total)).ok());
  EXPECT_TRUE(mux_.others_wait(0));
  (void)mux_.WriteBuffers(0);  // its socket takes nothing for now
  EXPECT_TRUE(mux_.others_wait(0)) << "more than that chunk may be sent";
  EXPECT_TRUE(Take(mux_, 2) == Data(kId, kChunkBytes, kChunkBytes, total));
  EXPECT_TRUE(Take(mux_, 1) == Data(kId, 2 * kChunkBytes, kChunkBytes, total));
  EXPECT_TRUE(Take(mux_, 2) == Data(kId, 3 * kChunkBytes, 5, total));
  EXPECT_EQ(Take(mux_, 1), "");
  EXPECT_FALSE(mux_.others_wait(0));
  EXPECT_FALSE(source->done()) << "the first chunk is not written";
  EXPECT_TRUE(Take(mux_, 0) == Data(kId, 0, kChunkBytes, total));
  EXPECT_THAT(source->results(), ElementsAre(absl::OkStatus()));
}

TEST_F(SeveralConnections, NoMoreThanGrantedGoesOutOnAllOfThem) {
  mux_.Send(kId, 1000, source_);
  ASSERT_TRUE(Feed(mux_, Grant(kId, 600, 1000)).ok());
  EXPECT_EQ(Take(mux_, 1), Data(kId, 0, 600, 1000));
  EXPECT_EQ(Take(mux_, 2) + Take(mux_, 0), "");
  ASSERT_TRUE(Feed(mux_, Grant(kId, 400, 1000)).ok());
  EXPECT_EQ(Take(mux_, 2), Data(kId, 600, 400, 1000));
}

TEST_F(SeveralConnections, AStreamThatHadAllOfItsChunksOnTheFirstIsSpreadWhenOneIsAdded) {
  StreamMux mux("worker 9");
  mux.Connected();
  const int64_t total = 2 * kChunkBytes;
  mux.Send(kId, total, std::make_shared<TestSource>(kId, total));
  ASSERT_TRUE(Feed(mux, Grant(kId, total, total)).ok());
  (void)mux.WriteBuffers();
  EXPECT_EQ(mux.AddConnection(), 1);
  EXPECT_TRUE(mux.others_wait(0));
  EXPECT_TRUE(Take(mux, 1) == Data(kId, kChunkBytes, kChunkBytes, total));
  mux.Disconnected(absl::UnavailableError("the end"));
}

// Whoever of the two ends wants it.
TEST_F(SeveralConnections, AStreamInOrderHasOneConnectionAndOneChunkAtATime) {
  const int64_t total = 2 * kChunkBytes;
  for (const bool source_wants_it : {true, false}) {
    const StreamId id{source_wants_it ? 1u : 2u};
    const auto source = std::make_shared<TestSource>(id, total);
    source->forgets = source_wants_it;
    mux_.Send(id, total, source);
    const uint8_t detail = source_wants_it ? 0 : 1;
    ASSERT_TRUE(
        Feed(mux_, Message({.type = DataType::kGrant, .detail = detail, .stream = id, .value = total, .total = total}))
            .ok());
    (void)mux_.WriteBuffers(1);
    EXPECT_EQ(Take(mux_, 0) + Take(mux_, 2), "") << "a chunk of it is being written";
    EXPECT_TRUE(Take(mux_, 1) == Data(id, 0, kChunkBytes, total));
    EXPECT_EQ(Take(mux_, 0) + Take(mux_, 2), "") << "its chunks would overtake each other";
    EXPECT_TRUE(mux_.others_wait(0));
    EXPECT_FALSE(mux_.others_wait(1));
    EXPECT_TRUE(Take(mux_, 1) == Data(id, kChunkBytes, kChunkBytes, total));
    EXPECT_THAT(source->results(), ElementsAre(absl::OkStatus()));
  }
}

TEST_F(SeveralConnections, ASinkThatWantsItsBytesInOrderSaysSoAndGetsNoOther) {
  sink_->in_order = true;
  mux_.Receive(kId, 1000, 600, sink_);
  mux_.Grant(kId, 400);
  const auto in_order = [](int64_t bytes) {
    return Message({.type = DataType::kGrant, .detail = 1, .stream = kId, .value = bytes, .total = 1000});
  };
  EXPECT_EQ(Drain(mux_), in_order(600) + in_order(400));
  EXPECT_EQ(FeedOn(1, Data(kId, 10, 10, 1000)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SeveralConnections, ChunksThatOvertakeOneAnotherAreToldInOrder) {
  std::vector<std::pair<int64_t, int64_t>> told;
  sink_->on_data = [&](int64_t offset, int64_t length) { told.emplace_back(offset, length); };
  mux_.Receive(kId, 1000, 1000, sink_);
  (void)Drain(mux_);
  const std::string first = Data(kId, 0, 300, 1000);
  ASSERT_TRUE(FeedOn(0, first.substr(0, 200)).ok());
  ASSERT_TRUE(FeedOn(1, Data(kId, 600, 300, 1000), 7).ok());
  ASSERT_TRUE(FeedOn(2, Data(kId, 300, 300, 1000)).ok());
  EXPECT_EQ(sink_->received(), 0);
  ASSERT_TRUE(FeedOn(2, Data(kId, 900, 100, 1000)).ok());
  EXPECT_FALSE(sink_->done());
  ASSERT_TRUE(FeedOn(0, first.substr(200)).ok());
  EXPECT_THAT(told, ElementsAre(std::pair<int64_t, int64_t>(0, 1000)));
  EXPECT_THAT(sink_->results(), ElementsAre(absl::OkStatus()));
  EXPECT_TRUE(sink_->Holds(kId));
  EXPECT_EQ(Take(mux_, 1) + Take(mux_, 2), "") << "only data go there";
  EXPECT_EQ(Drain(mux_), Finished(kId));
}

TEST_F(SeveralConnections, BytesThatComeTwiceAreABreach) {
  mux_.Receive(kId, 1000, 1000, sink_);
  // It is announced; that it is not there yet makes no difference.
  ASSERT_TRUE(FeedOn(1, Data(kId, 600, 300, 1000).substr(0, kDataHeaderBytes)).ok());
  EXPECT_EQ(FeedOn(2, Data(kId, 500, 101, 1000)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SeveralConnections, WhatBelongsOnTheFirstIsABreachOnAnother) {
  mux_.Send(kId, 1000, source_);
  EXPECT_EQ(FeedOn(1, Grant(kId, 600, 1000)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SeveralConnections, AnAbortOvertakesDataThatAreThenDropped) {
  const absl::Status why = absl::AbortedError("gone");
  mux_.Receive(kId, 1000, 1000, sink_);
  (void)Drain(mux_);
  const std::string half = Data(kId, 0, 200, 1000);
  ASSERT_TRUE(FeedOn(1, half.substr(0, 100)).ok());
  ASSERT_TRUE(FeedOn(0, End(DataType::kAbort, kId, why, /*sent=*/500)).ok());
  EXPECT_THAT(sink_->results(), ElementsAre(why));
  EXPECT_EQ(Drain(mux_), Finished(kId));
  ASSERT_TRUE(FeedOn(1, half.substr(100)).ok());
  ASSERT_TRUE(FeedOn(2, Data(kId, 200, 300, 1000)).ok()) << "these were sent before";
  EXPECT_FALSE(FeedOn(2, Data(kId, 500, 1, 1000)).ok()) << "and these cannot have been";
  EXPECT_EQ(sink_->received(), 0);
}

TEST_F(SeveralConnections, AnAbortThatCountsOtherBytesThanThereAreIsABreach) {
  for (const int64_t sent : {99, 601}) {
    StreamMux mux("worker 9");
    mux.Connected();
    mux.Receive(kId, 1000, 600, std::make_shared<TestSink>(1000));
    ASSERT_TRUE(Feed(mux, Data(kId, 0, 100, 1000)).ok());
    EXPECT_EQ(Feed(mux, End(DataType::kAbort, kId, absl::AbortedError("gone"), sent)).code(),
              absl::StatusCode::kInvalidArgument);
    mux.Disconnected(absl::UnavailableError("the end"));
  }
}

TEST_F(SeveralConnections, ARefusedStreamIsForgottenWhenTheLastOfItHasComeOnAnyOfThem) {
  const absl::Status why = absl::AbortedError("enough");
  mux_.Receive(kId, 1000, 1000, sink_);
  ASSERT_TRUE(FeedOn(1, Data(kId, 300, 100, 1000)).ok());
  mux_.Cancel(kId, why);
  EXPECT_THAT(sink_->results(), ElementsAre(why));
  ASSERT_TRUE(FeedOn(2, Data(kId, 600, 100, 1000)).ok());
  ASSERT_TRUE(FeedOn(0, End(DataType::kAbort, kId, why, /*sent=*/700)).ok());
  ASSERT_TRUE(FeedOn(1, Data(kId, 400, 200, 1000) + Data(kId, 0, 300, 1000)).ok());
  EXPECT_FALSE(FeedOn(1, Data(kId, 700, 1, 1000)).ok());
}

TEST_F(SeveralConnections, AStreamThatEndsIsCompletedWhereItsChunksAreBeingWrittenAndSaysHowMuchWasSent) {
  const int64_t total = 4 * kChunkBytes;
  const absl::Status why = absl::AbortedError("gone");
  {
    auto source = std::make_shared<TestSource>(kId, total);
    mux_.Send(kId, total, source);
    ASSERT_TRUE(Feed(mux_, Grant(kId, total, total)).ok());
    (void)Take(mux_, 0, 100);
    (void)mux_.WriteBuffers(2);
    mux_.Cancel(kId, why);
    EXPECT_THAT(source->results(), ElementsAre(why));
  }
  EXPECT_EQ(Take(mux_, 1), "");
  EXPECT_TRUE(Take(mux_, 2) == Data(kId, kChunkBytes, kChunkBytes, total));
  EXPECT_TRUE(Take(mux_, 0) == Data(kId, 0, kChunkBytes, total).substr(100));
  EXPECT_EQ(Take(mux_, 0), End(DataType::kAbort, kId, why, 2 * kChunkBytes));
}

TEST_F(SeveralConnections, AllAreLostTogetherAndTheNextBeginWithOne) {
  mux_.Receive(kId, 1000, 1000, sink_);
  ASSERT_TRUE(FeedOn(1, Data(kId, 300, 100, 1000) + "half a header").ok());
  mux_.Disconnected(absl::UnavailableError("lost"));
  EXPECT_THAT(sink_->results(), ElementsAre(absl::UnavailableError("lost")));
  mux_.Connected();
  EXPECT_EQ(Drain(mux_), End(DataType::kRefuse, kId, absl::UnavailableError("lost")));
  const StreamId next{43};
  auto sink = std::make_shared<TestSink>(1000);
  mux_.Receive(next, 1000, 1000, sink);
  EXPECT_EQ(mux_.AddConnection(), 1);
  ASSERT_TRUE(FeedOn(1, Data(next, 0, 1000, 1000)).ok());
  EXPECT_THAT(sink->results(), ElementsAre(absl::OkStatus()));
}

TEST_F(SeveralConnections, AFloodOfGapsIsABreachInTheEnd) {
  const int64_t total = int64_t{1} << 20;
  mux_.Receive(kId, total, total, std::make_shared<TestSink>(total));
  absl::Status status;
  int64_t offset = 1;
  for (; status.ok() && offset < total; offset += 2) status = FeedOn(1, Data(kId, offset, 1, total));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_GT(offset, 100'000) << "no honest peer gets there";
}

// Two muxes joined by connections that deliver when it pleases them, streams of all kinds, and some that are cancelled.
TEST(StreamMuxFuzz, WhateverOvertakesWhatEveryByteIsInItsPlace) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const int connections = 1 + static_cast<int>(random() % 4);
    std::array<StreamMux, 2> muxes{StreamMux("left"), StreamMux("right")};
    for (StreamMux& mux : muxes) mux.Connected();
    int joined = 1;
    struct Ends {
      StreamId id;
      int to;
      bool cancelled;
      std::shared_ptr<TestSink> sink;
      std::shared_ptr<TestSource> source;
    };
    std::vector<Ends> streams;
    std::array<std::vector<std::string>, 2> wires{std::vector<std::string>(connections),
                                                  std::vector<std::string>(connections)};  // by where they lead
    for (uint64_t i = 0; i < 12; ++i) {
      const int64_t total = 1 + static_cast<int64_t>(random() % (random() % 4 == 0 ? 3 * kChunkBytes : 20'000));
      Ends ends{StreamId{i}, static_cast<int>(random() % 2), false,
                std::make_shared<TestSink>(total, random() % 2 == 0 ? 1000 + random() % 5000 : 1 << 30),
                std::make_shared<TestSource>(StreamId{i}, total, random() % 2 == 0 ? 3'333 : 1 << 30)};
      ends.sink->in_order = random() % 4 == 0;
      ends.source->forgets = random() % 4 == 0;
      ends.sink->on_data = [](int64_t, int64_t) {};
      muxes[ends.to].Receive(ends.id, total, 1 + random() % total, ends.sink);
      muxes[1 - ends.to].Send(ends.id, total, ends.source);
      streams.push_back(std::move(ends));
    }
    for (bool busy = true; busy;) {
      if (joined < connections && random() % 4 == 0) {
        for (StreamMux& mux : muxes) EXPECT_EQ(mux.AddConnection(), joined);
        ++joined;
      }
      for (int step = 0; step < 20; ++step) {
        const int side = static_cast<int>(random() % 2);
        const int connection = static_cast<int>(random() % joined);
        std::string& wire = wires[side][connection];
        switch (random() % 3) {
          case 0:
            wire += Take(muxes[1 - side], connection, 1 + random() % (1 << 21));
            break;
          case 1: {
            const std::string bytes = wire.substr(0, 1 + random() % (1 << 20));
            wire.erase(0, bytes.size());
            ASSERT_TRUE(Feed(muxes[side], bytes, 1 << 30, connection).ok()) << "seed " << seed;
            break;
          }
          case 2: {
            Ends& ends = streams[random() % streams.size()];
            if (random() % 40 == 0 && !ends.sink->done() && !ends.source->done()) {
              muxes[random() % 2].Cancel(ends.id, absl::AbortedError("enough"));
              ends.cancelled = true;
            } else {
              muxes[ends.to].Grant(ends.id, 200'000);
            }
            break;
          }
        }
      }
      busy = std::any_of(streams.begin(), streams.end(),
                         [](const Ends& ends) { return !ends.sink->done() || !ends.source->done(); });
    }
    for (const Ends& ends : streams) {
      ASSERT_EQ(ends.sink->results().size(), 1u);
      ASSERT_EQ(ends.source->results().size(), 1u);
      if (ends.cancelled) continue;
      EXPECT_TRUE(ends.sink->results()[0].ok() && ends.source->results()[0].ok()) << "seed " << seed;
      EXPECT_TRUE(ends.sink->Holds(ends.id)) << "seed " << seed << ", stream " << Raw(ends.id);
    }
    for (StreamMux& mux : muxes) EXPECT_FALSE(mux.open_streams() > 0);
  }
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
