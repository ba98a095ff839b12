#include "ifrt/versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using xla::ifrt::proxy::GrpcGetVersionRequest;

GrpcGetVersionRequest Offer(int min_protocol, int max_protocol, int min_serdes, int max_serdes) {
  GrpcGetVersionRequest request;
  request.mutable_min_version()->set_protocol_version(min_protocol);
  request.mutable_max_version()->set_protocol_version(max_protocol);
  request.mutable_min_version()->set_ifrt_serdes_version_number(min_serdes);
  request.mutable_max_version()->set_ifrt_serdes_version_number(max_serdes);
  return request;
}

std::string PipInstall() { return "pip install jax==" + TestedJax().back(); }

TEST(VersionsTest, TheNewestThatBothKnowIsChosen) {
  struct Case {
    GrpcGetVersionRequest offer;
    int protocol, serdes;
  };
  for (const Case& c : {Case{Offer(16, 25, 0, 3), 25, 3}, Case{Offer(15, 22, 0, 0), 22, 0},
                        Case{Offer(16, 25, 0, 1), 25, 1}, Case{Offer(20, 99, 2, 9), 25, 3}}) {
    const auto chosen = ChooseVersion(c.offer);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    EXPECT_EQ(chosen->protocol_version(), c.protocol);
    EXPECT_EQ(chosen->ifrt_serdes_version_number(), c.serdes);
    EXPECT_TRUE(CheckVersion(*chosen).ok());
  }
}

TEST(VersionsTest, AClientThatIsTooNewIsToldBothRangesAndTheCure) {
  const absl::Status status = ChooseVersion(Offer(26, 30, 4, 5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  for (const std::string& part : {std::string("too new"), std::string("protocol 26 to 30, SerDes 4 to 5"),
                                  DescribeWindow(), PipInstall(), std::string("or a newer Causeway")}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST(VersionsTest, AClientThatIsTooOldIsToldBothRangesAndTheCure) {
  const absl::Status status = ChooseVersion(Offer(1, 15, 0, 0)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  for (const std::string& part :
       {std::string("too old"), std::string("protocol 1 to 15, SerDes 0"), DescribeWindow(), PipInstall()}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("newer Causeway")));
}

TEST(VersionsTest, ThatOneOfTheTwoRangesMeetsIsNotEnough) {
  EXPECT_THAT(std::string(ChooseVersion(Offer(16, 25, 4, 9)).status().message()), HasSubstr("too new"));
  EXPECT_THAT(std::string(ChooseVersion(Offer(26, 26, 0, 3)).status().message()), HasSubstr("too new"));
}

TEST(VersionsTest, AnOfferOfNothingIsRefused) {
  EXPECT_FALSE(ChooseVersion(GrpcGetVersionRequest()).ok());
  EXPECT_FALSE(ChooseVersion(Offer(25, 16, 3, 0)).ok());
}

TEST(VersionsTest, ASessionOfAVersionThatWasNotAgreedOnIsRefused) {
  xla::ifrt::proxy::IfrtProxyVersion version;
  EXPECT_THAT(std::string(CheckVersion(version).message()), HasSubstr("protocol 0, SerDes 0"));
  version.set_protocol_version(kMaxProtocolVersion);
  EXPECT_TRUE(CheckVersion(version).ok());
  version.set_ifrt_serdes_version_number(kMaxSerdesVersion + 1);
  const absl::Status status = CheckVersion(version);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(PipInstall()));
}

TEST(VersionsTest, TheNewestClientThatIsTriedIsTheOneThatTheWireFormatIsOf) {
  EXPECT_EQ(TestedJax().back(), JaxlibBuiltAgainst());
}

}  // namespace
}  // namespace causeway
