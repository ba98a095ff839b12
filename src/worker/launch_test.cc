// The core's launches, names and accounts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/origin.h"
#include "worker/core_test_harness.h"

namespace causeway::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr uint64_t kProgram = ProgramNumber(1);
constexpr uint64_t kGang = ProgramNumber(2);
constexpr uint64_t kX = Array(1), kY = Array(2), kZ = Array(3);

MATCHER_P(HasCode, code, "") { return arg.code() == code; }

proto::ProgramInfo Donating(int parameter) {
  proto::ProgramInfo info;
  info.add_donated_parameters(parameter);
  return info;
}

proto::ProgramInfo WithCollectives() {
  proto::ProgramInfo info;
  info.set_has_collectives(true);
  return info;
}

TEST(Launch, IsHandedOverAtOnceOnTheThreadOfItsFirstDevice) {
  Harness h(3);
  h.Compile(kGang, {2, 1});
  h.Launch(1, kGang, {}, {kX});
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_EQ(h.executes[0].thread_device, 2);
  EXPECT_THAT(h.executes[0].outputs, SizeIs(2)) << "one for each device";
}

TEST(Launch, StartsWhenItsArgumentsArePlacedThoughNotComputed) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {kX}, {kY});
  EXPECT_THAT(h.executes, SizeIs(1)) << "the argument does not exist yet";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_EQ(h.executes[1].arguments, h.executes[0].outputs);
  EXPECT_THAT(h.Done(), IsEmpty()) << "nothing has finished";
}

TEST(Launch, WaitsForItsProgramToBeCompiled) {
  Harness h(1);
  h.StartCompile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  EXPECT_THAT(h.executes, IsEmpty());
  h.Do(CompileDone{h.compiles[0].program, proto::ProgramInfo(), absl::ZeroDuration()});
  EXPECT_THAT(h.executes, SizeIs(1));
}

TEST(Launch, FailsWithTheCompilersError) {
  Harness h(1);
  h.StartCompile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Do(CompileDone{h.compiles[0].program, absl::UnimplementedError("no such op"), absl::ZeroDuration()});
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kUnimplemented))));
  h.Fetch(9, kX, 0, 1);
  EXPECT_THAT(h.Only().fetch_done().status().message(), HasSubstr("no such op"));
}

TEST(Launch, LaunchesOfOneDeviceStartInTheirOrder) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Receive(kX, /*stream=*/5, /*elements=*/4);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Launch(2, kProgram, {}, {kZ});
  EXPECT_THAT(h.executes, IsEmpty()) << "the second does not overtake the first, which waits for host data";
  h.Fail(kX, absl::CancelledError());
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_THAT(h.executes[0].arguments, IsEmpty());
}

TEST(Launch, OneThatIsStuckLetsThoseOfOtherSessionsPass) {
  constexpr uint64_t kTheirs = ProgramNumber(1, kOtherSession);
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Compile(kTheirs, {0});
  h.Receive(kX, /*stream=*/5, /*elements=*/4);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Launch(2, kProgram, {}, {kZ});
  h.Launch(3, kTheirs, {}, {Array(1, kOtherSession)});
  h.Launch(4, kTheirs, {}, {Array(2, kOtherSession)});
  ASSERT_THAT(h.executes, SizeIs(1)) << "the third, though its client came later";
  EXPECT_THAT(h.executes[0].arguments, IsEmpty());
  h.Fail(kX, absl::CancelledError());
  EXPECT_THAT(h.executes, SizeIs(1)) << "one at a time on a device";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  h.Return(h.executes[1], 8);
  ASSERT_THAT(h.executes, SizeIs(3)) << "the second had its turn before the fourth, or after";
  h.Return(h.executes[2], 8);
  for (const ExecuteRequest& request : h.executes) h.Finish(request);
  EXPECT_THAT(h.Done(), SizeIs(4));
}

TEST(Launch, AGangThatOnlyHasToWaitForItsTurnIsNotPassed) {
  constexpr uint64_t kTheirs = ProgramNumber(1, kOtherSession);
  Harness h(2);
  h.Compile(kProgram, {1});
  h.Compile(kGang, {0, 1});
  h.Compile(kTheirs, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kGang, {}, {kY});
  h.Launch(3, kTheirs, {}, {Array(1, kOtherSession)});
  EXPECT_THAT(h.executes, SizeIs(1)) << "device 0 is kept free for the gang, or it might never start";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_THAT(h.executes[1].outputs, SizeIs(2));
}

TEST(Launch, AGangBehindOneThatIsStuckIsPassedOnItsOtherDevices) {
  constexpr uint64_t kTheirs = ProgramNumber(1, kOtherSession);
  Harness h(2);
  h.Compile(kProgram, {0});
  h.Compile(kGang, {0, 1});
  h.Compile(kTheirs, {1});
  h.Receive(kX, /*stream=*/5, /*elements=*/4);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Launch(2, kGang, {}, {kZ});
  h.Launch(3, kTheirs, {}, {Array(1, kOtherSession)});
  ASSERT_THAT(h.executes, SizeIs(1));
  EXPECT_EQ(h.executes[0].thread_device, 1);
  h.Fail(kX, absl::CancelledError());
  EXPECT_THAT(h.executes, SizeIs(1)) << "the gang waits for device 1";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_THAT(h.executes[1].outputs, SizeIs(2));
}

TEST(Launch, OneWhoseProgramIsBeingCompiledLetsOthersPass) {
  constexpr uint64_t kTheirs = ProgramNumber(1, kOtherSession);
  Harness h(1);
  h.StartCompile(kProgram, {0});
  h.Compile(kTheirs, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kTheirs, {}, {Array(1, kOtherSession)});
  EXPECT_THAT(h.executes, SizeIs(1));
}

TEST(Launch, AGangStartsWhenItIsFirstOnAllItsDevices) {
  Harness h(2);
  h.Compile(kProgram, {1});
  h.Compile(kGang, {0, 1});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kGang, {}, {kY});
  ASSERT_THAT(h.executes, SizeIs(1)) << "device 1 is still busy with the first";
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  h.Launch(3, kProgram, {}, {kZ});
  EXPECT_THAT(h.executes, SizeIs(2)) << "behind the gang on device 1";
  h.Return(h.executes[1], 8);
  EXPECT_THAT(h.executes, SizeIs(3));
}

TEST(Launch, AnErrorPoisonsWhatDependsOnItAndNothingElse) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {kX}, {kY});
  h.Launch(3, kProgram, {kY}, {kZ});
  h.Launch(4, kProgram, {}, {Array(4)});
  h.Do(ExecuteReturned{h.executes[0].launch, absl::ResourceExhaustedError("too large"), std::nullopt});
  ASSERT_THAT(h.executes, SizeIs(2)) << "of the others only the one that does not depend on it ran";
  h.Return(h.executes[1], 8, absl::OkStatus());
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kResourceExhausted)),
                                    Pair(2, HasCode(absl::StatusCode::kResourceExhausted)),
                                    Pair(3, HasCode(absl::StatusCode::kResourceExhausted)), Pair(4, absl::OkStatus())));
}

TEST(Launch, DependentsSayTheOriginOfTheLaunchThatFailed) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX}, {}, /*origin=*/70);
  h.Launch(2, kProgram, {kX}, {kY}, {}, /*origin=*/71);
  h.Fetch(9, kY, 0, 1);
  h.Do(ExecuteReturned{h.executes[0].launch, absl::ResourceExhaustedError("too large"), std::nullopt});
  EXPECT_EQ(h.sent.front().fetch_done().status().origin(), 70u);
  h.sent.erase(h.sent.begin());
  EXPECT_EQ(OriginOf(h.Done()[2]), 70u);
  h.Launch(3, kProgram, {Array(77)}, {kZ}, {}, /*origin=*/72);
  h.Launch(4, kProgram, {kZ}, {Array(4)}, {}, /*origin=*/73);
  EXPECT_EQ(OriginOf(h.Done()[4]), 72u) << "what was refused never ran, and is an origin all the same";
}

TEST(Launch, WhatThePluginFailsForItsArgumentsSaysTheirOrigin) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX}, {}, /*origin=*/70);
  h.Return(h.executes[0], 8);
  h.Launch(2, kProgram, {kX}, {kY}, {}, /*origin=*/71);
  h.Launch(3, kProgram, {}, {Array(4)}, {}, /*origin=*/72);
  h.Return(h.executes[1], 8);
  h.Return(h.executes[2], 8);
  h.Launch(4, kProgram, {kY, Array(4)}, {kZ}, {}, /*origin=*/73);
  h.Delete({kX, kY});
  h.Return(h.executes[3], 8);
  for (int i : {0, 1, 2, 3}) h.Finish(h.executes[i], i == 2 ? absl::OkStatus() : absl::InternalError("on fire"));
  const auto done = h.Done();
  for (int number : {1, 2, 4}) EXPECT_EQ(OriginOf(done.at(number)), 70u) << number;
  EXPECT_TRUE(done.at(3).ok());
}

TEST(Launch, AnErrorOnTheDeviceReachesLaterLaunches) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Return(h.executes[0], 8);
  h.Finish(h.executes[0], absl::InternalError("device on fire"));
  h.Launch(2, kProgram, {kX}, {kY});
  EXPECT_THAT(h.executes, SizeIs(1));
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kInternal)),
                                    Pair(2, HasCode(absl::StatusCode::kInternal))));
  EXPECT_EQ(h.Ping().device_bytes(0), 0) << "failed outputs take no memory";
}

TEST(Launch, ALongChainOfErrorsIsHandledWithoutNesting) {
  Harness h(1);
  h.Compile(kProgram, {0});
  constexpr int kLength = 100000;
  h.Launch(1, kProgram, {}, {Array(1)});
  for (int i = 2; i <= kLength; ++i) h.Launch(i, kProgram, {Array(i - 1)}, {Array(i)});
  h.Do(ExecuteReturned{h.executes[0].launch, absl::InternalError(""), std::nullopt});
  EXPECT_THAT(h.Done(), SizeIs(kLength));
}

TEST(Launch, UnknownNamesAreItsErrorOnly) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {kX}, {kY});
  h.Launch(2, ProgramNumber(9), {}, {kZ});
  h.Launch(3, kProgram, {}, {Array(4)});
  EXPECT_THAT(h.executes, SizeIs(1));
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kNotFound)),
                                    Pair(2, HasCode(absl::StatusCode::kNotFound))));
}

TEST(Launch, AnOutputNameThatIsTakenIsRefusedAndTheOldArrayStays) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.PutReady(kX);
  h.Launch(1, kProgram, {}, {kX});
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kAlreadyExists))));
  EXPECT_EQ(h.Ping().device_buffers(0), 1);
}

TEST(Launch, AnArgumentOnAnotherDeviceIsRefused) {
  Harness h(2);
  h.Compile(kProgram, {0});
  h.PutReady(kX, 4, /*device=*/1);
  h.Launch(1, kProgram, {kX}, {kY});
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, HasCode(absl::StatusCode::kInvalidArgument))));
}

TEST(Launch, TheEndMayComeBeforeThePluginReturns) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Finish(h.executes[0]);
  EXPECT_THAT(h.Done(), IsEmpty());
  h.Return(h.executes[0], 8);
  EXPECT_THAT(h.Done(), ElementsAre(Pair(1, absl::OkStatus())));
}

TEST(Launch, ReportsHowLongItRanAndWhatItMade) {
  Harness h(2);
  h.Compile(kGang, {0, 1});
  h.Launch(1, kGang, {}, {kX, kY});
  h.Return(h.executes[0], 8);
  h.now += absl::Microseconds(250);
  h.Finish(h.executes[0]);
  const proto::LaunchDone done = h.Only().launches_done().done(0);
  EXPECT_EQ(done.run_us(), 250);
  EXPECT_EQ(done.output_bytes(), 4 * 8);
}

TEST(Launch, ReportsSizesThatAreNotThoseOfTheTypes) {
  Harness h(2);
  proto::ProgramInfo info;
  for (int64_t elements : {2, 3}) {
    proto::ShardType& type = *info.add_outputs()->mutable_type();
    type.set_dtype(static_cast<int32_t>(DType::kF32));
    type.add_dims(elements);
  }
  h.Compile(kGang, {0, 1}, info);
  h.Launch(1, kGang, {}, {kX, kY});
  h.Do(ExecuteReturned{h.executes[0].launch, std::vector<int64_t>{8, 12, 8, 12}, absl::OkStatus()});
  EXPECT_THAT(h.Only().launches_done().done(0).output_sizes(), IsEmpty());
  h.Launch(2, kGang, {}, {Array(5), Array(6)});
  h.Do(ExecuteReturned{h.executes[1].launch, std::vector<int64_t>{16, 12, 16, 12}, absl::OkStatus()});
  EXPECT_THAT(h.Only().launches_done().done(0).output_sizes(), ElementsAre(16, 12));
}

TEST(Launch, WhatEndsTogetherIsReportedInOneMessage) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  for (int i = 2; i < 10; ++i) h.Launch(i, kProgram, {kX}, {Array(i)});
  h.Do(ExecuteReturned{h.executes[0].launch, absl::InternalError(""), std::nullopt});
  EXPECT_THAT(h.Only().launches_done().done(), SizeIs(9));
}

// ---------------------------------------------------------------- collectives

TEST(Collectives, OnlyOneSuchLaunchRunsAtATime) {
  Harness h(4);
  h.Compile(kGang, {0, 1}, WithCollectives());
  h.Compile(kProgram, {2, 3}, WithCollectives());
  h.Compile(ProgramNumber(3), {2, 3});
  h.Launch(1, kGang, {}, {kX});
  h.Launch(2, kProgram, {}, {kY});
  ASSERT_THAT(h.executes, SizeIs(1));
  h.Return(h.executes[0], 8);
  EXPECT_THAT(h.executes, SizeIs(1)) << "taken by the plugin is not finished";
  h.Finish(h.executes[0]);
  ASSERT_THAT(h.executes, SizeIs(2));
  h.Return(h.executes[1], 8);
  h.Launch(3, ProgramNumber(3), {}, {kZ});
  EXPECT_THAT(h.executes, SizeIs(3)) << "a launch without collectives does not wait";
}

TEST(Collectives, AFailedLaunchLetsTheNextOneStart) {
  Harness h(2);
  h.Compile(kGang, {0, 1}, WithCollectives());
  h.Launch(1, kGang, {}, {kX});
  h.Launch(2, kGang, {}, {kY});
  h.Do(ExecuteReturned{h.executes[0].launch, absl::InternalError(""), std::nullopt});
  EXPECT_THAT(h.executes, SizeIs(2));
}

TEST(Collectives, OnOneDeviceTheyAreNone) {
  Harness h(2);
  h.Compile(kProgram, {0}, WithCollectives());
  h.Compile(kGang, {1}, WithCollectives());
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kGang, {}, {kY});
  EXPECT_THAT(h.executes, SizeIs(2));
}

// ---------------------------------------------------------------- donation

TEST(Donation, TheNameIsUnusableFromTheLaunchOn) {
  Harness h(1);
  h.Compile(kProgram, {0}, Donating(0));
  h.PutReady(kX);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Fetch(9, kX, 0, 1);
  EXPECT_THAT(h.Only().fetch_done().status().message(), HasSubstr("donated"));
  h.Return(h.executes[0], 8, absl::OkStatus());
  h.sent.clear();
  h.Fetch(10, kX, 0, 1);
  EXPECT_THAT(h.Only().fetch_done().status().message(), HasSubstr("donated"));
  EXPECT_EQ(h.Ping().device_bytes(0), 8) << "the donated 16 bytes are gone";
}

TEST(Donation, ToALaunchThatFailsGivesTheMemoryBackAllTheSame) {
  Harness h(1);
  h.Compile(kProgram, {0}, Donating(0));
  h.PutReady(kX);
  EXPECT_EQ(h.Ping().device_bytes(0), 16);
  h.Launch(1, kProgram, {kX}, {kY});
  h.Do(ExecuteReturned{h.executes[0].launch, absl::ResourceExhaustedError("no"), std::nullopt});
  h.sent.clear();
  EXPECT_EQ(h.Ping().device_bytes(0), 0);
  h.Fetch(9, kX, 0, 1);
  EXPECT_THAT(h.Only().fetch_done().status().message(), HasSubstr("donated"));
}

TEST(Donation, WaitsForReadsThatCameBefore) {
  Harness h(1);
  h.Compile(kProgram, {0}, Donating(0));
  h.PutReady(kX);
  h.Fetch(9, kX, 0, 1);
  h.Launch(1, kProgram, {kX}, {kY});
  EXPECT_THAT(h.executes, IsEmpty());
  h.Do(Viewed{h.views[0].first, DType::kF32, {4}, false});
  EXPECT_THAT(h.executes, IsEmpty());
  h.Do(HostFilled{h.read_backs[0].host, absl::OkStatus()});
  EXPECT_THAT(h.executes, SizeIs(1));
}

TEST(Donation, OfWhatIsStillBeingMadeSaysNothingAboutItsMaking) {
  for (const absl::Status& made : {absl::OkStatus(), absl::InternalError("cable cut")}) {
    Harness h(1);
    h.Compile(kProgram, {0}, Donating(0));
    h.Put(kX, {{0, 0}});
    h.Launch(1, kProgram, {kX}, {kY});
    h.Do(BufferMade{h.made[0].buffer, 16});
    h.Return(h.executes[0], 8);
    EXPECT_THAT(h.sent, IsEmpty()) << "made is not ready, and taken is not failed";
    h.Do(BufferReady{h.made[0].buffer, made});
    EXPECT_EQ(h.Only().array_done().status().message(), made.message());
  }
}

TEST(Donation, NonDonatableArgumentsStay) {
  Harness h(1);
  h.Compile(kProgram, {0}, Donating(0));
  h.PutReady(kX);
  h.Launch(1, kProgram, {kX}, {kY}, /*non_donatable=*/{0});
  h.Return(h.executes[0], 8, absl::OkStatus());
  EXPECT_EQ(h.Ping().device_buffers(0), 2);
}

// ---------------------------------------------------------------- names and accounts

TEST(Names, ABufferGoesWithItsLastName) {
  Harness h(1);
  h.PutReady(kX);
  h.Alias(kY, 3, kX, 0);
  h.Delete({kX});
  EXPECT_EQ(h.Ping().device_bytes(0), 16);
  EXPECT_EQ(h.Ping().device_buffers(0), 1) << "two names are one buffer";
  h.Delete({kY});
  EXPECT_EQ(h.Ping().device_bytes(0), 0);
  EXPECT_THAT(h.dropped, SizeIs(1));
}

TEST(Names, AQueuedLaunchKeepsWhatItCapturedThoughItsNameIsDeleted) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.PutReady(kX);
  h.Launch(1, kProgram, {}, {kZ});
  h.Launch(2, kProgram, {kX}, {kY});
  h.Delete({kX});
  EXPECT_EQ(h.Ping().device_bytes(0), 16);
  h.Return(h.executes[0], 8);
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_THAT(h.executes[1].arguments, SizeIs(1));
  h.Return(h.executes[1], 8);
  EXPECT_EQ(h.Ping().device_bytes(0), 16) << "two outputs of 8; the argument went when the plugin had it";
}

TEST(Names, OutputsDeletedBeforeTheyExistAreFreedAtTheEndOfTheirLaunch) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Delete({kX});
  h.Return(h.executes[0], 8);
  EXPECT_EQ(h.Ping().device_bytes(0), 8) << "in use by the launch";
  h.Finish(h.executes[0]);
  EXPECT_EQ(h.Ping().device_bytes(0), 0);
  EXPECT_THAT(h.dropped, SizeIs(1));
}

TEST(Names, AnAliasOfAPromiseBecomesWhatWasPromised) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Alias(kY, 0, kX, 0);
  h.Delete({kX});
  h.Return(h.executes[0], 8, absl::OkStatus());
  h.Launch(2, kProgram, {kY}, {kZ});
  ASSERT_THAT(h.executes, SizeIs(2));
  EXPECT_EQ(h.executes[1].arguments, h.executes[0].outputs);
}

TEST(Names, AnAliasOfNothingHoldsTheError) {
  Harness h(1);
  h.Alias(kY, 0, kX, 0);
  h.Fetch(9, kY, 0, 1);
  EXPECT_EQ(h.Only().fetch_done().status().code(), static_cast<int>(absl::StatusCode::kNotFound));
}

TEST(Names, AccountsAreByDevice) {
  Harness h(2);
  h.PutReady(kX, 4, 0);
  h.PutReady(kY, 100, 1);
  const proto::Pong pong = h.Ping();
  EXPECT_THAT(pong.device_bytes(), ElementsAre(16, 400));
  EXPECT_THAT(pong.device_buffers(), ElementsAre(1, 1));
  EXPECT_EQ(pong.host_bytes(), 0);
  EXPECT_EQ(pong.number(), 7u);
}

// ---------------------------------------------------------------- ends

TEST(DropSession, FreesAllThatTheSessionHasAndNothingOfOthers) {
  Harness h(1);
  constexpr uint64_t kTheirs = Array(1, kOtherSession);
  h.Compile(kProgram, {0});
  h.Compile(ProgramNumber(1, kOtherSession), {0});
  h.PutReady(kX);
  h.PutReady(kTheirs);
  h.Launch(1, kProgram, {}, {kY});
  h.Launch(2, kProgram, {}, {kZ});
  h.Launch(3, ProgramNumber(1, kOtherSession), {kTheirs}, {Array(2, kOtherSession)});
  h.DropSession(kSession);
  EXPECT_THAT(h.Done(), ElementsAre(Pair(2, HasCode(absl::StatusCode::kCancelled)))) << "the first runs already";
  EXPECT_EQ(h.Ping().device_buffers(0), 1);
  h.Return(h.executes[0], 8, absl::OkStatus());
  ASSERT_THAT(h.executes, SizeIs(2)) << "the other session's launch";
  EXPECT_EQ(h.Ping().device_buffers(0), 1);
  EXPECT_THAT(h.programs, SizeIs(1));
}

TEST(DropPrograms, WaitsForTheLaunchesThatUseThem) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.Launch(1, kProgram, {}, {kX});
  h.Launch(2, kProgram, {}, {kY});
  h.DropProgramNamed(kProgram);
  EXPECT_THAT(h.programs, SizeIs(1));
  h.Launch(3, kProgram, {}, {kZ});
  EXPECT_THAT(h.Done(), ElementsAre(Pair(3, HasCode(absl::StatusCode::kNotFound))));
  h.Return(h.executes[0], 8, absl::OkStatus());
  h.Return(h.executes[1], 8, absl::OkStatus());
  EXPECT_THAT(h.programs, IsEmpty());
}

TEST(LinkLost, DropsEverythingAndBeginsAnewWithAHello) {
  Harness h(1);
  h.Compile(kProgram, {0});
  h.PutReady(kX);
  h.Launch(1, kProgram, {}, {kY});
  h.Launch(2, kProgram, {}, {kZ});
  h.Do(LinkLost{});
  EXPECT_THAT(h.sent, IsEmpty()) << "nobody is there to be told";
  h.Do(LinkUp{});
  EXPECT_EQ(h.Only().hello().name(), "test");
  h.Return(h.executes[0], 8, absl::OkStatus());
  EXPECT_THAT(h.sent, IsEmpty()) << "a launch of the former link is not reported on this one";
  const proto::Pong pong = h.Ping();
  EXPECT_EQ(pong.device_bytes(0), 0);
  EXPECT_EQ(pong.queued_launches(), 0);
  EXPECT_EQ(pong.programs(), 0);
  EXPECT_THAT(h.programs, IsEmpty());
  h.Compile(kProgram, {0});
  h.PutReady(kX);
  EXPECT_EQ(h.Ping().device_buffers(0), 1) << "names can be used again";
  EXPECT_EQ(h.Ping().programs(), 1);
}

TEST(Programs, BadDevicesAreTheCompilesError) {
  Harness h(2);
  for (const std::vector<int>& devices : std::vector<std::vector<int>>{{}, {2}, {-1}, {0, 0}}) {
    h.StartCompile(kProgram, devices);
    EXPECT_EQ(h.Only().compiled().status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(h.compiles, IsEmpty());
}

TEST(Programs, AreReportedWithWhatTheCompilerSays) {
  Harness h(1);
  proto::ProgramInfo info;
  info.set_name("jit_f");
  h.StartCompile(kProgram, {0});
  h.Do(CompileDone{h.compiles[0].program, info, absl::Milliseconds(1)});
  const proto::Compiled compiled = h.Only().compiled();
  EXPECT_EQ(compiled.program(), kProgram);
  EXPECT_EQ(compiled.info().name(), "jit_f");
  EXPECT_EQ(compiled.compile_us(), 1000);
}

TEST(Query, IsPutToThePluginOrAnsweredWithWhatIsWrong) {
  Harness h(1);
  proto::ToWorker message;
  message.mutable_query()->set_query(5);
  message.mutable_query()->set_program_text(kProgram);
  h.Frame(message);
  EXPECT_EQ(h.Only().query_done().status().code(), static_cast<int>(absl::StatusCode::kNotFound));
  h.Compile(kProgram, {0});
  h.Frame(message);
  EXPECT_THAT(h.asked, SizeIs(1));
  message.mutable_query()->mutable_default_layout()->set_device(7);
  h.Frame(message);
  EXPECT_EQ(h.Only().query_done().status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
}

TEST(Query, AboutAProgramWaitsForTheCompiler) {
  Harness h(1);
  proto::ToWorker message;
  message.mutable_query()->set_query(5);
  message.mutable_query()->set_program_text(kProgram);
  h.StartCompile(kProgram, {0});
  h.Frame(message);
  EXPECT_THAT(h.asked, IsEmpty());
  EXPECT_THAT(h.sent, IsEmpty());
  h.Do(CompileDone{h.compiles[0].program, proto::ProgramInfo(), absl::ZeroDuration()});
  EXPECT_THAT(h.asked, SizeIs(1));

  h.sent.clear();
  const uint64_t broken = ProgramNumber(2);
  h.StartCompile(broken, {0});
  message.mutable_query()->set_cost_analysis(broken);
  h.Frame(message);
  h.Do(CompileDone{h.compiles[1].program, absl::InvalidArgumentError("no such op"), absl::ZeroDuration()});
  ASSERT_THAT(h.sent, SizeIs(2));
  EXPECT_EQ(h.sent[1].query_done().status().message(), "no such op");
}

TEST(Peers, AreToldToTheDataPlaneAsTheyChange) {
  Harness h(1);
  const auto peers = [&](std::vector<std::tuple<int, std::string, uint64_t>> list) {
    h.net.clear();
    proto::ToWorker message;
    message.mutable_peers();
    for (const auto& [worker, address, incarnation] : list) {
      proto::Peers::Peer& peer = *message.mutable_peers()->add_peers();
      peer.set_worker(worker);
      peer.set_data_address(address);
      peer.set_incarnation(incarnation);
    }
    h.Frame(message);
    return h.net;
  };
  EXPECT_THAT(peers({{0, "me", 1}, {1, "a", 1}, {2, "b", 1}}), ElementsAre("set 1 a 0", "set 2 b 0"));
  EXPECT_THAT(peers({{0, "me", 1}, {1, "a", 2}, {2, "b", 1}}), ElementsAre("drop 1", "set 1 a 0"));
  EXPECT_THAT(peers({{0, "me", 1}, {1, "a", 2}}), ElementsAre("drop 2"));
  h.net.clear();
  h.Do(LinkLost{});
  EXPECT_THAT(h.net, ElementsAre("drop 1", "drop -1"));
}

}  // namespace
}  // namespace causeway::worker
