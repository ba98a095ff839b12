// Unix sockets as other processes make them, for tests.
//
//   close(BindUnixSocket(path));   // what a process leaves that died
#ifndef CAUSEWAY_NET_TEST_UNIX_SOCKET_H_
#define CAUSEWAY_NET_TEST_UNIX_SOCKET_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

namespace causeway {

// A socket bound to `path`, which the caller closes; -1: it could not be bound.
inline int BindUnixSocket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? fd : -1;
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_TEST_UNIX_SOCKET_H_
