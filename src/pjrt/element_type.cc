#include "pjrt/element_type.h"

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// Newer than the pinned header.
constexpr auto kS1 = static_cast<PJRT_Buffer_Type>(30);
constexpr auto kU1 = static_cast<PJRT_Buffer_Type>(31);

struct Pair {
  DType dtype;
  PJRT_Buffer_Type pjrt;
};

constexpr Pair kPairs[] = {
    {DType::kPred, PJRT_Buffer_Type_PRED},
    {DType::kS1, kS1},
    {DType::kS2, PJRT_Buffer_Type_S2},
    {DType::kS4, PJRT_Buffer_Type_S4},
    {DType::kS8, PJRT_Buffer_Type_S8},
    {DType::kS16, PJRT_Buffer_Type_S16},
    {DType::kS32, PJRT_Buffer_Type_S32},
    {DType::kS64, PJRT_Buffer_Type_S64},
    {DType::kU1, kU1},
    {DType::kU2, PJRT_Buffer_Type_U2},
    {DType::kU4, PJRT_Buffer_Type_U4},
    {DType::kU8, PJRT_Buffer_Type_U8},
    {DType::kU16, PJRT_Buffer_Type_U16},
    {DType::kU32, PJRT_Buffer_Type_U32},
    {DType::kU64, PJRT_Buffer_Type_U64},
    {DType::kF16, PJRT_Buffer_Type_F16},
    {DType::kF32, PJRT_Buffer_Type_F32},
    {DType::kF64, PJRT_Buffer_Type_F64},
    {DType::kBF16, PJRT_Buffer_Type_BF16},
    {DType::kC64, PJRT_Buffer_Type_C64},
    {DType::kC128, PJRT_Buffer_Type_C128},
    {DType::kToken, PJRT_Buffer_Type_TOKEN},
    {DType::kF8E5M2, PJRT_Buffer_Type_F8E5M2},
    {DType::kF8E4M3, PJRT_Buffer_Type_F8E4M3},
    {DType::kF8E3M4, PJRT_Buffer_Type_F8E3M4},
    {DType::kF8E4M3FN, PJRT_Buffer_Type_F8E4M3FN},
    {DType::kF8E4M3B11FNUZ, PJRT_Buffer_Type_F8E4M3B11FNUZ},
    {DType::kF8E5M2FNUZ, PJRT_Buffer_Type_F8E5M2FNUZ},
    {DType::kF8E4M3FNUZ, PJRT_Buffer_Type_F8E4M3FNUZ},
    {DType::kF8E8M0FNU, PJRT_Buffer_Type_F8E8M0FNU},
    {DType::kF4E2M1FN, PJRT_Buffer_Type_F4E2M1FN},
};

}  // namespace

absl::StatusOr<PJRT_Buffer_Type> ToPjrtType(DType type) {
  for (const Pair& pair : kPairs) {
    if (pair.dtype == type) return pair.pjrt;
  }
  return absl::InvalidArgumentError(absl::StrCat("no device holds elements of type ", static_cast<int>(type)));
}

absl::StatusOr<DType> FromPjrtType(int type) {
  for (const Pair& pair : kPairs) {
    if (static_cast<int>(pair.pjrt) == type) return pair.dtype;
  }
  return absl::UnimplementedError(absl::StrCat("PJRT element type ", type, " is not known here"));
}

}  // namespace causeway
