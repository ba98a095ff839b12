// Compiled programs on disk, which outlive the controller: a file for each, named by its key (program_cache.h).
//
//   auto store = ProgramStore::Open("/home/me/.cache/causeway/programs", 4 << 30);
//   store->Keep(key, portable);
//   PortableRef found = store->Find(key);          // null: not there, or not whole
//
// It is a convenience, never a condition: what cannot be read is compiled again, what cannot be written is not kept,
// and the log says so once in a while. Several controllers may share a folder: files are written aside and renamed.
// When the files together pass the limit, those that were used longest ago go.
//
// A file:
//
//   8 bytes   "CWPROG\0\1"    what it is, and the version of this format
//   32 bytes  SHA-256 of what follows
//   the rest  a serialised causeway.proto.PortableProgram
//
// Threading: one thread at a time; every call may take as long as the disk does.
#ifndef CAUSEWAY_CONTROLLER_PROGRAM_STORE_H_
#define CAUSEWAY_CONTROLLER_PROGRAM_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "controller/program_cache.h"

namespace causeway {

class ProgramStore {
 public:
  // Makes the folder where there is none. An error says why it cannot be used.
  static absl::StatusOr<std::unique_ptr<ProgramStore>> Open(const std::string& directory, int64_t max_bytes);

  // Null: not there. A file that is not what was written is removed, with a warning.
  PortableRef Find(const std::string& key);

  // Errors are warnings in the log.
  void Keep(const std::string& key, const proto::PortableProgram& program);

  // The bytes of a file, and back. INVALID_ARGUMENT: not what was written.
  static std::string Encode(const proto::PortableProgram& program);
  static absl::StatusOr<PortableRef> Decode(absl::string_view bytes);

 private:
  ProgramStore(std::string directory, int64_t max_bytes) : directory_(std::move(directory)), max_bytes_(max_bytes) {}

  std::string PathOf(const std::string& key) const;
  absl::Status Write(const std::string& key, const std::string& bytes) const;
  void MakeRoom();

  const std::string directory_;
  const int64_t max_bytes_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_PROGRAM_STORE_H_
