#include "pjrt/element_type.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ElementType, EveryTypeThatADeviceHoldsGoesThereAndBack) {
  int known = 0;
  for (int i = 1; i < static_cast<int>(DType::kString); ++i) {
    const auto dtype = static_cast<DType>(i);
    const absl::StatusOr<PJRT_Buffer_Type> pjrt = ToPjrtType(dtype);
    if (Name(dtype) == "?") {
      EXPECT_EQ(pjrt.status().code(), absl::StatusCode::kInvalidArgument) << i;
      continue;
    }
    ASSERT_TRUE(pjrt.ok()) << Name(dtype);
    EXPECT_EQ(*FromPjrtType(*pjrt), dtype) << Name(dtype);
    ++known;
  }
  EXPECT_EQ(known, 31);
}

TEST(ElementType, NumbersDifferAndAreMappedByName) {
  EXPECT_EQ(*ToPjrtType(DType::kBF16), PJRT_Buffer_Type_BF16);
  EXPECT_NE(static_cast<int>(DType::kBF16), static_cast<int>(PJRT_Buffer_Type_BF16));
}

TEST(ElementType, WhatNoDeviceHoldsIsRefused) {
  EXPECT_EQ(ToPjrtType(DType::kString).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ToPjrtType(DType::kInvalid).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FromPjrtType(1000).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace causeway
