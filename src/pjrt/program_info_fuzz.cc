// What a plugin shows of an optimised program, as bytes: what we read off it, print of it, and what layouts it and
// clients give.
#include "pjrt/program_info.h"

#include <string>
#include <vector>

#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "pjrt/element_type.h"
#include "pjrt/hlo_text.h"
#include "pjrt/memory_layout.h"
#include "worker/shapes.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

void FeedModule(FuzzInput& in) {
  const bool tupled = in.OneIn(4);
  const int outputs = in.Below(4);
  absl::StatusOr<xla::HloModuleProto> module = xla::HloModuleProto();
  if (in.Flag()) {
    const char* format = in.Flag() ? "hlo" : "hlo_with_config";
    module = ParseOptimizedProgram(format, in.Rest());
  } else {
    while (!in.empty()) ProtoFiller().Fill(in, *module);
  }
  if (!module.ok()) return;
  const absl::StatusOr<proto::ProgramInfo> info = DescribeModule(*module, tupled, outputs);
  if (info.ok()) {
    FUZZ_CHECK(info->outputs_size() == outputs);
    int last = -1;
    for (int parameter : info->donated_parameters()) {
      FUZZ_CHECK(parameter > last && parameter < info->parameters_size());
      last = parameter;
    }
    proto::ProgramInfo parsed;
    FUZZ_CHECK(parsed.ParseFromString(info->SerializeAsString()));
  }
  proto::QueryDone answer;
  answer.set_text(HloText(*module));
  FUZZ_CHECK(answer.ParseFromString(answer.SerializeAsString()));
}

void FeedLayout(FuzzInput& in) {
  const int rank = in.Below(6);
  std::string bytes;
  if (in.Flag()) {
    xla::LayoutProto layout;
    for (int i = rank - 1; i >= 0; --i) layout.add_minor_to_major(i);
    ProtoFiller().Fill(in, layout);
    bytes = layout.SerializeAsString();
  } else {
    bytes = in.Rest();
  }
  absl::StatusOr<MemoryLayout> layout = MemoryLayout::FromProto(bytes, rank);
  if (!layout.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(layout.status()));
    return;
  }
  const PJRT_Buffer_MemoryLayout_Tiled& tiled = layout->Get()->tiled;
  FUZZ_CHECK(tiled.minor_to_major_size == static_cast<size_t>(rank));
  size_t dims = 0;
  for (size_t i = 0; i < tiled.num_tiles; ++i) {
    for (size_t d = 0; d < tiled.tile_dim_sizes[i]; ++d) dims += tiled.tile_dims[dims] >= 0 ? 1 : 0;
  }
}

void FeedStrides(FuzzInput& in) {
  const auto dtype = static_cast<DType>(in.Below(36));
  std::vector<int64_t> dims;
  std::vector<int64_t> strides;
  for (int rank = in.Below(6); rank > 0; --rank) {
    dims.push_back(in.Number());
    strides.push_back(in.Number());
  }
  if (in.OneIn(4)) strides.clear();
  const auto shape = worker::ShapeFrom(static_cast<int32_t>(dtype), dims, strides);
  if (!shape.ok()) return;
  std::optional<MemoryLayout> layout = MemoryLayout::FromStrides(dtype, dims, strides);
  if (!layout) return;
  const PJRT_Buffer_MemoryLayout_Tiled& tiled = layout->Get()->tiled;
  FUZZ_CHECK(tiled.minor_to_major_size == dims.size());
  std::vector<bool> seen(dims.size(), false);
  for (size_t i = 0; i < dims.size(); ++i) {
    const int64_t dim = tiled.minor_to_major[i];
    FUZZ_CHECK(dim >= 0 && dim < static_cast<int64_t>(dims.size()) && !seen[dim]);
    seen[dim] = true;
  }
}

void FeedElementType(FuzzInput& in) {
  const auto number = static_cast<int>(in.Number());
  if (const auto type = FromPjrtType(number); type.ok()) FUZZ_CHECK(static_cast<int>(*ToPjrtType(*type)) == number);
  if (const auto type = ToPjrtType(static_cast<DType>(number)); type.ok()) {
    FUZZ_CHECK(static_cast<int>(*FromPjrtType(*type)) == number);
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  switch (in.Below(8)) {
    case 0:
      causeway::FeedLayout(in);
      break;
    case 1:
      causeway::FeedStrides(in);
      break;
    case 2:
      causeway::FeedElementType(in);
      break;
    default:
      causeway::FeedModule(in);
  }
  return 0;
}
