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

TEST(StatusesTest, EndlessMessagesAreCutBeforeGrpcRefusesThem) {
  const std::string endless(1 << 20, 'x');
  EXPECT_LT(StatusToGrpc(absl::InternalError(endless)).error_message().size(), 5000u);
  EXPECT_LT(StatusToWire(absl::InternalError(endless)).message().size(), 70000u);
}

}  // namespace
}  // namespace causeway
