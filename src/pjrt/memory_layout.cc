#include "pjrt/memory_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "xla/xla_data.pb.h"

namespace causeway {

MemoryLayout MemoryLayout::RowMajor(int rank) {
  std::vector<int64_t> minor_to_major(rank);
  std::iota(minor_to_major.rbegin(), minor_to_major.rend(), 0);
  return MemoryLayout(std::move(minor_to_major));
}

absl::StatusOr<MemoryLayout> MemoryLayout::FromProto(const std::string& proto, int rank) {
  xla::LayoutProto parsed;
  if (!parsed.ParseFromString(proto)) return absl::InvalidArgumentError("the layout is no xla.LayoutProto");
  std::vector<int64_t> minor_to_major(parsed.minor_to_major().begin(), parsed.minor_to_major().end());
  std::vector<int64_t> sorted = minor_to_major;
  std::sort(sorted.begin(), sorted.end());
  for (int i = 0; i < static_cast<int>(sorted.size()); ++i) {
    if (sorted[i] != i) return absl::InvalidArgumentError("the layout's minor_to_major is no permutation");
  }
  if (static_cast<int>(sorted.size()) != rank) {
    return absl::InvalidArgumentError(absl::StrCat("a layout of ", sorted.size(), " dimensions for rank ", rank));
  }
  MemoryLayout layout(std::move(minor_to_major));
  for (const xla::TileProto& tile : parsed.tiles()) {
    layout.tile_dims_.insert(layout.tile_dims_.end(), tile.dimensions().begin(), tile.dimensions().end());
    layout.tile_dim_sizes_.push_back(tile.dimensions_size());
  }
  return layout;
}

std::optional<MemoryLayout> MemoryLayout::FromStrides(DType dtype, absl::Span<const int64_t> dims,
                                                      absl::Span<const int64_t> byte_strides) {
  if (byte_strides.empty()) return RowMajor(static_cast<int>(dims.size()));
  // Dimensions of size 1 have any stride; they count as row-major among themselves, after the others.
  std::vector<int64_t> order(dims.size());
  std::iota(order.rbegin(), order.rend(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    if ((dims[a] > 1) != (dims[b] > 1)) return dims[a] > 1;
    return dims[a] > 1 && byte_strides[a] < byte_strides[b];
  });
  int64_t stride = HostByteWidth(dtype);
  for (int64_t dim : order) {
    if (dims[dim] > 1 && byte_strides[dim] != stride) return std::nullopt;
    stride *= dims[dim];
  }
  return MemoryLayout(std::move(order));
}

PJRT_Buffer_MemoryLayout* MemoryLayout::Get() {
  layout_.struct_size = PJRT_Buffer_MemoryLayout_STRUCT_SIZE;
  layout_.type = PJRT_Buffer_MemoryLayout_Type_Tiled;
  PJRT_Buffer_MemoryLayout_Tiled& tiled = layout_.tiled;
  tiled.struct_size = PJRT_Buffer_MemoryLayout_Tiled_STRUCT_SIZE;
  tiled.minor_to_major = minor_to_major_.data();
  tiled.minor_to_major_size = minor_to_major_.size();
  tiled.tile_dims = tile_dims_.data();
  tiled.tile_dim_sizes = tile_dim_sizes_.data();
  tiled.num_tiles = tile_dim_sizes_.size();
  return &layout_;
}

}  // namespace causeway
