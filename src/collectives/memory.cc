#include "collectives/memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace causeway::collectives {
namespace {

// What one call moves: the kernel takes no signal meanwhile.
constexpr int64_t kBytesPerCall = 64 << 20;
constexpr size_t kPartsPerCall = 64;

}  // namespace

absl::Status ReadMemory(int process, const std::vector<MemoryStretch>& from, const Pieces& into, int64_t bytes) {
  int64_t total = 0;
  for (const MemoryStretch& stretch : from) {
    if (stretch.bytes < 0 || stretch.bytes > bytes - total) {
      return absl::InvalidArgumentError("stretches of memory of another size than is wanted");
    }
    total += stretch.bytes;
  }
  if (total != bytes || TotalBytes(into) != bytes) {
    return absl::InvalidArgumentError("stretches of memory of another size than is wanted");
  }
  PieceCursor to(into);
  size_t stretch = 0;
  int64_t within = 0;  // bytes of from[stretch] that are read
  for (int64_t done = 0; done < bytes;) {
    std::array<iovec, kPartsPerCall> local;
    size_t locals = 0;
    int64_t room = 0;
    while (locals < local.size() && done + room < bytes && room < kBytesPerCall) {
      const absl::Span<char> run = to.Run(done + room, std::min(bytes - done, kBytesPerCall) - room);
      if (run.empty()) break;
      local[locals++] = {run.data(), run.size()};
      room += static_cast<int64_t>(run.size());
    }
    std::array<iovec, kPartsPerCall> remote;
    size_t remotes = 0;
    int64_t wanted = 0;
    int64_t skip = within;
    for (size_t i = stretch; i < from.size() && remotes < remote.size() && wanted < room; ++i, skip = 0) {
      const int64_t n = std::min(from[i].bytes - skip, room - wanted);
      if (n == 0) continue;
      remote[remotes++] = {reinterpret_cast<void*>(from[i].address + skip), static_cast<size_t>(n)};
      wanted += n;
    }
    const ssize_t read = process_vm_readv(process, local.data(), locals, remote.data(), remotes, 0);
    if (read <= 0) {
      const int error = read == 0 ? EFAULT : errno;
      const std::string text = absl::StrCat("process_vm_readv: ", strerror(error));
      if (error == EPERM) return absl::PermissionDeniedError(text);
      if (error == ENOSYS) return absl::UnimplementedError(text);
      return absl::UnavailableError(text);
    }
    done += read;
    for (int64_t left = read; left > 0;) {
      const int64_t n = std::min(left, from[stretch].bytes - within);
      left -= n;
      within += n;
      if (within == from[stretch].bytes) {
        ++stretch;
        within = 0;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace causeway::collectives
