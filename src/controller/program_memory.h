// What a program takes on each of its devices, as its compiler says.
//
//   ProgramMemory memory = MemoryOf(view.info, device);
//   memory.NeedOf(/*donates=*/true);          // to be there, beside its arguments, before it is launched
//
// Threading: plain data and pure functions.
#ifndef CAUSEWAY_CONTROLLER_PROGRAM_MEMORY_H_
#define CAUSEWAY_CONTROLLER_PROGRAM_MEMORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "controller/device_memory.h"
#include "proto/control.pb.h"

namespace causeway {

// In which memory of `device` arrays of this kind lie. Empty: its own.
DeviceMemory::Space SpaceOf(const std::string& memory_kind, const proto::Device& device);

struct ProgramMemory {
  struct Output {
    int64_t bytes = 0;
    DeviceMemory::Space space = DeviceMemory::Space::kDevice;
  };

  // `donates`: its outputs take the place of all arguments that it can use for them.
  DeviceMemory::Need NeedOf(bool donates) const;

  // Its outputs are of these sizes, as has turned out.
  void Correct(absl::Span<const int64_t> bytes);

  // By output.
  std::vector<Output> outputs;
  int64_t output_bytes = 0;  // in the device's own memory
  int64_t alias_bytes = 0;   // of those, in memory of donated arguments
  int64_t temp_bytes = 0;
};

// `device`: any of the program's.
ProgramMemory MemoryOf(const proto::ProgramInfo& info, const proto::Device& device);

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_PROGRAM_MEMORY_H_
