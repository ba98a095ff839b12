#include "controller/program_memory.h"

#include <algorithm>

#include "base/dtype.h"
#include "base/saturate.h"

namespace causeway {

DeviceMemory::Space SpaceOf(const std::string& memory_kind, const proto::Device& device) {
  const bool own = memory_kind.empty() || (device.default_memory() < device.memories_size() &&
                                           device.memories(device.default_memory()).kind() == memory_kind);
  return own ? DeviceMemory::Space::kDevice : DeviceMemory::Space::kElsewhere;
}

DeviceMemory::Need ProgramMemory::NeedOf(bool donates) const {
  return {.arrays = donates ? std::max<int64_t>(0, output_bytes - alias_bytes) : output_bytes, .temp = temp_bytes};
}

void ProgramMemory::Correct(absl::Span<const int64_t> bytes) {
  output_bytes = 0;
  for (size_t i = 0; i < outputs.size() && i < bytes.size(); ++i) {
    outputs[i].bytes = std::max<int64_t>(0, bytes[i]);
    if (outputs[i].space == DeviceMemory::Space::kDevice) {
      output_bytes = SaturatingAdd(output_bytes, outputs[i].bytes);
    }
  }
}

ProgramMemory MemoryOf(const proto::ProgramInfo& info, const proto::Device& device) {
  ProgramMemory memory;
  for (const proto::OutputInfo& output : info.outputs()) {
    int64_t elements = 1;
    for (int64_t d : output.type().dims()) elements = SaturatingMultiply(elements, std::max<int64_t>(0, d));
    const auto dtype = static_cast<DType>(output.type().dtype());
    // Elements and bits of more than there are numbers would be no array.
    const int64_t bytes = elements > int64_t{1} << 56 ? int64_t{1} << 60 : PackedBytes(dtype, elements);
    memory.outputs.push_back({bytes, SpaceOf(output.memory_kind(), device)});
    if (memory.outputs.back().space == DeviceMemory::Space::kDevice) {
      memory.output_bytes = SaturatingAdd(memory.output_bytes, bytes);
    }
  }
  memory.alias_bytes = std::max<int64_t>(0, info.memory().alias_size_bytes());
  memory.temp_bytes = std::max<int64_t>(0, info.memory().temp_size_bytes());
  return memory;
}

}  // namespace causeway
