// The streams of a pair on several connections, in chosen orders of arrival.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "net/stream_mux.h"
#include "net/test_mux.h"
#include "net/test_streams.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;

constexpr StreamId kId{42};

// Takes one batch of what `mux` has to write on `connection`, the first `most` bytes of it.
std::string Take(StreamMux& mux, int connection, size_t most = 1 << 30) {
  std::string bytes;
  for (const iovec& part : mux.WriteBuffers(connection)) {
    bytes.append(static_cast<const char*>(part.iov_base), std::min(part.iov_len, most - bytes.size()));
  }
  mux.Written(bytes.size(), connection);
  return bytes;
}

class SeveralConnections : public ::testing::Test {
 protected:
  SeveralConnections() {
    mux_.Connected();
    EXPECT_EQ(mux_.AddConnection(), 1);
    EXPECT_EQ(mux_.AddConnection(), 2);
  }
  ~SeveralConnections() override { mux_.Disconnected(absl::UnavailableError("the end")); }

  absl::Status FeedOn(int connection, const std::string& bytes, size_t piece = 1 << 30) {
    return Feed(mux_, bytes, piece, connection);
  }

  StreamMux mux_{"worker 9"};
  std::shared_ptr<TestSink> sink_ = std::make_shared<TestSink>(1000);
  std::shared_ptr<TestSource> source_ = std::make_shared<TestSource>(kId, 1000);
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
TEST(SeveralConnectionsFuzz, WhateverOvertakesWhatEveryByteIsInItsPlace) {
  for (unsigned seed = 0; seed < 60; ++seed) {
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

}  // namespace
}  // namespace causeway
