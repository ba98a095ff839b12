// The seam to accelerators: what a worker asks of its devices. PJRT behind it (src/pjrt/), or a simulation (src/sim/).
// One contract suite (device_runtime_cts.h) passes on both.
//
//   auto program = runtime->Compile(request);
//   auto run = runtime->Execute(*program.value(), {{a0, b0}, {a1, b1}}, {});     // two devices, two arguments each
//   run->outputs[1][0]                                                             // device 1, output 0: may not be
//   computed yet
//
// Devices are named by their local index, 0 .. devices()-1, in the order of Describe().
//
// Threading: every method may be called from any thread. Compile may take minutes; Execute may run a cheap program
// inline (the CPU plugin does); the others return without waiting for devices. Callbacks come on the plugin's threads
// or on the calling one, and must not block. Lifetime: buffers and programs must be destroyed before the runtime; a
// buffer may be destroyed while a launch uses it.
#ifndef CAUSEWAY_WORKER_DEVICE_RUNTIME_H_
#define CAUSEWAY_WORKER_DEVICE_RUNTIME_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "collectives/engine.h"
#include "proto/control.pb.h"

namespace causeway {

using StatusCallback = std::function<void(absl::Status)>;

// One shard in one device's memory (or on its way there). Destroying it frees the memory once nothing uses it.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;

  // Bytes on the device. Exact.
  virtual int64_t size_bytes() const = 0;

  virtual DType dtype() const = 0;
  virtual const std::vector<int64_t>& dims() const = 0;

  // Calls `done` when the data are there, or with the error because of which they never will be.
  virtual void OnReady(StatusCallback done) = 0;
};

class DeviceProgram {
 public:
  virtual ~DeviceProgram() = default;

  virtual const proto::ProgramInfo& info() const = 0;

  // Local device of each logical device.
  virtual const std::vector<int>& devices() const = 0;
};

// Host memory that somebody keeps alive.
struct HostBytes {
  std::shared_ptr<const void> owner;
  absl::Span<const char> bytes;
};

struct CompileRequest {
  std::string format;  // "mlir" or "hlo"
  std::string code;
  std::string options;       // xla.CompileOptionsProto; its device assignment is replaced by `devices`
  std::vector<int> devices;  // local device of each logical device, replica-major
  // Of a program that the plugins of several processes run together: the plugin's number of each logical device, of
  // which `devices` are those that are here, in order. Empty: all are here.
  std::vector<int> global_devices = {};
};

// A program over devices of several workers, of which some are here.
struct LoadRequest {
  std::shared_ptr<const proto::PortableProgram> portable;
  std::vector<int> devices;  // local
  std::vector<int> logical;  // for each of them, its place in the program
};

struct HostShape {
  DType dtype;
  std::vector<int64_t> dims;
  std::vector<int64_t> byte_strides;  // empty: dense, row-major
};

struct ExecuteOptions {
  int32_t launch_id = 0;
  std::vector<int64_t> non_donatable;  // parameters that must stay usable
  // Of programs that were loaded: the launch's number, and who carries out its collectives until `done`.
  uint64_t launch = 0;
  collectives::Engine* collectives = nullptr;
};

struct Execution {
  // [device][output]. They may be used at once as arguments of later launches.
  std::vector<std::vector<std::shared_ptr<DeviceBuffer>>> outputs;
};

class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  // Platform, plugin and devices, as a Hello says them (name, island, token, addresses are left empty).
  virtual const proto::Hello& Describe() const = 0;

  virtual absl::StatusOr<std::shared_ptr<DeviceProgram>> Compile(const CompileRequest& request) = 0;

  // Compiles a program for more devices than are here: for `devices` of them in all; request.devices is not used. It
  // serves every device, here and on other workers with this plugin. UNIMPLEMENTED where the plugin or a collective of
  // the program does not lend itself to that.
  virtual absl::StatusOr<proto::PortableProgram> CompilePortable(const CompileRequest& request, int devices) = 0;

  // Loads such a program: one for each of the request's devices. To execute one may block until all other devices of
  // the gang execute theirs: give each a thread of its own.
  virtual absl::StatusOr<std::vector<std::shared_ptr<DeviceProgram>>> Load(const LoadRequest& request) = 0;

  // Starts one launch on all devices of `program`. `arguments` is [device][parameter]; donated arguments become
  // unusable. `done` is called once when every device has finished, with the first error if any. An error returned here
  // means that nothing was started and `done` is not called.
  virtual absl::StatusOr<Execution> Execute(DeviceProgram& program,
                                            const std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>& arguments,
                                            const ExecuteOptions& options, StatusCallback done) = 0;

  // Makes a buffer on `device` from host memory. `host` is held until the device no longer reads it: a CPU device may
  // use the memory itself, for as long as the buffer lives. `memory_kind` and `layout` (xla.LayoutProto) empty: the
  // default.
  virtual absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(HostBytes host, const HostShape& shape, int device,
                                                                 const std::string& memory_kind,
                                                                 const std::string& layout) = 0;

  // Writes the buffer to `target`, dense and row-major (or as `byte_strides` say), when it is ready. The caller keeps
  // `target` and the buffer alive until `done`. INVALID_ARGUMENT through `done` where target.size() is not
  // HostBytesOf(buffer) (strided: the span).
  virtual void ToHost(std::shared_ptr<DeviceBuffer> buffer, absl::Span<const int64_t> byte_strides,
                      absl::Span<char> target, StatusCallback done) = 0;

  // The buffer's own memory, dense and row-major, where the host can read it (CPU devices) and it is ready; otherwise
  // FAILED_PRECONDITION: use ToHost. Valid as long as `owner` is held.
  virtual absl::StatusOr<HostBytes> HostView(std::shared_ptr<DeviceBuffer> buffer) = 0;

  // A copy in a memory of this or another local device.
  virtual absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(DeviceBuffer& buffer, int device,
                                                               const std::string& memory_kind) = 0;

  // The plugin's preferred layout of such a shard, serialised as PJRT does.
  virtual absl::StatusOr<std::string> DefaultLayout(DType dtype, absl::Span<const int64_t> dims, int device,
                                                    const std::string& memory_kind) = 0;

  // Optimised HLO as text (UNIMPLEMENTED where the plugin has none).
  virtual absl::StatusOr<std::string> ProgramText(DeviceProgram& program) = 0;

  virtual absl::StatusOr<std::map<std::string, double>> CostAnalysis(DeviceProgram& program) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_WORKER_DEVICE_RUNTIME_H_
