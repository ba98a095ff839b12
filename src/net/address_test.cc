#include "net/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace causeway {
namespace {

using ::testing::HasSubstr;

TEST(Address, AHostAndPortIsRead) {
  const absl::StatusOr<Address> address = ParseAddress("worker-3.cluster:4711");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->kind, Address::Kind::kTcp);
  EXPECT_EQ(address->host, "worker-3.cluster");
  EXPECT_EQ(address->port, 4711);
}

TEST(Address, AnIpv6NumberStandsInBrackets) {
  const absl::StatusOr<Address> address = ParseAddress("[::1]:80");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host, "::1");
  EXPECT_EQ(address->port, 80);
}

TEST(Address, AUnixPathMayContainAnything) {
  const absl::StatusOr<Address> address = ParseAddress("unix:/tmp/a:b/[c]");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->kind, Address::Kind::kUnix);
  EXPECT_EQ(address->path, "/tmp/a:b/[c]");
}

TEST(Address, WhatIsWrittenIsReadBack) {
  for (const char* text : {"127.0.0.1:0", "[fe80::1]:65535", "unix:relative/path", "localhost:1"}) {
    const absl::StatusOr<Address> address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(ToString(*address), text);
  }
}

TEST(Address, ANameThatBeginsLikeALoopbackNumberIsNotLocal) {
  EXPECT_TRUE(IsLocal(*ParseAddress("127.0.0.1:80")));
  EXPECT_TRUE(IsLocal(*ParseAddress("127.8:80")));
  EXPECT_FALSE(IsLocal(*ParseAddress("127.0.0.1.example.org:80")));
}

TEST(Address, WhatIsNoAddressIsRefusedWithTheFormsInTheText) {
  const std::string long_path = "unix:/" + std::string(107, 'x');
  for (const std::string& text :
       {std::string(), std::string("localhost"), std::string("localhost:"), std::string(":80"), std::string("a:65536"),
        std::string("a:-1"), std::string("a: 1"), std::string("::1:80"), std::string("[::1]"), std::string("[]:80"),
        std::string("unix:"), std::string("a:99999999999999999999"), std::string("[unix]:80"), std::string("[[:]:80"),
        std::string("a]:80"), long_path}) {
    const absl::StatusOr<Address> address = ParseAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("HOST:PORT, [IPV6]:PORT or unix:PATH"));
  }
}

}  // namespace
}  // namespace causeway
