// Layouts as the C API takes them.
//
//   MemoryLayout layout = MemoryLayout::RowMajor(/*rank=*/2);
//   args.host_layout = layout.Get();      // valid while `layout` lives
#ifndef CAUSEWAY_PJRT_MEMORY_LAYOUT_H_
#define CAUSEWAY_PJRT_MEMORY_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "pjrt_c_api.h"

namespace causeway {

class MemoryLayout {
 public:
  static MemoryLayout RowMajor(int rank);

  // INVALID_ARGUMENT unless `proto` is a serialised xla.LayoutProto of an array of this rank.
  static absl::StatusOr<MemoryLayout> FromProto(const std::string& proto, int rank);

  // The dense layout that has these strides; nothing where there is none (gaps between rows). HostSpanBytes() of the
  // three is OK.
  static std::optional<MemoryLayout> FromStrides(DType dtype, absl::Span<const int64_t> dims,
                                                 absl::Span<const int64_t> byte_strides);

  PJRT_Buffer_MemoryLayout* Get();

 private:
  explicit MemoryLayout(std::vector<int64_t> minor_to_major) : minor_to_major_(std::move(minor_to_major)) {}

  std::vector<int64_t> minor_to_major_;
  std::vector<int64_t> tile_dims_;      // of all tiles, one after the other
  std::vector<size_t> tile_dim_sizes_;  // how many of them belong to each tile
  PJRT_Buffer_MemoryLayout layout_{};   // points into the three
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_MEMORY_LAYOUT_H_
