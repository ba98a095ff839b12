#include "ifrt/types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "xla/python/ifrt/layout_serdes.pb.h"
#include "xla/python/pjrt_ifrt/pjrt_layout_serdes.pb.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

xla::ifrt::ShapeProto Shape(std::vector<int64_t> dims) { return DimsToWire(dims); }

xla::ifrt::proto::ByteStrides Strides(const std::vector<int64_t>& strides) {
  xla::ifrt::proto::ByteStrides wire;
  for (int64_t s : strides) wire.add_strides(s);
  return wire;
}

TEST(TypesTest, EveryElementTypeComesBackAsItWas) {
  for (DType type :
       {DType::kPred, DType::kF32, DType::kBF16, DType::kC128, DType::kS4, DType::kF8E8M0FNU, DType::kToken}) {
    EXPECT_EQ(ParseDType(DTypeToWire(type)).value(), type);
  }
}

TEST(TypesTest, StringsAndUnknownNumbersAreRefused) {
  // The four that the protocol numbers otherwise than XLA.
  EXPECT_EQ(DTypeToWire(DType::kS1).kind(), xla::ifrt::DTypeProto::KIND_S1);
  EXPECT_EQ(DTypeToWire(DType::kF4E2M1FN).kind(), xla::ifrt::DTypeProto::KIND_F4E2M1FN);
  EXPECT_EQ(ParseDType(DTypeToWire(DType::kString)).status().code(), absl::StatusCode::kUnimplemented);
  for (int kind : {0, -1, 14, 1000}) {
    EXPECT_EQ(ParseDType(DTypeToWire(static_cast<DType>(kind))).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(TypesTest, ShapesThatNothingCanHoldAreRefused) {
  EXPECT_THAT(ParseDims(Shape({2, 0, 3})).value(), ElementsAre(2, 0, 3));
  EXPECT_TRUE(ParseDims(Shape({})).ok());
  EXPECT_FALSE(ParseDims(Shape({-1})).ok());
  EXPECT_FALSE(ParseDims(Shape({int64_t{1} << 40, int64_t{1} << 40})).ok());
  EXPECT_FALSE(ParseDims(Shape({0, int64_t{1} << 62})).ok());
  EXPECT_FALSE(ParseDims(Shape(std::vector<int64_t>(65, 1))).ok());
}

TEST(TypesTest, DenseDataSpanTheirElements) {
  EXPECT_EQ(HostSpanBytes(DType::kF32, {3, 5}, {}).value(), 60);
  EXPECT_EQ(HostSpanBytes(DType::kF32, {}, {}).value(), 4);
  EXPECT_EQ(HostSpanBytes(DType::kF32, {3, 0}, {}).value(), 0);
  EXPECT_EQ(HostSpanBytes(DType::kToken, {}, {}).value(), 0);
}

TEST(TypesTest, StridedDataSpanFromTheFirstToTheLastElement) {
  EXPECT_EQ(HostSpanBytes(DType::kF32, {3, 5}, {4, 12}).value(), 60);  // transposed
  EXPECT_EQ(HostSpanBytes(DType::kF32, {3}, {16}).value(), 36);        // every fourth
  EXPECT_EQ(HostSpanBytes(DType::kF32, {1}, {-99}).value(), 4);
  EXPECT_FALSE(HostSpanBytes(DType::kF32, {3, 3}, {std::numeric_limits<int64_t>::max(), 4}).ok());
}

TEST(TypesTest, StridesMustFitTheShapeAndGoForward) {
  EXPECT_THAT(ParseStrides(Strides({4, 12}), {3, 5}).value(), ElementsAre(4, 12));
  EXPECT_EQ(ParseStrides(Strides({4}), {3, 5}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseStrides(Strides({-4}), {3}).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ParseStrides(Strides({0}), {3}).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(ParseStrides(Strides({0, 4}), {1, 3}).ok());
  EXPECT_THAT(ParseStrides(Strides({0, 8, 4}), {3, 0, 2}).value(), IsEmpty());
}

TEST(TypesTest, BothKindsOfLayoutBecomeXlaLayouts) {
  xla::ifrt::PjRtLayoutProto pjrt;
  pjrt.mutable_xla_layout()->add_minor_to_major(0);
  pjrt.mutable_xla_layout()->add_minor_to_major(1);
  xla::ifrt::LayoutProto wire;
  wire.mutable_serialized_layout()->set_type_name("xla::ifrt::PjRtLayout");
  wire.mutable_serialized_layout()->set_data(pjrt.SerializeAsString());
  xla::LayoutProto layout;
  ASSERT_TRUE(layout.ParseFromString(ParseLayout(wire).value()));
  EXPECT_THAT(layout.minor_to_major(), ElementsAre(0, 1));

  xla::ifrt::CompactLayoutProto compact;
  compact.add_major_to_minor(1);
  compact.add_major_to_minor(0);
  wire.mutable_serialized_layout()->set_type_name("xla::ifrt::CompactLayout");
  wire.mutable_serialized_layout()->set_data(compact.SerializeAsString());
  ASSERT_TRUE(layout.ParseFromString(ParseLayout(wire).value()));
  EXPECT_THAT(layout.minor_to_major(), ElementsAre(0, 1));
}

TEST(TypesTest, LayoutsThatAreNoneAreRefused) {
  xla::ifrt::LayoutProto wire;
  EXPECT_EQ(ParseLayout(wire).value(), "");
  wire.mutable_serialized_layout()->set_type_name("xla::ifrt::PjRtLayout");
  wire.mutable_serialized_layout()->set_data("\xff\xff\xff");
  EXPECT_EQ(ParseLayout(wire).status().code(), absl::StatusCode::kInvalidArgument);
  wire.mutable_serialized_layout()->set_type_name("Spiral");
  EXPECT_EQ(ParseLayout(wire).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(ParseLayoutBytes("\xff\xff\xff").ok());
}

}  // namespace
}  // namespace causeway
