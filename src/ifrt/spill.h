// Bytes that memory has no room for, in a file that has no name.
//
//   ASSIGN_OR_RETURN(absl::Cord same, SpillToFile(chunk, "/var/tmp"));
//
// Threading: pure functions. Lifetime: the file goes with the last Cord that shows its bytes.
#ifndef CAUSEWAY_IFRT_SPILL_H_
#define CAUSEWAY_IFRT_SPILL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"

namespace causeway {

// Writes `bytes` to an unlinked file in `directory` and gives them back as a view of it.
absl::StatusOr<absl::Cord> SpillToFile(const absl::Cord& bytes, const std::string& directory);

// The file `name` in `directory`, as a view of it; the file is unlinked. INVALID_ARGUMENT unless it is a regular file
// of exactly `total_bytes`; links are not followed.
absl::StatusOr<absl::Cord> TakeFile(const std::string& directory, const std::string& name, int64_t total_bytes);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_SPILL_H_
