#include "ifrt/introduction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "ifrt/versions.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

class IntroductionTest : public ::testing::Test {
 protected:
  xla::ifrt::AttributeMapProto::Value& Set(const std::string& name) {
    return (*data_.mutable_attributes())["causeway_session_" + name];
  }
  Introduction Parse() const {
    Introduction client = ParseIntroduction(data_);
    EXPECT_TRUE(client.mistake.ok()) << client.mistake;
    return client;
  }
  std::string Refused() const {
    const absl::Status status = ParseIntroduction(data_).mistake;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  xla::ifrt::AttributeMapProto data_;
};

TEST_F(IntroductionTest, NothingIsSaid) {
  (*data_.mutable_attributes())["somebody_else's"].set_int64_value(1);
  const Introduction client = Parse();
  EXPECT_EQ(client.name, "");
  EXPECT_EQ(client.wishes.weight, 1);
  EXPECT_EQ(client.wishes.devices, 0);
  EXPECT_FALSE(client.wishes.one_island);
  EXPECT_EQ(client.wishes.platform, "");
  EXPECT_EQ(client.wishes.memory_bytes, 0);
  EXPECT_EQ(client.wishes.cap, 1);
  EXPECT_FALSE(client.wishes.exclusive);
}

TEST_F(IntroductionTest, EverythingIsSaid) {
  Set("name").set_string_value("train.py");
  Set("weight").set_string_value("2.5");
  Set("devices").set_int64_value(6);
  Set("one_island").set_bool_value(true);
  Set("platform").set_string_value("cpu");
  Set("memory").set_int64_value(int64_t{3} << 30);
  Set("cap").set_string_value("0.25");
  Set("exclusive").set_bool_value(true);
  const Introduction client = Parse();
  EXPECT_EQ(client.name, "train.py");
  EXPECT_EQ(client.wishes.weight, 2.5);
  EXPECT_EQ(client.wishes.devices, 6);
  EXPECT_TRUE(client.wishes.one_island);
  EXPECT_EQ(client.wishes.platform, "cpu");
  EXPECT_EQ(client.wishes.memory_bytes, int64_t{3} << 30);
  EXPECT_EQ(client.wishes.cap, 0.25);
  EXPECT_TRUE(client.wishes.exclusive);
}

TEST_F(IntroductionTest, AWholeNumberIsAWeightToo) {
  Set("weight").set_int64_value(8);
  EXPECT_EQ(Parse().wishes.weight, 8);
}

TEST_F(IntroductionTest, ANameIsMadeFitToBeShown) {
  Set("name").set_string_value("a\nb\xff" + std::string(300, 'x'));
  EXPECT_EQ(Parse().name, "a?b?" + std::string(252, 'x'));
}

TEST_F(IntroductionTest, ValuesOfAnotherTypeAreRefusedByName) {
  for (const char* name : {"name", "weight", "devices", "one_island", "platform", "memory", "cap", "exclusive"}) {
    data_.Clear();
    Set(name).mutable_int64_list_value()->add_elements(1);
    EXPECT_THAT(Refused(), HasSubstr(std::string("causeway_session_") + name + " is to be "));
    data_.Clear();
    Set(name);
    EXPECT_THAT(Refused(), HasSubstr(std::string("causeway_session_") + name + " is to be "));
  }
}

TEST_F(IntroductionTest, TextThatIsNoNumberIsRefused) {
  for (const char* text : {"", "much", "1.5x", "1,5", "1000000000000000000000000000000000"}) {
    Set("weight").set_string_value(text);
    EXPECT_THAT(Refused(), HasSubstr("causeway_session_weight is to be a decimal number")) << text;
  }
}

TEST_F(IntroductionTest, NumbersOutOfRangeAreRefusedWithTheRange) {
  for (const char* text : {"0", "-1", "nan", "inf", "1e9"}) {
    data_.Clear();
    Set("weight").set_string_value(text);
    EXPECT_THAT(Refused(), HasSubstr("weight is 0.001 to 1000")) << text;
  }
  for (int64_t devices : {int64_t{-1}, int64_t{1} << 32, std::numeric_limits<int64_t>::min()}) {
    data_.Clear();
    Set("devices").set_int64_value(devices);
    EXPECT_THAT(Refused(), HasSubstr("devices is 0 to "));
  }
  for (int64_t bytes : {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    data_.Clear();
    Set("memory").set_int64_value(bytes);
    EXPECT_THAT(Refused(), HasSubstr("memory in bytes is 0 to "));
  }
}

TEST_F(IntroductionTest, AWishThatIsNotKnownIsRefused) {
  Set("priority\n").set_int64_value(1);
  EXPECT_THAT(Refused(), HasSubstr("knows nothing of causeway_session_priority?; it knows name, weight, devices"));
}

TEST_F(IntroductionTest, TheHeaderHasTheVersionToo) {
  Set("devices").set_int64_value(2);
  xla::ifrt::proxy::GrpcIfrtSessionMetadata metadata;
  *metadata.mutable_initialization_data() = data_;
  EXPECT_EQ(ParseIntroduction(metadata.SerializeAsString()).status().code(), absl::StatusCode::kFailedPrecondition);
  metadata.mutable_version()->set_protocol_version(kMaxProtocolVersion);
  metadata.mutable_version()->set_ifrt_serdes_version_number(kMaxSerdesVersion);
  const auto client = ParseIntroduction(metadata.SerializeAsString());
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ(client->wishes.devices, 2);
  EXPECT_TRUE(client->mistake.ok()) << client->mistake;
  EXPECT_EQ(ParseIntroduction("\xff").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace causeway
