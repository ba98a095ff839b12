// The key-value service over real links: a controller, and two processes-to-be that meet there.
#include "worker/key_value_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "controller/shell.h"

namespace causeway {
namespace {

using testing::HasSubstr;
using worker::KeyValueLink;

class KeyValueLinkTest : public testing::Test {
 protected:
  KeyValueLinkTest() {
    ControllerShellOptions options;
    options.core.token = "secret";
    options.control_address = absl::StrCat("unix:", testing::TempDir(), "/causeway-key-values-", getpid());
    controller_ = *ControllerShell::Start(std::move(options));
  }

  std::unique_ptr<KeyValueLink> Connect(const std::string& token = "secret") {
    return *KeyValueLink::Connect({controller_->control_address(), token, "job", absl::Seconds(5)});
  }

  std::unique_ptr<ControllerShell> controller_;
};

TEST_F(KeyValueLinkTest, TwoProcessesMeet) {
  const auto a = Connect();
  const auto b = Connect();
  absl::StatusOr<std::string> got;
  std::thread waits([&] { got = b->Get("node/0", absl::Seconds(20)); });
  EXPECT_EQ(a->Get("node/1", absl::ZeroDuration()).status().code(), absl::StatusCode::kNotFound);
  const std::string value("with\0zero", 9);
  EXPECT_TRUE(a->Put("node/0", value).ok());
  waits.join();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, value);
  EXPECT_EQ(b->Put("node/0", "x").code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(KeyValueLinkTest, WhoDoesNotComeIsNamed) {
  const auto a = Connect();
  const auto got = a->Get("node/7", absl::Milliseconds(50));
  EXPECT_EQ(got.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(got.status().message(), HasSubstr("node/7"));
}

TEST_F(KeyValueLinkTest, AGroupGoesWithItsProcesses) {
  Connect()->Put("k", "v").IgnoreError();
  // The controller notices a closed link a little later.
  for (int i = 0; i < 1000; ++i) {
    if (absl::IsNotFound(Connect()->Get("k", absl::ZeroDuration()).status())) return;
    absl::SleepFor(absl::Milliseconds(5));
  }
  FAIL() << "what a process said outlived it";
}

TEST_F(KeyValueLinkTest, AWrongTokenIsRefused) {
  EXPECT_EQ(Connect("guess")->Put("k", "v").code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(KeyValueLinkTest, ALostControllerEndsTheWait) {
  const auto a = Connect();
  std::thread stops([&] {
    absl::SleepFor(absl::Milliseconds(50));
    controller_->Stop();
  });
  EXPECT_EQ(a->Get("k", absl::Seconds(60)).status().code(), absl::StatusCode::kUnavailable);
  stops.join();
}

TEST(KeyValueLinkAloneTest, WithoutAControllerItSaysWhere) {
  const auto link = KeyValueLink::Connect({"unix:/nowhere/control.sock", "", "job", absl::Milliseconds(50)});
  EXPECT_EQ(link.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(link.status().message(), HasSubstr("/nowhere/control.sock"));
}

}  // namespace
}  // namespace causeway
