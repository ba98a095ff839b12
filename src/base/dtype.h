// Element types, numbered as XLA numbers its PrimitiveType. The IFRT protocol has other numbers for four of them
// (src/ifrt maps those), PJRT for most (src/pjrt maps by name).
#ifndef CAUSEWAY_BASE_DTYPE_H_
#define CAUSEWAY_BASE_DTYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace causeway {

enum class DType : int32_t {
  kInvalid = 0,
  kPred = 1,
  kS8 = 2,
  kS16 = 3,
  kS32 = 4,
  kS64 = 5,
  kU8 = 6,
  kU16 = 7,
  kU32 = 8,
  kU64 = 9,
  kF16 = 10,
  kF32 = 11,
  kF64 = 12,
  kC64 = 15,
  kBF16 = 16,
  kToken = 17,
  kC128 = 18,
  kF8E5M2 = 19,
  kF8E4M3FN = 20,
  kS4 = 21,
  kU4 = 22,
  kF8E4M3B11FNUZ = 23,
  kF8E5M2FNUZ = 24,
  kF8E4M3FNUZ = 25,
  kS2 = 26,
  kU2 = 27,
  kF8E4M3 = 28,
  kF8E3M4 = 29,
  kS1 = 30,
  kU1 = 31,
  kF4E2M1FN = 32,
  kF8E8M0FNU = 33,
  kString = 99,  // IFRT's own; never on a device
};

// Bytes of one element in host memory, where elements smaller than a byte take one each. 0 for tokens, strings and
// numbers that are no type.
int HostByteWidth(DType type);

// Bytes of so many elements on a device, where those smaller than a byte are packed. What a plugin adds (tiles,
// padding) is not in it.
int64_t PackedBytes(DType type, int64_t elements);

// XLA's name ("f32"), or "?" for numbers that are no type.
absl::string_view Name(DType type);

}  // namespace causeway

#endif  // CAUSEWAY_BASE_DTYPE_H_
