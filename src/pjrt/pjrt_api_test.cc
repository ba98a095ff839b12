#include "pjrt/pjrt_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pjrt/plugin_discovery.h"
#include "pjrt/plugin_report.h"

namespace causeway {
namespace {

const PjrtApi& Cpu() {
  const absl::StatusOr<std::string> path = FindPlugin("cpu");
  EXPECT_TRUE(path.ok()) << path.status();
  const absl::StatusOr<const PjrtApi*> api = PjrtApi::Load(*path);
  EXPECT_TRUE(api.ok()) << api.status();
  return **api;
}

TEST(PjrtApi, AnOlderPluginsMissingFunctionsAreUnimplementedByName) {
  const absl::StatusOr<const PjrtApi*> api = PjrtApi::Load(OLD_PLUGIN);
  ASSERT_TRUE(api.ok()) << api.status();
  EXPECT_EQ((*api)->minor_version(), 1);
  PjrtArgs<PJRT_Event_Destroy_Args> has;
  EXPECT_TRUE((*api)->Call((*api)->table().PJRT_Event_Destroy, has).ok());
  PjrtArgs<PJRT_Event_IsReady_Args> lacks;
  const absl::Status status = (*api)->Call((*api)->table().PJRT_Event_IsReady, lacks);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("lacks PJRT_Event_IsReady"));
  EXPECT_THAT((*api)->Attributes(), testing::IsEmpty());
}

TEST(PjrtApi, AnotherMajorVersionIsRefused) {
  const absl::Status status = PjrtApi::Load(FOREIGN_PLUGIN).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("major version 0"));
}

TEST(PjrtApi, WhatIsNoPluginIsRefused) {
  EXPECT_EQ(PjrtApi::Load("/nowhere/at/all.so").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PjrtApi::Load("/proc/self/exe").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(PjrtApi::Load("/proc/self/cmdline").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(PjrtApi, APluginIsLoadedOnce) { EXPECT_EQ(&Cpu(), &Cpu()); }

TEST(PjrtApi, ErrorsComeWithTheirCodeAndText) {
  PjrtArgs<PJRT_Client_Create_Args> args;
  PJRT_NamedValue wrong{};
  wrong.struct_size = PJRT_NamedValue_STRUCT_SIZE;
  wrong.name = "cpu_device_count";
  wrong.name_size = 16;
  wrong.type = PJRT_NamedValue_kString;
  wrong.string_value = "four";
  wrong.value_size = 4;
  args.create_options = &wrong;
  args.num_options = 1;
  const absl::Status status = Cpu().Call(Cpu().table().PJRT_Client_Create, args);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cpu_device_count"));
}

TEST(PjrtApi, AnExtensionThatThePluginLacksIsAllNull) {
  EXPECT_EQ(Cpu().Extension<PJRT_FFI_Extension>(12345).PJRT_FFI_Register_Handler, nullptr);
  EXPECT_NE(Cpu().Extension<PJRT_FFI_Extension>(PJRT_Extension_Type_FFI).PJRT_FFI_Register_Handler, nullptr);
}

TEST(CallWhenReady, NoEventIsReadyAtOnce) {
  absl::Status status = absl::UnknownError("not called");
  CallWhenReady(nullptr, [&](const absl::Status& s) { status = s; });
  EXPECT_TRUE(status.ok());
}

TEST(DescribePlugin, SaysVersionExtensionsAndDevices) {
  const absl::StatusOr<std::string> report = DescribePlugin("cpu");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(*report, testing::HasSubstr("PJRT C API     0."));
  EXPECT_THAT(*report, testing::HasSubstr("FFI (5)"));
  EXPECT_THAT(*report, testing::HasSubstr("platform       cpu"));
  EXPECT_THAT(*report, testing::HasSubstr("(default)"));
}

TEST(DescribePlugin, APluginWithoutClientIsDescribedUpToThere) {
  const absl::StatusOr<std::string> report = DescribePlugin(OLD_PLUGIN);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(*report, testing::HasSubstr("PJRT C API     0.1"));
  EXPECT_THAT(*report, testing::HasSubstr("lacks PJRT_Client_Create"));
}

}  // namespace
}  // namespace causeway
