#include "ifrt/statuses.h"

#include <gtest/gtest.h>

#include <string>

namespace causeway {
namespace {

TEST(StatusesTest, CodeAndMessageSurviveTheWayThere) {
  const absl::Status lost = absl::DataLossError("worker w0 is gone");
  EXPECT_EQ(StatusFromWire(StatusToWire(lost)), lost);
  EXPECT_TRUE(StatusFromWire(StatusToWire(absl::OkStatus())).ok());
}

TEST(StatusesTest, CodesThatAreNoneBecomeUnknown) {
  tensorflow::StatusProto wire;
  for (int code : {-1, 17, 4711}) {
    wire.set_code(static_cast<tensorflow::error::Code>(code));
    EXPECT_EQ(StatusFromWire(wire).code(), absl::StatusCode::kUnknown);
  }
}

TEST(StatusesTest, WhatIsNoTextIsSentAsOne) {
  const absl::Status latin_1 = absl::InternalError(
      "Gr\xfc\xdf"
      "e");
  tensorflow::StatusProto parsed;
  ASSERT_TRUE(parsed.ParseFromString(StatusToWire(latin_1).SerializeAsString())) << "the client would be cut off";
  EXPECT_EQ(parsed.message(), "Gr??e");
  // Cutting a long one must not cut a character.
  std::string euros;
  while (euros.size() < 70'000) euros += "\xe2\x82\xac";
  EXPECT_TRUE(parsed.ParseFromString(StatusToWire(absl::InternalError(euros)).SerializeAsString()));
  EXPECT_EQ(StatusToGrpc(absl::Status(static_cast<absl::StatusCode>(4711), "odd")).error_code(),
            grpc::StatusCode::UNKNOWN);
}

TEST(StatusesTest, EndlessMessagesAreCutBeforeGrpcRefusesThem) {
  const std::string endless(1 << 20, 'x');
  EXPECT_LT(StatusToGrpc(absl::InternalError(endless)).error_message().size(), 5000u);
  EXPECT_LT(StatusToWire(absl::InternalError(endless)).message().size(), 70000u);
}

}  // namespace
}  // namespace causeway
