#include "cli/options.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

namespace causeway {
namespace {

std::string TokenFile(const std::string& contents, mode_t mode) {
  const std::string path = ::testing::TempDir() + "/causeway-token";
  std::ofstream(path) << contents;
  chmod(path.c_str(), mode);
  return path;
}

TEST(ReadToken, TakesTheFileWithoutWhiteSpaceAtItsEnds) {
  const auto token = ReadToken(TokenFile("  s3cret \n", 0600));
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(*token, "s3cret");
}

TEST(ReadToken, RefusesAFileThatOthersMayRead) {
  EXPECT_EQ(ReadToken(TokenFile("s3cret", 0644)).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ReadToken, RefusesAnEmptyFileAndOneThatIsNotThere) {
  EXPECT_EQ(ReadToken(TokenFile(" \n", 0600)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadToken("/nonexistent/token").status().code(), absl::StatusCode::kNotFound);
}

TEST(ReadToken, RefusesWhatIsNoTokenOfText) {
  EXPECT_EQ(ReadToken(TokenFile("\xff\xfe", 0600)).status().code(), absl::StatusCode::kFailedPrecondition)
      << "no frame could carry it";
  EXPECT_EQ(ReadToken(TokenFile(std::string(5000, 'x'), 0600)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(ReadToken(TokenFile(std::string(4096, 'x'), 0600)).ok());
}

TEST(ReadToken, FallsBackToTheEnvironment) {
  setenv("CAUSEWAY_TOKEN", "from-env", 1);
  EXPECT_EQ(*ReadToken(""), "from-env");
  unsetenv("CAUSEWAY_TOKEN");
  EXPECT_EQ(*ReadToken(""), "");
}

}  // namespace
}  // namespace causeway
