// Element types: XLA's numbers (base/dtype.h) and PJRT's, which differ.
#ifndef CAUSEWAY_PJRT_ELEMENT_TYPE_H_
#define CAUSEWAY_PJRT_ELEMENT_TYPE_H_

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "pjrt_c_api.h"

namespace causeway {

// INVALID_ARGUMENT for numbers that are no type and for those that no device holds (strings).
absl::StatusOr<PJRT_Buffer_Type> ToPjrtType(DType type);

// `type` is a PJRT_Buffer_Type as the plugin wrote it (RawEnum). UNIMPLEMENTED for types that base/dtype.h does not
// know.
absl::StatusOr<DType> FromPjrtType(int type);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_ELEMENT_TYPE_H_
