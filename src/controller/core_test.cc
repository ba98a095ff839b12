#include "controller/core.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "base/origin.h"
#include "controller/core_test_harness.h"

namespace causeway {
namespace {

// ---------------------------------------------------------------- the cluster

TEST_F(CoreTest, ASessionNeedsAWorker) {
  Open();
  EXPECT_EQ(out_.done[900].code(), absl::StatusCode::kFailedPrecondition);
  Join(kLinkA, "a");
  Open();
  EXPECT_TRUE(out_.done[900].ok());
}

TEST_F(CoreTest, DeviceIdsAreIslandMajorWhateverTheOrderOfJoining) {
  Join(kLinkA, "z", "i0");
  Join(kLinkB, "a", "i1");
  Join(LinkId{12}, "b", "i0");
  Open();
  std::vector<std::string> order;
  for (const DeviceView& view : core_.Devices()) order.push_back(view.worker_name);
  EXPECT_EQ(order, (std::vector<std::string>{"b", "b", "z", "z", "a", "a"}));
}

TEST_F(CoreTest, IdsOnceGivenStay) {
  Join(kLinkA, "m");
  Open();
  Join(kLinkB, "a");
  Open(kOther);
  std::vector<std::string> order;
  for (const DeviceView& view : core_.Devices()) order.push_back(view.worker_name);
  EXPECT_EQ(order, (std::vector<std::string>{"m", "m", "a", "a"}));
}

TEST_F(CoreTest, WorkersThatDoNotFitAreSentAwayWithAReason) {
  Join(kLinkA, "a");
  const auto refused = [&](proto::ToController hello) {
    const LinkId link{static_cast<uint64_t>(100 + ticket_++)};
    Handle(WorkerFrame{link, std::move(hello), "test"});
    const auto goodbyes = Sent(link, proto::ToWorker::kGoodbye);
    EXPECT_TRUE(out_.closed.contains(Raw(link)));
    return goodbyes.empty() ? absl::StatusCode::kOk
                            : static_cast<absl::StatusCode>(goodbyes[0].goodbye().status().code());
  };
  EXPECT_EQ(refused(HelloFrom("a", "i0", 2)), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(refused(HelloFrom("", "i0", 2)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(HelloFrom("c", "i0", 0)), absl::StatusCode::kInvalidArgument);
  auto hello = HelloFrom("c", "i0", 2);
  hello.mutable_hello()->set_token("guess");
  EXPECT_EQ(refused(hello), absl::StatusCode::kUnauthenticated);
  hello = HelloFrom("c", "i0", 2);
  hello.mutable_hello()->set_version(kControlVersion + 1);
  EXPECT_EQ(refused(hello), absl::StatusCode::kFailedPrecondition);
  hello = HelloFrom("c", "i0", 2);
  hello.mutable_hello()->set_platform("cuda");
  EXPECT_EQ(refused(hello), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(core_.Devices().size(), 2u) << "none of them was taken in";
}

TEST_F(CoreTest, ANewLinkOfTheSameProcessReplacesItsOldOne) {
  auto hello = HelloFrom("a", "i0", 2);
  hello.mutable_hello()->set_process(77);
  Handle(WorkerFrame{kLinkA, hello, "test"});
  Open();
  Put(A(1), {0});
  // It was told nothing for too long, or the controller stood still: the end of the old link is not known here yet.
  Handle(WorkerFrame{LinkId{20}, hello, "test"});
  EXPECT_TRUE(out_.closed.contains(Raw(kLinkA)));
  EXPECT_EQ(Sent(LinkId{20}, proto::ToWorker::kWelcome).size(), 1u);
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kDataLoss) << "it begins with nothing";
  Handle(LinkClosed{kLinkA, absl::OkStatus()});
  EXPECT_EQ(out_.down, std::vector<int>{0}) << "once";
  // Another process under the name, the first being alive, is somebody's mistake.
  hello.mutable_hello()->set_process(78);
  Handle(WorkerFrame{LinkId{21}, hello, "test"});
  EXPECT_EQ(Sent(LinkId{21}, proto::ToWorker::kGoodbye).size(), 1u);
}

TEST_F(CoreTest, ClientsAreAskedToWaitForTheWorkersThatAreExpected) {
  ControllerCore core(ControllerOptions{.token = "secret", .expected_workers = 2});
  const auto handle = [&](Event event) { core.Handle(std::move(event), now_, out_); };
  handle(Tick{});
  EXPECT_EQ(core.Ready().code(), absl::StatusCode::kUnavailable);
  handle(WorkerFrame{kLinkA, HelloFrom("a", "i0", 2), "test"});
  EXPECT_EQ(core.Ready().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(core.Ready().message(), "1 of 2")) << core.Ready();
  handle(WorkerFrame{kLinkB, HelloFrom("b", "i0", 2), "test"});
  EXPECT_TRUE(core.Ready().ok()) << core.Ready();
  handle(LinkClosed{kLinkA, absl::UnavailableError("reset")});
  EXPECT_TRUE(core.Ready().ok()) << "its place is known, and who connects sees its devices";
  handle(LinkClosed{kLinkB, absl::UnavailableError("reset")});
  EXPECT_EQ(core.Ready().code(), absl::StatusCode::kUnavailable);
}

TEST_F(CoreTest, ClientsDoNotWaitForEverForAWorkerThatDoesNotCome) {
  ControllerCore core(ControllerOptions{.token = "secret", .expected_workers = 2});
  const auto handle = [&](Event event) { core.Handle(std::move(event), now_, out_); };
  handle(Tick{});
  handle(WorkerFrame{kLinkA, HelloFrom("a", "i0", 2), "test"});
  EXPECT_FALSE(core.Ready().ok());
  now_ += absl::Seconds(61);
  proto::ToController pong;
  pong.mutable_pong();
  handle(WorkerFrame{kLinkA, pong, "test"});
  EXPECT_TRUE(core.Ready().ok()) << core.Ready();
}

TEST_F(CoreTest, AStrangerWhoSaysSomethingElseFirstIsCutOff) {
  proto::ToController message;
  message.mutable_pong();
  Handle(WorkerFrame{LinkId{50}, message, "stranger"});
  EXPECT_EQ(out_.closed[50].code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, ASilentWorkerIsLostAfterTheHeartbeatTimeout) {
  TwoWorkers();
  Put(A(1), {0});
  ArrayDone(kLinkA, A(1));
  now_ += absl::Seconds(9);
  ArrayDone(kLinkB, A(99));  // b is heard of, a is not
  Handle(Tick{});
  EXPECT_TRUE(out_.down.empty());
  now_ += absl::Seconds(2);
  Handle(Tick{});
  EXPECT_EQ(out_.down, std::vector<int>{0});
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kDataLoss);
}

// ---------------------------------------------------------------- arrays

TEST_F(CoreTest, SmallHostDataRideInOneFrameToEachWorker) {
  TwoWorkers();
  Put(A(1), {0, 1, 2});
  EXPECT_TRUE(Done().ok()) << Done();
  ASSERT_EQ(Sent(kLinkA, proto::ToWorker::kPut).size(), 1u);
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kPut)[0].put().shards_size(), 2);
  ASSERT_EQ(Sent(kLinkB, proto::ToWorker::kPut).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kPut)[0].put().shards(0).device(), 0) << "worker-local";
  const uint64_t wait = Wait(A(1));
  ArrayDone(kLinkA, A(1));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown) << "b has not reported";
  ArrayDone(kLinkB, A(1));
  EXPECT_TRUE(Answer(wait).ok());
}

TEST_F(CoreTest, HostDataThatAreNotHereYetAreAskedFor) {
  TwoWorkers();
  Handle(PutArray{Next(), A(1), On({2}), {HostPiece{HostBufferId{7}, {0}, {}, 16, std::nullopt}}});
  Handle(PutArray{Next(), A(2), On({2}, {1 << 20}), {HostPiece{HostBufferId{8}, {0}, {}, 4 << 20, std::nullopt}}});
  ASSERT_EQ(out_.wanted.size(), 2u);
  EXPECT_TRUE(out_.wanted[0].in_frame);
  EXPECT_FALSE(out_.wanted[1].in_frame);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kReceiveHost).size(), 2u);
  Handle(HostDataArrived{out_.wanted[0].worker, out_.wanted[0].stream, std::string(16, 'x')});
  ASSERT_EQ(Sent(kLinkB, proto::ToWorker::kHostData).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kHostData)[0].host_data().data().size(), 16u);
}

TEST_F(CoreTest, HostDataMustCoverEveryShardOnce) {
  TwoWorkers();
  Handle(PutArray{Next(), A(1), On({0, 1}), {HostPiece{HostBufferId{1}, {0}, {}, 16, std::string(16, 'x')}}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kInvalidArgument) << "the name holds the error";
  Handle(PutArray{Next(), A(2), On({0}), {HostPiece{HostBufferId{1}, {0, 0}, {}, 16, std::string(16, 'x')}}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, ANameCannotBeTakenTwiceNorFromAnotherSession) {
  TwoWorkers();
  Open(kOther);
  Put(A(1), {0});
  Put(A(1), {0});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  ArrayDone(kLinkA, A(1));
  EXPECT_TRUE(Answer(Wait(A(1))).ok()) << "the first one is unharmed";
  Handle(WaitReady{Next(kOther), {A(1)}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kNotFound) << "sessions do not see each other's arrays";
}

TEST_F(CoreTest, DeletedArraysAreGoneForEverybodyButTheirName) {
  TwoWorkers();
  Put(A(1), {0, 2});
  Handle(DeleteArrays{Next(), {A(1), A(77)}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kNotFound) << "77 is unknown";
  EXPECT_TRUE(core_.IsDeleted(A(1)));
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDelete).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kDelete).size(), 1u);
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kInvalidArgument);
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_TRUE(Done().ok());
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDelete).size(), 1u) << "the data went before";
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kNotFound);
}

TEST_F(CoreTest, FetchesAreAnsweredWithWhatTheWorkerSends) {
  TwoWorkers();
  Put(A(1), {0, 3});
  Handle(FetchShard{Next(), A(1), 1, {}});
  ASSERT_EQ(Sent(kLinkB, proto::ToWorker::kFetch).size(), 1u);
  proto::ToController message;
  message.mutable_fetch_done()->set_fetch(Sent(kLinkB, proto::ToWorker::kFetch)[0].fetch().fetch());
  message.mutable_fetch_done()->set_total_bytes(16);
  message.mutable_fetch_done()->set_data(std::string(16, 'y'));
  Handle(WorkerFrame{kLinkB, message, ""});
  ASSERT_TRUE(out_.fetched.contains(ticket_));
  EXPECT_EQ(out_.fetched.at(ticket_)->data, std::string(16, 'y'));
  EXPECT_EQ(out_.fetched.at(ticket_)->worker, WorkerId{-1}) << "no stream follows";
  Handle(FetchShard{Next(), A(1), 2, {}});
  EXPECT_EQ(out_.fetched.at(ticket_).status().code(), absl::StatusCode::kInvalidArgument) << "no such shard";
}

TEST_F(CoreTest, AliasesWaitForWhatTheirSourcesWaitFor) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {2});
  Handle(AliasShards{Next(), {{A(3), On({2, 0}), {{A(2), 0}, {A(1), 0}}}}, {}});
  ASSERT_TRUE(Done().ok()) << Done();
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kAlias).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kAlias).size(), 1u);
  const uint64_t wait = Wait(A(3));
  ArrayDone(kLinkA, A(1));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  ArrayDone(kLinkB, A(2), absl::InternalError("broken"));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kInternal);
}

TEST_F(CoreTest, AnAliasCannotMoveAShard) {
  TwoWorkers();
  Put(A(1), {0});
  Handle(AliasShards{Next(), {{A(2), On({1}), {{A(1), 0}}}}, {}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Answer(Wait(A(2))).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, WhatDoesNotSayWhichPartsItsShardsAreIsNotCutAnew) {
  TwoWorkers();
  Put(A(1), {0, 1});
  const auto even =
      std::make_shared<const Sharding>(*Sharding::Even({DeviceId{0}, DeviceId{1}}, "", /*dims=*/{4}, {2}));
  Handle(ReshardArrays{Next(), {A(1)}, {A(2)}, {even}, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Answer(Wait(A(2))).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(CoreTest, WhereOneNameIsTakenNothingIsMade) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {0});
  Handle(CopyArrays{Next(), {A(1), A(1)}, {A(3), A(2)}, {DeviceId{1}}, std::nullopt, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  Handle(ReshardArrays{Next(), {A(1), A(1)}, {A(4), A(4)}, {On({1})->sharding, On({1})->sharding}, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  Handle(AliasShards{Next(), {{A(5), On({0}), {{A(1), 0}}}, {A(2), On({0}), {{A(1), 0}}}}, {}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Sent(kLinkA, proto::ToWorker::kCopy).empty());
  EXPECT_TRUE(Sent(kLinkA, proto::ToWorker::kAlias).empty());
  for (int fresh : {3, 4, 5}) {
    EXPECT_EQ(Answer(Wait(A(fresh))).code(), absl::StatusCode::kInvalidArgument) << "the name holds the error";
  }
  ArrayDone(kLinkA, A(2));
  EXPECT_TRUE(Answer(Wait(A(2))).ok()) << "what had the name is unharmed";
}

TEST_F(CoreTest, ACopyTellsSenderAndMakerAboutTheSameStream) {
  TwoWorkers();
  Put(A(1), {0});
  Handle(CopyArrays{Next(), {A(1)}, {A(2)}, {DeviceId{2}}, std::nullopt, false});
  ASSERT_TRUE(Done().ok()) << Done();
  const auto to_a = Sent(kLinkA, proto::ToWorker::kCopy);
  const auto to_b = Sent(kLinkB, proto::ToWorker::kCopy);
  ASSERT_EQ(to_a.size(), 1u);
  ASSERT_EQ(to_b.size(), 1u);
  EXPECT_EQ(to_a[0].copy().made_size(), 0);
  EXPECT_EQ(to_b[0].copy().made_size(), 1);
  EXPECT_NE(to_a[0].copy().parts(0).stream(), 0u);
  EXPECT_EQ(to_a[0].copy().parts(0).stream(), to_b[0].copy().parts(0).stream());
  const uint64_t wait = Wait(A(2));
  ArrayDone(kLinkB, A(2));
  EXPECT_TRUE(Answer(wait).ok());
}

TEST_F(CoreTest, WhenASenderIsLostItsMakersAreToldAndReport) {
  TwoWorkers();
  Put(A(1), {0});
  ArrayDone(kLinkA, A(1));
  Handle(CopyArrays{Next(), {A(1)}, {A(2)}, {DeviceId{2}}, std::nullopt, false});
  const uint64_t wait = Wait(A(2));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset")});
  ASSERT_EQ(Sent(kLinkB, proto::ToWorker::kFail).size(), 1u);
  EXPECT_EQ(Sent(kLinkB, proto::ToWorker::kFail)[0].fail().array(), Raw(A(2)));
  ArrayDone(kLinkB, A(2), absl::DataLossError("lost"));
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kDataLoss);
}

// ---------------------------------------------------------------- programs

TEST_F(CoreTest, OutputsExistAsSoonAsALaunchIsAccepted) {
  TwoWorkers();
  Put(A(1), {0, 1});
  Compile(P(1), {0, 1}, kLinkA);
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(Done().ok()) << Done();
  Launch(P(1), A(2), A(3));
  EXPECT_TRUE(Done().ok()) << Done();
  const auto launches = Sent(kLinkA, proto::ToWorker::kLaunch);
  ASSERT_EQ(launches.size(), 2u) << "nothing waited for a device";
  EXPECT_LT(launches[0].launch().number(), launches[1].launch().number());
  const uint64_t wait = Wait(A(3));
  LaunchDone(kLinkA, 1);
  EXPECT_EQ(Answer(wait).code(), absl::StatusCode::kUnknown);
  LaunchDone(kLinkA, 2);
  EXPECT_TRUE(Answer(wait).ok());
}

TEST_F(CoreTest, ALaunchMessageDoesNotGrowWithTheDevices) {
  Join(kLinkA, "a", "i0", 2);
  Join(kLinkB, "b", "i0", 1024);
  Open();
  std::vector<int> many;
  for (int i = 2; i < 1026; ++i) many.push_back(i);
  Put(A(1), {0});
  Put(A(2), many);
  Compile(P(1), {0}, kLinkA);
  Compile(P(2), many, kLinkB);
  Launch(P(1), A(1), A(3));
  Launch(P(2), A(2), A(4));
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kLaunch)[0].ByteSizeLong(),
            Sent(kLinkB, proto::ToWorker::kLaunch)[0].ByteSizeLong());
}

TEST_F(CoreTest, AFailedLaunchPoisonsItsDependentsAndNothingElse) {
  TwoWorkers();
  Put(A(1), {0});
  Compile(P(1), {0}, kLinkA);
  Launch(P(1), A(1), A(2));
  Launch(P(1), A(1), A(3));
  LaunchDone(kLinkA, 1, absl::InternalError("broken"));
  LaunchDone(kLinkA, 2);
  Launch(P(1), A(2), A(4));
  EXPECT_TRUE(Done().ok()) << "the error is the arrays', not the request's";
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kLaunch).size(), 2u) << "known to be poisoned: not sent";
  EXPECT_EQ(Answer(Wait(A(4))).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(Answer(Wait(A(3))).ok());
}

TEST_F(CoreTest, ABadLaunchIsRefusedAndItsOutputsHoldTheError) {
  TwoWorkers();
  Put(A(1), {0});
  Put(A(2), {1});
  Compile(P(1), {0}, kLinkA);
  Launch(P(9), A(1), A(10));
  EXPECT_EQ(Done().code(), absl::StatusCode::kNotFound);
  Launch(P(1), A(55), A(11));
  EXPECT_EQ(Done().code(), absl::StatusCode::kNotFound);
  Launch(P(1), A(2), A(12));
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument) << "lies on another device";
  Handle(LaunchProgram{.request = Next(), .program = P(1), .arguments = {A(1), A(1)}, .outputs = {A(13)}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument) << "takes one argument";
  Handle(LaunchProgram{.request = Next(), .program = P(1), .arguments = {A(1)}, .outputs = {A(20)}, .status = A(21)});
  ASSERT_TRUE(Done().ok());
  out_.sent.clear();
  Launch(P(1), A(21), A(22));
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument) << "a status is no argument";
  EXPECT_EQ(Answer(Wait(A(10))).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Answer(Wait(A(13))).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Sent(kLinkA, proto::ToWorker::kLaunch).empty());
}

TEST_F(CoreTest, AnArgumentMayComeFromAnywhereButItsDevicesAreTheProgramsInOrder) {
  TwoWorkers();
  Compile(P(1), {0, 1}, kLinkA);
  Compile(P(2), {1, 0}, kLinkA);
  Put(A(1), {0, 1});
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(Done().ok()) << "from the host: " << Done();
  Handle(CopyArrays{.request = Next(), .sources = {A(2)}, .targets = {A(3)}, .devices = {DeviceId{1}, DeviceId{0}}});
  Launch(P(2), A(3), A(4));
  EXPECT_TRUE(Done().ok()) << "a copy: " << Done();
  Handle(AliasShards{Next(), {{A(5), On({0, 1}), {{A(4), 1}, {A(4), 0}}}}, {}});
  Launch(P(1), A(5), A(6));
  EXPECT_TRUE(Done().ok()) << "other names for shards: " << Done();
  Launch(P(2), A(5), A(7));
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument) << "the same devices in another order";
}

TEST_F(CoreTest, DonatedArgumentsAreDeletedAndTheirNamesGoLater) {
  TwoWorkers();
  Put(A(1), {0});
  Compile(P(1), {0}, kLinkA, /*donates=*/true);
  Launch(P(1), A(1), A(2));
  EXPECT_TRUE(core_.IsDeleted(A(1)));
  Handle(DestructArrays{Next(), {A(1)}});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDelete).size(), 1u);
  Handle(
      LaunchProgram{.request = Next(), .program = P(1), .arguments = {A(2)}, .outputs = {A(3)}, .non_donatable = {0}});
  EXPECT_FALSE(core_.IsDeleted(A(2))) << "the client keeps it";
}

TEST_F(CoreTest, ADeviceAssignmentMustBeOne) {
  TwoWorkers();
  Handle(CompileProgram{Next(), P(2), "mlir", "code", "", {DeviceId{1}, DeviceId{1}}});
  EXPECT_EQ(out_.compiled.at(ticket_).status().code(), absl::StatusCode::kInvalidArgument);
  Handle(CompileProgram{Next(), P(3), "mlir", "code", "", {DeviceId{40}}});
  EXPECT_EQ(out_.compiled.at(ticket_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, ACompileErrorIsTheCompilersAnswer) {
  TwoWorkers();
  Handle(CompileProgram{Next(), P(1), "mlir", "code", "", {DeviceId{1}}});
  proto::ToController message;
  message.mutable_compiled()->set_program(Raw(P(1)));
  message.mutable_compiled()->mutable_status()->set_code(3);
  message.mutable_compiled()->mutable_status()->set_message("bad module");
  Handle(WorkerFrame{kLinkA, message, ""});
  EXPECT_EQ(out_.compiled.at(ticket_).status().message(), "bad module");
  EXPECT_EQ(core_.FindProgram(P(1)), nullptr);
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kDropPrograms).size(), 1u) << "the worker forgets it as well";
}

TEST_F(CoreTest, OutputsOfARefusedLaunchKeepItsErrorWhateverBecomesOfTheWorker) {
  TwoWorkers();
  Put(A(1), {0});
  Compile(P(1), {0}, kLinkA);
  Handle(LaunchProgram{.request = Next(), .program = P(1), .arguments = {A(1)}, .outputs = {A(2)}, .status = A(1)});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument) << "the status' name is taken";
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(Answer(Wait(A(2))).code(), absl::StatusCode::kInvalidArgument);
}

// ---------------------------------------------------------------- where errors come from

TEST_F(CoreTest, AnErrorSaysTheOriginOfTheLaunchThatFailedFirst) {
  TwoWorkers();
  Put(A(1), {0});
  Compile(P(1), {0}, kLinkA);
  origin_ = 70;
  Launch(P(1), A(1), A(2));
  origin_ = 71;
  Launch(P(1), A(2), A(3));
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kLaunch)[0].launch().origin(), 70u);
  EXPECT_EQ(out_.open[70], 1);
  EXPECT_EQ(out_.open[71], 1);
  LaunchDone(kLinkA, 1, absl::InternalError("broken"));
  // The worker gives the dependent the error of what it depended on.
  LaunchDone(kLinkA, 2, WithOrigin(absl::InternalError("broken"), 70));
  origin_ = 72;
  Launch(P(1), A(3), A(4));
  for (uint64_t array : {2, 3, 4}) EXPECT_EQ(OriginOf(Answer(Wait(A(array)))), 70u) << array;
  Handle(CopyArrays{Next(), {A(4)}, {A(5)}, {DeviceId{2}}});
  EXPECT_EQ(OriginOf(Answer(Wait(A(5)))), 70u);
  Handle(FetchShard{Next(), A(3)});
  EXPECT_EQ(OriginOf(out_.fetched.at(ticket_).status()), 70u);
  for (const auto& [origin, open] : out_.open) EXPECT_EQ(open, 0) << origin;
  EXPECT_EQ(out_.failed, std::set<uint64_t>({70}));
}

TEST_F(CoreTest, AnOriginIsOpenUntilWhatItMadeIsDone) {
  TwoWorkers();
  origin_ = 70;
  Put(A(1), {0, 2});
  ArrayDone(kLinkA, A(1));
  EXPECT_EQ(out_.open[70], 1);
  ArrayDone(kLinkB, A(1));
  EXPECT_EQ(out_.open[70], 0);
  origin_ = 71;
  Handle(CopyArrays{Next(), {A(1)}, {A(2)}, {DeviceId{1}, DeviceId{3}}});
  EXPECT_EQ(Sent(kLinkA, proto::ToWorker::kCopy)[0].copy().origin(), 71u);
  EXPECT_EQ(out_.open[71], 1);
  ArrayDone(kLinkA, A(2));
  ArrayDone(kLinkB, A(2), absl::ResourceExhaustedError("full"));
  EXPECT_EQ(OriginOf(Answer(Wait(A(2)))), 71u);
  EXPECT_EQ(out_.failed, std::set<uint64_t>({71}));
  for (const auto& [origin, open] : out_.open) EXPECT_EQ(open, 0) << origin;
}

TEST_F(CoreTest, WhatIsRefusedIsTheOriginOfItsError) {
  TwoWorkers();
  origin_ = 70;
  Launch(P(9), A(1), A(10));
  EXPECT_EQ(OriginOf(Done()), 70u);
  EXPECT_EQ(OriginOf(Answer(Wait(A(10)))), 70u);
  origin_ = 71;
  Handle(MakeErrorArrays{Next(), {A(11)}, nullptr, absl::InternalError("given")});
  EXPECT_EQ(OriginOf(Answer(Wait(A(11)))), 71u);
  EXPECT_EQ(out_.failed, std::set<uint64_t>({70, 71}));
  for (const auto& [origin, open] : out_.open) EXPECT_EQ(open, 0) << origin;
}

TEST_F(CoreTest, WhatALostWorkerWasAtSaysItsOwnOrigin) {
  TwoWorkers();
  Put(A(1), {0});
  ArrayDone(kLinkA, A(1));
  Compile(P(1), {0}, kLinkA);
  origin_ = 70;
  Launch(P(1), A(1), A(2));
  origin_ = 71;
  Launch(P(1), A(2), A(3));
  const uint64_t waiting = Wait(A(3));
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  EXPECT_EQ(OriginOf(Answer(waiting)), 71u);
  EXPECT_EQ(OriginOf(Answer(Wait(A(2)))), 70u);
  EXPECT_EQ(OriginOf(Answer(Wait(A(1)))), 0u) << "what made it is done, and forgotten";
  for (const auto& [origin, open] : out_.open) EXPECT_EQ(open, 0) << origin;
}

TEST_F(CoreTest, AnOriginThatTheErrorOfALossSaysStaysThoughItsWorkEndsWell) {
  TwoWorkers();
  Put(A(1), {0});
  ArrayDone(kLinkA, A(1));
  origin_ = 70;
  Put(A(2), {2});
  origin_ = 71;
  Handle(AliasShards{Next(), {{A(3), On({0, 2}), {{A(1), 0}, {A(2), 0}}}}, {}});
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  ArrayDone(kLinkB, A(2));
  EXPECT_TRUE(Answer(Wait(A(2))).ok());
  EXPECT_EQ(OriginOf(Answer(Wait(A(3)))), 70u);
  EXPECT_TRUE(out_.failed.contains(70));
  for (const auto& [origin, open] : out_.open) EXPECT_EQ(open, 0) << origin;
}

TEST_F(CoreTest, TheStatusSaysWhatEachSessionHoldsOnEachDevice) {
  TwoWorkers();
  Open(kOther);
  Put(A(1), {0, 2});
  Put(A(2), {0});
  Put(A(1, kOther), {0});
  const proto::ClusterStatus status = core_.Status(now_);
  std::map<int, std::map<uint32_t, int64_t>> bytes;
  for (const auto& worker : status.islands(0).workers()) {
    for (const auto& device : worker.devices()) {
      for (const auto& share : device.shares()) bytes[device.device()][share.session()] += share.bytes();
    }
  }
  EXPECT_EQ(bytes[0], (std::map<uint32_t, int64_t>{{Raw(kSession), 32}, {Raw(kOther), 16}}));
  EXPECT_EQ(bytes[2], (std::map<uint32_t, int64_t>{{Raw(kSession), 16}}));
  EXPECT_FALSE(bytes.contains(1));
}

}  // namespace
}  // namespace causeway
