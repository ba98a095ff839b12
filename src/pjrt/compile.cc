#include "pjrt/compile.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace causeway {

absl::Status AssignDevices(const PjrtClient& client, const std::vector<int>& devices,
                           xla::CompileOptionsProto& options) {
  std::vector<int> ids;
  for (int local : devices) {
    RETURN_IF_ERROR(client.CheckDevice(local));
    ids.push_back(client.device(local).id);
  }
  return AssignGlobalDevices(ids, options);
}

absl::Status AssignGlobalDevices(const std::vector<int>& ids, xla::CompileOptionsProto& options) {
  xla::ExecutableBuildOptionsProto& build = *options.mutable_executable_build_options();
  const int64_t replicas = std::max<int64_t>(build.num_replicas(), 1);
  const int64_t partitions = std::max<int64_t>(build.num_partitions(), 1);
  const auto count = static_cast<int64_t>(ids.size());
  if (replicas > count || partitions > count || replicas * partitions != count) {
    return absl::InvalidArgumentError(
        absl::StrCat("a program of ", replicas, " x ", partitions, " (replicas x partitions) for ", count, " devices"));
  }
  xla::DeviceAssignmentProto& assignment = *build.mutable_device_assignment();
  assignment.Clear();
  assignment.set_replica_count(static_cast<int>(replicas));
  assignment.set_computation_count(static_cast<int>(partitions));
  for (int64_t partition = 0; partition < partitions; ++partition) {
    auto& computation = *assignment.add_computation_devices();
    for (int64_t replica = 0; replica < replicas; ++replica) {
      computation.add_replica_device_ids(ids[replica * partitions + partition]);
    }
  }
  // The assignment says it all: an ordinal would name a device of the client's numbering, and a portable executable has
  // no assignment.
  build.set_device_ordinal(-1);
  options.set_compile_portable_executable(false);
  return absl::OkStatus();
}

absl::StatusOr<PjrtLoadedExecutableHandle> CompileCode(const PjrtClient& client, const std::string& format,
                                                       const std::string& code,
                                                       const xla::CompileOptionsProto& options) {
  const std::string serialized_options = options.SerializeAsString();
  PjrtArgs<PJRT_Program> program;
  program.code = const_cast<char*>(code.data());  // in/out elsewhere; Compile only reads
  program.code_size = code.size();
  program.format = format.data();
  program.format_size = format.size();
  PjrtArgs<PJRT_Client_Compile_Args> args;
  args.client = client.get();
  args.program = &program;
  args.compile_options = serialized_options.data();
  args.compile_options_size = serialized_options.size();
  const PjrtApi& api = client.api();
  RETURN_IF_ERROR(api.Call(api.table().PJRT_Client_Compile, args));
  return PjrtLoadedExecutableHandle(args.executable, {&api});
}

}  // namespace causeway
