#include "ifrt/spill.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace causeway {
namespace {

class SpillTest : public ::testing::Test {
 protected:
  SpillTest() {
    std::string name = ::testing::TempDir() + "/spillXXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~SpillTest() override { std::filesystem::remove_all(directory_); }
  void Write(const std::string& name, const std::string& bytes) { std::ofstream(directory_ + "/" + name) << bytes; }

  std::string directory_;
};

TEST_F(SpillTest, BytesComeBackAndLeaveNoName) {
  absl::Cord bytes("abc");
  bytes.Append(std::string(100000, 'x'));
  const auto same = SpillToFile(bytes, directory_);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(*same, bytes);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(SpillTest, ADirectoryThatIsNotThereIsSaid) {
  EXPECT_EQ(SpillToFile(absl::Cord("abc"), directory_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SpillTest, AFileIsTakenOnce) {
  Write("lt_5", "hello");
  EXPECT_EQ(TakeFile(directory_, "lt_5", 5).value(), "hello");
  EXPECT_EQ(TakeFile(directory_, "lt_5", 5).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SpillTest, OnlyRegularFilesOfTheAnnouncedSizeAreTaken) {
  Write("lt_5", "hello");
  EXPECT_EQ(TakeFile(directory_, "lt_5", 6).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(symlink("lt_5", (directory_ + "/lt_6").c_str()), 0);
  EXPECT_FALSE(TakeFile(directory_, "lt_6", 5).ok());
  ASSERT_EQ(mkfifo((directory_ + "/lt_7").c_str(), 0600), 0);
  EXPECT_FALSE(TakeFile(directory_, "lt_7", 0).ok());
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/lt_5"));
}

}  // namespace
}  // namespace causeway
