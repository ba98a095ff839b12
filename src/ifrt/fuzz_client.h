// A client of the door for fuzzing: requests that a jaxlib could send, about arrays and programs that it has heard of,
// and now and then one that is damaged or is nothing but bytes.
//
//   FuzzClient client;
//   wire::IfrtRequest request = client.Next(in, store);     // `store` sends host data first
//   session.OnRequest(request);
//   client.Heard(response);                                 // for each response: remembers names that it was given
//
// Threading: none.
#ifndef CAUSEWAY_IFRT_FUZZ_CLIENT_H_
#define CAUSEWAY_IFRT_FUZZ_CLIENT_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "fuzz/input.h"
#include "ifrt/fuzz_messages.h"
#include "ifrt/types.h"
#include "proto/control.pb.h"
#include "xla/python/ifrt_proxy/common/ifrt_service.pb.h"
#include "xla/python/pjrt_ifrt/xla_compiler.pb.h"

namespace causeway {

class FuzzClient {
 public:
  using Request = xla::ifrt::proxy::IfrtRequest;
  using Response = xla::ifrt::proxy::IfrtResponse;

  // Stores `bytes` bytes under `handle`.
  using Store = std::function<void(uint64_t handle, int64_t bytes)>;

  // The next request. What it needs of host data is stored before, after, or not.
  Request Next(FuzzInput& in, const Store& store) {
    Request request;
    later_ = nullptr;
    const int what = in.Byte();
    if (what < 224) {
      Plausible(in, what % 24, request, store);
      if (in.OneIn(10)) Damage(in, request);
    } else if (what < 248) {
      // A request of any kind, filled from scratch.
      const auto& kinds = *Request::descriptor()->FindOneofByName("request");
      IfrtFiller().FillField(in, request, *kinds.field(in.Byte() % kinds.field_count()));
    } else if (!request.ParseFromString(in.Bytes(128))) {
      request.Clear();
    }
    request.mutable_request_metadata()->set_op_id(++last_op_);
    request.mutable_request_metadata()->set_user_context_id(last_op_ + 1000);
    if (request.has_compile_request()) compiling_[last_op_] = arity_;
    return request;
  }

  // After the session has had the request.
  void AfterRequest() {
    if (later_) later_();
  }

  void Heard(const Response& response) {
    if (!response.has_compile_response()) return;
    const auto found = compiling_.find(response.response_metadata().op_id());
    if (found == compiling_.end()) return;
    programs_.push_back({response.compile_response().loaded_executable_handle(), found->second});
  }

 private:
  struct Spec {
    xla::ifrt::DTypeProto dtype;
    xla::ifrt::ShapeProto shape;
    xla::ifrt::ShardingProto sharding;
  };
  struct Arity {
    int parameters = 0;
    int outputs = 0;
  };
  struct Program {
    uint64_t handle;
    Arity arity;
  };

  static uint64_t NewHandle(FuzzInput& in) { return in.Byte() % 24; }

  Spec FuzzSpec(FuzzInput& in) {
    // One that was seen before, so that arrays are alike.
    if (!specs_.empty() && in.Byte() < 128) return specs_[in.Byte() % specs_.size()];
    constexpr int kKinds[] = {11, 2, 1, 18, 21, 12, 17, 99};
    Spec spec;
    const int byte = in.Byte();
    spec.dtype.set_kind(static_cast<xla::ifrt::DTypeProto::Kind>(byte < 192   ? 11
                                                                 : byte < 250 ? kKinds[byte % 8]
                                                                              : in.Number()));
    const std::vector<int64_t> dims = FuzzDims(in, 3);
    spec.shape.mutable_dims()->Add(dims.begin(), dims.end());
    spec.sharding = FuzzShardingProto(in, dims);
    specs_.push_back(spec);
    return spec;
  }

  static void Put(const Spec& spec, xla::ifrt::ArraySpecProto& out) {
    *out.mutable_dtype() = spec.dtype;
    *out.mutable_shape() = spec.shape;
    *out.mutable_sharding() = spec.sharding;
  }

  static int64_t BytesOf(const xla::ifrt::DTypeProto& dtype, const std::vector<int64_t>& dims) {
    const auto type = ParseDType(dtype);
    return type.ok() ? HostSpanBytes(*type, dims, {}).value_or(0) : 0;
  }

  template <typename List>
  static void AddHandles(FuzzInput& in, int count, List* list) {
    for (; count > 0; --count) list->Add(FuzzHandle(in));
  }

  // Names for results, or none: then the server gives them.
  template <typename List>
  static void AddResults(FuzzInput& in, int count, List* list) {
    if (in.OneIn(6)) return;
    for (; count > 0; --count) list->Add(NewHandle(in));
  }

  // When the bytes come, if they do, and how many.
  void StoreFor(FuzzInput& in, uint64_t handle, int64_t bytes, const Store& store) {
    constexpr int64_t kMostBytes = 512 << 10;
    const int when = in.Below(8);
    if (when == 7) ++bytes;
    if (bytes < 0 || bytes > kMostBytes || when == 6) return;
    if (when < 4) {
      store(handle, bytes);
    } else {
      const auto before = std::move(later_);
      later_ = [before, store, handle, bytes] {
        if (before) before();
        store(handle, bytes);
      };
    }
  }

  template <typename R>
  static void Semantics(FuzzInput& in, R* request) {
    request->set_copy_semantics(static_cast<xla::ifrt::proto::ArrayCopySemantics>(in.Below(4)));
  }

  void Damage(FuzzInput& in, Request& request) {
    const auto* field =
        Request::GetReflection()->GetOneofFieldDescriptor(request, Request::descriptor()->FindOneofByName("request"));
    if (field != nullptr) IfrtFiller().Fill(in, *Request::GetReflection()->MutableMessage(&request, field));
  }

  void Plausible(FuzzInput& in, int kind, Request& request, const Store& store) {
    switch (kind) {
      case 0:
      case 1:
        return MakeArray(in, *request.mutable_make_array_from_host_buffer_request(), store);
      case 2:
      case 3:
        return MakeShards(in, *request.mutable_make_arrays_from_host_buffer_shards_request(), store);
      case 4: {
        auto& r = *request.mutable_make_error_arrays_request();
        const int count = in.Below(3);
        r.mutable_error()->set_code(static_cast<tensorflow::error::Code>(in.Below(18)));
        for (int i = 0; i < count; ++i) Put(FuzzSpec(in), *r.add_array_specs());
        return AddResults(in, count, r.mutable_array_handles());
      }
      case 5: {
        auto& r = *request.mutable_assemble_array_from_single_device_arrays_request();
        const Spec spec = FuzzSpec(in);
        *r.mutable_shape() = spec.shape;
        *r.mutable_sharding() = spec.sharding;
        if (in.Flag()) *r.mutable_dtype() = spec.dtype;
        AddHandles(in, in.Below(5), r.mutable_single_device_array_handles());
        r.set_result_handle(NewHandle(in));
        return Semantics(in, &r);
      }
      case 6:
      case 7: {
        auto& r = *request.mutable_disassemble_into_single_device_arrays_request();
        r.set_array_handle(FuzzHandle(in));
        Semantics(in, &r);
        return AddResults(in, in.Below(5), r.mutable_result_handles());
      }
      case 8:
        return Remap(in, *request.mutable_remap_arrays_request());
      case 9: {
        auto& r = *request.mutable_bitcast_arrays_request();
        const int count = in.Below(3);
        AddHandles(in, count, r.mutable_array_handles());
        for (int i = 0; i < count; ++i) Put(FuzzSpec(in), *r.add_array_specs());
        Semantics(in, &r);
        return AddResults(in, count, r.mutable_result_handles());
      }
      case 10:
      case 11: {
        auto& r = *request.mutable_reshard_arrays_request();
        const int count = in.Below(3);
        AddHandles(in, count, r.mutable_array_handles());
        for (int i = 0; i < count; ++i) Put(FuzzSpec(in), *r.add_array_specs());
        Semantics(in, &r);
        return AddResults(in, count, r.mutable_result_handles());
      }
      case 12: {
        auto& r = *request.mutable_copy_arrays_request();
        const int count = in.Below(3);
        AddHandles(in, count, r.mutable_array_handles());
        for (int i = in.Below(5); i > 0; --i) r.add_device_ids(FuzzDevice(in));
        if (in.OneIn(4)) r.set_memory_kind("device");
        Semantics(in, &r);
        return AddResults(in, count, r.mutable_result_handles());
      }
      case 13: {
        auto& r = *request.mutable_fully_replicated_shard_request();
        r.set_array_handle(FuzzHandle(in));
        r.set_result_handle(NewHandle(in));
        return Semantics(in, &r);
      }
      case 14:
        request.mutable_copy_to_host_buffer_request()->set_array_handle(FuzzHandle(in));
        request.mutable_copy_to_host_buffer_request()->set_host_buffer_handle(in.Byte());
        for (int i = in.Below(6); i > 3; --i) {
          request.mutable_copy_to_host_buffer_request()->mutable_byte_strides()->add_strides(in.Number());
        }
        return;
      case 15:
        return AddHandles(in, in.Below(4), request.mutable_delete_array_request()->mutable_array_handle());
      case 16:
        return AddHandles(in, in.Below(4), request.mutable_destruct_array_request()->mutable_array_handle());
      case 17:
        return request.mutable_is_array_deleted_request()->set_array_handle(FuzzHandle(in));
      case 18:
        if (in.Flag()) return request.mutable_check_future_request()->set_future_handle(FuzzHandle(in));
        return AddHandles(in, in.Below(4), request.mutable_check_value_ready_request()->mutable_value_handles());
      case 19:
        return Compile(in, *request.mutable_compile_request());
      case 20:
      case 21:
        return Execute(in, *request.mutable_loaded_executable_execute_request());
      case 22:
        return AboutProgram(in, request);
      default: {
        if (in.Flag()) {
          auto& r = *request.mutable_get_default_layout_request();
          const Spec spec = FuzzSpec(in);
          *r.mutable_dtype() = spec.dtype;
          *r.mutable_dims() = spec.shape.dims();
          r.set_device_id(FuzzDevice(in));
        } else {
          request.mutable_get_default_device_assignment_request()->set_num_replicas(in.Number());
          request.mutable_get_default_device_assignment_request()->set_num_partitions(in.Number());
        }
      }
    }
  }

  void MakeArray(FuzzInput& in, xla::ifrt::proxy::MakeArrayFromHostBufferRequest& r, const Store& store) {
    const Spec spec = FuzzSpec(in);
    *r.mutable_dtype() = spec.dtype;
    *r.mutable_shape() = spec.shape;
    *r.mutable_sharding() = spec.sharding;
    r.set_host_buffer_handle(in.Byte());
    r.set_array_handle(NewHandle(in));
    const std::vector<int64_t> dims(spec.shape.dims().begin(), spec.shape.dims().end());
    StoreFor(in, r.host_buffer_handle(), BytesOf(spec.dtype, dims), store);
    if (in.OneIn(8)) {
      for (size_t i = 0; i < dims.size(); ++i) r.mutable_byte_strides()->add_strides(in.Number());
    }
  }

  void MakeShards(FuzzInput& in, xla::ifrt::proxy::MakeArraysFromHostBufferShardsRequest& r, const Store& store) {
    const int count = in.Below(3);
    for (int n = 0; n < count; ++n) {
      const Spec spec = FuzzSpec(in);
      auto& made = *r.add_specs();
      Put(spec, *made.mutable_array_spec());
      const auto sharding = ParseSharding(spec.sharding);
      const auto dims = ParseDims(spec.shape);
      if (!sharding.ok() || !dims.ok() || !sharding->CheckRank(*dims).ok()) continue;
      for (int shard = 0; shard < sharding->num_shards(); ++shard) {
        const Box box = sharding->ShardBox(*dims, shard);
        made.add_addressable_shard_indices()->add_indices(in.Byte() < 240 ? shard : in.Below(8));
        auto& buffer = *made.add_host_buffers();
        *buffer.mutable_dtype() = spec.dtype;
        buffer.mutable_shape()->mutable_dims()->Add(box.size.begin(), box.size.end());
        buffer.set_host_buffer_handle(in.Byte());
        StoreFor(in, buffer.host_buffer_handle(), BytesOf(spec.dtype, box.size), store);
      }
    }
    AddResults(in, count, r.mutable_array_handles());
  }

  void Remap(FuzzInput& in, xla::ifrt::proxy::RemapArraysRequest& r) {
    const int inputs = in.Below(3);
    const int outputs = in.Below(3);
    AddHandles(in, inputs, r.mutable_array_handles());
    auto& plan = *r.mutable_plan();
    for (int i = 0; i < inputs; ++i) Put(FuzzSpec(in), *plan.add_input_specs());
    for (int i = 0; i < outputs; ++i) Put(FuzzSpec(in), *plan.add_output_specs());
    for (int i = in.Below(4); i > 0; --i) {
      if (in.Flag()) {
        auto& mapping = *plan.add_mappings();
        mapping.set_in_array(in.Below(2));
        mapping.set_out_array(in.Below(2));
        mapping.add_from_start(in.Below(3));
        mapping.add_from_end(in.Number());
        mapping.add_from_step(1 + in.Below(2));
        mapping.add_to_start(in.Below(3));
        mapping.add_to_end(in.Number());
        mapping.add_to_step(1 + in.Below(2));
      } else {
        auto& output = *plan.add_input_devices_for_output();
        output.set_out_array(in.Below(2));
        auto& from = *output.add_input_devices();
        from.set_in_array(in.Below(2));
        for (int d = in.Below(5); d > 0; --d) from.mutable_device_list()->add_device_ids(FuzzDevice(in));
      }
    }
    Semantics(in, &r);
    AddResults(in, outputs, r.mutable_result_handles());
  }

  void Compile(FuzzInput& in, xla::ifrt::proxy::CompileRequest& r) {
    const int devices = 1 + in.Below(2);
    const int first = 2 * in.Below(2);
    proto::ProgramInfo info;
    info.set_name("p");
    arity_ = {in.Below(3), in.Below(3)};
    for (int i = 0; i < arity_.parameters; ++i) info.add_parameters();
    for (int i = 0; i < arity_.outputs; ++i) {
      auto& output = *info.add_outputs();
      output.mutable_type()->set_dtype(11);
      for (int64_t d : FuzzDims(in, 2)) output.mutable_type()->add_dims(d);
      if (in.Flag()) output.set_sharding(FuzzOpSharding(in, devices).SerializeAsString());
    }
    for (int i = in.Below(3); i > 0; --i) info.add_donated_parameters(in.Below(3));
    info.set_has_collectives(in.OneIn(4));
    // A compiler that answers nonsense.
    if (in.OneIn(12)) ProtoFiller().Fill(in, info, /*depth=*/3);
    r.mutable_program()->set_type_name("xla::ifrt::XlaProgram");
    r.mutable_program()->set_data(info.SerializeAsString());
    xla::ifrt::XlaCompileOptionsProto options;
    auto& build = *options.mutable_compile_options()->mutable_executable_build_options();
    if (in.Byte() < 224) {
      build.set_num_replicas(1);
      build.set_num_partitions(devices);
      for (int i = 0; i < devices; ++i) {
        build.mutable_device_assignment()->add_computation_devices()->add_replica_device_ids(first + i);
      }
    } else {
      build.set_num_replicas(in.Number());
      build.set_num_partitions(in.Number());
      if (in.Flag()) ProtoFiller().Fill(in, *options.mutable_compile_options(), /*depth=*/4);
    }
    r.mutable_compile_options()->set_data(options.SerializeAsString());
  }

  uint64_t FuzzProgram(FuzzInput& in, Arity* arity = nullptr) {
    if (programs_.empty() || in.Byte() >= 240) return FuzzHandle(in);
    const Program& program = programs_[in.Byte() % programs_.size()];
    if (arity != nullptr) *arity = program.arity;
    return program.handle;
  }

  void Execute(FuzzInput& in, xla::ifrt::proxy::LoadedExecutableExecuteRequest& r) {
    Arity arity;
    r.set_loaded_executable_handle(FuzzProgram(in, &arity));
    AddHandles(in, arity.parameters, r.mutable_args_handles());
    AddResults(in, arity.outputs, r.mutable_result_array_handle());
    if (in.Flag()) {
      r.mutable_execute_options()->set_fill_status(true);
      if (in.Flag()) r.set_result_status_handle(NewHandle(in));
    }
    if (in.OneIn(8)) r.mutable_execute_options()->add_non_donatable_input_indices(in.Below(3));
    if (in.OneIn(8)) r.add_device_ids(FuzzDevice(in));
  }

  void AboutProgram(FuzzInput& in, Request& request) {
    const int what = in.Below(7);
    const uint64_t program = FuzzProgram(in);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    switch (what) {
      case 0:
        return request.mutable_loaded_executable_metadata_request()->set_loaded_executable_handle(program);
      case 1:
        return request.mutable_loaded_executable_cost_analysis_request()->set_loaded_executable_handle(program);
      case 2:
        return request.mutable_loaded_executable_human_readable_program_text_request()->set_loaded_executable_handle(
            program);
      case 3:
        return request.mutable_loaded_executable_delete_request()->set_loaded_executable_handle(program);
      case 4:
        return request.mutable_loaded_executable_is_deleted_request()->set_loaded_executable_handle(program);
      case 5:
        return request.mutable_loaded_executable_fetch_execute_result_request()->set_result_status_handle(program);
      default:
        return request.mutable_loaded_executable_destruct_request()->set_loaded_executable_handle(program);
    }
#pragma GCC diagnostic pop
  }

  uint64_t last_op_ = 0;
  std::function<void()> later_;
  std::vector<Spec> specs_;
  std::vector<Program> programs_;
  Arity arity_;                          // of the program that was compiled last
  std::map<uint64_t, Arity> compiling_;  // by op
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_FUZZ_CLIENT_H_
