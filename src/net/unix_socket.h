// The file of a unix socket: whether somebody listens there, or only was there.
//
//   if (LookAtSocketFile(path) == SocketFile::kStale) unlink(path.c_str());
//
// Threading: a pure question to the kernel; the answer may be old when it comes.
#ifndef CAUSEWAY_NET_UNIX_SOCKET_H_
#define CAUSEWAY_NET_UNIX_SOCKET_H_

#include <string>

namespace causeway {

enum class SocketFile {
  kNone,   // nothing is there, or no socket
  kStale,  // a socket whose process has gone without tidying up
  kInUse,  // a process listens there (also one that stands still)
};

SocketFile LookAtSocketFile(const std::string& path);

}  // namespace causeway

#endif  // CAUSEWAY_NET_UNIX_SOCKET_H_
