// The door as a client finds it: the real gRPC service in front of the real controller core.
#include "ifrt/door.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "ifrt/door_test_harness.h"
#include "net/test_unix_socket.h"
#include "net/unix_socket.h"
#include "proto/status.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---------------------------------------------------------------- handshake

TEST_F(DoorTest, ListensOnTcpAndOnAUnixSocketAndSaysWhere) {
  EXPECT_EQ(bound_[0], "unix:" + directory_ + "/s");
  EXPECT_THAT(bound_[1], ::testing::MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
}

TEST_F(DoorTest, AnAddressThatIsTakenIsSaid) {
  IfrtDoor other(cluster_, plane_, {});
  const auto bound = other.Start({"127.0.0.1:0", bound_[1]});
  EXPECT_EQ(bound.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(bound.status().message()), HasSubstr(bound_[1]));
}

TEST_F(DoorTest, ALiveUnixSocketIsNotTakenOverButAStaleOneIs) {
  IfrtDoor other(cluster_, plane_, {});
  const auto bound = other.Start({bound_[0]});
  EXPECT_EQ(bound.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(bound.status().message()), HasSubstr("another process listens there"));
  EXPECT_EQ(LookAtSocketFile(directory_ + "/s"), SocketFile::kInUse);

  const std::string stale = directory_ + "/stale";
  const int fd = BindUnixSocket(stale);
  ASSERT_GE(fd, 0);
  close(fd);
  IfrtDoor next(cluster_, plane_, {});
  EXPECT_TRUE(next.Start({"unix:" + stale}).ok());
  next.Stop();
}

TEST_F(DoorTest, AClientAgreesOnAVersionAndLearnsTheDevices) {
  cluster_.Join();
  wire::GrpcGetVersionRequest request;
  request.mutable_min_version()->set_protocol_version(16);
  request.mutable_max_version()->set_protocol_version(25);
  request.mutable_max_version()->set_ifrt_serdes_version_number(3);
  wire::GrpcGetVersionResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->GetVersion(&context, request, &response).ok());
  EXPECT_EQ(response.version().protocol_version(), 25);

  Client client(*stub_, GoodMetadata());
  const wire::InitResponse init = client.Init();
  EXPECT_THAT(init.primary_device_ids(), ElementsAre(0, 1));
  EXPECT_EQ(init.platform_name(), "cpu");
  EXPECT_NE(init.session_id(), 0u);
}

TEST_F(DoorTest, AClientOfAnotherVersionIsToldBothRangesAndTheCure) {
  wire::GrpcGetVersionRequest request;
  request.mutable_min_version()->set_protocol_version(90);
  request.mutable_max_version()->set_protocol_version(99);
  wire::GrpcGetVersionResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->GetVersion(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  for (const std::string& part : {std::string("protocol 90 to 99"), DescribeWindow(), TestedJax().front()}) {
    EXPECT_THAT(status.error_message(), HasSubstr(part));
  }

  wire::GrpcIfrtSessionMetadata metadata = GoodMetadata();
  metadata.mutable_version()->set_protocol_version(90);
  EXPECT_EQ(Client(*stub_, metadata).End().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(door_.session_count(), 0);
}

TEST_F(DoorTest, AClusterWithoutWorkersSaysSo) {
  wire::GrpcGetVersionRequest version;
  version.mutable_min_version()->set_protocol_version(16);
  version.mutable_max_version()->set_protocol_version(25);
  version.mutable_max_version()->set_ifrt_serdes_version_number(3);
  wire::GrpcGetVersionResponse ignored;
  grpc::ClientContext context;
  const grpc::Status status = stub_->GetVersion(&context, version, &ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << "the client asks again until it may come in";
  EXPECT_THAT(status.error_message(), HasSubstr("0 of 1 workers"));

  Client client(*stub_, GoodMetadata());
  wire::IfrtRequest request;
  request.mutable_init_request();
  const wire::IfrtResponse response = client.Call(request);
  EXPECT_EQ(response.response_metadata().status().code(), tensorflow::error::FAILED_PRECONDITION);
  EXPECT_THAT(response.response_metadata().status().message(), HasSubstr("worker"));
}

TEST_F(DoorTest, ARequestBeforeInitIsRefusedAndInitStillWorks) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  EXPECT_EQ(client.Call(CheckReady(1)).response_metadata().status().code(), tensorflow::error::FAILED_PRECONDITION);
  EXPECT_EQ(client.Init().all_devices_size(), 2);
  wire::IfrtRequest again;
  again.mutable_init_request();
  EXPECT_EQ(client.Call(again).response_metadata().status().code(), tensorflow::error::FAILED_PRECONDITION);
}

// ---------------------------------------------------------------- wishes

wire::GrpcIfrtSessionMetadata OneDevice(const std::string& name) {
  wire::GrpcIfrtSessionMetadata metadata = GoodMetadata();
  auto& attributes = *metadata.mutable_initialization_data()->mutable_attributes();
  attributes["causeway_session_name"].set_string_value(name);
  attributes["causeway_session_devices"].set_int64_value(1);
  attributes["causeway_session_exclusive"].set_bool_value(true);
  return metadata;
}

TEST_F(DoorTest, AClientSeesAndReachesOnlyItsSlice) {
  cluster_.Join();
  Client first(*stub_, OneDevice("first"));
  EXPECT_THAT(first.Init().primary_device_ids(), ElementsAre(0));
  Client second(*stub_, OneDevice("second"));
  const wire::InitResponse init = second.Init();
  EXPECT_THAT(init.primary_device_ids(), ElementsAre(1));
  ASSERT_EQ(init.all_devices_size(), 1);
  EXPECT_EQ(init.all_devices(0).id(), 1);

  ASSERT_TRUE(Store(init.session_id(), 1, std::string(16, 'x')).ok());
  const auto refused = second.Call(MakeArray(1, {4})).response_metadata().status();
  EXPECT_EQ(refused.code(), tensorflow::error::INVALID_ARGUMENT);
  EXPECT_THAT(refused.message(), HasSubstr("device 0 is not in this session's slice (1)"));

  wire::IfrtRequest assignment;
  assignment.mutable_get_default_device_assignment_request()->set_num_replicas(1);
  assignment.mutable_get_default_device_assignment_request()->set_num_partitions(1);
  EXPECT_THAT(second.Call(assignment)
                  .get_default_device_assignment_response()
                  .device_assignment()
                  .computation_devices(0)
                  .replica_device_ids(),
              ElementsAre(1));
  assignment.mutable_get_default_device_assignment_request()->set_num_replicas(2);
  EXPECT_THAT(second.Call(assignment).response_metadata().status().message(), HasSubstr("this session's 1 devices"));
}

TEST_F(DoorTest, AClientWhoseWishCannotBeMetIsToldAndMayAskAgain) {
  cluster_.Join();
  auto first = std::make_unique<Client>(*stub_, OneDevice("first"));
  first->Init();
  Client second(*stub_, OneDevice("second"));
  second.Init();
  Client third(*stub_, OneDevice("third"));
  wire::IfrtRequest init;
  init.mutable_init_request();
  const auto refused = third.Call(init).response_metadata().status();
  EXPECT_EQ(refused.code(), tensorflow::error::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.message(), HasSubstr("1 device exclusively by session 1 (first)"));
  first.reset();
  WaitForSessions(2);
  // The core hears of it a moment later.
  for (int i = 0; i < 200 && !third.Call(init).has_init_response(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(third.Call(init).response_metadata().status().code(), tensorflow::error::FAILED_PRECONDITION)
      << "it is open by now";
}

TEST_F(DoorTest, AWishThatNobodyCanHaveIsAnsweredAndOpensNothing) {
  cluster_.Join();
  wire::GrpcIfrtSessionMetadata metadata = GoodMetadata();
  (*metadata.mutable_initialization_data()->mutable_attributes())["causeway_session_weight"].set_string_value("-1");
  Client client(*stub_, metadata);
  wire::IfrtRequest request;
  request.mutable_init_request();
  const auto refused = client.Call(request).response_metadata().status();
  EXPECT_EQ(refused.code(), tensorflow::error::INVALID_ARGUMENT);
  EXPECT_THAT(refused.message(), HasSubstr("weight is 0.001 to 1000"));
  request.Clear();
  request.mutable_check_future_request();
  EXPECT_THAT(client.Call(request).response_metadata().status().message(), HasSubstr("must be Init"));
}

// ---------------------------------------------------------------- bad clients

TEST_F(DoorTest, GarbageEndsTheSenderAndNobodyElse) {
  cluster_.Join();
  Client good(*stub_, GoodMetadata());
  good.Init();

  grpc::GenericStub generic(channel_);
  grpc::ClientContext context;
  context.AddMetadata("ifrt-proxy-grpc-ifrt-session-metadata-bin", GoodMetadata().SerializeAsString());
  grpc::CompletionQueue queue;
  auto stream = generic.PrepareCall(&context, "/xla.ifrt.proxy.GrpcIfrtService/IfrtSession", &queue);
  const auto step = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
  };
  stream->StartCall(nullptr);
  step();
  const grpc::Slice garbage(std::string("\xff\xff\xff\xff garbage"));
  stream->Write(grpc::ByteBuffer(&garbage, 1), nullptr);
  step();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  step();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  WaitForSessions(1);
  EXPECT_EQ(good.Call(CheckReady(1)).response_metadata().status().code(), tensorflow::error::NOT_FOUND);
}

TEST_F(DoorTest, ASessionWithoutItsHeaderIsRefused) {
  grpc::ClientContext context;
  auto stream = stub_->IfrtSession(&context);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  grpc::ClientContext store_context;
  wire::GrpcHostBufferStoreResponse response;
  auto writer = stub_->HostBufferStore(&store_context, &response);
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(DoorTest, HostDataOfSessionsThatDoNotExistAreRefused) {
  EXPECT_EQ(Store(4711, 1, "abc").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Lookup(4711, 1).first.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(DoorTest, UnknownAndImpossibleHandlesAreErrorsOfTheirRequestAlone) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  EXPECT_EQ(client.Call(CheckReady(77)).response_metadata().status().code(), tensorflow::error::NOT_FOUND);
  EXPECT_EQ(client.Call(CheckReady(0)).response_metadata().status().code(), tensorflow::error::INVALID_ARGUMENT);
  EXPECT_EQ(client.Call(CheckReady(~uint64_t{0})).response_metadata().status().code(),
            tensorflow::error::INVALID_ARGUMENT);
  wire::IfrtRequest nothing;
  EXPECT_EQ(client.Call(nothing).response_metadata().status().code(), tensorflow::error::UNIMPLEMENTED);
}

TEST_F(DoorTest, AFailedRequestLeavesItsErrorUnderTheNamesOfItsResults) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  wire::IfrtRequest copy;
  copy.mutable_copy_arrays_request()->add_array_handles(1);
  copy.mutable_copy_arrays_request()->add_result_handles(2);
  EXPECT_EQ(client.Call(copy).response_metadata().status().code(), tensorflow::error::NOT_FOUND);
  EXPECT_THAT(client.Call(CheckReady(2)).response_metadata().status().message(), HasSubstr("array 1"));

  wire::IfrtRequest make = MakeArray(3, {4});
  make.mutable_make_array_from_host_buffer_request()->mutable_dtype()->set_kind(xla::ifrt::DTypeProto::KIND_STRING);
  EXPECT_EQ(client.Call(make).response_metadata().status().code(), tensorflow::error::UNIMPLEMENTED);
  EXPECT_EQ(client.Call(CheckReady(3)).response_metadata().status().code(), tensorflow::error::UNIMPLEMENTED);
  wire::IfrtRequest shard;
  shard.mutable_fully_replicated_shard_request()->set_array_handle(3);
  shard.mutable_fully_replicated_shard_request()->set_result_handle(4);
  EXPECT_EQ(client.Call(shard).response_metadata().status().code(), tensorflow::error::UNIMPLEMENTED);
  EXPECT_EQ(client.Call(CheckReady(4)).response_metadata().status().code(), tensorflow::error::UNIMPLEMENTED)
      << "errors of unknown type are passed on";
}

TEST_F(DoorTest, AClientThatLeavesIsClosedInTheCore) {
  cluster_.Join();
  auto client = std::make_unique<Client>(*stub_, GoodMetadata());
  const uint64_t key = client->Init().session_id();
  WaitForSessions(1);
  client->Cancel();
  EXPECT_EQ(cluster_.Hear(proto::ToWorker::kDropSession).drop_session().session(), 1u);
  WaitForSessions(0);
  EXPECT_EQ(Store(key, 1, "abc").error_code(), grpc::StatusCode::NOT_FOUND);
}

class CrowdedDoorTest : public DoorTest {
 protected:
  CrowdedDoorTest() : DoorTest({.max_sessions = 1}) {}
};

TEST_F(DoorTest, AControllerThatIsStoppedSaysSoToItsClients) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  std::thread stop([this] { door_.Stop(); });
  const grpc::Status status = client.End();
  stop.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("clear_backends"));
}

TEST_F(CrowdedDoorTest, ClientsBeyondTheLimitAreToldSo) {
  cluster_.Join();
  Client first(*stub_, GoodMetadata());
  first.Init();
  EXPECT_EQ(Client(*stub_, GoodMetadata()).End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

class ImpatientDoorTest : public DoorTest {
 protected:
  ImpatientDoorTest() : DoorTest({.host_memory = {.bytes = 1 << 20}}) {}
};

TEST_F(ImpatientDoorTest, AClientThatDoesNotReadItsResponsesIsCutOff) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  wire::IfrtRequest request;
  request.mutable_is_array_deleted_request()->set_array_handle(1);
  for (int i = 0; i < 2'000'000 && door_.session_count() == 1; ++i) {
    wire::IfrtRequest numbered = request;
    numbered.mutable_request_metadata()->set_op_id(i + 2);
    if (!client.Write(numbered)) break;
  }
  WaitForSessions(0);
}

// ---------------------------------------------------------------- host data

TEST_F(DoorTest, DataThatCameFirstRideWithTheArray) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  ASSERT_TRUE(Store(key, 1, "0123456789abcdef").ok());
  EXPECT_EQ(client.Call(MakeArray(1, {4})).make_array_from_host_buffer_response().array_handle(), 1u);
  const proto::Put put = cluster_.Hear(proto::ToWorker::kPut).put();
  EXPECT_EQ(put.data(), "0123456789abcdef");
  EXPECT_THAT(put.type().dims(), ElementsAre(4));
}

TEST_F(DoorTest, DataThatComeLaterFollowTheArray) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  EXPECT_TRUE(client.Call(MakeArray(1, {4})).has_make_array_from_host_buffer_response());
  const proto::ReceiveHost told = cluster_.Hear(proto::ToWorker::kReceiveHost).receive_host();
  EXPECT_EQ(told.total_bytes(), 16);
  ASSERT_TRUE(Store(key, 1, "0123456789abcdef").ok());
  const proto::HostData data = cluster_.Hear(proto::ToWorker::kHostData).host_data();
  EXPECT_EQ(data.stream(), told.stream());
  EXPECT_EQ(data.data(), "0123456789abcdef");
}

TEST_F(DoorTest, LargeDataStreamThroughToTheWorker) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  const int64_t total = 3 * kStreamWindowBytes;
  std::string bytes(total, '\0');
  for (int64_t i = 0; i < total; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 24);
  EXPECT_TRUE(client.Call(MakeArray(1, {total / 4})).has_make_array_from_host_buffer_response());
  std::string got;
  std::thread worker([&] {
    const auto source = plane_.WaitForSource();
    got = plane_.Drain(*source, total);
    source->OnDone(absl::OkStatus());
  });
  EXPECT_TRUE(Store(key, 1, bytes).ok());
  worker.join();
  EXPECT_TRUE(got == bytes);
}

TEST_F(DoorTest, DataOfTheWrongSizeFailTheStoreAndTheArray) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  EXPECT_TRUE(client.Call(MakeArray(1, {4})).has_make_array_from_host_buffer_response());
  EXPECT_EQ(Store(key, 1, "0123").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(cluster_.Hear(proto::ToWorker::kHostData).host_data().status().code(), 0);
  EXPECT_EQ(Store(key, 2, "0123", /*announced=*/8).error_code(), grpc::StatusCode::DATA_LOSS);
}

TEST_F(DoorTest, AFetchIsAnsweredLookedUpAndDeleted) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  MakeSmall(client, key, 1);
  wire::IfrtRequest fetch;
  fetch.mutable_copy_to_host_buffer_request()->set_array_handle(1);
  fetch.mutable_copy_to_host_buffer_request()->set_host_buffer_handle(50);
  const uint64_t op = client.Send(fetch);
  proto::ToController done;
  done.mutable_fetch_done()->set_fetch(cluster_.Hear(proto::ToWorker::kFetch).fetch().fetch());
  done.mutable_fetch_done()->set_total_bytes(16);
  done.mutable_fetch_done()->set_data("0123456789abcdef");
  cluster_.Say(done);
  EXPECT_TRUE(client.Receive(op).has_copy_to_host_buffer_response());
  const auto [status, data] = Lookup(key, 50);
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(data, "0123456789abcdef");

  wire::GrpcHostBufferDeleteRequest remove;
  remove.set_session_id(key);
  remove.set_handle(50);
  grpc::ClientContext context;
  wire::GrpcHostBufferDeleteResponse response;
  EXPECT_TRUE(stub_->HostBufferDelete(&context, remove, &response).ok());
  EXPECT_EQ(Lookup(key, 50).first.error_code(), grpc::StatusCode::NOT_FOUND);
}

// A fetch of what is ready: the client is told to look it up before the worker has sent it.
class EarlyLookupTest : public DoorTest {
 protected:
  EarlyLookupTest() {
    cluster_.Join();
    client_ = std::make_unique<Client>(*stub_, GoodMetadata());
    key_ = client_->Init().session_id();
    MakeSmall(*client_, key_, 1);
    wire::IfrtRequest fetch;
    fetch.mutable_copy_to_host_buffer_request()->set_array_handle(1);
    fetch.mutable_copy_to_host_buffer_request()->set_host_buffer_handle(50);
    EXPECT_TRUE(client_->Call(fetch).has_copy_to_host_buffer_response());
    done_.mutable_fetch_done()->set_fetch(cluster_.Hear(proto::ToWorker::kFetch).fetch().fetch());
    lookup_ = std::async(std::launch::async, [this] { return Lookup(key_, 50); });
  }

  std::unique_ptr<Client> client_;
  uint64_t key_ = 0;
  proto::ToController done_;  // the worker's answer
  std::future<std::pair<grpc::Status, std::string>> lookup_;
};

TEST_F(EarlyLookupTest, GetsTheDataWhenTheyCome) {
  done_.mutable_fetch_done()->set_total_bytes(4);
  done_.mutable_fetch_done()->set_data("data");
  cluster_.Say(done_);
  const auto [status, data] = lookup_.get();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(data, "data");
}

TEST_F(EarlyLookupTest, IsToldWhatGoesWrong) {
  *done_.mutable_fetch_done()->mutable_status() = ToProto(absl::ResourceExhaustedError("no memory"));
  cluster_.Say(done_);
  const auto [status, data] = lookup_.get();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "no memory");
}

TEST_F(EarlyLookupTest, EndsWithItsSession) {
  client_.reset();
  EXPECT_EQ(lookup_.get().first.ok(), false);
}

class LargeFetchTest : public DoorTest {
 protected:
  // Fetches array 1 of `total` bytes into host buffer 50; the data are on the worker's stream.
  void Fetch(Client& client, int64_t total) {
    wire::IfrtRequest fetch;
    fetch.mutable_copy_to_host_buffer_request()->set_array_handle(1);
    fetch.mutable_copy_to_host_buffer_request()->set_host_buffer_handle(50);
    const uint64_t op = client.Send(fetch);
    proto::ToController done;
    done.mutable_fetch_done()->set_fetch(cluster_.Hear(proto::ToWorker::kFetch).fetch().fetch());
    done.mutable_fetch_done()->set_total_bytes(total);
    cluster_.Say(done);
    EXPECT_TRUE(client.Receive(op).has_copy_to_host_buffer_response());
  }
};

TEST_F(LargeFetchTest, LargeDataStreamThroughFromTheWorker) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  MakeSmall(client, key, 1);
  const int64_t total = 2 * kStreamWindowBytes + 12345;
  Fetch(client, total);
  std::string bytes(total, '\0');
  for (int64_t i = 0; i < total; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 24);
  std::thread worker([&] {
    const auto sink = plane_.WaitForSink();
    for (int64_t at = 0; at < total;) {
      plane_.WaitForGrant(at + 1);
      const auto room = sink->Buffer(at, std::min<int64_t>(total - at, 100'000));
      std::copy_n(bytes.begin() + at, room.size(), room.begin());
      sink->OnData(at, static_cast<int64_t>(room.size()));
      at += static_cast<int64_t>(room.size());
    }
    sink->OnDone(absl::OkStatus());
  });
  const auto [status, data] = Lookup(key, 50);
  worker.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(data == bytes);
}

TEST_F(LargeFetchTest, AWorkerLostInTheMiddleIsDataLoss) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  MakeSmall(client, key, 1);
  Fetch(client, 10 << 20);
  std::thread worker([&] { plane_.WaitForSink()->OnDone(absl::UnavailableError("connection reset")); });
  EXPECT_EQ(Lookup(key, 50).first.error_code(), grpc::StatusCode::DATA_LOSS);
  worker.join();
}

TEST_F(LargeFetchTest, AClientThatLeavesInTheMiddleStopsTheWorker) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  MakeSmall(client, key, 1);
  Fetch(client, 10 << 20);
  wire::GrpcHostBufferLookupRequest request;
  request.set_session_id(key);
  request.set_handle(50);
  grpc::ClientContext context;
  auto reader = stub_->HostBufferLookup(&context, request);
  plane_.WaitForSink();
  context.TryCancel();
  EXPECT_EQ(plane_.WaitForCancel().code(), absl::StatusCode::kCancelled);
  (void)reader->Finish();
}

TEST_F(DoorTest, FilesAreNotReadUnlessADirectoryWasGiven) {
  wire::GrpcHostBufferReadFromDiskRequest request;
  grpc::ClientContext context;
  wire::GrpcHostBufferReadFromDiskResponse response;
  const grpc::Status status = stub_->HostBufferReadFromDisk(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("LARGE_TRANSFER_OPTIMIZATION_DIRECTORY"));
}

class DiskDoorTest : public DoorTest {
 protected:
  DiskDoorTest() : DoorTest({.large_transfer_directory = ::testing::TempDir()}) {}
};

TEST_F(DiskDoorTest, AFileInTheDirectoryIsAStore) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  std::ofstream(::testing::TempDir() + "/lt_1") << "0123456789abcdef";
  wire::GrpcHostBufferReadFromDiskRequest request;
  request.mutable_metadata()->set_session_id(key);
  request.mutable_metadata()->set_handle(1);
  request.mutable_metadata()->set_buffer_size(16);
  grpc::ClientContext context;
  wire::GrpcHostBufferReadFromDiskResponse response;
  const grpc::Status status = stub_->HostBufferReadFromDisk(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  client.Call(MakeArray(1, {4}));
  EXPECT_EQ(cluster_.Hear(proto::ToWorker::kPut).put().data(), "0123456789abcdef");
}

// ---------------------------------------------------------------- programs

TEST_F(DoorTest, TheFirstExecuteDescribesTheOutputsAndLaterOnesDoNot) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  const uint64_t program = Compile(client);
  MakeSmall(client, key, 1);
  wire::IfrtRequest execute;
  auto& r = *execute.mutable_loaded_executable_execute_request();
  r.set_loaded_executable_handle(program);
  r.add_args_handles(1);
  r.mutable_execute_options()->add_non_donatable_input_indices(0);
  const auto first = client.Call(execute).loaded_executable_execute_response();
  ASSERT_EQ(first.outputs_size(), 1);
  EXPECT_THAT(first.outputs(0).shape().dims(), ElementsAre(4));
  EXPECT_EQ(first.outputs(0).dtype().kind(), xla::ifrt::DTypeProto::KIND_F32);
  EXPECT_GE(first.outputs(0).array_handle(), uint64_t{1} << 63);
  const proto::Launch launch = cluster_.Hear(proto::ToWorker::kLaunch).launch();
  EXPECT_THAT(launch.non_donatable(), ElementsAre(0));

  r.set_args_handles(0, first.outputs(0).array_handle());
  r.mutable_execute_options()->clear_non_donatable_input_indices();
  r.add_result_array_handle(2);
  const auto second = client.Call(execute).loaded_executable_execute_response();
  EXPECT_EQ(second.outputs_size(), 0);
  EXPECT_EQ(cluster_.Hear(proto::ToWorker::kLaunch).launch().arguments(0), launch.outputs(0));

  r.set_result_array_handle(0, 3);
  const wire::IfrtResponse donated = client.Call(execute);
  EXPECT_THAT(donated.response_metadata().status().message(), HasSubstr("deleted"));
  EXPECT_THAT(client.Call(CheckReady(3)).response_metadata().status().message(), HasSubstr("deleted"));
}

TEST_F(DoorTest, TheEndOfALaunchCanBeWaitedForOnce) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  const uint64_t program = Compile(client);
  MakeSmall(client, key, 1);
  wire::IfrtRequest execute;
  auto& r = *execute.mutable_loaded_executable_execute_request();
  r.set_loaded_executable_handle(program);
  r.add_args_handles(1);
  r.mutable_execute_options()->set_fill_status(true);
  const uint64_t status = client.Call(execute).loaded_executable_execute_response().status_handle();
  wire::IfrtRequest fetch;
  fetch.mutable_loaded_executable_fetch_execute_result_request()->set_result_status_handle(status);
  const uint64_t op = client.Send(fetch);
  proto::ToController done;
  auto& launch = *done.mutable_launches_done()->add_done();
  launch.set_number(cluster_.Hear(proto::ToWorker::kLaunch).launch().number());
  launch.mutable_status()->set_code(static_cast<int>(absl::StatusCode::kInternal));
  launch.mutable_status()->set_message("boom");
  cluster_.Say(done);
  EXPECT_EQ(client.Receive(op).response_metadata().status().message(), "boom");
  EXPECT_EQ(client.Call(fetch).response_metadata().status().code(), tensorflow::error::NOT_FOUND);
}

TEST_F(DoorTest, MetadataHasAnEntryForEveryParameterAndOutput) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  wire::IfrtRequest request;
  request.mutable_loaded_executable_metadata_request()->set_loaded_executable_handle(Compile(client));
  const auto metadata = client.Call(request).loaded_executable_metadata_response();
  EXPECT_EQ(metadata.parameter_layouts_list().layouts_size(), 1);
  EXPECT_EQ(metadata.output_layouts_list().layouts_size(), 1);
  EXPECT_THAT(metadata.output_memory_kinds().memory_kind_lists(0).memory_kinds(), ElementsAre("device"));
  EXPECT_THAT(metadata.donated_input_indices().donated_input_indices(), ElementsAre(0));
  EXPECT_FALSE(metadata.has_output_shardings());
}

TEST_F(DoorTest, WhatCannotBeCompiledSaysWhy) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  wire::IfrtRequest request;
  auto& compile = *request.mutable_compile_request();
  const auto refusal = [&](const std::string& type) {
    compile.mutable_program()->set_type_name("xla::ifrt::" + type);
    return client.Call(request).response_metadata().status();
  };
  EXPECT_THAT(refusal("CustomCallProgram").message(), HasSubstr("PjRtCompiler requires an HloProgram"));
  EXPECT_EQ(refusal("PluginProgram").code(), tensorflow::error::UNIMPLEMENTED);
  EXPECT_EQ(refusal("Poem").code(), tensorflow::error::UNIMPLEMENTED);
  compile.add_host_callbacks("x");
  EXPECT_THAT(refusal("XlaProgram").message(), HasSubstr("host callbacks"));
  compile.clear_host_callbacks();
  compile.mutable_compile_options()->set_data("\xff\xff");
  EXPECT_EQ(refusal("XlaProgram").code(), tensorflow::error::INVALID_ARGUMENT);
}

TEST_F(DoorTest, ADestructedProgramIsGone) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  client.Init();
  const uint64_t program = Compile(client);
  wire::IfrtRequest destruct;
  destruct.mutable_loaded_executable_destruct_request()->set_loaded_executable_handle(program);
  EXPECT_TRUE(client.Call(destruct).has_loaded_executable_destruct_response());
  cluster_.Hear(proto::ToWorker::kDropPrograms);
  EXPECT_EQ(client.Call(destruct).response_metadata().status().code(), tensorflow::error::NOT_FOUND);
  wire::IfrtRequest cost;
  cost.mutable_loaded_executable_cost_analysis_request()->set_loaded_executable_handle(program);
  EXPECT_EQ(client.Call(cost).loaded_executable_cost_analysis_response().status().code(), tensorflow::error::NOT_FOUND)
      << "inside the response: the stock client stumbles over an error outside";
}

// ---------------------------------------------------------------- numbers

TEST_F(DoorTest, ResponsesAreNumberedAndContextsReturnedAsTheClientCountsThem) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  wire::IfrtRequest init;
  init.mutable_init_request();
  const wire::IfrtResponse initialized = client.Call(init);
  EXPECT_EQ(initialized.response_metadata().seq_num(), -1);
  const uint64_t key = initialized.init_response().session_id();
  ASSERT_TRUE(Store(key, 1, std::string(16, 'x')).ok());

  const auto made = client.Call(MakeArray(1, {4}), /*user_context=*/901).response_metadata();
  EXPECT_EQ(made.seq_num(), 0);
  EXPECT_THAT(made.destroyed_user_context_ids(), IsEmpty()) << "the array is not there yet";
  ReportMade(1);

  const auto failed = client.Call(CheckReady(77), 902).response_metadata();
  EXPECT_NE(failed.status().code(), 0);
  EXPECT_THAT(failed.destroyed_user_context_ids(), IsEmpty());

  wire::IfrtRequest remove;
  remove.mutable_delete_array_request()->add_array_handle(1);
  const wire::IfrtResponse removed = client.Call(remove);
  EXPECT_THAT(removed.response_metadata().destroyed_user_context_ids(), IsEmpty());
  wire::IfrtRequest future;
  future.mutable_check_future_request()->set_future_handle(removed.delete_array_response().deletion_future_handle());
  EXPECT_TRUE(client.Call(future).has_check_future_response());
  wire::IfrtRequest destruct;
  destruct.mutable_destruct_array_request()->add_array_handle(1);
  EXPECT_TRUE(client.Call(destruct).has_destruct_array_response());

  wire::IfrtRequest deleted;
  deleted.mutable_is_array_deleted_request()->set_array_handle(1);
  const auto last = client.Call(deleted, 903).response_metadata();
  EXPECT_EQ(last.seq_num(), 1);
  EXPECT_THAT(last.destroyed_user_context_ids(), ElementsAre(901, 902, 903));
}

TEST_F(DoorTest, AnErrorNamesTheContextThatMadeWhatFailed) {
  cluster_.Join();
  Client client(*stub_, GoodMetadata());
  const uint64_t key = client.Init().session_id();
  ASSERT_TRUE(Store(key, 1, std::string(16, 'x')).ok());
  client.Call(MakeArray(1, {4}), /*user_context=*/901);
  wire::IfrtRequest shard;
  shard.mutable_fully_replicated_shard_request()->set_array_handle(1);
  shard.mutable_fully_replicated_shard_request()->set_result_handle(2);
  client.Call(shard, 902);
  ReportMade(1, absl::ResourceExhaustedError("full"));
  const auto error = client.Call(CheckReady(2), 903).response_metadata();
  EXPECT_EQ(error.status().message(), "full");
  EXPECT_EQ(error.status().payload().at("type.googleapis.com/ifrt.UserContext"), "901");

  // Refused by the door itself, which the client learns from the array.
  wire::IfrtRequest bad = MakeArray(3, {4});
  bad.mutable_make_array_from_host_buffer_request()->mutable_dtype()->set_kind(
      static_cast<xla::ifrt::DTypeProto::Kind>(9999));
  EXPECT_THAT(client.Call(bad, 904).response_metadata().status().payload(), IsEmpty());
  const auto refused = client.Call(CheckReady(3), 905).response_metadata();
  EXPECT_EQ(refused.status().payload().at("type.googleapis.com/ifrt.UserContext"), "904");

  wire::IfrtRequest deleted;
  deleted.mutable_is_array_deleted_request()->set_array_handle(1);
  EXPECT_THAT(client.Call(deleted, 906).response_metadata().destroyed_user_context_ids(), ElementsAre(903, 905, 906))
      << "the contexts of what failed are kept";
}

}  // namespace
}  // namespace causeway
