// Programs over the devices of several workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class CoreGangTest : public CoreTest {
 protected:
  using CoreTest::CoreTest;

  static proto::ProgramInfo Info() {
    proto::ProgramInfo info;
    info.set_name("f");
    info.add_parameters();
    info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    info.mutable_outputs(0)->mutable_type()->add_dims(4);
    return info;
  }

  void AskFor(ProgramId id, const std::vector<DeviceId>& devices, const std::string& code = "code") {
    Handle(CompileProgram{Next(SessionOf(id)), id, "mlir", code, "options", devices});
  }

  void Compiled(LinkId link, ProgramId id, bool made_it, const absl::Status& status = absl::OkStatus()) {
    proto::ToController message;
    proto::Compiled& compiled = *message.mutable_compiled();
    compiled.set_program(Raw(id));
    *compiled.mutable_status() = ToProto(status);
    if (status.ok() && made_it) {
      compiled.mutable_portable()->set_executable("executable");
      *compiled.mutable_portable()->mutable_info() = Info();
    } else if (status.ok()) {
      *compiled.mutable_info() = Info();
    }
    Handle(WorkerFrame{link, message, ""});
  }

  // Device 1 of worker A, then device 2 of B: the gang of most tests.
  static std::vector<DeviceId> Both() { return {DeviceId{1}, DeviceId{2}}; }

  void CompileForBoth(ProgramId id) {
    AskFor(id, Both());
    Compiled(kLinkA, id, /*made_it=*/true);
    Compiled(kLinkB, id, /*made_it=*/false);
  }

  std::vector<proto::ToWorker> Compiles(LinkId link) { return Sent(link, proto::ToWorker::kCompile); }
};

TEST_F(CoreGangTest, OneWorkerCompilesAndTheOthersLoad) {
  TwoWorkers();
  AskFor(P(1), Both());
  const uint64_t asked = ticket_;
  ASSERT_THAT(Compiles(kLinkA), SizeIs(1));
  EXPECT_THAT(Compiles(kLinkB), SizeIs(0));
  const proto::Compile first = Compiles(kLinkA)[0].compile();
  EXPECT_EQ(first.code(), "code");
  EXPECT_THAT(first.devices(), ElementsAre(1));
  EXPECT_THAT(first.gang().workers(), ElementsAre(0, 1));
  Compiled(kLinkA, P(1), /*made_it=*/true);
  EXPECT_FALSE(out_.compiled.contains(asked));
  ASSERT_THAT(Compiles(kLinkB), SizeIs(1));
  const proto::Compile second = Compiles(kLinkB)[0].compile();
  EXPECT_EQ(second.portable().executable(), "executable");
  EXPECT_EQ(second.code(), "");
  EXPECT_THAT(second.devices(), ElementsAre(0));
  Compiled(kLinkB, P(1), /*made_it=*/false);
  ASSERT_TRUE(out_.compiled.contains(asked));
  EXPECT_TRUE(out_.compiled.at(asked).ok());
}

TEST_F(CoreGangTest, ThePermutedOrderOfItsDevicesIsKept) {
  TwoWorkers();
  AskFor(P(1), {DeviceId{3}, DeviceId{0}, DeviceId{2}, DeviceId{1}});
  const proto::Compile first = Compiles(kLinkB).at(0).compile();
  EXPECT_THAT(first.gang().workers(), ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(first.devices(), ElementsAre(1, 0));
}

TEST_F(CoreGangTest, WhatWasCompiledIsNotCompiledAgain) {
  TwoWorkers();
  CompileForBoth(P(1));
  AskFor(P(2), {DeviceId{2}, DeviceId{1}});  // on other devices
  EXPECT_TRUE(Compiles(kLinkA).at(1).compile().has_portable());
  EXPECT_TRUE(Compiles(kLinkB).at(1).compile().has_portable());
  AskFor(P(3), Both(), "other code");
  EXPECT_FALSE(Compiles(kLinkA).at(2).compile().has_portable());
}

TEST_F(CoreGangTest, ALaunchGoesToAllAndIsDoneWhenAllAre) {
  TwoWorkers();
  CompileForBoth(P(1));
  Put(A(1), {1, 2});
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(Done().ok());
  ASSERT_THAT(Sent(kLinkA, proto::ToWorker::kLaunch), SizeIs(1));
  ASSERT_THAT(Sent(kLinkB, proto::ToWorker::kLaunch), SizeIs(1));
  const uint64_t number = Sent(kLinkA, proto::ToWorker::kLaunch)[0].launch().number();
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kLaunch)[0].launch().number(), number);
  const uint64_t wait = Wait(A(2));
  LaunchDone(kLinkA, number);
  LaunchDone(kLinkA, number);  // said twice: once too often
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  LaunchDone(kLinkB, number);
  EXPECT_TRUE(Answer(wait).ok());
  EXPECT_EQ(core_.Counts().launches, 0);
}

// One that sees an end late sees the next launch shorter, so the longest of all would come to more than there was.
TEST_F(CoreGangTest, ItsDeviceTimeIsTheMeanOfWhatItsWorkersReport) {
  TwoWorkers();
  CompileForBoth(P(1));
  Put(A(1), {1, 2});
  const auto end = [&](LinkId link, uint64_t number, int64_t run_us) {
    proto::ToController message;
    proto::LaunchDone& done = *message.mutable_launches_done()->add_done();
    done.set_number(number);
    done.set_run_us(run_us);
    Handle(WorkerFrame{link, message, ""});
  };
  for (const auto& [on_a, on_b] : {std::pair(5100, 5000), std::pair(4900, 5000)}) {
    Launch(P(1), A(1), A(2));
    const uint64_t number = Sent(kLinkA, proto::ToWorker::kLaunch).back().launch().number();
    end(kLinkA, number, on_a);
    end(kLinkB, number, on_b);
    Handle(DestructArrays{Next(), {A(2)}});
  }
  const proto::ClusterStatus status = core_.Status(now_);
  EXPECT_EQ(status.sessions(0).device_us(), 2 * 10'000);
  EXPECT_EQ(status.islands(0).workers(0).devices(1).busy_us(), 10'000);
  EXPECT_EQ(status.islands(0).workers(1).devices(0).busy_us(), 10'000);
}

TEST_F(CoreGangTest, AFailureOnOneIsToldToTheOthers) {
  TwoWorkers();
  CompileForBoth(P(1));
  Put(A(1), {1, 2});
  Launch(P(1), A(1), A(2));
  const uint64_t number = Sent(kLinkA, proto::ToWorker::kLaunch).at(0).launch().number();
  const uint64_t wait = Wait(A(2));
  LaunchDone(kLinkA, number, absl::InternalError("no memory"));
  ASSERT_THAT(Sent(kLinkB, proto::ToWorker::kAbortLaunch), SizeIs(1));
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kAbortLaunch)[0].abort_launch().number(), number);
  EXPECT_THAT(Sent(kLinkA, proto::ToWorker::kAbortLaunch), SizeIs(0));
  LaunchDone(kLinkB, number, absl::InternalError("aborted"));
  EXPECT_THAT(Answer(wait).message(), HasSubstr("no memory"));
  EXPECT_EQ(core_.Counts().launches, 0);
}

TEST_F(CoreGangTest, ALostWorkerEndsItsGangsAndNoOthers) {
  TwoWorkers();
  CompileForBoth(P(1));
  Compile(P(2), {0}, kLinkA);
  Put(A(1), {1, 2});
  Put(A(3), {0});
  Launch(P(1), A(1), A(2));
  const uint64_t gang = Wait(A(2));
  Launch(P(2), A(3), A(4));
  const uint64_t other = Wait(A(4));
  Handle(LinkClosed{kLinkB, absl::UnavailableError("killed")});
  EXPECT_EQ(Answer(gang).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Answer(other).code(), absl::StatusCode::kUnknown);
  Launch(P(1), A(1), A(5));
  EXPECT_EQ(Answer(Wait(A(5))).code(), absl::StatusCode::kDataLoss);
}

TEST_F(CoreGangTest, AWorkerThatReturnsIsGivenWhatWasCompiled) {
  TwoWorkers();
  CompileForBoth(P(1));
  Handle(LinkClosed{kLinkB, absl::UnavailableError("killed")});
  constexpr LinkId kAgain{17};
  Join(kAgain, "b");
  Put(A(1), {1, 2});
  Launch(P(1), A(1), A(2));
  ASSERT_THAT(Compiles(kAgain), SizeIs(1));
  EXPECT_EQ(Compiles(kAgain)[0].compile().portable().executable(), "executable");
  EXPECT_THAT(Compiles(kLinkA), SizeIs(1)) << "which has it";
  EXPECT_THAT(Sent(kAgain, proto::ToWorker::kLaunch), SizeIs(1));
}

TEST_F(CoreGangTest, WhatWasKeptButCannotBeLoadedIsCompiledAfterAll) {
  TwoWorkers();
  CompileForBoth(P(1));
  AskFor(P(2), Both());
  const uint64_t asked = ticket_;
  Compiled(kLinkA, P(2), /*made_it=*/false, absl::InternalError("for another processor"));
  EXPECT_THAT(Compiles(kLinkA), SizeIs(2)) << "worker b has not answered";
  Compiled(kLinkB, P(2), /*made_it=*/false);
  ASSERT_THAT(Compiles(kLinkA), SizeIs(3));
  EXPECT_FALSE(Compiles(kLinkA)[2].compile().has_portable());
  EXPECT_EQ(Compiles(kLinkA)[2].compile().code(), "code");
  Compiled(kLinkA, P(2), /*made_it=*/true);
  Compiled(kLinkB, P(2), /*made_it=*/false);
  ASSERT_TRUE(out_.compiled.contains(asked));
  EXPECT_TRUE(out_.compiled.at(asked).ok());
}

TEST_F(CoreGangTest, AWorkerThatCannotLoadFailsTheCompile) {
  TwoWorkers();
  AskFor(P(1), Both());
  const uint64_t asked = ticket_;
  Compiled(kLinkA, P(1), /*made_it=*/true);
  Compiled(kLinkB, P(1), /*made_it=*/false, absl::InternalError("bad executable"));
  EXPECT_THAT(out_.compiled.at(asked).status().message(), HasSubstr("bad executable"));
  EXPECT_THAT(Sent(kLinkA, proto::ToWorker::kDropPrograms), SizeIs(1));
  EXPECT_THAT(Sent(kLinkB, proto::ToWorker::kDropPrograms), SizeIs(1));
  EXPECT_EQ(core_.FindProgram(P(1)), nullptr);
}

TEST_F(CoreGangTest, AWorkerLostWhileCompilingFailsTheCompile) {
  TwoWorkers();
  AskFor(P(1), Both());
  const uint64_t asked = ticket_;
  Handle(LinkClosed{kLinkB, absl::UnavailableError("killed")});
  EXPECT_EQ(out_.compiled.at(asked).status().code(), absl::StatusCode::kDataLoss);
  Compiled(kLinkA, P(1), /*made_it=*/true);  // nobody waits for it
  EXPECT_EQ(core_.Counts().compiles, 0);
}

// ---------------------------------------------------------------- that the plugins run together

class CorePluginGangTest : public CoreGangTest {
 protected:
  using CoreGangTest::CoreGangTest;

  // A worker of a group of two whose plugin numbers its two devices from `first_id` on.
  void JoinGroup(LinkId link, const std::string& name, const std::string& group, int first_id) {
    proto::ToController message = HelloFrom(name, "i0", 2);
    proto::Hello& hello = *message.mutable_hello();
    hello.set_group(group);
    for (int i = 0; i < 2; ++i) hello.mutable_devices(i)->set_global_id(first_id + i);
    Handle(WorkerFrame{link, message, "test"});
  }
  void TwoNodes() {
    JoinGroup(kLinkA, "a", "g", 10);
    JoinGroup(kLinkB, "b", "g", 20);
    Open();
  }
};

class CoreForcedPluginTest : public CorePluginGangTest {
 protected:
  CoreForcedPluginTest() : CorePluginGangTest(LoadLimits{}, Collectives::kPlugin) {}
};

class CoreForcedHostTest : public CorePluginGangTest {
 protected:
  CoreForcedHostTest() : CorePluginGangTest(LoadLimits{}, Collectives::kHost) {}
};

TEST_F(CorePluginGangTest, EveryWorkerOfAGroupCompilesWithTheNumbersOfAll) {
  TwoNodes();
  AskFor(P(1), {DeviceId{3}, DeviceId{1}, DeviceId{0}});
  const uint64_t asked = ticket_;
  for (LinkId link : {kLinkA, kLinkB}) {
    ASSERT_THAT(Compiles(link), SizeIs(1));
    const proto::Compile compile = Compiles(link)[0].compile();
    EXPECT_EQ(compile.code(), "code");
    EXPECT_FALSE(compile.has_portable());
    EXPECT_THAT(compile.plugin_devices(), ElementsAre(21, 11, 10));
    EXPECT_THAT(compile.gang().workers(), ElementsAre(1, 0, 0));
  }
  EXPECT_THAT(Compiles(kLinkA)[0].compile().devices(), ElementsAre(1, 0));
  Compiled(kLinkA, P(1), /*made_it=*/false);
  EXPECT_FALSE(out_.compiled.contains(asked));
  Compiled(kLinkB, P(1), /*made_it=*/false);
  ASSERT_TRUE(out_.compiled.contains(asked));
  ASSERT_TRUE(out_.compiled.at(asked).ok());
  EXPECT_EQ((*out_.compiled.at(asked))->info.name(), "f");
}

TEST_F(CorePluginGangTest, ItIsLaunchedOnAllAsAnyGangIs) {
  TwoNodes();
  AskFor(P(1), Both());
  Compiled(kLinkA, P(1), /*made_it=*/false);
  Compiled(kLinkB, P(1), /*made_it=*/false);
  Put(A(1), {1, 2});
  Launch(P(1), A(1), A(2));
  const uint64_t wait = Wait(A(2));
  for (LinkId link : {kLinkA, kLinkB}) {
    ASSERT_THAT(Sent(link, proto::ToWorker::kLaunch), SizeIs(1));
    LaunchDone(link, Sent(link, proto::ToWorker::kLaunch)[0].launch().number());
  }
  EXPECT_TRUE(Answer(wait).ok());
}

TEST_F(CorePluginGangTest, WorkersOfNoOneGroupCarryOutTheCollectivesThemselves) {
  JoinGroup(kLinkA, "a", "g", 0);
  JoinGroup(kLinkB, "b", "h", 2);
  Open();
  AskFor(P(1), Both());
  EXPECT_THAT(Compiles(kLinkA).at(0).compile().plugin_devices(), SizeIs(0));
  EXPECT_THAT(Compiles(kLinkB), SizeIs(0));
}

TEST_F(CorePluginGangTest, APluginThatNumbersTwoDevicesAlikeIsNotTakenForOneClient) {
  JoinGroup(kLinkA, "a", "g", 0);
  JoinGroup(kLinkB, "b", "g", -1);
  Open();
  AskFor(P(1), {DeviceId{0}, DeviceId{3}});
  EXPECT_THAT(Compiles(kLinkA).at(0).compile().plugin_devices(), SizeIs(0));
}

TEST_F(CoreForcedPluginTest, ProgramsOfWorkersWithoutAGroupAreRefusedWithTheCure) {
  TwoWorkers();
  AskFor(P(1), Both());
  ASSERT_TRUE(out_.compiled.contains(ticket_));
  const absl::Status status = out_.compiled.at(ticket_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--group"));
  EXPECT_EQ(core_.Counts().compiles, 0);
  EXPECT_EQ(core_.Counts().programs, 0);
  Compile(P(2), {0}, kLinkA);
  EXPECT_NE(core_.FindProgram(P(2)), nullptr);
}

TEST_F(CoreForcedHostTest, AGroupsPluginsAreNotAsked) {
  TwoNodes();
  AskFor(P(1), Both());
  EXPECT_THAT(Compiles(kLinkA).at(0).compile().plugin_devices(), SizeIs(0));
  AskFor(P(2), {DeviceId{0}, DeviceId{1}});
  EXPECT_TRUE(Compiles(kLinkA).at(1).compile().has_gang());
}

}  // namespace
}  // namespace causeway
