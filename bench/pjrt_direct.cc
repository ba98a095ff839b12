// What one tiny launch costs when the plugin is called directly: the floor below everything.
//
//   echo 10000 | pjrt_direct      for each line of stdin, that many launches in a chain; prints the microseconds of one
//
// The program is the benchmark's, x + 1 on one f32[]; each launch's output is the next one's input, and the last is
// awaited.
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "pjrt/pjrt_api.h"
#include "pjrt/pjrt_client.h"
#include "pjrt/pjrt_program.h"
#include "pjrt/plugin_discovery.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

constexpr char kProgram[] = R"(
module @add_one {
  func.func @main(%x: tensor<f32>) -> tensor<f32> {
    %one = stablehlo.constant dense<1.0> : tensor<f32>
    %y = stablehlo.add %x, %one : tensor<f32>
    return %y : tensor<f32>
  }
}
)";

absl::StatusOr<std::shared_ptr<PjrtProgram>> CompileAddOne(const PjrtClient& client) {
  xla::CompileOptionsProto options;
  options.mutable_executable_build_options()->set_num_replicas(1);
  options.mutable_executable_build_options()->set_num_partitions(1);
  return PjrtProgram::Compile(client, {"mlir", kProgram, options.SerializeAsString(), {0}});
}

absl::Status Await(const PjrtApi& api, PjrtEventHandle event) {
  if (event == nullptr) return absl::OkStatus();
  PjrtArgs<PJRT_Event_Await_Args> args;
  args.event = event.get();
  return api.Call(api.table().PJRT_Event_Await, args);
}

absl::StatusOr<PjrtBufferHandle> MakeScalar(const PjrtClient& client, float value) {
  PjrtArgs<PJRT_Client_BufferFromHostBuffer_Args> args;
  args.client = client.get();
  args.data = &value;
  args.type = PJRT_Buffer_Type_F32;
  args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
  args.device = client.device(0).device;
  RETURN_IF_ERROR(client.api().Call(client.api().table().PJRT_Client_BufferFromHostBuffer, args));
  PjrtBufferHandle buffer(args.buffer, {&client.api()});
  RETURN_IF_ERROR(Await(client.api(), PjrtEventHandle(args.done_with_host_buffer, {&client.api()})));
  return buffer;
}

absl::StatusOr<PjrtBufferHandle> Launch(const PjrtApi& api, const PjrtProgram& program, const PjrtBufferHandle& x) {
  PjrtArgs<PJRT_ExecuteOptions> options;
  PJRT_Buffer* const arguments[] = {x.get()};
  PJRT_Buffer* const* const argument_lists[] = {arguments};
  PJRT_Buffer* outputs[] = {nullptr};
  PJRT_Buffer** const output_lists[] = {outputs};
  PjrtArgs<PJRT_LoadedExecutable_Execute_Args> args;
  args.executable = program.loaded();
  args.options = &options;
  args.argument_lists = argument_lists;
  args.num_devices = 1;
  args.num_args = 1;
  args.output_lists = output_lists;
  RETURN_IF_ERROR(api.Call(api.table().PJRT_LoadedExecutable_Execute, args));
  return PjrtBufferHandle(outputs[0], {&api});
}

// Microseconds of one launch out of `count`.
absl::StatusOr<double> TimeChain(const PjrtClient& client, const PjrtProgram& program, int count) {
  const PjrtApi& api = client.api();
  ASSIGN_OR_RETURN(PjrtBufferHandle x, MakeScalar(client, 0));
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(PjrtBufferHandle next, Launch(api, program, x));
    x = std::move(next);
  }
  PjrtArgs<PJRT_Buffer_ReadyEvent_Args> ready;
  ready.buffer = x.get();
  RETURN_IF_ERROR(api.Call(api.table().PJRT_Buffer_ReadyEvent, ready));
  RETURN_IF_ERROR(Await(api, PjrtEventHandle(ready.event, {&api})));
  const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - began;
  return elapsed.count() / count;
}

absl::Status Run() {
  ASSIGN_OR_RETURN(const std::string path, FindPlugin("cpu", PluginDirectories()));
  ASSIGN_OR_RETURN(const PjrtApi* const api, PjrtApi::Load(path));
  ASSIGN_OR_RETURN(const auto client, PjrtClient::Create(api, {{"cpu_device_count", int64_t{1}}}));
  ASSIGN_OR_RETURN(const auto program, CompileAddOne(*client));
  for (int count = 0; std::cin >> count && count > 0;) {
    ASSIGN_OR_RETURN(const double microseconds, TimeChain(*client, *program, count));
    std::cout << microseconds << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace causeway

int main() {
  const absl::Status status = causeway::Run();
  if (!status.ok()) std::cerr << "pjrt_direct: " << status << "\n";
  return status.ok() ? 0 : 1;
}
