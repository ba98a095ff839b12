#include "cli/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ifrt/versions.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

TEST(VersionTest, TheWindowOfClientsIsShown) {
  const std::string text = VersionText();
  EXPECT_THAT(text, HasSubstr(DescribeWindow()));
  EXPECT_THAT(text, HasSubstr("jaxlib " + JaxlibBuiltAgainst()));
  EXPECT_THAT(text, HasSubstr("jax " + TestedJax().front() + " to " + TestedJax().back()));
}

}  // namespace
}  // namespace causeway
