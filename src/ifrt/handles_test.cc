#include "ifrt/handles.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace causeway {
namespace {

TEST(HandlesTest, ClientAndServerHandlesNeverShareANumber) {
  EXPECT_EQ(NumberOfHandle(1).value(), 1u);
  EXPECT_EQ(NumberOfHandle(kNumbersPerSide - 1).value(), kNumbersPerSide - 1);
  EXPECT_EQ(NumberOfHandle(kServerHandles).value(), kNumbersPerSide);
  EXPECT_EQ(NumberOfHandle(kServerHandles + kNumbersPerSide - 1).value(), kMaxPerSession);
}

TEST(HandlesTest, HandlesThatNobodyMintedAreRefused) {
  for (uint64_t handle : {uint64_t{0}, kNumbersPerSide, kServerHandles - 1, kServerHandles + kNumbersPerSide,
                          std::numeric_limits<uint64_t>::max()}) {
    EXPECT_EQ(NumberOfHandle(handle).status().code(), absl::StatusCode::kInvalidArgument) << handle;
    EXPECT_FALSE(ArrayOfHandle(SessionId{1}, handle).ok());
    EXPECT_FALSE(ProgramOfHandle(SessionId{1}, handle).ok());
  }
}

TEST(HandlesTest, IdsCarryTheirSession) {
  EXPECT_EQ(SessionOf(ArrayOfHandle(SessionId{7}, kServerHandles + 5).value()), SessionId{7});
  EXPECT_EQ(SessionOf(ProgramOfHandle(SessionId{8}, 5).value()), SessionId{8});
}

TEST(HandlesTest, MintedHandlesAreDistinctAndKeepTheirKind) {
  HandleMinter minter;
  uint64_t last = 0;
  for (HandleKind kind : {HandleKind::kObject, HandleKind::kReady, HandleKind::kDeletion, HandleKind::kLaunchStatus}) {
    const uint64_t handle = minter.Mint(kind).value();
    EXPECT_GT(handle, last);
    EXPECT_EQ(KindOfHandle(handle), kind);
    EXPECT_TRUE(NumberOfHandle(handle).ok());
    last = handle;
  }
  EXPECT_EQ(KindOfHandle(6), HandleKind::kObject);
}

}  // namespace
}  // namespace causeway
