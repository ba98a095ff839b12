// An IFRT proxy server that does nothing: it answers every request at once, from the thread that read it.
//
//   instant_server unix:/tmp/instant.sock      prints "ready", ends when its stdin does
//
// What stock JAX needs for one program (f32[] in and out, on the first of eight devices) it makes up, data that are
// sent are dropped, and whatever is fetched is a zero of four bytes; everything else gets an empty answer. So it is the
// floor below any server that speaks this protocol through gRPC: what a launch costs above it is Causeway's own.
//
// Threading: gRPC's own threads; a session's output is under the session's lock. Lifetime: reactors delete themselves
// when gRPC is done with them.
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "grpcpp/grpcpp.h"
#include "xla/python/ifrt/sharding_serdes.pb.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.grpc.pb.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

namespace proxy = ::xla::ifrt::proxy;

constexpr int kProtocolVersion = 25;
constexpr int kSerdesVersion = 3;
constexpr uint64_t kFirstServerHandle = uint64_t{1} << 63;  // smaller ones are the client's
constexpr int kDevices = 8;
constexpr int kDevice = 0;  // the one that runs programs
constexpr char kPlatform[] = "cpu";
constexpr char kMemoryKind[] = "device";

void DescribeDevices(proxy::InitResponse& init) {
  init.set_session_id(1);
  init.set_platform_name(kPlatform);
  init.set_platform_version("instant");
  init.set_platform_id(1);
  init.set_runtime_type("instant");

  for (int id = 0; id < kDevices; ++id) {  // each with a memory of the same number
    auto& device = *init.add_all_devices();
    device.set_id(id);
    device.set_platform_name(kPlatform);
    device.set_device_kind(kPlatform);
    device.set_default_memory_id(id);
    device.add_memory_ids(id);
    device.mutable_attributes();
    init.add_primary_device_ids(id);
    init.add_addressable_device_ids(id);

    auto& memory = *init.add_memories();
    memory.set_id(id);
    memory.set_memory_space_kind(kMemoryKind);
    memory.add_device_ids(id);
  }
  init.mutable_client_attributes();
}

void DescribeProgram(proxy::LoadedExecutableMetadataResponse& metadata) {
  metadata.mutable_parameter_layouts_list()->add_layouts();
  metadata.mutable_output_layouts_list()->add_layouts();
  metadata.mutable_output_memory_kinds()->add_memory_kind_lists()->add_memory_kinds(kMemoryKind);
  metadata.mutable_donated_input_indices();
}

void DescribeOutput(proxy::LoadedExecutableExecuteResponse::Output& output) {
  output.mutable_dtype()->set_kind(xla::ifrt::DTypeProto::KIND_F32);
  output.mutable_shape();
  xla::ifrt::SingleDeviceShardingProto sharding;
  sharding.set_device_id(kDevice);
  sharding.set_memory_kind(kMemoryKind);
  auto& serialized = *output.mutable_sharding()->mutable_serialized_sharding();
  serialized.set_type_name("xla::ifrt::SingleDeviceSharding");
  serialized.set_data(sharding.SerializeAsString());
}

// The response of the request's own kind, with nothing in it: both have the same field number.
void AnswerEmpty(const proxy::IfrtRequest& request, proxy::IfrtResponse& response) {
  const auto* field = proxy::IfrtResponse::descriptor()->FindFieldByNumber(request.request_case());
  if (field != nullptr) response.GetReflection()->MutableMessage(&response, field);
}

class Session final : public grpc::ServerBidiReactor<proxy::IfrtRequest, proxy::IfrtResponse> {
 public:
  Session() { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      MutexLock lock(&mu_);
      reading_ = false;
      FinishIfDone();
      return;
    }
    Send(Answer(request_));
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    responses_.pop_front();
    if (!ok) {
      responses_.clear();
    } else if (!responses_.empty()) {
      StartWrite(&responses_.front());
    }
    FinishIfDone();
  }

  void OnDone() override { delete this; }

 private:
  proxy::IfrtResponse Answer(const proxy::IfrtRequest& request) {
    proxy::IfrtResponse response;
    switch (request.request_case()) {
      case proxy::IfrtRequest::kInitRequest:
        DescribeDevices(*response.mutable_init_response());
        break;
      case proxy::IfrtRequest::kCompileRequest: {
        auto& compiled = *response.mutable_compile_response();
        compiled.set_loaded_executable_handle(next_handle_++);
        compiled.set_name("instant");
        compiled.set_num_devices(1);
        compiled.add_device_ids(kDevice);
        compiled.add_addressable_device_ids(kDevice);
        compiled.set_ready_future_handle(next_handle_++);
        break;
      }
      case proxy::IfrtRequest::kLoadedExecutableMetadataRequest:
        DescribeProgram(*response.mutable_loaded_executable_metadata_response());
        break;
      case proxy::IfrtRequest::kLoadedExecutableExecuteRequest: {
        auto& executed = *response.mutable_loaded_executable_execute_response();
        // Only the first launch of a program asks what it gives; later ones bring the handles themselves.
        if (request.loaded_executable_execute_request().result_array_handle().empty()) {
          auto& output = *executed.add_outputs();
          DescribeOutput(output);
          output.set_array_handle(next_handle_++);
        }
        break;
      }
      case proxy::IfrtRequest::kGetDefaultLayoutRequest:
        response.mutable_get_default_layout_response()->set_serialized_pjrt_layout(
            "{}");  // of a scalar, as XLA writes it
        break;
      default:
        AnswerEmpty(request, response);
    }
    Stamp(request, *response.mutable_response_metadata());
    return response;
  }

  // Numbers the response as the client counts them, so that it forgets the traceback of the request;
  // src/ifrt/numbering.h has the rules.
  void Stamp(const proxy::IfrtRequest& request, proxy::ResponseMetadata& metadata) {
    metadata.set_op_id(request.request_metadata().op_id());
    if (request.has_init_request()) {
      metadata.set_seq_num(-1);
    } else if (!request.has_destruct_array_request() && !request.has_delete_array_request()) {
      metadata.set_seq_num(next_number_++);
      const uint64_t context = request.request_metadata().user_context_id();
      if (context != 0) metadata.add_destroyed_user_context_ids(context);
    }
  }

  void Send(proxy::IfrtResponse response) {
    MutexLock lock(&mu_);
    responses_.push_back(std::move(response));
    if (responses_.size() == 1) StartWrite(&responses_.front());
  }

  void FinishIfDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!reading_ && responses_.empty() && !std::exchange(finished_, true)) Finish(grpc::Status::OK);
  }

  // Touched by one read at a time.
  proxy::IfrtRequest request_;
  uint64_t next_handle_ = kFirstServerHandle;
  int64_t next_number_ = 0;

  Mutex mu_;
  std::deque<proxy::IfrtResponse> responses_ ABSL_GUARDED_BY(mu_);  // the first is being written
  bool reading_ ABSL_GUARDED_BY(mu_) = true;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

// Reads an upload to its end and forgets it.
class Store final : public grpc::ServerReadReactor<proxy::GrpcHostBufferStoreRequest> {
 public:
  Store() { StartRead(&chunk_); }

  void OnReadDone(bool ok) override {
    if (ok) {
      StartRead(&chunk_);
    } else {
      Finish(grpc::Status::OK);
    }
  }

  void OnDone() override { delete this; }

 private:
  proxy::GrpcHostBufferStoreRequest chunk_;
};

// Answers a lookup with four bytes of zero.
class Lookup final : public grpc::ServerWriteReactor<proxy::GrpcHostBufferLookupResponse> {
 public:
  Lookup() {
    response_.set_data(std::string(sizeof(float), '\0'));
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  void OnDone() override { delete this; }

 private:
  proxy::GrpcHostBufferLookupResponse response_;
};

class InstantService final : public proxy::GrpcIfrtService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetVersion(grpc::CallbackServerContext* context, const proxy::GrpcGetVersionRequest*,
                                       proxy::GrpcGetVersionResponse* response) override {
    response->mutable_version()->set_protocol_version(kProtocolVersion);
    response->mutable_version()->set_ifrt_serdes_version_number(kSerdesVersion);
    return FinishNow(context);
  }

  grpc::ServerBidiReactor<proxy::IfrtRequest, proxy::IfrtResponse>* IfrtSession(grpc::CallbackServerContext*) override {
    return new Session;
  }

  grpc::ServerReadReactor<proxy::GrpcHostBufferStoreRequest>* HostBufferStore(
      grpc::CallbackServerContext*, proxy::GrpcHostBufferStoreResponse*) override {
    return new Store;
  }

  grpc::ServerWriteReactor<proxy::GrpcHostBufferLookupResponse>* HostBufferLookup(
      grpc::CallbackServerContext*, const proxy::GrpcHostBufferLookupRequest*) override {
    return new Lookup;
  }

  grpc::ServerUnaryReactor* HostBufferDelete(grpc::CallbackServerContext* context,
                                             const proxy::GrpcHostBufferDeleteRequest*,
                                             proxy::GrpcHostBufferDeleteResponse*) override {
    return FinishNow(context);
  }

 private:
  static grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

int Serve(const std::string& address) {
  InstantService service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    std::cerr << "instant_server: cannot listen on " << address << "\n";
    return 1;
  }
  std::cout << "ready" << std::endl;
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  server->Shutdown(std::chrono::system_clock::now());  // without waiting for sessions to end
  return 0;
}

}  // namespace
}  // namespace causeway

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: instant_server ADDRESS      (unix:PATH, or 127.0.0.1:PORT)\n";
    return 2;
  }
  return causeway::Serve(argv[1]);
}
