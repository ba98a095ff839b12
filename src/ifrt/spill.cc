#include "ifrt/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::StatusOr<absl::Cord> View(int fd, int64_t total_bytes, const std::string& name) {
  if (total_bytes == 0) return absl::Cord();
  void* memory = mmap(nullptr, total_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", name));
  return absl::MakeCordFromExternal(
      absl::string_view(static_cast<const char*>(memory), total_bytes),
      [](absl::string_view view) { munmap(const_cast<char*>(view.data()), view.size()); });
}

}  // namespace

absl::StatusOr<absl::Cord> SpillToFile(const absl::Cord& bytes, const std::string& directory) {
  const File file(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.fd() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a file in ", directory));
  for (absl::string_view piece : bytes.Chunks()) {
    while (!piece.empty()) {
      const ssize_t written = write(file.fd(), piece.data(), piece.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to a file in ", directory));
      piece.remove_prefix(written);
    }
  }
  return View(file.fd(), static_cast<int64_t>(bytes.size()), directory);
}

absl::StatusOr<absl::Cord> TakeFile(const std::string& directory, const std::string& name, int64_t total_bytes) {
  const File folder(open(directory.c_str(), O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  if (folder.fd() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", directory));
  const std::string path = absl::StrCat(directory, "/", name);
  const File file(openat(folder.fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.fd() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat info {};
  if (fstat(file.fd(), &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  if (!S_ISREG(info.st_mode) || info.st_size != total_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no regular file of ", total_bytes, " bytes"));
  }
  auto view = View(file.fd(), total_bytes, path);
  if (view.ok()) unlinkat(folder.fd(), name.c_str(), 0);
  return view;
}

}  // namespace causeway
