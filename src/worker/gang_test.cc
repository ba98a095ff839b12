// A worker's part of launches that have devices on other workers too. This one is worker 0.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/core_test_harness.h"

namespace causeway::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint64_t kProgram = ProgramNumber(1), kOther = ProgramNumber(1, kOtherSession);
constexpr uint64_t kX = Array(1), kY = Array(2), kZ = Array(3);
constexpr uint64_t kTheirs = Array(1, kOtherSession), kTheirs2 = Array(2, kOtherSession);

proto::ToWorker CompileMessage(uint64_t program, const std::vector<int>& workers, const std::vector<int>& devices) {
  proto::ToWorker message;
  proto::Compile& compile = *message.mutable_compile();
  compile.set_program(program);
  compile.set_code("code");
  for (int worker : workers) {
    compile.mutable_gang()->add_workers(worker);
    compile.mutable_gang()->add_islands(0);
  }
  for (int device : devices) compile.add_devices(device);
  return message;
}

class GangTest : public testing::Test {
 protected:
  explicit GangTest(int gangs_ahead = 1) : h(2, 1 << 30, /*link=*/true, gangs_ahead) {}

  // Of this worker's two devices and two of worker 1, in turn.
  void CompileGang(uint64_t program) {
    h.Frame(CompileMessage(program, {1, 0, 1, 0}, {0, 1}));
    h.Do(CompileDone{h.compiles.back().program, proto::ProgramInfo(), absl::ZeroDuration()});
    h.sent.clear();
  }

  // Shards 1 and 3, which are the gang's here.
  void Put(uint64_t array) { h.Frame(Message(array)); }
  static proto::ToWorker Message(uint64_t array) {
    proto::ToWorker message;
    *message.mutable_put() = Harness::PutMessage(array, {{1, 0}, {3, 1}}, 1);
    message.mutable_put()->set_data(std::string(4, 'x'));
    return message;
  }
  void PlaceAll() {
    for (const auto& made : h.made) h.Do(BufferMade{made.buffer, 4});
    h.made.clear();
  }

  Harness h;
};

class GangAheadTest : public GangTest {
 protected:
  GangAheadTest() : GangTest(/*gangs_ahead=*/2) {}
};

TEST_F(GangTest, IsCompiledForTheDevicesThatAreHere) {
  h.Frame(CompileMessage(kProgram, {1, 0, 1, 0}, {0, 1}));
  ASSERT_TRUE(h.compiles.back().gang.has_value());
  EXPECT_EQ(h.compiles.back().gang->devices, 4);
  EXPECT_THAT(h.compiles.back().gang->local, ElementsAre(0, 1));
  EXPECT_THAT(h.compiles.back().gang->logical, ElementsAre(1, 3));
  EXPECT_EQ(h.compiles.back().gang->portable, nullptr);

  proto::ToWorker load = CompileMessage(ProgramNumber(2), {0, 1}, {1});
  load.mutable_compile()->mutable_portable()->set_executable("executable");
  h.Frame(load);
  ASSERT_NE(h.compiles.back().gang->portable, nullptr);
  EXPECT_EQ(h.compiles.back().gang->portable->executable(), "executable");
}

TEST_F(GangTest, ThatHasOtherDevicesHereThanItNamesIsRefused) {
  h.Frame(CompileMessage(kProgram, {1, 0}, {0, 1}));
  h.Frame(CompileMessage(kProgram, {1, 1}, {}));
  EXPECT_THAT(h.compiles, IsEmpty());
}

TEST_F(GangTest, TakesItsShardsAndIsAnnouncedAndEnded) {
  CompileGang(kProgram);
  Put(kX);
  PlaceAll();
  h.Launch(7, kProgram, {kX}, {kY});
  EXPECT_THAT(h.announced, ElementsAre(7));
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_THAT(h.executes[0].arguments, SizeIs(2));
  EXPECT_EQ(h.executes[0].options.launch, 7);
  h.Return(h.executes[0], 8);
  EXPECT_THAT(h.ended, IsEmpty());
  h.Finish(h.executes[0]);
  EXPECT_THAT(h.ended, ElementsAre(7));
  EXPECT_THAT(h.aborted, IsEmpty());
  ASSERT_THAT(h.sent, SizeIs(1));
  ASSERT_THAT(h.sent[0].launches_done().done(), SizeIs(1));
  EXPECT_EQ(h.sent[0].launches_done().done(0).worker_bytes(), 8);
  EXPECT_EQ(h.sent[0].launches_done().done(0).island_bytes(), 4);
}

TEST_F(GangTest, WhatFailsHereIsAbortedForAll) {
  CompileGang(kProgram);
  h.Launch(7, kProgram, {kX}, {kY});  // there is no such argument
  ASSERT_THAT(h.aborted, SizeIs(1));
  EXPECT_EQ(h.aborted[0].first, 7);
  EXPECT_FALSE(h.aborted[0].second.ok());
  EXPECT_THAT(h.ended, ElementsAre(7));
  h.Launch(8, kProgram, {}, {kZ});
  h.Finish(h.executes.back(), absl::InternalError("no memory"));
  h.Return(h.executes.back(), 8);
  EXPECT_THAT(h.aborted, SizeIs(2));
}

TEST_F(GangTest, AnAbortFromTheControllerReachesTheEngine) {
  proto::ToWorker message;
  message.mutable_abort_launch()->set_number(7);
  *message.mutable_abort_launch()->mutable_status() = ToProto(absl::DataLossError("worker 1 is lost"));
  h.Frame(message);
  ASSERT_THAT(h.aborted, SizeIs(1));
  EXPECT_EQ(h.aborted[0].second.code(), absl::StatusCode::kDataLoss);
}

TEST_F(GangTest, GangsDoNotPassOneAnother) {
  CompileGang(kProgram);
  CompileGang(kOther);
  Put(kX);
  h.Launch(1, kProgram, {kX}, {kY});  // stuck: kX is not there yet
  h.Launch(2, kOther, {}, {kTheirs});
  EXPECT_THAT(h.executes, IsEmpty()) << "on worker 1 it may come first";
  PlaceAll();
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_EQ(h.executes[0].options.launch, 1);
}

TEST_F(GangTest, WithoutLookingAheadTheNextWaitsForTheReturn) {
  CompileGang(kProgram);
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {kX}, {kY});
  EXPECT_THAT(h.executes, SizeIs(1));
  h.Return(h.executes[0], 8);
  EXPECT_THAT(h.executes, SizeIs(2));
}

TEST_F(GangAheadTest, TheNextIsHandedOverWithWhatIsStillToBeMade) {
  CompileGang(kProgram);
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {kX}, {kY});
  h.Launch(3, kProgram, {kY}, {kZ});
  ASSERT_THAT(h.executes, SizeIs(2)) << "but no more than two";
  EXPECT_EQ(h.executes[1].arguments, h.executes[0].outputs);
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(3));
  h.Finish(h.executes[0]);
  h.Return(h.executes[1], 8);
  h.Finish(h.executes[1]);
  h.Return(h.executes[2], 8, absl::OkStatus());
  EXPECT_THAT(h.Done(), SizeIs(3));
  EXPECT_THAT(h.ended, ElementsAre(1, 2, 3));
}

TEST_F(GangAheadTest, NotWithWhatComesFromElsewhere) {
  CompileGang(kProgram);
  Put(kX);  // not made yet, and not by a gang
  h.Launch(1, kProgram, {}, {kY});
  h.Launch(2, kProgram, {kX}, {kZ});
  EXPECT_THAT(h.executes, SizeIs(1));
  PlaceAll();
  EXPECT_THAT(h.executes, SizeIs(2));
}

TEST_F(GangAheadTest, WhatIsNoGangWaitsItsTurnAndKeepsItsSessionsOrder) {
  CompileGang(kProgram);
  h.Compile(ProgramNumber(2), {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, ProgramNumber(2), {}, {kY});
  h.Launch(3, kProgram, {}, {kZ});
  EXPECT_THAT(h.executes, SizeIs(1));
  h.Return(h.executes[0], 8, absl::OkStatus());
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_EQ(h.executes[1].options.launch, 2);
  h.Return(h.executes[1], 8, absl::OkStatus());
  ASSERT_THAT(h.executes, SizeIs(3));
  EXPECT_EQ(h.executes[2].options.launch, 3);
}

TEST_F(GangAheadTest, OneThatFailsTakesTheNextWithItAndNothingElse) {
  CompileGang(kProgram);
  CompileGang(kOther);
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {kX}, {kY});
  ASSERT_THAT(h.executes, SizeIs(2));
  h.Do(ExecuteReturned{h.executes[0].launch, absl::InternalError("no memory"), std::nullopt});
  h.Launch(3, kOther, {}, {kTheirs});
  // Its thread found no argument.
  h.Do(ExecuteReturned{h.executes[1].launch, absl::InternalError("no memory"), std::nullopt});
  ASSERT_THAT(h.executes, SizeIs(3));
  h.Return(h.executes[2], 8, absl::OkStatus());
  auto done = h.Done();
  ASSERT_THAT(done, SizeIs(3));
  EXPECT_FALSE(done[1].ok());
  EXPECT_FALSE(done[2].ok());
  EXPECT_TRUE(done[3].ok());
  EXPECT_THAT(h.aborted, SizeIs(2));
  h.Launch(4, kOther, {kTheirs}, {kTheirs2});
  EXPECT_THAT(h.executes, SizeIs(4));
}

// ---------------------------------------------------------------- that the plugins run together

class PluginGangTest : public GangTest {
 protected:
  PluginGangTest() : GangTest(/*gangs_ahead=*/4) {}

  static proto::ToWorker Message(uint64_t program) {
    proto::ToWorker message = CompileMessage(program, {1, 0, 1, 0}, {0, 1});
    for (int id : {4, 0, 5, 1}) message.mutable_compile()->add_plugin_devices(id);
    return message;
  }
  void CompileForPlugin(uint64_t program) {
    h.Frame(Message(program));
    proto::ProgramInfo info;
    info.set_has_collectives(true);
    h.Do(CompileDone{h.compiles.back().program, info, absl::ZeroDuration()});
  }
};

TEST_F(PluginGangTest, IsCompiledByThePluginItself) {
  h.Frame(Message(kProgram));
  ASSERT_THAT(h.compiles, SizeIs(1));
  EXPECT_FALSE(h.compiles[0].gang.has_value());
  EXPECT_EQ(h.compiles[0].request.code, "code");
  EXPECT_THAT(h.compiles[0].request.devices, ElementsAre(0, 1));
  EXPECT_THAT(h.compiles[0].request.global_devices, ElementsAre(4, 0, 5, 1));
  proto::ToWorker short_of_one = Message(kOther);
  short_of_one.mutable_compile()->mutable_plugin_devices()->RemoveLast();
  h.Frame(short_of_one);
  EXPECT_THAT(h.compiles, SizeIs(1));
}

TEST_F(PluginGangTest, IsExecutedOnceAndKeepsItsPlaceAmongTheGangs) {
  CompileForPlugin(kProgram);
  CompileGang(kOther);
  Put(kX);
  PlaceAll();
  h.Launch(1, kProgram, {kX}, {kY});
  EXPECT_THAT(h.announced, ElementsAre(1));
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_THAT(h.executes[0].arguments, SizeIs(2)) << "the shards of both devices, 1 and 3";
  h.Launch(2, kOther, {}, {kTheirs});
  h.Launch(3, kProgram, {kY}, {kZ});
  EXPECT_THAT(h.executes, SizeIs(1)) << "nothing is handed over before the plugin has returned";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_EQ(h.executes[1].options.launch, 2);
  h.Return(h.executes[1], 8);
  EXPECT_THAT(h.executes, SizeIs(2)) << "one launch with the plugin's collectives at a time";
  h.Finish(h.executes[0]);
  ASSERT_THAT(h.executes, SizeIs(3));
  EXPECT_EQ(h.executes[2].options.launch, 3);
  h.Finish(h.executes[2], absl::InternalError("no memory"));
  h.Return(h.executes[2], 8);
  ASSERT_THAT(h.aborted, SizeIs(1));
  EXPECT_EQ(h.aborted[0].first, 3);
}

}  // namespace
}  // namespace causeway::worker
