#include "net/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace causeway {
namespace {

class UnixSocketTest : public ::testing::Test {
 protected:
  UnixSocketTest() {
    std::string folder = "/tmp/causeway-socket-XXXXXX";
    folder_ = mkdtemp(folder.data());
    path_ = folder_ + "/s";
  }
  ~UnixSocketTest() override {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }

  // Binds, and listens if asked; -1: failed.
  int Bind(bool listens) const {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return -1;
    if (listens && listen(fd, 0) != 0) return -1;
    return fd;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(UnixSocketTest, NothingAndOtherFilesAreNoSocket) {
  EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kNone);
  std::ofstream(path_) << "text";
  EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kNone);
  EXPECT_EQ(LookAtSocketFile(std::string(200, 'x')), SocketFile::kNone);
}

TEST_F(UnixSocketTest, AListenerIsInUseAlsoWhenItsQueueIsFull) {
  const int fd = Bind(/*listens=*/true);
  ASSERT_GE(fd, 0);
  // Nobody accepts: each look leaves one more in the queue.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kInUse);
  close(fd);
}

TEST_F(UnixSocketTest, WhatADeadProcessLeftIsStale) {
  const int fd = Bind(/*listens=*/true);
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kStale);
}

}  // namespace
}  // namespace causeway
