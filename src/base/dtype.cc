#include "base/dtype.h"

#include <array>

#include "base/saturate.h"

namespace causeway {
namespace {

struct Row {
  DType type;
  int host_bytes;
  absl::string_view name;
  int bits = 8 * host_bytes;  // on a device
};

constexpr std::array kRows = {
    Row{DType::kPred, 1, "pred"},
    Row{DType::kS8, 1, "s8"},
    Row{DType::kS16, 2, "s16"},
    Row{DType::kS32, 4, "s32"},
    Row{DType::kS64, 8, "s64"},
    Row{DType::kU8, 1, "u8"},
    Row{DType::kU16, 2, "u16"},
    Row{DType::kU32, 4, "u32"},
    Row{DType::kU64, 8, "u64"},
    Row{DType::kF16, 2, "f16"},
    Row{DType::kF32, 4, "f32"},
    Row{DType::kF64, 8, "f64"},
    Row{DType::kC64, 8, "c64"},
    Row{DType::kBF16, 2, "bf16"},
    Row{DType::kToken, 0, "token"},
    Row{DType::kC128, 16, "c128"},
    Row{DType::kF8E5M2, 1, "f8e5m2"},
    Row{DType::kF8E4M3FN, 1, "f8e4m3fn"},
    Row{DType::kS4, 1, "s4", 4},
    Row{DType::kU4, 1, "u4", 4},
    Row{DType::kF8E4M3B11FNUZ, 1, "f8e4m3b11fnuz"},
    Row{DType::kF8E5M2FNUZ, 1, "f8e5m2fnuz"},
    Row{DType::kF8E4M3FNUZ, 1, "f8e4m3fnuz"},
    Row{DType::kS2, 1, "s2", 2},
    Row{DType::kU2, 1, "u2", 2},
    Row{DType::kF8E4M3, 1, "f8e4m3"},
    Row{DType::kF8E3M4, 1, "f8e3m4"},
    Row{DType::kF4E2M1FN, 1, "f4e2m1fn", 4},
    Row{DType::kF8E8M0FNU, 1, "f8e8m0fnu"},
    Row{DType::kS1, 1, "s1", 1},
    Row{DType::kU1, 1, "u1", 1},
    Row{DType::kString, 0, "string"},
};

const Row* Find(DType type) {
  for (const Row& row : kRows) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace

int HostByteWidth(DType type) {
  const Row* row = Find(type);
  return row == nullptr ? 0 : row->host_bytes;
}

int64_t PackedBytes(DType type, int64_t elements) {
  const Row* row = Find(type);
  if (row == nullptr) return 0;
  // Not elements * bits, which may be more than there are numbers.
  return SaturatingAdd(SaturatingMultiply(elements / 8, row->bits), (elements % 8 * row->bits + 7) / 8);
}

absl::string_view Name(DType type) {
  const Row* row = Find(type);
  return row == nullptr ? "?" : row->name;
}

}  // namespace causeway
