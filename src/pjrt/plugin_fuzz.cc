// A plugin whose every answer comes from the input (testing/fuzz_plugin.cc), driven as a worker drives one: it may be
// refused, but nothing of it crashes us, leaks, or makes a message that does not parse.
//
// Input: one byte says how much of the rest is what the worker does; what is left is what the plugin answers.
#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "pjrt/pjrt_runtime.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

struct Plugin {
  void (*script)(const uint8_t*, size_t);
  bool (*call_one)();
};

const Plugin& ThePlugin() {
  static const Plugin plugin = [] {
    void* library = dlopen(FUZZ_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    FUZZ_CHECK(library != nullptr);
    return Plugin{reinterpret_cast<void (*)(const uint8_t*, size_t)>(dlsym(library, "FuzzPluginScript")),
                  reinterpret_cast<bool (*)()>(dlsym(library, "FuzzPluginCallOne"))};
  }();
  return plugin;
}

template <typename Proto>
void CheckParses(const Proto& message) {
  Proto parsed;
  FUZZ_CHECK(parsed.ParseFromString(message.SerializeAsString()));
}

class Driver {
 public:
  explicit Driver(DeviceRuntime& runtime) : runtime_(runtime) { CheckParses(runtime.Describe()); }

  void Step(FuzzInput& in) {
    switch (in.Below(9)) {
      case 0: {
        const auto program = runtime_.Compile({"mlir", "code", "", {in.Below(2)}});
        if (!program.ok()) return;
        const proto::ProgramInfo& info = (*program)->info();
        CheckParses(info);
        for (const proto::OutputInfo& output : info.outputs()) {
          const auto type = static_cast<DType>(output.type().dtype());
          FUZZ_CHECK(worker::CheckShape(type, output.type().dims()).ok());
        }
        programs_.push_back(*program);
        return;
      }
      case 1: {
        auto data = std::make_shared<const std::string>(1024, 'h');
        const std::vector<int64_t> dims(in.Below(4), in.Below(5));
        const auto buffer = runtime_.FromHost({data, *data}, {in.Flag() ? DType::kF32 : DType::kS4, dims, {}},
                                              in.Below(3), in.Flag() ? "" : in.Bytes(4), "");
        if (buffer.ok()) buffers_.push_back(*buffer);
        return;
      }
      case 2: {
        if (programs_.empty()) return;
        DeviceProgram& program = *programs_[in.Byte() % programs_.size()];
        std::vector<std::shared_ptr<DeviceBuffer>> row;
        for (int i = program.info().parameters_size(); i > 0 && !buffers_.empty(); --i) {
          row.push_back(buffers_[in.Byte() % buffers_.size()]);
        }
        auto execution = runtime_.Execute(program, {row}, {}, [this](absl::Status) { ++finished_; });
        if (!execution.ok()) return;
        ++started_;
        for (auto& device : execution->outputs) {
          for (auto& output : device) {
            FUZZ_CHECK(output->size_bytes() >= 0);
            buffers_.push_back(std::move(output));
          }
        }
        return;
      }
      case 3: {
        if (buffers_.empty()) return;
        const auto buffer = buffers_[in.Byte() % buffers_.size()];
        const auto bytes = worker::CheckShape(buffer->dtype(), buffer->dims()).ok()
                               ? worker::DenseBytes(buffer->dtype(), buffer->dims())
                               : 0;
        if (bytes > 4096) return;
        const auto target = std::make_shared<std::string>(static_cast<size_t>(bytes), '\0');
        ++started_;
        return runtime_.ToHost(buffer, {}, absl::MakeSpan(*target),
                               [this, target, buffer](absl::Status) { ++finished_; });
      }
      case 4: {
        if (buffers_.empty()) return;
        const auto buffer = buffers_[in.Byte() % buffers_.size()];
        if (buffer->dims().size() > 3 || worker::DenseBytes(buffer->dtype(), buffer->dims()) > 4096) return;
        const auto view = runtime_.HostView(buffer);
        if (view.ok()) FUZZ_CHECK(std::count(view->bytes.begin(), view->bytes.end(), 'x') >= 0);
        return;
      }
      case 5: {
        if (buffers_.empty()) return;
        const auto copy = runtime_.CopyTo(*buffers_[in.Byte() % buffers_.size()], in.Below(3), in.Bytes(4));
        if (copy.ok()) buffers_.push_back(*copy);
        return;
      }
      case 6: {
        proto::QueryDone done;
        const auto layout = runtime_.DefaultLayout(DType::kF32, {2, 3}, in.Below(3), "");
        if (layout.ok()) done.set_layout(*layout);
        if (!programs_.empty()) {
          const auto text = runtime_.ProgramText(*programs_.back());
          if (text.ok()) done.set_text(*text);
          const auto costs = runtime_.CostAnalysis(*programs_.back());
          if (costs.ok()) done.mutable_values()->insert(costs->begin(), costs->end());
        }
        return CheckParses(done);
      }
      case 7:
        if (!buffers_.empty()) buffers_.erase(buffers_.begin() + in.Byte() % buffers_.size());
        return;
      default:
        ThePlugin().call_one();
    }
  }

  void End() {
    while (ThePlugin().call_one()) {
    }
    FUZZ_CHECK(started_ == finished_);
    buffers_.clear();
    programs_.clear();
  }

 private:
  DeviceRuntime& runtime_;
  std::vector<std::shared_ptr<DeviceProgram>> programs_;
  std::vector<std::shared_ptr<DeviceBuffer>> buffers_;
  int started_ = 0;
  int finished_ = 0;
};

void Feed(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const size_t steps = std::min<size_t>(data[0], size - 1);
  FuzzInput in(data + 1, steps);
  ThePlugin().script(data + 1 + steps, size - 1 - steps);
  {
    PjrtRuntimeOptions options;
    options.plugin = FUZZ_PLUGIN;
    const auto runtime = CreatePjrtRuntime(options);
    if (runtime.ok()) {
      Driver driver(**runtime);
      while (!in.empty()) driver.Step(in);
      driver.End();
    }
  }
  while (ThePlugin().call_one()) {
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(data, size);
  return 0;
}
