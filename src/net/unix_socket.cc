#include "net/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace causeway {

SocketFile LookAtSocketFile(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  struct stat info {};
  if (path.size() >= sizeof(address.sun_path) || lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) {
    return SocketFile::kNone;
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SocketFile::kInUse;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  // Not to block: a listener that stands still has a queue, and that may be full.
  const bool refused =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 && errno == ECONNREFUSED;
  close(fd);
  return refused ? SocketFile::kStale : SocketFile::kInUse;
}

}  // namespace causeway
