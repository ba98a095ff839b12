// The core's puts, fetches and copies, and what becomes of all of it in any order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "base/limits.h"
#include "base/origin.h"
#include "worker/core_test_harness.h"

namespace causeway::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kProgram = ProgramNumber(1);
constexpr uint64_t kX = Array(1), kY = Array(2), kZ = Array(3);
constexpr int64_t kLarge = kInlineBytes;  // elements: above what rides in frames
constexpr int kInvalid = static_cast<int>(absl::StatusCode::kInvalidArgument);

// ---------------------------------------------------------------- puts

TEST(Put, AllShardsAreMadeFromOneMemoryAndReportedWhenTheLastIsReady) {
  Harness h(2);
  h.Put(kX, {{0, 0}, {1, 1}});
  ASSERT_THAT(h.made, SizeIs(2));
  EXPECT_EQ(h.made[0].host, h.made[1].host);
  h.MakeReady(h.made[0], 16);
  h.Do(BufferMade{h.made[1].buffer, 16});
  EXPECT_THAT(h.sent, IsEmpty()) << "made is not ready";
  EXPECT_THAT(h.hosts, SizeIs(1));
  h.Do(BufferReady{h.made[1].buffer, absl::OkStatus()});
  const proto::ArrayDone done = h.Only().array_done();
  EXPECT_EQ(done.array(), kX);
  EXPECT_EQ(done.status().code(), 0);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Put, AShardThatTheRuntimeRefusesIsTheArraysError) {
  Harness h(2);
  h.Put(kX, {{0, 0}, {1, 1}});
  h.Do(BufferMade{h.made[0].buffer, absl::ResourceExhaustedError("device 0 is full")});
  h.MakeReady(h.made[1], 16);
  const proto::ArrayDone done = h.Only().array_done();
  EXPECT_EQ(done.status().message(), "device 0 is full");
  EXPECT_THAT(done.failed_devices(), ElementsAre(0));
  EXPECT_THAT(h.Ping().device_bytes(), ElementsAre(0, 16));
}

TEST(Put, WhatIsWrongWithItIsItsError) {
  Harness h(1);
  const auto put = [&](proto::Put message) {
    proto::ToWorker frame;
    *frame.mutable_put() = std::move(message);
    h.Frame(frame);
    return h.Only().array_done().status();
  };
  proto::Put message = Harness::PutMessage(kX, {{0, 0}}, 4);
  message.set_data("too short");
  EXPECT_THAT(put(message).message(), HasSubstr("needs 16 bytes"));

  message = Harness::PutMessage(kY, {{0, 5}}, 4);
  message.set_data(std::string(16, 'x'));
  EXPECT_EQ(put(message).code(), kInvalid) << "no such device";

  message = Harness::PutMessage(kZ, {{0, 0}}, -1);
  EXPECT_EQ(put(message).code(), kInvalid);

  message = Harness::PutMessage(Array(4), {{0, 0}}, int64_t{1} << 62);
  EXPECT_EQ(put(message).code(), kInvalid) << "its bytes overflow";

  message = Harness::PutMessage(Array(5), {{0, 0}}, 4);
  message.set_data(std::string(16, 'x'));
  message.add_byte_strides(1 << 20);
  EXPECT_EQ(put(message).code(), kInvalid) << "the strides reach beyond the data";
  EXPECT_THAT(h.made, IsEmpty());
}

TEST(ReceiveHost, SmallDataComeInAFrame) {
  Harness h(1);
  h.Receive(kX, /*stream=*/5, /*elements=*/4);
  EXPECT_THAT(h.receives, IsEmpty());
  proto::ToWorker data;
  data.mutable_host_data()->set_stream(5);
  data.mutable_host_data()->set_data(std::string(16, 'x'));
  h.Frame(data);
  EXPECT_THAT(h.made, SizeIs(1));
  h.Frame(data);
  EXPECT_THAT(h.made, SizeIs(1)) << "nobody waits for them twice";
}

TEST(ReceiveHost, AnErrorInsteadOfDataIsTheArrays) {
  Harness h(1);
  h.Receive(kX, 5, 4);
  proto::ToWorker data;
  data.mutable_host_data()->set_stream(5);
  *data.mutable_host_data()->mutable_status() = ToProto(absl::AbortedError("client left"));
  h.Frame(data);
  EXPECT_EQ(h.Only().array_done().status().message(), "client left");
}

TEST(ReceiveHost, LargeDataComeAsAStream) {
  Harness h(1);
  h.Receive(kX, 5, kLarge);
  ASSERT_THAT(h.receives, SizeIs(1));
  EXPECT_EQ(h.receives[0].peer, kControllerPeer);
  EXPECT_EQ(h.receives[0].bytes, kLarge * 4);
  EXPECT_EQ(h.Ping().host_bytes(), kLarge * 4);
  EXPECT_THAT(h.made, IsEmpty());
  h.Do(StreamEnded{h.receives[0].stream, absl::OkStatus()});
  ASSERT_THAT(h.made, SizeIs(1));
  h.MakeReady(h.made[0], kLarge * 4);
  EXPECT_EQ(h.Only().array_done().status().code(), 0);
  EXPECT_EQ(h.Ping().host_bytes(), 0);
}

TEST(ReceiveHost, ABrokenStreamIsTheArraysError) {
  Harness h(1);
  h.Receive(kX, 5, kLarge);
  h.Do(StreamEnded{h.receives[0].stream, absl::UnavailableError("cable cut")});
  EXPECT_EQ(h.Only().array_done().status().message(), "cable cut");
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(ReceiveHost, WaitsForRoomInItsTurn) {
  // Of three, one session gets two.
  Harness h(1, /*staging_bytes=*/kLarge * 4 * 3);
  for (int i = 1; i <= 4; ++i) h.Receive(Array(i), i, kLarge);
  ASSERT_THAT(h.receives, SizeIs(2));
  h.Do(StreamEnded{h.receives[1].stream, absl::OkStatus()});
  EXPECT_THAT(h.receives, SizeIs(2)) << "the memory is still being copied to the device";
  h.MakeReady(h.made[0], kLarge * 4);
  ASSERT_THAT(h.receives, SizeIs(3));
  EXPECT_EQ(h.receives[2].id, StreamId{3}) << "first come, first served";
}

TEST(ReceiveHost, MoreThanTheWholeLimitIsTakenAlone) {
  Harness h(1, /*staging_bytes=*/1 << 20);
  h.Receive(kX, 5, 1 << 20);
  EXPECT_THAT(h.receives, SizeIs(1));
  h.Receive(kY, 6, kLarge);
  EXPECT_THAT(h.receives, SizeIs(1));
  h.Do(StreamEnded{h.receives[0].stream, absl::CancelledError()});
  EXPECT_THAT(h.receives, SizeIs(2));
}

TEST(ReceiveHost, ASessionWhoseDataDoNotComeLeavesRoomForOthers) {
  Harness h(1, /*staging_bytes=*/kLarge * 4 * 5);
  for (int i = 1; i <= 10; ++i) h.Receive(Array(i), i, kLarge);
  EXPECT_THAT(h.receives, SizeIs(3));
  h.Receive(Array(1, kOtherSession), 21, kLarge);
  ASSERT_THAT(h.receives, SizeIs(4)) << "and nothing of the first has ended";
  EXPECT_EQ(h.receives[3].id, StreamId{21});
  h.Receive(Array(1, SessionId{3}), 31, 2 * kLarge);
  EXPECT_THAT(h.receives, SizeIs(5)) << "one piece, however little is left";
  h.Receive(Array(2, SessionId{3}), 32, kLarge);
  EXPECT_THAT(h.receives, SizeIs(5));
}

TEST(ReceiveHost, SessionsThatWaitAreServedInTurn) {
  Harness h(1, /*staging_bytes=*/1);
  for (int i = 1; i <= 3; ++i) h.Receive(Array(i), i, kLarge);
  for (int i = 1; i <= 3; ++i) h.Receive(Array(i, kOtherSession), 20 + i, kLarge);
  std::vector<uint64_t> order;
  for (size_t i = 0; i < h.receives.size(); ++i) {
    order.push_back(Raw(h.receives[i].id));
    h.Do(StreamEnded{h.receives[i].stream, absl::CancelledError()});
  }
  EXPECT_THAT(order, ElementsAre(1, 21, 2, 22, 3, 23));
}

TEST(Fail, EndsAPutAndWhatDependsOnIt) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Receive(kX, 5, kLarge);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Fail(kX, absl::DataLossError("the client is gone"));
  ASSERT_THAT(h.sent, SizeIs(2));
  for (const proto::ToController& message : h.sent) {
    const proto::Status& status =
        message.has_array_done() ? message.array_done().status() : message.launches_done().done(0).status();
    EXPECT_EQ(status.message(), "the client is gone");
  }
  ASSERT_THAT(h.cancels, SizeIs(1));
  EXPECT_EQ(h.cancels[0].first, h.receives[0].stream);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Fail, TellsTheControllersDataPlaneWhatIsNotWantedAnyMore) {
  Harness h(1, /*staging_bytes=*/1);
  h.Receive(kX, 5, kLarge);
  h.Receive(kY, 6, kLarge);
  h.Fail(kY, absl::CancelledError());
  ASSERT_THAT(h.receive_refusals, SizeIs(1));
  EXPECT_EQ(h.receive_refusals[0].id, StreamId{6});
}

TEST(Fail, LeavesAloneWhatIsThere) {
  Harness h(1);
  h.PutReady(kX);
  h.Fail(kX, absl::DataLossError(""));
  h.Fetch(9, kX, 0, 1);
  EXPECT_THAT(h.views, SizeIs(1));
}

// ---------------------------------------------------------------- fetches

TEST(Fetch, SmallDataRideInTheAnswer) {
  Harness h(1);
  h.PutReady(kX);
  h.Fetch(9, kX, 0, 1);
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  const proto::FetchDone done = h.Only().fetch_done();
  EXPECT_EQ(done.fetch(), 9u);
  EXPECT_EQ(done.total_bytes(), 16);
  EXPECT_FALSE(done.data().empty());
  EXPECT_THAT(h.sends, IsEmpty());
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Fetch, LargeDataFollowAsAStream) {
  Harness h(1);
  h.PutReady(kX, kLarge);
  h.Fetch(9, kX, 0, /*stream=*/3);
  h.Do(Viewed{h.views[0].first, DType::kF32, {kLarge}, true});
  EXPECT_EQ(h.Only().fetch_done().total_bytes(), kLarge * 4);
  ASSERT_THAT(h.sends, SizeIs(1));
  EXPECT_EQ(h.sends[0].peer, kControllerPeer);
  EXPECT_EQ(h.sends[0].id, StreamId{3});
  EXPECT_THAT(h.hosts, SizeIs(1));
  h.Delete({kX});
  h.Do(StreamEnded{h.sends[0].stream, absl::OkStatus()});
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Fetch, WaitsForTheDataAndSurvivesTheirName) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Fetch(9, kX, 0, 1);
  h.Delete({kX});
  h.Return(h.executes[0], 16);
  EXPECT_THAT(h.views, IsEmpty()) << "not computed yet";
  h.Finish(h.executes[0]);
  EXPECT_THAT(h.views, SizeIs(1));
}

TEST(Fetch, OfAnErrorGivesTheError) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Fetch(9, kX, 0, 1);
  h.Return(h.executes[0], 16);
  h.Finish(h.executes[0], absl::InternalError("NaN"));
  ASSERT_THAT(h.sent, SizeIs(2));
  EXPECT_EQ(h.sent[0].fetch_done().status().message(), "NaN");
}

TEST(Fetch, ReadsBackWhatTheHostCannotSeeOrWantsOtherwise) {
  Harness h(1);
  h.PutReady(kX);
  h.Fetch(9, kX, 0, 1, /*strides=*/{8});
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  ASSERT_THAT(h.read_backs, SizeIs(1));
  EXPECT_THAT(h.read_backs[0].byte_strides, ElementsAre(8));
  EXPECT_EQ(h.allocated.at(h.read_backs[0].host), 3 * 8 + 4);
  h.Do(HostFilled{h.read_backs[0].host, absl::OkStatus()});
  EXPECT_EQ(h.Only().fetch_done().total_bytes(), 28);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Fetch, StridesThatMakeNoSenseAreItsError) {
  Harness h(1);
  h.PutReady(kX);
  h.Fetch(9, kX, 0, 1, /*strides=*/{-4});
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  EXPECT_EQ(h.Only().fetch_done().status().code(), kInvalid);
}

TEST(Fetch, SmallOnesDoNotWaitForRoom) {
  Harness h(1, /*staging_bytes=*/1);
  h.PutReady(kX, kLarge);
  h.PutReady(kY, kLarge);
  h.PutReady(kZ);
  h.Fetch(1, kX, 0, 1);
  h.Fetch(2, kY, 0, 2);
  h.Fetch(3, kZ, 0, 3);
  h.Do(Viewed{h.views[0].first, DType::kF32, {kLarge}, false});
  h.Do(Viewed{h.views[1].first, DType::kF32, {kLarge}, false});
  EXPECT_THAT(h.read_backs, SizeIs(1)) << "the second large one waits";
  h.Do(Viewed{h.views[2].first, DType::kF32, {4}, false});
  EXPECT_THAT(h.read_backs, SizeIs(2));
}

TEST(Fetch, OfAClosedSessionIsCancelled) {
  Harness h(1);
  h.PutReady(kX, kLarge);
  h.PutReady(kY);
  h.Fetch(1, kX, 0, 1);
  h.Fetch(2, kY, 0, 2);
  h.Do(Viewed{h.views[0].first, DType::kF32, {kLarge}, true});
  h.sent.clear();
  h.DropSession(kSession);
  ASSERT_THAT(h.cancels, SizeIs(1));
  EXPECT_EQ(h.cancels[0].first, h.sends[0].stream);
  h.Do(Viewed{h.views[1].first, DType::kF32, {4}, true});
  EXPECT_THAT(h.sent, IsEmpty());
  EXPECT_THAT(h.hosts, IsEmpty());
  EXPECT_EQ(h.Ping().device_bytes(0), 0);
}

// ---------------------------------------------------------------- copies

// Copies of float vectors; this is worker 0.
class CopyMessage {
 public:
  explicit CopyMessage(uint64_t array) {
    message_.mutable_copy()->set_array(array);
    message_.mutable_copy()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
  }
  CopyMessage& Make(int shard, int device, int64_t elements, int parts) {
    proto::Copy::Made& made = *message_.mutable_copy()->add_made();
    made.mutable_shard()->set_index(shard);
    made.mutable_shard()->set_device(device);
    made.add_dims(elements);
    made.set_part_count(parts);
    return *this;
  }
  CopyMessage& Part(uint64_t source, int from_worker, int target_shard, int to_worker, int64_t elements,
                    uint64_t stream = 0) {
    proto::Copy::Part& part = *message_.mutable_copy()->add_parts();
    part.set_source_array(source);
    part.set_source_worker(from_worker);
    part.set_target_shard(target_shard);
    part.set_target_worker(to_worker);
    part.set_bytes(elements * 4);
    part.set_stream(stream);
    return *this;
  }
  CopyMessage& Origin(uint64_t origin) {
    message_.mutable_copy()->set_origin(origin);
    return *this;
  }
  CopyMessage& From(int64_t start, int64_t size) {
    proto::Box& box = *message_.mutable_copy()->mutable_parts()->rbegin()->mutable_source_box();
    box.add_start(start);
    box.add_size(size);
    return *this;
  }
  CopyMessage& To(int64_t start, int64_t size) {
    proto::Box& box = *message_.mutable_copy()->mutable_parts()->rbegin()->mutable_target_box();
    box.add_start(start);
    box.add_size(size);
    return *this;
  }
  const proto::ToWorker& message() const { return message_; }

 private:
  proto::ToWorker message_;
};

TEST(Copy, AWholeShardIsCopiedByTheRuntimeAsSoonAsItIsPlaced) {
  Harness h(2);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Frame(CopyMessage(kY).Make(0, 1, 4, 1).Part(kX, 0, 0, 0, 4).message());
  EXPECT_THAT(h.made, IsEmpty());
  h.Delete({kX});
  h.Return(h.executes[0], 16);
  ASSERT_THAT(h.made, SizeIs(1));
  EXPECT_EQ(h.made[0].source, h.executes[0].outputs[0]);
  EXPECT_EQ(h.made[0].device, 1);
  h.MakeReady(h.made[0], 16);
  EXPECT_EQ(h.Only().array_done().status().code(), 0);
  h.Finish(h.executes[0]);
  EXPECT_THAT(h.Ping().device_bytes(), ElementsAre(0, 16));
}

TEST(Copy, PiecesOfThisWorkerGoThroughHostMemory) {
  Harness h(2);
  h.PutReady(kX);
  // [4] to two shards of [2].
  h.Frame(CopyMessage(kY)
              .Make(0, 0, 2, 1)
              .Make(1, 1, 2, 1)
              .Part(kX, 0, 0, 0, 2)
              .From(0, 2)
              .Part(kX, 0, 1, 0, 2)
              .From(2, 2)
              .message());
  ASSERT_THAT(h.views, SizeIs(1)) << "one read serves both";
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  ASSERT_THAT(h.pieces, SizeIs(2));
  h.Do(PieceCopied{h.pieces[1].piece, absl::OkStatus()});
  h.Do(PieceCopied{h.pieces[0].piece, absl::OkStatus()});
  ASSERT_THAT(h.made, SizeIs(2));
  EXPECT_EQ(h.made[0].device, 1);
  h.MakeReady(h.made[0], 8);
  h.MakeReady(h.made[1], 8);
  EXPECT_EQ(h.Only().array_done().array(), kY);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Copy, PiecesForOthersAreSentAndPiecesOfOthersReceived) {
  Harness h(1);
  h.PutReady(kX);
  h.Frame(CopyMessage(kY)
              .Make(0, 0, 4, 2)
              .Part(kX, 0, 0, 0, 2)
              .From(0, 2)
              .To(0, 2)
              .Part(kX, 1, 0, 0, 2, /*stream=*/5)
              .To(2, 2)
              .Part(kX, 0, 1, 1, 2, /*stream=*/6)
              .From(2, 2)
              .message());
  ASSERT_THAT(h.receives, SizeIs(1));
  EXPECT_EQ(h.receives[0].peer, PeerOf(WorkerId{1}));
  EXPECT_EQ(h.receives[0].bytes, 8);
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  ASSERT_THAT(h.sends, SizeIs(1));
  EXPECT_EQ(h.sends[0].id, StreamId{6});
  h.Do(StreamEnded{h.sends[0].stream, absl::OkStatus()});
  h.Do(PieceCopied{h.pieces[0].piece, absl::OkStatus()});
  EXPECT_THAT(h.made, IsEmpty()) << "the other worker's piece is missing";
  h.Do(StreamEnded{h.receives[0].stream, absl::OkStatus()});
  ASSERT_THAT(h.made, SizeIs(1));
  h.MakeReady(h.made[0], 16);
  EXPECT_EQ(h.Only().array_done().status().code(), 0);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Copy, ASourcesErrorGoesToTheWorkerThatWaitsForIt) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX}, {}, /*origin=*/70);
  h.Frame(CopyMessage(kY).Part(kX, 0, 0, 1, 4, /*stream=*/6).message());
  h.Frame(CopyMessage(kZ).Part(Array(77), 0, 0, 1, 4, /*stream=*/7).message());
  ASSERT_THAT(h.send_refusals, SizeIs(1)) << "no such source";
  EXPECT_TRUE(absl::IsNotFound(h.send_refusals[0].status));
  h.Do(ExecuteReturned{h.executes[0].launch, absl::InternalError("broken"), std::nullopt});
  ASSERT_THAT(h.send_refusals, SizeIs(2));
  EXPECT_EQ(h.send_refusals[1].peer, PeerOf(WorkerId{1}));
  EXPECT_EQ(h.send_refusals[1].id, StreamId{6});
  EXPECT_EQ(h.send_refusals[1].status.message(), "broken");
  EXPECT_EQ(OriginOf(h.send_refusals[1].status), 70u);
}

TEST(Copy, NothingIsOfferedToAWorkerThatDiedAndCameBackMeanwhile) {
  Harness h(1);
  const auto peer_is_in_life = [&h](uint64_t incarnation) {
    proto::ToWorker message;
    message.mutable_peers();
    if (incarnation > 0) {
      proto::Peers::Peer& peer = *message.mutable_peers()->add_peers();
      peer.set_worker(1);
      peer.set_incarnation(incarnation);
    }
    h.Frame(message);
  };
  peer_is_in_life(1);
  h.PutReady(kX);
  h.Frame(CopyMessage(kY).Part(kX, 0, 0, 1, 4, /*stream=*/6).message());
  ASSERT_THAT(h.views, SizeIs(1));
  peer_is_in_life(0);
  peer_is_in_life(2);
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, true});
  EXPECT_THAT(h.sends, IsEmpty()) << "it does not know this stream, and would never take it";
  EXPECT_THAT(h.hosts, IsEmpty());
  h.Frame(CopyMessage(kZ).Part(kX, 0, 0, 1, 4, /*stream=*/7).message());
  h.Do(Viewed{h.views[1].first, DType::kF32, {4}, true});
  EXPECT_THAT(h.sends, SizeIs(1));
}

TEST(Copy, AnErrorOfOnePieceEndsTheOthersAndIsTheShards) {
  Harness h(1);
  h.Frame(CopyMessage(kY)
              .Make(0, 0, 4, 2)
              .Part(kX, 1, 0, 0, 2, /*stream=*/5)
              .To(0, 2)
              .Part(kX, 2, 0, 0, 2, /*stream=*/6)
              .To(2, 2)
              .Origin(70)
              .message());
  ASSERT_THAT(h.receives, SizeIs(2));
  h.Do(StreamEnded{h.receives[0].stream, absl::InternalError("broken")});
  const proto::Status error = h.Only().array_done().status();
  EXPECT_EQ(error.message(), "broken");
  EXPECT_EQ(error.origin(), 70u);
  ASSERT_THAT(h.cancels, SizeIs(1));
  EXPECT_EQ(h.cancels[0].first, h.receives[1].stream);
  EXPECT_THAT(h.hosts, IsEmpty());
}

TEST(Copy, ALostWorkerIsLostData) {
  Harness h(1);
  h.Frame(CopyMessage(kY).Make(0, 0, 4, 1).Part(kX, 1, 0, 0, 4, /*stream=*/5).message());
  h.Do(StreamEnded{h.receives[0].stream, absl::UnavailableError("reset by peer")});
  const proto::Status status = h.Only().array_done().status();
  EXPECT_EQ(status.code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(status.message(), HasSubstr("worker 1"));
}

TEST(Copy, AnEmptyShardIsMadeOfNothing) {
  Harness h(1);
  h.Frame(CopyMessage(kY).Make(0, 0, 0, 0).message());
  ASSERT_THAT(h.made, SizeIs(1));
  h.MakeReady(h.made[0], 0);
  EXPECT_EQ(h.Only().array_done().status().code(), 0);
}

TEST(Copy, WhatDoesNotAddUpIsItsError) {
  Harness h(1);
  h.PutReady(kX);
  const auto copy = [&](const CopyMessage& message) {
    h.Frame(message.message());
    for (const auto& [host, buffer] : std::exchange(h.views, {})) h.Do(Viewed{host, DType::kF32, {4}, true});
    return h.Only().array_done().status().code();
  };
  EXPECT_EQ(copy(CopyMessage(Array(10)).Make(0, 0, 4, 2).Part(kX, 0, 0, 0, 4)), kInvalid) << "a piece is missing";
  EXPECT_EQ(copy(CopyMessage(Array(11)).Make(0, 0, 4, 0)), kInvalid) << "all pieces are missing";
  EXPECT_EQ(copy(CopyMessage(Array(12)).Make(0, 7, 4, 1).Part(kX, 0, 0, 0, 4)), kInvalid) << "no such device";
  EXPECT_EQ(copy(CopyMessage(Array(13)).Make(0, 0, 2, 1).Part(kX, 0, 0, 0, 2).From(3, 2)), kInvalid)
      << "beyond the source";
  EXPECT_EQ(copy(CopyMessage(Array(14)).Make(0, 0, 4, 1).Part(kX, 1, 0, 0, 4, 5).To(0, 3)), kInvalid)
      << "smaller than it says";
  EXPECT_THAT(h.receive_refusals, SizeIs(1));
  EXPECT_THAT(h.hosts, IsEmpty());
  EXPECT_THAT(h.made, IsEmpty());
}

TEST(Copy, SizesThatNoMachineHasAreErrors) {
  Harness h(1);
  h.PutReady(kX);
  const int64_t quarter = int64_t{1} << 60;
  h.Frame(
      CopyMessage(Array(10)).Make(0, 0, 4, 2).Part(kX, 1, 0, 0, quarter, 5).Part(kX, 1, 0, 0, quarter, 6).message());
  EXPECT_EQ(h.Only().array_done().status().code(), kInvalid) << "the sum of the pieces overflows";
  const int64_t half = int64_t{1} << 53;
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    CopyMessage copy(Array(20 + i));
    copy.Make(0, 0, 2 * half, 2).Part(kX, 1, 0, 0, half, 100 + 2 * i).To(0, half);
    h.Frame(copy.Part(kX, 1, 0, 0, half, 101 + 2 * i).To(half, half).message());
    for (const proto::ToController& answer : std::exchange(h.sent, {})) {
      EXPECT_EQ(answer.array_done().status().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
      ++refused;
    }
  }
  EXPECT_GT(refused, 0) << "the sum of all of them overflows";
  EXPECT_GT(h.Ping().host_bytes(), 0);
}

TEST(Copy, NothingIsSentToALaterLifeOfTheReceiver) {
  Harness h(1);
  const auto peers = [&](uint64_t incarnation) {
    proto::ToWorker message;
    proto::Peers::Peer& peer = *message.mutable_peers()->add_peers();
    peer.set_worker(1);
    peer.set_incarnation(incarnation);
    h.Frame(message);
  };
  peers(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Frame(CopyMessage(kY).Part(kX, 0, 0, 1, 4, /*stream=*/6).message());
  h.Frame(CopyMessage(kZ).Part(kX, 0, 0, 1, 4, /*stream=*/7).message());
  peers(2);
  h.Frame(CopyMessage(Array(4)).Part(kX, 0, 0, 1, 4, /*stream=*/8).message());
  h.Return(h.executes[0], 16, absl::OkStatus());
  for (const auto& [host, buffer] : std::exchange(h.views, {})) h.Do(Viewed{host, DType::kF32, {4}, true});
  ASSERT_THAT(h.sends, SizeIs(1)) << "the others would wait for ever, with their memory";
  EXPECT_EQ(h.sends[0].id, StreamId{8});
  EXPECT_THAT(h.send_refusals, IsEmpty());
}

TEST(Copy, FailEndsIt) {
  Harness h(1);
  h.Frame(CopyMessage(kY).Make(0, 0, 4, 1).Part(kX, 1, 0, 0, 4, /*stream=*/5).message());
  h.Fail(kY, absl::DataLossError("worker 1 is lost"));
  EXPECT_EQ(h.Only().array_done().status().message(), "worker 1 is lost");
  EXPECT_THAT(h.cancels, SizeIs(1));
  h.Do(StreamEnded{h.receives[0].stream, absl::CancelledError()});
  EXPECT_THAT(h.sent, IsEmpty());
}

// ---------------------------------------------------------------- any order

// Answers what the core wants in random order, with errors now and then.
class Chaos {
 public:
  explicit Chaos(uint32_t seed) : random_(seed), h_(kDevices, /*staging_bytes=*/1 << 20) {
    for (int session = 1; session <= 2; ++session) {
      for (int i = 1; i <= 3; ++i) {
        proto::ProgramInfo info;
        if (i == 2) info.add_donated_parameters(0);
        info.set_has_collectives(i == 3);
        std::vector<int> devices = {Pick(kDevices)};
        if (i == 3) devices = {0, 1, 2};
        h_.Compile(ProgramNumber(i, SessionId{static_cast<uint32_t>(session)}), devices, info);
      }
    }
  }

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      if (Pick(3) == 0) {
        Message();
      } else {
        Answer();
      }
    }
    h_.Do(LinkLost{});
    while (Answer()) {
    }
    h_.Do(LinkUp{});
    const proto::Pong pong = h_.Ping();
    for (int device = 0; device < kDevices; ++device) {
      EXPECT_EQ(pong.device_bytes(device), 0);
      EXPECT_EQ(pong.device_buffers(device), 0);
    }
    EXPECT_EQ(pong.host_bytes(), 0);
    EXPECT_EQ(pong.queued_launches(), 0);
    EXPECT_THAT(h_.hosts, IsEmpty());
    EXPECT_THAT(h_.programs, IsEmpty());
    EXPECT_EQ(h_.dropped, born_) << "every buffer that was made was given back";
  }

 private:
  static constexpr int kDevices = 3;

  int Pick(int n) { return static_cast<int>(random_() % n); }
  uint64_t NextStream() { return ++last_stream_; }
  absl::Status Outcome() { return Pick(8) == 0 ? absl::InternalError("chance") : absl::OkStatus(); }

  void Message() {
    const SessionId session{static_cast<uint32_t>(1 + Pick(2))};
    const auto any = [&] { return Array(1 + Pick(40), session); };
    const auto fresh = [&] { return Array(++last_array_ % 40 + 1, session); };
    switch (Pick(11)) {
      case 0:
        return h_.Put(fresh(), {{0, Pick(kDevices)}, {1, Pick(kDevices)}, {2, 2}});
      case 1:
        return h_.Receive(fresh(), NextStream(), Pick(2) == 0 ? 4 : kLarge);
      case 2:
        return h_.Launch(++last_launch_, ProgramNumber(1 + Pick(3), session), {any(), any()}, {fresh(), fresh()});
      case 3:
        return h_.Launch(++last_launch_, ProgramNumber(1 + Pick(3), session), {}, {fresh()});
      case 4:
        return h_.Fetch(/*fetch=*/1, any(), Pick(3), NextStream());
      case 5:
        return h_.Delete({any(), any()});
      case 6:
        return h_.Alias(fresh(), Pick(3), any(), Pick(3));
      case 7:
        return h_.Frame(CopyMessage(fresh()).Make(0, Pick(kDevices), 4, 1).Part(any(), 0, 0, 0, 4).message());
      case 8:
        return h_.Frame(CopyMessage(fresh())
                            .Make(0, Pick(kDevices), 4, 2)
                            .Part(any(), 0, 0, 0, 2)
                            .From(0, 2)
                            .To(0, 2)
                            .Part(any(), 1, 0, 0, 2, NextStream())
                            .To(2, 2)
                            .Part(any(), 0, 1, 1, 2, NextStream())
                            .From(1, 2)
                            .message());
      case 9:
        return h_.Fail(any(), absl::DataLossError("chance"));
      case 10:
        if (Pick(20) == 0) h_.DropSession(session);
        return;
    }
  }

  // Moves what the core has wanted since to `open_`, and answers one of them. False if there is none.
  bool Answer() {
    for (const ExecuteRequest& request : std::exchange(h_.executes, {})) {
      open_.push_back([this, request] {
        const absl::Status ok = Outcome();
        if (!ok.ok()) return h_.Do(ExecuteReturned{request.launch, ok, std::nullopt});
        for (BufferKey output : request.outputs) born_.insert(output);
        if (Pick(2) == 0) return h_.Return(request, 16, Outcome());
        h_.Return(request, 16);
        open_.push_back([this, request] { h_.Finish(request, Outcome()); });
      });
    }
    for (const Harness::Made& made : std::exchange(h_.made, {})) {
      open_.push_back([this, key = made.buffer] {
        const absl::Status ok = Outcome();
        if (!ok.ok()) return h_.Do(BufferMade{key, ok});
        born_.insert(key);
        h_.Do(BufferMade{key, 16});
        open_.push_back([this, key] { h_.Do(BufferReady{key, Outcome()}); });
      });
    }
    for (const auto& [host, buffer] : std::exchange(h_.views, {})) {
      open_.push_back([this, host = host] {
        h_.Do(Viewed{host, DType::kF32, {Pick(2) == 0 ? 4 : kLarge}, Pick(2) == 0});
      });
    }
    for (const Harness::ReadingBack& read : std::exchange(h_.read_backs, {})) {
      open_.push_back([this, host = read.host] { h_.Do(HostFilled{host, Outcome()}); });
    }
    for (const Harness::Piece& piece : std::exchange(h_.pieces, {})) {
      open_.push_back([this, key = piece.piece] { h_.Do(PieceCopied{key, Outcome()}); });
    }
    for (auto* streams : {&h_.sends, &h_.receives}) {
      for (const Harness::Stream& stream : std::exchange(*streams, {})) {
        open_.push_back([this, key = stream.stream] { h_.Do(StreamEnded{key, Outcome()}); });
      }
    }
    if (open_.empty()) return false;
    std::swap(open_[Pick(static_cast<int>(open_.size()))], open_.back());
    const std::function<void()> answer = std::move(open_.back());
    open_.pop_back();
    answer();
    return true;
  }

  std::mt19937 random_;
  Harness h_;
  std::vector<std::function<void()>> open_;
  std::set<BufferKey> born_;
  int last_array_ = 0;
  uint64_t last_launch_ = 0;
  uint64_t last_stream_ = 0;
};

TEST(Chaos, WhateverHappensEverythingComesBack) {
  for (uint32_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Chaos(seed).Run(2000);
    if (testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace causeway::worker
