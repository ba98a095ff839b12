#include "ifrt/versions.h"

#include <gtest/gtest.h>

#include <string>

namespace causeway {
namespace {

using xla::ifrt::proxy::GrpcGetVersionRequest;

GrpcGetVersionRequest Offer(int min_protocol, int max_protocol, int min_serdes, int max_serdes) {
  GrpcGetVersionRequest request;
  request.mutable_min_version()->set_protocol_version(min_protocol);
  request.mutable_max_version()->set_protocol_version(max_protocol);
  request.mutable_min_version()->set_ifrt_serdes_version_number(min_serdes);
  request.mutable_max_version()->set_ifrt_serdes_version_number(max_serdes);
  return request;
}

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
  const absl::Status status = ChooseVersion(Offer(26, 30, 0, 3)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* part : {"26 to 30", "16 to 25", "newer Causeway or an older jax"}) {
    EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
  }
}

TEST(VersionsTest, AClientThatIsTooOldIsToldToInstallANewerJax) {
  const absl::Status status = ChooseVersion(Offer(1, 15, 0, 0)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find("install a newer jax"), std::string::npos) << status;
}

TEST(VersionsTest, AnOfferOfNothingIsRefused) {
  EXPECT_FALSE(ChooseVersion(GrpcGetVersionRequest()).ok());
  EXPECT_FALSE(ChooseVersion(Offer(25, 16, 3, 0)).ok());
  EXPECT_FALSE(CheckVersion(xla::ifrt::proxy::IfrtProxyVersion()).ok());
}

}  // namespace
}  // namespace causeway
