#include "net/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "net/test_unix_socket.h"

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

  // Listens there; -1: failed.
  int Listen() const {
    const int fd = BindUnixSocket(path_);
    return listen(fd, 0) == 0 ? fd : -1;
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
  const int fd = Listen();
  ASSERT_GE(fd, 0);
  // Nobody accepts: each look leaves one more in the queue.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kInUse);
  close(fd);
}

TEST_F(UnixSocketTest, WhatADeadProcessLeftIsStale) {
  const int fd = Listen();
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ(LookAtSocketFile(path_), SocketFile::kStale);
}

}  // namespace
}  // namespace causeway
