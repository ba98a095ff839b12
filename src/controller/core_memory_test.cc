// The core's accounts of device memory: what counts from when to when, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "controller/core_test_harness.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CoreMemoryTest : public CoreTest {
 protected:
  CoreMemoryTest() : CoreTest({}, Collectives::kHost) {}

  // As TwoWorkers(), with so much on each device.
  void TwoWorkersWith(int64_t bytes) {
    for (const auto& [link, name] : {std::pair(kLinkA, "a"), std::pair(kLinkB, "b")}) {
      proto::ToController hello = HelloFrom(name, "i0", 2);
      for (proto::Device& device : *hello.mutable_hello()->mutable_devices()) device.set_memory_bytes(bytes);
      Handle(WorkerFrame{link, hello, "test"});
    }
    Open();
    out_.sent.clear();
  }

  // On each of the four devices.
  std::vector<int64_t> Bytes() const {
    std::vector<int64_t> bytes;
    bytes.reserve(4);
    for (int i = 0; i < 4; ++i) bytes.push_back(core_.MemoryOf(DeviceId{i}).bytes);
    return bytes;
  }

  // A program from f32[4] on each of all devices to the same.
  void CompileGang(ProgramId id) {
    Handle(CompileProgram{Next(), id, "mlir", "code", "", {DeviceId{0}, DeviceId{1}, DeviceId{2}, DeviceId{3}}});
    proto::ToController message;
    proto::Compiled& compiled = *message.mutable_compiled();
    compiled.set_program(Raw(id));
    proto::ProgramInfo& info = *compiled.mutable_portable()->mutable_info();
    info.add_parameters();
    info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
    info.mutable_outputs(0)->mutable_type()->add_dims(4);
    Handle(WorkerFrame{kLinkA, message, ""});
    compiled.clear_portable();
    Handle(WorkerFrame{kLinkB, message, ""});
    ASSERT_TRUE(out_.compiled.at(ticket_).ok()) << out_.compiled.at(ticket_).status();
  }
};

TEST_F(CoreMemoryTest, AnArrayCountsFromWhenItIsAskedForUntilItsNameGoes) {
  TwoWorkers();
  Put(A(1), {0, 2});
  EXPECT_THAT(Bytes(), ElementsAre(16, 0, 16, 0));
  ArrayDone(kLinkA, A(1));
  Compile(P(1), {1}, kLinkA);
  Put(A(2), {1});
  Launch(P(1), A(2), A(3));
  EXPECT_THAT(Bytes(), ElementsAre(16, 32, 16, 0));
  Handle(DeleteArrays{Next(), {A(2)}});
  EXPECT_THAT(Bytes(), ElementsAre(16, 16, 16, 0));
  Handle(DestructArrays{Next(), {A(1), A(2), A(3)}});
  EXPECT_THAT(Bytes(), ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(core_.MemoryOf(DeviceId{1}).peak, 32);
}

TEST_F(CoreMemoryTest, ALaunchTakesItsDonatedArgumentsPlace) {
  TwoWorkers();
  Compile(P(1), {0}, kLinkA, /*donates=*/true);
  Put(A(1), {0});
  Handle(AliasShards{Next(), {{A(9), On({0}), {{A(1), 0}}}}, {}});
  Launch(P(1), A(1), A(2));
  EXPECT_THAT(Bytes(), ElementsAre(16, 0, 0, 0));
  EXPECT_EQ(core_.MemoryOf(DeviceId{0}).peak, 16) << "they were never there together";
  Handle(
      LaunchProgram{.request = Next(), .program = P(1), .arguments = {A(2)}, .outputs = {A(3)}, .non_donatable = {0}});
  EXPECT_THAT(Bytes(), ElementsAre(32, 0, 0, 0));
}

TEST_F(CoreMemoryTest, NamesOfOneBufferCountOnce) {
  TwoWorkers();
  Put(A(1), {0, 1, 2});
  Handle(AliasShards{
      Next(), {{A(2), On({1}), {{A(1), 1}}}, {A(3), On({0, 1, 2}), {{A(1), 0}, {A(1), 1}, {A(1), 2}}}}, {A(1)}});
  EXPECT_THAT(Bytes(), ElementsAre(16, 16, 16, 0));
  Handle(DestructArrays{Next(), {A(1), A(3)}});
  EXPECT_THAT(Bytes(), ElementsAre(0, 16, 0, 0));
  Handle(DeleteArrays{Next(), {A(2)}});
  EXPECT_THAT(Bytes(), ElementsAre(0, 0, 0, 0));
}

TEST_F(CoreMemoryTest, CopiesAndReshardsCountWhereTheyGo) {
  TwoWorkers();
  Put(A(1), {0});
  Handle(CopyArrays{.request = Next(), .sources = {A(1)}, .targets = {A(2)}, .devices = {DeviceId{3}}});
  Handle(ReshardArrays{Next(), {A(1)}, {A(3)}, {On({1, 2})->sharding}, /*donate=*/true});
  EXPECT_THAT(Bytes(), ElementsAre(0, 16, 16, 16));
}

TEST_F(CoreMemoryTest, WhatIsNotMadeDoesNotCount) {
  TwoWorkers();
  Put(A(1), {0, 2, 3});
  proto::ToController message;
  message.mutable_array_done()->set_array(Raw(A(1)));
  *message.mutable_array_done()->mutable_status() = ToProto(absl::InternalError("no"));
  message.mutable_array_done()->add_failed_devices(1);
  message.mutable_array_done()->add_failed_devices(7);  // it has none
  Handle(WorkerFrame{kLinkB, message, ""});
  EXPECT_THAT(Bytes(), ElementsAre(16, 0, 16, 0)) << "the others still have their shards";
  Handle(DestructArrays{Next(), {A(1)}});
  Compile(P(1), {1}, kLinkA);
  Put(A(2), {1});
  Launch(P(1), A(2), A(3));
  Launch(P(1), A(2), A(4));
  Handle(DestructArrays{Next(), {A(4)}});
  LaunchDone(kLinkA, 1, absl::InternalError("no"));
  LaunchDone(kLinkA, 2, absl::InternalError("no"));
  EXPECT_THAT(Bytes(), ElementsAre(0, 16, 0, 0));
  Launch(P(1), A(3), A(5));
  EXPECT_THAT(Bytes(), ElementsAre(0, 16, 0, 0)) << "nor does what takes it";
}

TEST_F(CoreMemoryTest, AGangsOutputsEndWhereTheyFail) {
  TwoWorkers();
  CompileGang(P(1));
  Put(A(1), {0, 1, 2, 3});
  Launch(P(1), A(1), A(2));
  EXPECT_THAT(Bytes(), ElementsAre(32, 32, 32, 32));
  LaunchDone(kLinkB, 1, absl::InternalError("no"));
  EXPECT_THAT(Bytes(), ElementsAre(32, 32, 16, 16));
  LaunchDone(kLinkA, 1, absl::AbortedError("b has failed"));
  EXPECT_THAT(Bytes(), ElementsAre(16, 16, 16, 16));
}

TEST_F(CoreMemoryTest, ALostWorkersMemoryIsGoneAndSoIsWhatNobodyCanUse) {
  TwoWorkers();
  CompileGang(P(1));
  Put(A(1), {0, 1, 2, 3});
  Handle(AliasShards{Next(), {{A(3), On({1}), {{A(1), 1}}}}, {}});
  Launch(P(1), A(1), A(2));
  Handle(LinkClosed{kLinkB, absl::UnavailableError("reset by peer")});
  EXPECT_THAT(Bytes(), ElementsAre(0, 16, 0, 0)) << "A(3) is whole";
  EXPECT_EQ(core_.Status(now_).sessions(0).device_bytes_size(), 1);
  LaunchDone(kLinkA, 1, absl::AbortedError("b is lost"));
  Join(kLinkB, "b");
  Handle(DestructArrays{Next(), {A(1), A(2), A(3)}});
  EXPECT_THAT(Bytes(), ElementsAre(0, 0, 0, 0));
}

TEST_F(CoreMemoryTest, SizesThatAreNotThoseOfTheTypesAreLearnt) {
  TwoWorkers();
  Compile(P(1), {0}, kLinkA);
  Put(A(1), {0});
  Launch(P(1), A(1), A(2));
  EXPECT_THAT(Bytes(), ElementsAre(32, 0, 0, 0));
  proto::ToController message;
  proto::LaunchDone& done = *message.mutable_launches_done()->add_done();
  done.set_number(1);
  done.add_output_sizes(512);
  Handle(WorkerFrame{kLinkA, message, ""});
  EXPECT_THAT(Bytes(), ElementsAre(16 + 512, 0, 0, 0));
  Launch(P(1), A(1), A(3));
  EXPECT_THAT(Bytes(), ElementsAre(16 + 1024, 0, 0, 0));
}

TEST_F(CoreMemoryTest, ASessionsMemoryGoesWithIt) {
  TwoWorkers();
  Open(kOther);
  Put(A(1), {0});
  Put(A(1, kOther), {0, 1});
  ASSERT_EQ(core_.MemoryOf(DeviceId{0}).sessions.size(), 2);
  const auto status = core_.Status(now_);
  EXPECT_EQ(status.sessions(1).device_bytes(1).device(), 1);
  EXPECT_EQ(status.sessions(1).device_bytes(1).bytes(), 16);
  EXPECT_EQ(status.islands(0).workers(0).devices(0).named_bytes(), 32);
  Handle(CloseSession{kOther});
  EXPECT_THAT(Bytes(), ElementsAre(16, 0, 0, 0));
  Handle(CloseSession{kSession});
  EXPECT_THAT(Bytes(), ElementsAre(0, 0, 0, 0));
}

TEST_F(CoreMemoryTest, WhatCanNeverFitIsRefusedAndItsArraysHoldTheError) {
  TwoWorkersWith(40);
  EXPECT_EQ(core_.MemoryOf(DeviceId{3}).limit, 40);
  Handle(PutArray{Next(), A(1), On({0, 2}, {11}), {HostPiece{HostBufferId{1}, {0, 1}, {}, 44, std::nullopt}}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Done().message()), HasSubstr("array 1 (f32[11]) needs 44 bytes on device 0"));
  EXPECT_EQ(Answer(Wait(A(1))).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(out_.wanted.empty());

  Compile(P(1), {0}, kLinkA);
  Put(A(2), {0});
  Launch(P(1), A(2), A(3));
  EXPECT_TRUE(Done().ok()) << Done();
  Launch(P(1), A(2), A(4));
  EXPECT_TRUE(Done().ok()) << "it does not fit now, but may when A(3) is gone";

  // f32[4] to f32[8], beside 16 bytes of its argument.
  Handle(CompileProgram{Next(), P(2), "mlir", "code", "", {DeviceId{1}}});
  proto::ToController message;
  message.mutable_compiled()->set_program(Raw(P(2)));
  proto::ProgramInfo& info = *message.mutable_compiled()->mutable_info();
  info.set_name("double");
  info.add_parameters();
  info.add_outputs()->mutable_type()->set_dtype(static_cast<int>(DType::kF32));
  info.mutable_outputs(0)->mutable_type()->add_dims(8);
  Handle(WorkerFrame{kLinkA, message, ""});
  Put(A(5), {1});
  Launch(P(2), A(5), A(6));
  EXPECT_EQ(Done().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Done().message()),
              HasSubstr("program double needs 32 bytes on device 1 beside its arguments of 16 bytes"));
  EXPECT_EQ(Answer(Wait(A(6))).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Bytes()[1], 16);
}

TEST_F(CoreMemoryTest, ACopyThatCanNeverFitIsRefusedWithAllOfItsRequest) {
  TwoWorkersWith(40);
  Join(LinkId{12}, "c");  // without a limit
  Open(kOther);
  Put(A(1, kOther), {0});
  Handle(PutArray{Next(kOther), A(2, kOther), On({4}, {11}), {HostPiece{HostBufferId{1}, {0}, {}, 44, std::nullopt}}});
  ASSERT_TRUE(Done().ok()) << Done();
  Handle(CopyArrays{.request = Next(kOther),
                    .sources = {A(1, kOther), A(2, kOther)},
                    .targets = {A(3, kOther), A(4, kOther)},
                    .devices = {DeviceId{1}}});
  EXPECT_EQ(Done().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Bytes()[1], 0);
  Handle(ReshardArrays{Next(kOther), {A(2, kOther)}, {A(5, kOther)}, {On({1})->sharding}, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(CoreMemoryTest, AWorkerReturnsWithAnotherLimit) {
  TwoWorkersWith(40);
  Handle(LinkClosed{kLinkA, absl::UnavailableError("reset by peer")});
  Join(kLinkA, "a");
  EXPECT_EQ(core_.MemoryOf(DeviceId{0}).limit, 0);
  EXPECT_EQ(core_.MemoryOf(DeviceId{2}).limit, 40);
  Handle(PutArray{Next(), A(1), On({0}, {11}), {HostPiece{HostBufferId{1}, {0}, {}, 44, std::nullopt}}});
  EXPECT_TRUE(Done().ok());
}

}  // namespace
}  // namespace causeway
