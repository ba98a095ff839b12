// What clients and workers say that cannot be: it is refused, and what it left behind can be looked at.
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controller/core_test_harness.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

class CoreHostileTest : public CoreTest {
 protected:
  // A vector in equal parts, one a device.
  static std::shared_ptr<const ArraySpec> InParts(const std::vector<int>& devices) {
    xla::OpSharding op;
    op.set_type(xla::OpSharding::OTHER);
    op.add_tile_assignment_dimensions(static_cast<int64_t>(devices.size()));
    std::vector<DeviceId> ids;
    for (size_t i = 0; i < devices.size(); ++i) {
      op.add_tile_assignment_devices(static_cast<int64_t>(i));
      ids.push_back(DeviceId{devices[i]});
    }
    auto spec = std::make_shared<ArraySpec>();
    spec->dtype = DType::kF32;
    spec->dims = {8};
    spec->sharding = std::make_shared<const Sharding>(Sharding::FromOpSharding(ids, "", op).value());
    return spec;
  }

  // What the compiler says of program P(1) over devices 0 and 1; the answer that the client gets.
  absl::Status Compiled(const proto::ProgramInfo& info) {
    Handle(CompileProgram{Next(), P(1), "mlir", "code", "", {DeviceId{0}, DeviceId{1}}});
    proto::ToController message;
    message.mutable_compiled()->set_program(Raw(P(1)));
    *message.mutable_compiled()->mutable_info() = info;
    Handle(WorkerFrame{kLinkA, message, ""});
    return out_.compiled.at(ticket_).status();
  }
};

TEST_F(CoreHostileTest, ADeviceIsNamedOnceInAnArray) {
  TwoWorkers();
  Put(A(1), {0, 0});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  Put(A(2), {0, 1});
  Handle(CopyArrays{Next(), {A(2)}, {A(3)}, {DeviceId{2}, DeviceId{2}}, std::nullopt, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreHostileTest, ACopyOfAnErrorHasAsManyShardsAsTheOriginal) {
  TwoWorkers();
  Handle(MakeErrorArrays{Next(), {A(1)}, InParts({0, 1}), absl::InternalError("broken")});
  Handle(CopyArrays{Next(), {A(1)}, {A(2)}, {DeviceId{0}, DeviceId{1}, DeviceId{2}}, std::nullopt, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(core_.FindArray(A(2)), nullptr) << "a sharding of three devices with two parts";
  Handle(CopyArrays{Next(), {A(1)}, {A(3)}, {DeviceId{2}, DeviceId{3}}, std::nullopt, false});
  EXPECT_TRUE(Done().ok()) << Done();
  EXPECT_EQ(Answer(Wait(A(3))).code(), absl::StatusCode::kInternal) << "the error goes along";
}

TEST_F(CoreHostileTest, AReshardOfAnErrorKeepsItsRank) {
  TwoWorkers();
  auto scalar = std::make_shared<ArraySpec>(*On({0}, {}));
  Handle(MakeErrorArrays{Next(), {A(1)}, scalar, absl::InternalError("broken")});
  Handle(ReshardArrays{Next(), {A(1)}, {A(2)}, {InParts({0, 1})->sharding}, false});
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(core_.FindArray(A(2)), nullptr) << "a scalar in two parts";
}

TEST_F(CoreHostileTest, OutputsThatCannotBeAreTheCompilersError) {
  TwoWorkers();
  proto::ProgramInfo info;
  proto::ShardType& type = *info.add_outputs()->mutable_type();
  type.set_dtype(static_cast<int>(DType::kF32));
  type.add_dims(-1);
  EXPECT_EQ(Compiled(info).code(), absl::StatusCode::kInternal) << "a negative dimension";
  type.set_dims(0, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(Compiled(info).code(), absl::StatusCode::kInternal) << "more elements than any machine has";
  xla::OpSharding op;
  op.set_type(xla::OpSharding::OTHER);
  op.add_tile_assignment_dimensions(1);
  op.add_tile_assignment_dimensions(2);
  op.add_tile_assignment_devices(0);
  op.add_tile_assignment_devices(1);
  info.mutable_outputs(0)->set_sharding(op.SerializeAsString());
  type.set_dims(0, 4);
  EXPECT_EQ(Compiled(info).code(), absl::StatusCode::kInternal) << "a sharding of another rank";
  type.add_dims(4);
  EXPECT_TRUE(Compiled(info).ok());
}

TEST_F(CoreHostileTest, AFetchBringsAsManyBytesAsItSays) {
  TwoWorkers();
  Put(A(1), {0});
  for (const int64_t announced : {17, 15, -1}) {
    Handle(FetchShard{Next(), A(1), 0, {}});
    proto::ToController message;
    message.mutable_fetch_done()->set_fetch(Sent(kLinkA, proto::ToWorker::kFetch).back().fetch().fetch());
    message.mutable_fetch_done()->set_total_bytes(announced);
    message.mutable_fetch_done()->set_data(std::string(16, 'y'));
    Handle(WorkerFrame{kLinkA, message, ""});
    EXPECT_EQ(out_.fetched.at(ticket_).status().code(), absl::StatusCode::kInternal) << announced;
  }
}

TEST_F(CoreHostileTest, NoMoreArgumentsAreKeptFromDonationThanThereAre) {
  TwoWorkers();
  Put(A(1), {0});
  Compile(P(1), {0}, kLinkA, /*donates=*/true);
  LaunchProgram launch{.request = Next(), .program = P(1), .arguments = {A(1)}, .outputs = {A(2)}};
  launch.non_donatable = {0, 0};
  Handle(std::move(launch));
  EXPECT_EQ(Done().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreHostileTest, ArraysLargerThanAllMachinesDoNotOverflowTheStatus) {
  TwoWorkers();
  const int64_t huge = int64_t{1} << 56;
  for (int i = 1; i <= 64; ++i) {
    auto spec = std::make_shared<ArraySpec>(*On({0}, {huge}));
    spec->dtype = DType::kC128;
    Handle(PutArray{Next(), A(i), spec, {HostPiece{HostBufferId{1}, {0}, {}, 16 * huge, std::nullopt}}});
    ASSERT_TRUE(Done().ok()) << Done();
  }
  EXPECT_EQ(core_.Status(now_).sessions(0).array_bytes(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}})) << "nor what is in flight";
}

TEST_F(CoreHostileTest, PiecesLargerThanAllMachinesDoNotOverflowWhatIsInFlight) {
  TwoWorkers();
  const int64_t huge = int64_t{1} << 62;
  std::vector<HostPiece> pieces;
  for (int shard : {0, 1, 2}) pieces.push_back({HostBufferId{1}, {shard}, {}, huge, std::nullopt});
  Handle(PutArray{Next(), A(1), On({0, 1, 2}), std::move(pieces)});
  ASSERT_TRUE(Done().ok()) << Done();
  EXPECT_EQ(out_.throttled, (Throttled{{kSession, true}}));
}

TEST_F(CoreHostileTest, ErrorsOfWorkersAreTextsThatClientsCanRead) {
  TwoWorkers();
  proto::Status status = ToProto(absl::InternalError("in latin-1: \xfc"));
  EXPECT_EQ(status.message(), "in latin-1: ?") << "else no frame with it would parse";
  status.set_code(4711);
  EXPECT_EQ(FromProto(status).code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(FromProto(status).raw_code(), static_cast<int>(absl::StatusCode::kUnknown));
}

}  // namespace
}  // namespace causeway
