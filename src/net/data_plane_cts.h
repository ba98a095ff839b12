// What every DataPlane must do: the contract of data_plane.h as tests. Each implementation instantiates it with a
// factory:
//
//   INSTANTIATE_TEST_SUITE_P(Local, DataPlaneContract, ::testing::Values(&MakeLocalPair));
//
// The planes are two processes, `low` with the lower PeerId (which is dialled) and `high`.
#ifndef CAUSEWAY_NET_DATA_PLANE_CTS_H_
#define CAUSEWAY_NET_DATA_PLANE_CTS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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
#include "net/data_plane.h"
#include "net/test_messages.h"
#include "net/test_streams.h"

namespace causeway {

// Two planes that do not know each other yet.
struct DataPlanePair {
  virtual ~DataPlanePair() = default;

  std::unique_ptr<DataPlane> low;
  std::unique_ptr<DataPlane> high;
  std::string low_address;
  std::string high_address;
  // Lets the planes work until `done`; false: they did not get there (within 20 s, or because nothing is left to do).
  virtual bool RunUntil(const std::function<bool()>& done) = 0;
  // Lets them work for as long as it takes to see that something does not happen.
  virtual void Settle() = 0;
  // False: of one thread only, as a simulation is.
  virtual bool takes_threads() const { return true; }
};

using DataPlaneFactory = std::unique_ptr<DataPlanePair> (*)();

inline constexpr PeerId kLow{2};
inline constexpr PeerId kHigh{5};
inline constexpr uint64_t kPairKey = 0x1234567890abcdef;

MATCHER_P(HasCode, code, "") { return arg.code() == code; }

class DataPlaneContract : public ::testing::TestWithParam<DataPlaneFactory> {
 protected:
  DataPlaneContract() : pair_(GetParam()()) {}

  DataPlane& low() { return *pair_->low; }
  DataPlane& high() { return *pair_->high; }

  void Introduce(uint64_t key = kPairKey) {
    low().SetPeer(kHigh, pair_->high_address, key);
    high().SetPeer(kLow, pair_->low_address, key);
  }

  template <typename End>
  bool RunUntilDone(const End& end) {
    return pair_->RunUntil([&] { return end->done(); });
  }

  // A stream from `from` to `to`, both ends begun, Receive first.
  struct Stream {
    StreamId id;
    std::shared_ptr<TestSink> sink;
    std::shared_ptr<TestSource> source;
  };
  Stream Begin(bool upwards, StreamId id, int64_t total, int64_t window) {
    Stream stream{id, std::make_shared<TestSink>(total), std::make_shared<TestSource>(id, total)};
    (upwards ? high() : low()).Receive(upwards ? kLow : kHigh, id, total, window, stream.sink);
    (upwards ? low() : high()).Send(upwards ? kHigh : kLow, id, total, stream.source);
    return stream;
  }
  void ExpectWhole(const Stream& stream) {
    ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->done() && stream.source->done(); }));
    EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(absl::OkStatus()));
    EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(absl::OkStatus()));
    EXPECT_TRUE(stream.sink->Holds(stream.id)) << "stream " << Raw(stream.id);
  }

  std::unique_ptr<DataPlanePair> pair_;
};

TEST_P(DataPlaneContract, BytesArriveInPlaceWhicheverSideDials) {
  Introduce();
  ExpectWhole(Begin(/*upwards=*/true, StreamId{1}, 100'000, 100'000));
  ExpectWhole(Begin(/*upwards=*/false, StreamId{2}, 100'000, 100'000));
}

TEST_P(DataPlaneContract, AStreamOfManyChunksArrivesWhole) {
  Introduce();
  const int64_t total = 5 * kChunkBytes + 12345;
  ExpectWhole(Begin(/*upwards=*/false, StreamId{1}, total, total));
}

TEST_P(DataPlaneContract, SendMayComeLongBeforeReceive) {
  Introduce();
  const StreamId id{9};
  auto source = std::make_shared<TestSource>(id, 1000);
  high().Send(kLow, id, 1000, source);
  pair_->Settle();
  EXPECT_EQ(source->read(), 0) << "nothing was granted";
  auto sink = std::make_shared<TestSink>(1000);
  low().Receive(kHigh, id, 1000, 1000, sink);
  ExpectWhole({id, sink, source});
}

TEST_P(DataPlaneContract, ReceiveMayComeLongBeforeSend) {
  Introduce();
  const StreamId id{9};
  auto sink = std::make_shared<TestSink>(1000);
  high().Receive(kLow, id, 1000, 1000, sink);
  pair_->Settle();
  auto source = std::make_shared<TestSource>(id, 1000);
  low().Send(kHigh, id, 1000, source);
  ExpectWhole({id, sink, source});
}

TEST_P(DataPlaneContract, PeersMayLearnOfEachOtherAfterTheStreamWasAskedFor) {
  high().SetPeer(kLow, pair_->low_address, kPairKey);
  const StreamId id{4};
  auto source = std::make_shared<TestSource>(id, 1000);
  high().Send(kLow, id, 1000, source);
  pair_->Settle();
  low().SetPeer(kHigh, pair_->high_address, kPairKey);
  auto sink = std::make_shared<TestSink>(1000);
  low().Receive(kHigh, id, 1000, 1000, sink);
  ExpectWhole({id, sink, source});
}

TEST_P(DataPlaneContract, AnEmptyStreamIsDoneAtOnce) {
  Introduce();
  ExpectWhole(Begin(/*upwards=*/true, StreamId{1}, 0, 0));
}

TEST_P(DataPlaneContract, NoMoreIsAskedOfTheSourceThanWasGranted) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/false, StreamId{1}, 10'000, 3'000);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() == 3'000; }));
  pair_->Settle();
  EXPECT_EQ(stream.source->read(), 3'000);
  low().Grant(kHigh, stream.id, 2'000);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() == 5'000; }));
  low().Grant(kHigh, stream.id, 1'000'000);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, AStreamMayBeginWithoutAnyGrant) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/true, StreamId{1}, 500, 0);
  pair_->Settle();
  EXPECT_EQ(stream.source->read(), 0);
  high().Grant(kLow, stream.id, 500);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, AStreamThatIsNotGrantedMoreDoesNotStopAnother) {
  Introduce();
  const Stream slow = Begin(/*upwards=*/false, StreamId{1}, 4 * kChunkBytes, kChunkBytes);
  const Stream fast = Begin(/*upwards=*/false, StreamId{2}, 3 * kChunkBytes, 3 * kChunkBytes);
  ExpectWhole(fast);
  EXPECT_FALSE(slow.sink->done());
  low().Grant(kHigh, slow.id, 3 * kChunkBytes);
  ExpectWhole(slow);
}

TEST_P(DataPlaneContract, AShortStreamDoesNotWaitForALongOne) {
  Introduce();
  const int64_t total = 64 * kChunkBytes;
  Stream longer{StreamId{1}, std::make_shared<TestSink>(total), std::make_shared<TestSource>(StreamId{1}, total)};
  Stream shorter{StreamId{2}, std::make_shared<TestSink>(100), std::make_shared<TestSource>(StreamId{2}, 100)};
  // The short one is granted while the long one is under way.
  bool begun = false;
  int64_t long_received_when_short_was_done = -1;
  longer.sink->on_data = [&](int64_t, int64_t) {
    if (!std::exchange(begun, true)) low().Receive(kHigh, shorter.id, 100, 100, shorter.sink);
  };
  shorter.sink->on_done = [&] { long_received_when_short_was_done = longer.sink->received(); };
  high().Send(kLow, shorter.id, 100, shorter.source);
  high().Send(kLow, longer.id, total, longer.source);
  low().Receive(kHigh, longer.id, total, total, longer.sink);
  ExpectWhole(longer);
  ExpectWhole(shorter);
  EXPECT_LT(long_received_when_short_was_done, total);
}

TEST_P(DataPlaneContract, ASourceWithoutBytesIsAskedAgainWhenItWakes) {
  Introduce();
  const StreamId id{1};
  Stream stream{id, std::make_shared<TestSink>(9'000), std::make_shared<TestSource>(id, 9'000)};
  stream.source->SetAvailable(0);
  low().Send(kHigh, id, 9'000, stream.source);
  high().Receive(kLow, id, 9'000, 9'000, stream.sink);
  pair_->Settle();
  EXPECT_EQ(stream.sink->received(), 0);
  stream.source->SetAvailable(4'000);
  low().Wake(kHigh, id);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() == 4'000; }));
  stream.source->SetAvailable(9'000);
  low().Wake(kHigh, id);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, EndsThatWantTheirBytesInOrderGetThemSo) {
  Introduce();
  const int64_t total = 6 * kChunkBytes + 99;
  std::vector<Stream> streams;
  for (uint64_t i = 0; i < 8; ++i) {
    const StreamId id{1 + i};
    Stream stream{id, std::make_shared<TestSink>(total, /*room=*/400'001), std::make_shared<TestSource>(id, total)};
    stream.sink->in_order = i % 2 == 0;
    stream.source->forgets = i % 4 < 2;
    (i < 4 ? high() : low()).Receive(i < 4 ? kLow : kHigh, id, total, total, stream.sink);
    (i < 4 ? low() : high()).Send(i < 4 ? kHigh : kLow, id, total, stream.source);
    streams.push_back(std::move(stream));
  }
  for (const Stream& stream : streams) ExpectWhole(stream);
}

TEST_P(DataPlaneContract, SinksAndSourcesMayCutTheStreamAsTheyLike) {
  Introduce();
  const StreamId id{1};
  const int64_t total = kChunkBytes + 777;
  Stream stream{id, std::make_shared<TestSink>(total, /*room=*/10'007), std::make_shared<TestSource>(id, total, 3'333)};
  high().Receive(kLow, id, total, total, stream.sink);
  low().Send(kHigh, id, total, stream.source);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, ASinkMayGrantFromWithinOnData) {
  Introduce();
  const StreamId id{1};
  const int64_t total = 300'000;
  Stream stream{id, std::make_shared<TestSink>(total), std::make_shared<TestSource>(id, total)};
  stream.sink->on_data = [&](int64_t, int64_t length) { low().Grant(kHigh, id, length); };
  low().Receive(kHigh, id, total, 1'000, stream.sink);
  high().Send(kLow, id, total, stream.source);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, ASinkMayBeginTheNextStreamFromWithinOnDone) {
  Introduce();
  Stream next{StreamId{2}, std::make_shared<TestSink>(10), std::make_shared<TestSource>(StreamId{2}, 10)};
  auto first = std::make_shared<TestSink>(10);
  first->on_done = [&] { low().Receive(kHigh, next.id, 10, 10, next.sink); };
  high().Send(kLow, next.id, 10, next.source);
  high().Send(kLow, StreamId{1}, 10, std::make_shared<TestSource>(StreamId{1}, 10));
  low().Receive(kHigh, StreamId{1}, 10, 10, first);
  ExpectWhole(next);
}

TEST_P(DataPlaneContract, ManyStreamsInBothDirectionsKeepTheirBytesApart) {
  Introduce();
  std::vector<Stream> streams;
  for (uint64_t i = 0; i < 60; ++i) {
    const int64_t total = 1 + static_cast<int64_t>((i * 7919) % 50'000) * (i % 10 == 0 ? 60 : 1);
    streams.push_back(Begin(i % 2 == 0, StreamId{100 + i}, total, total));
  }
  for (const Stream& stream : streams) ExpectWhole(stream);
}

TEST_P(DataPlaneContract, CallsFromManyThreadsAreSafe) {
  if (!pair_->takes_threads()) GTEST_SKIP() << "all of it is one thread's";
  Introduce();
  Mutex mu;
  std::vector<Stream> streams;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 20; ++i) {
        Stream stream = Begin(t % 2 == 0, StreamId{1000 * (t + 1) + i}, 20'000, 20'000);
        MutexLock lock(&mu);
        streams.push_back(std::move(stream));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Stream& stream : streams) ExpectWhole(stream);
}

TEST_P(DataPlaneContract, TheReceiverMayCancelAndTheSenderLearnsWhy) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/true, StreamId{1}, 4 * kChunkBytes, kChunkBytes);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() > 0; }));
  high().Cancel(kLow, stream.id, absl::DataLossError("the array is gone"));
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->done() && stream.source->done(); }));
  EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(absl::DataLossError("the array is gone")));
  EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(absl::DataLossError("the array is gone")));
  ExpectWhole(Begin(/*upwards=*/true, StreamId{2}, 100'000, 100'000));
}

TEST_P(DataPlaneContract, TheSenderMayCancelAndTheReceiverLearnsWhy) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/false, StreamId{1}, 4 * kChunkBytes, kChunkBytes);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() > 0; }));
  high().Cancel(kLow, stream.id, absl::AbortedError("poisoned"));
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->done() && stream.source->done(); }));
  EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(absl::AbortedError("poisoned")));
  EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(absl::AbortedError("poisoned")));
  ExpectWhole(Begin(/*upwards=*/false, StreamId{2}, 100'000, 100'000));
}

TEST_P(DataPlaneContract, ACancelBeforeTheOtherSideHasBegunIsRemembered) {
  Introduce();
  auto sink = std::make_shared<TestSink>(1000);
  high().Receive(kLow, StreamId{1}, 1000, 1000, sink);
  high().Cancel(kLow, StreamId{1}, absl::AbortedError("not wanted"));
  auto source = std::make_shared<TestSource>(StreamId{2}, 1000);
  high().Send(kLow, StreamId{2}, 1000, source);
  high().Cancel(kLow, StreamId{2}, absl::AbortedError("not there"));
  pair_->Settle();
  auto late_source = std::make_shared<TestSource>(StreamId{1}, 1000);
  low().Send(kHigh, StreamId{1}, 1000, late_source);
  auto late_sink = std::make_shared<TestSink>(1000);
  low().Receive(kHigh, StreamId{2}, 1000, 1000, late_sink);
  ASSERT_TRUE(RunUntilDone(late_source));
  ASSERT_TRUE(RunUntilDone(late_sink));
  EXPECT_THAT(late_source->results(), ::testing::ElementsAre(absl::AbortedError("not wanted")));
  EXPECT_THAT(late_sink->results(), ::testing::ElementsAre(absl::AbortedError("not there")));
  EXPECT_EQ(late_source->read(), 0);
}

TEST_P(DataPlaneContract, CancellingInTheMiddleOfAFloodLeavesTheOthersWhole) {
  Introduce();
  std::vector<Stream> streams;
  for (uint64_t i = 0; i < 30; ++i) {
    streams.push_back(Begin(i % 2 == 0, StreamId{1 + i}, 3 * kChunkBytes, 3 * kChunkBytes));
  }
  ASSERT_TRUE(pair_->RunUntil([&] { return streams[3].sink->received() > 0; }));
  for (uint64_t i = 0; i < 30; i += 3) {
    DataPlane& plane = i % 4 < 2 ? low() : high();
    plane.Cancel(i % 4 < 2 ? kHigh : kLow, streams[i].id, absl::CancelledError("enough"));
  }
  for (uint64_t i = 0; i < 30; ++i) {
    if (i % 3 != 0) {
      ExpectWhole(streams[i]);
      continue;
    }
    ASSERT_TRUE(RunUntilDone(streams[i].sink));
    ASSERT_TRUE(RunUntilDone(streams[i].source));
    EXPECT_EQ(streams[i].sink->results().size(), 1u);
    EXPECT_EQ(streams[i].source->results().size(), 1u);
  }
}

TEST_P(DataPlaneContract, CancellingWhatIsNotKnownDoesNothing) {
  Introduce();
  high().Cancel(kLow, StreamId{77}, absl::CancelledError("?"));
  high().Cancel(PeerId{99}, StreamId{77}, absl::CancelledError("?"));
  high().Grant(kLow, StreamId{78}, 100);
  high().Wake(kLow, StreamId{79});
  ExpectWhole(Begin(/*upwards=*/true, StreamId{77}, 1000, 1000));
}

TEST_P(DataPlaneContract, AnIdThatIsBeingReceivedIsRefusedAndTheFirstGoesOn) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/true, StreamId{1}, 1000, 500);
  auto second = std::make_shared<TestSink>(1000);
  high().Receive(kLow, StreamId{1}, 1000, 1000, second);
  ASSERT_TRUE(RunUntilDone(second));
  EXPECT_THAT(second->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kAlreadyExists)));
  auto source = std::make_shared<TestSource>(StreamId{1}, 1000);
  low().Send(kHigh, StreamId{1}, 1000, source);
  ASSERT_TRUE(RunUntilDone(source));
  EXPECT_THAT(source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kAlreadyExists)));
  high().Grant(kLow, StreamId{1}, 500);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, APeerThatIsNotKnownIsUnavailable) {
  auto sink = std::make_shared<TestSink>(10);
  auto source = std::make_shared<TestSource>(StreamId{2}, 10);
  high().Receive(PeerId{3}, StreamId{1}, 10, 10, sink);
  high().Send(PeerId{3}, StreamId{2}, 10, source);
  ASSERT_TRUE(RunUntilDone(sink));
  ASSERT_TRUE(RunUntilDone(source));
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
}

TEST_P(DataPlaneContract, ANegativeLengthIsAnInvalidArgument) {
  Introduce();
  auto sink = std::make_shared<TestSink>(0);
  high().Receive(kLow, StreamId{1}, -1, 10, sink);
  ASSERT_TRUE(RunUntilDone(sink));
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kInvalidArgument)));
}

TEST_P(DataPlaneContract, EndsThatDisagreeOnTheLengthBothFail) {
  Introduce();
  auto sink = std::make_shared<TestSink>(1000);
  auto source = std::make_shared<TestSource>(StreamId{1}, 2000);
  high().Receive(kLow, StreamId{1}, 1000, 1000, sink);
  low().Send(kHigh, StreamId{1}, 2000, source);
  ASSERT_TRUE(RunUntilDone(sink));
  ASSERT_TRUE(RunUntilDone(source));
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kInvalidArgument)));
  EXPECT_THAT(source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kInvalidArgument)));
}

TEST_P(DataPlaneContract, DroppingAPeerFailsItsStreamsOnBothSides) {
  Introduce();
  const Stream up = Begin(/*upwards=*/true, StreamId{1}, 1000, 500);
  const Stream down = Begin(/*upwards=*/false, StreamId{2}, 1000, 500);
  ASSERT_TRUE(pair_->RunUntil([&] { return up.sink->received() == 500 && down.sink->received() == 500; }));
  low().DropPeer(kHigh);
  for (const Stream& stream : {up, down}) {
    ASSERT_TRUE(RunUntilDone(stream.sink));
    ASSERT_TRUE(RunUntilDone(stream.source));
    EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
    EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  }
}

TEST_P(DataPlaneContract, APeerThatVanishesFailsTheStreamsToIt) {
  Introduce();
  const Stream up = Begin(/*upwards=*/true, StreamId{1}, 1000, 500);
  const Stream down = Begin(/*upwards=*/false, StreamId{2}, 1000, 500);
  ASSERT_TRUE(pair_->RunUntil([&] { return up.sink->received() == 500 && down.sink->received() == 500; }));
  pair_->low = nullptr;
  ASSERT_TRUE(RunUntilDone(up.sink));
  ASSERT_TRUE(RunUntilDone(down.source));
  EXPECT_THAT(up.sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(down.source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(up.source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kCancelled)));
  EXPECT_THAT(down.sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kCancelled)));
}

TEST_P(DataPlaneContract, APeerToWhomNoConnectionCanBeMadeIsUnavailable) {
  Introduce();
  pair_->low = nullptr;
  auto sink = std::make_shared<TestSink>(10);
  high().Receive(kLow, StreamId{1}, 10, 10, sink);
  ASSERT_TRUE(RunUntilDone(sink));
  EXPECT_THAT(sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
}

TEST_P(DataPlaneContract, AfterADropBothSidesMayMeetAgain) {
  Introduce();
  ExpectWhole(Begin(/*upwards=*/true, StreamId{1}, 1000, 1000));
  high().DropPeer(kLow);
  low().DropPeer(kHigh);
  Introduce();
  ExpectWhole(Begin(/*upwards=*/true, StreamId{2}, 1000, 1000));
  ExpectWhole(Begin(/*upwards=*/false, StreamId{3}, 1000, 1000));
}

TEST_P(DataPlaneContract, AChangedKeyDropsTheConnectionAndTheNewOneIsMadeWithIt) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/true, StreamId{1}, 1000, 500);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() == 500; }));
  Introduce(kPairKey + 1);
  ASSERT_TRUE(RunUntilDone(stream.sink));
  ASSERT_TRUE(RunUntilDone(stream.source));
  EXPECT_THAT(stream.sink->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(stream.source->results(), ::testing::ElementsAre(HasCode(absl::StatusCode::kUnavailable)));
  ExpectWhole(Begin(/*upwards=*/true, StreamId{2}, 1000, 1000));
}

TEST_P(DataPlaneContract, SettingAPeerAgainUnchangedDisturbsNothing) {
  Introduce();
  const Stream stream = Begin(/*upwards=*/true, StreamId{1}, 1000, 500);
  ASSERT_TRUE(pair_->RunUntil([&] { return stream.sink->received() == 500; }));
  Introduce();
  high().Grant(kLow, StreamId{1}, 500);
  ExpectWhole(stream);
}

TEST_P(DataPlaneContract, AWrongKeyMovesNothing) {
  low().SetPeer(kHigh, pair_->high_address, kPairKey);
  high().SetPeer(kLow, pair_->low_address, kPairKey ^ (uint64_t{1} << 63));
  const Stream stream = Begin(/*upwards=*/false, StreamId{1}, 1000, 1000);
  pair_->Settle();
  EXPECT_EQ(stream.source->read(), 0);
  EXPECT_EQ(stream.sink->received(), 0);
}

TEST_P(DataPlaneContract, EveryStreamEndsOnceWhenItsPlaneIsDestroyed) {
  Introduce();
  const Stream up = Begin(/*upwards=*/true, StreamId{1}, 3 * kChunkBytes, kChunkBytes / 2);
  const Stream down = Begin(/*upwards=*/false, StreamId{2}, 3 * kChunkBytes, 3 * kChunkBytes);
  pair_->high = nullptr;
  pair_->low = nullptr;
  pair_->Settle();
  EXPECT_EQ(up.sink->results().size(), 1u);
  EXPECT_EQ(up.source->results().size(), 1u);
  EXPECT_EQ(down.sink->results().size(), 1u);
  EXPECT_EQ(down.source->results().size(), 1u);
}

// ---------------------------------------------------------------- messages

TEST_P(DataPlaneContract, MessagesOfEverySizeArriveInOrderInBothDirections) {
  TestMessages at_low;
  TestMessages at_high;
  low().SetMessageHandler(&at_low);
  high().SetMessageHandler(&at_high);
  Introduce();  // and what is sent before they are connected waits
  const std::vector<size_t> sizes = {16, 0, 1, 7, 8, 100, 65'535, 65'536, 65'537, 3, 200'000, 256 << 10, 0, 16, 5000};
  const int rounds = 3;
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const int n = static_cast<int>(round * sizes.size() + i);
      SendText(low(), kHigh, TestMessage(n, sizes[i]), 1 + n % 5);
      SendText(high(), kLow, TestMessage(n + 1000, sizes[i]), n % 7 == 0 ? 300 : 2);
    }
    const size_t sent = (round + 1) * sizes.size();
    ASSERT_TRUE(pair_->RunUntil([&] { return at_low.count() == sent && at_high.count() == sent; }))
        << at_low.count() << " and " << at_high.count();
  }
  for (int n = 0; n < static_cast<int>(rounds * sizes.size()); ++n) {
    const size_t size = sizes[n % sizes.size()];
    EXPECT_EQ(at_high.messages()[n].first, kLow);
    EXPECT_TRUE(at_high.messages()[n].second == TestMessage(n, size)) << n;
    EXPECT_EQ(at_low.messages()[n].first, kHigh);
    EXPECT_TRUE(at_low.messages()[n].second == TestMessage(n + 1000, size)) << n;
  }
  EXPECT_TRUE(at_low.lost().empty());
  EXPECT_TRUE(at_high.lost().empty());
  low().SetMessageHandler(nullptr);
  high().SetMessageHandler(nullptr);
}

TEST_P(DataPlaneContract, AMessageToAPeerThatIsNotKnownIsLost) {
  TestMessages at_low;
  low().SetMessageHandler(&at_low);
  SendText(low(), kHigh, "hello");
  ASSERT_TRUE(pair_->RunUntil([&] { return !at_low.lost().empty(); }));
  EXPECT_EQ(at_low.lost()[0].first, kHigh);
  EXPECT_EQ(at_low.lost()[0].second.code(), absl::StatusCode::kUnavailable);
  low().SetMessageHandler(nullptr);
}

TEST_P(DataPlaneContract, AMessageThatIsTooLargeIsLost) {
  TestMessages at_low;
  low().SetMessageHandler(&at_low);
  Introduce();
  SendText(low(), kHigh, std::string(kMaxMessageBytes + 1, 'x'));
  ASSERT_TRUE(pair_->RunUntil([&] { return !at_low.lost().empty(); }));
  EXPECT_EQ(at_low.lost()[0].second.code(), absl::StatusCode::kInvalidArgument);
  low().SetMessageHandler(nullptr);
}

TEST_P(DataPlaneContract, BothSidesLearnThatMessagesAreLostWithThePeerAndThenStartAnew) {
  TestMessages at_low;
  TestMessages at_high;
  low().SetMessageHandler(&at_low);
  high().SetMessageHandler(&at_high);
  Introduce();
  SendText(low(), kHigh, "first");
  SendText(high(), kLow, "first");
  ASSERT_TRUE(pair_->RunUntil([&] { return at_low.count() == 1 && at_high.count() == 1; }));
  low().DropPeer(kHigh);
  ASSERT_TRUE(pair_->RunUntil([&] { return !at_low.lost().empty() && !at_high.lost().empty(); }));
  EXPECT_EQ(at_low.lost().size(), 1u);
  EXPECT_EQ(at_low.lost()[0].second.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(at_high.lost().size(), 1u);
  EXPECT_EQ(at_high.lost()[0].second.code(), absl::StatusCode::kUnavailable);

  Introduce(kPairKey + 1);
  ASSERT_TRUE(pair_->RunUntil([&] { return at_high.lost().size() == 2; })) << "the key has changed";
  SendText(low(), kHigh, "second");
  SendText(high(), kLow, "second");
  ASSERT_TRUE(pair_->RunUntil([&] { return at_low.count() == 2 && at_high.count() == 2; }));
  EXPECT_EQ(at_high.messages()[1].second, "second");
  low().SetMessageHandler(nullptr);
  high().SetMessageHandler(nullptr);
}

TEST_P(DataPlaneContract, WithoutAHandlerMessagesAreDropped) {
  TestMessages at_low;
  Introduce();
  SendText(high(), kLow, "nobody hears it");
  pair_->Settle();
  low().SetMessageHandler(&at_low);
  SendText(high(), kLow, "heard");
  ASSERT_TRUE(pair_->RunUntil([&] { return at_low.count() == 1; }));
  low().SetMessageHandler(nullptr);
  SendText(high(), kLow, "not any more");
  pair_->Settle();
  EXPECT_EQ(at_low.count(), 1u);
  EXPECT_EQ(at_low.messages()[0].second, "heard");
}

TEST_P(DataPlaneContract, AHandlerMayAnswerAndDropPeers) {
  struct Answering final : MessageHandler {
    explicit Answering(DataPlane& plane) : plane(plane) {}
    void OnMessage(PeerId peer, absl::Span<const char> message) override {
      if (message.size() == 1) return plane.DropPeer(peer);
      plane.SendMessage(peer, {message.first(message.size() / 2), message.subspan(message.size() / 2)});
    }
    void OnMessagesLost(PeerId /*peer*/, const absl::Status& /*why*/) override {}
    DataPlane& plane;
  } answering(low());
  TestMessages at_high;
  low().SetMessageHandler(&answering);
  high().SetMessageHandler(&at_high);
  Introduce();
  SendText(high(), kLow, "over and out");
  ASSERT_TRUE(pair_->RunUntil([&] { return at_high.count() == 1; }));
  EXPECT_EQ(at_high.messages()[0].second, "over and out");
  SendText(high(), kLow, "!");
  ASSERT_TRUE(pair_->RunUntil([&] { return at_high.lost().size() == 1; }));
  low().SetMessageHandler(nullptr);
  high().SetMessageHandler(nullptr);
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_DATA_PLANE_CTS_H_
