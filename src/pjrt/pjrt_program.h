// A loaded executable with what is known of it.
//
// Threading: thread-safe. Lifetime: destroyed before its runtime; may be destroyed while its launches run.
#ifndef CAUSEWAY_PJRT_PJRT_PROGRAM_H_
#define CAUSEWAY_PJRT_PJRT_PROGRAM_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pjrt/partitioner.h"
#include "pjrt/pjrt_buffer.h"
#include "pjrt/pjrt_client.h"
#include "worker/device_runtime.h"
#include "xla/service/hlo.pb.h"

namespace causeway {

class PjrtProgram final : public DeviceProgram {
 public:
  // Compiles for `request.devices`. INVALID_ARGUMENT where they do not fit the options' replicas and partitions,
  // otherwise the plugin's error.
  static absl::StatusOr<std::shared_ptr<PjrtProgram>> Compile(const PjrtClient& client, const CompileRequest& request);

  // Partitions and compiles for `devices` in all, as DeviceRuntime::CompilePortable says.
  static absl::StatusOr<proto::PortableProgram> CompilePortable(const PjrtClient& client, Partitioner& partitioner,
                                                                const CompileRequest& request, int devices);

  // Loads such a program once, for each of its devices that is here.
  static absl::StatusOr<std::vector<std::shared_ptr<PjrtProgram>>> Load(const PjrtClient& client,
                                                                        const LoadRequest& request);

  const proto::ProgramInfo& info() const override { return info_; }
  const std::vector<int>& devices() const override { return devices_; }

  PJRT_LoadedExecutable* loaded() const { return loaded_.get(); }

  // Where a portable program is to be executed; null: the executable knows it.
  PJRT_Device* execute_device() const { return execute_device_; }

  // Of a portable program: its place among the gang's devices, and what its custom calls stand for.
  int logical_device() const { return logical_device_; }
  const std::shared_ptr<const proto::Collectives>& collectives() const { return collectives_; }

  int num_outputs() const { return static_cast<int>(outputs_.size()); }

  // Wraps what a launch left at place `output`.
  std::shared_ptr<DeviceBuffer> WrapOutput(PjrtBufferHandle buffer, int output);

  // The optimised program, again from the plugin: it is large, and asked for seldom.
  absl::StatusOr<xla::HloModuleProto> OptimizedModule() const;

  absl::StatusOr<std::map<std::string, double>> CostAnalysis() const;

 private:
  struct Output {
    std::shared_ptr<const BufferType> type;
    std::atomic<int64_t> size_bytes{-1};  // on the device; -1 until a launch has shown it
  };

  using SharedExecutable = std::shared_ptr<PJRT_LoadedExecutable>;

  PjrtProgram(const PjrtClient& client, SharedExecutable loaded, std::vector<int> devices)
      : api_(client.api()), loaded_(std::move(loaded)), devices_(std::move(devices)) {}

  absl::Status GetExecutable();
  // `alone`: all of its devices are here.
  absl::Status Describe(const PjrtClient& client, bool tupled_arguments, bool alone);
  absl::Status CheckDeviceOrder(const PjrtClient& client) const;
  absl::Status DescribeOutputs();
  absl::Status TakeOutputTypes();
  absl::StatusOr<std::string> Serialize() const;
  void DescribeMemoryKinds(const PjrtClient& client);
  void DescribeSizes();

  const PjrtApi& api_;
  const SharedExecutable loaded_;  // by the programs of a gang that are here
  PjrtExecutableHandle executable_;
  const std::vector<int> devices_;
  PJRT_Device* execute_device_ = nullptr;
  int logical_device_ = 0;
  std::shared_ptr<const proto::Collectives> collectives_;
  proto::ProgramInfo info_;
  std::vector<Output> outputs_;
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PJRT_PROGRAM_H_
