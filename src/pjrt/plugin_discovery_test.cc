#include "pjrt/plugin_discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace causeway {
namespace {

namespace fs = std::filesystem;

class PluginDiscoveryTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string Touch(const std::string& path) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << "x";
    return file.string();
  }

  fs::path root_;
};

TEST_F(PluginDiscoveryTest, ANameIsFoundWhereItsWheelPutsIt) {
  const std::string cpu = Touch("a/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so");
  const std::string tpu = Touch("b/libtpu/libtpu.so");
  const std::vector<std::string> folders{(root_ / "a").string(), (root_ / "b").string()};
  EXPECT_EQ(*FindPlugin("cpu", folders), cpu);
  EXPECT_EQ(*FindPlugin("tpu", folders), tpu);
}

TEST_F(PluginDiscoveryTest, EarlierFoldersAndNewerPluginsComeFirst) {
  Touch("a/jax_plugins/xla_cuda12/xla_cuda_plugin.so");
  const std::string newer = Touch("a/jax_plugins/xla_cuda13/xla_cuda_plugin.so");
  const std::string first = Touch("first/jax_plugins/xla_cuda12/xla_cuda_plugin.so");
  EXPECT_EQ(*FindPlugin("cuda", {(root_ / "a").string()}), newer);
  EXPECT_EQ(*FindPlugin("cuda", {(root_ / "first").string(), (root_ / "a").string()}), first);
}

TEST_F(PluginDiscoveryTest, AFolderMayHoldTheFileItself) {
  const std::string file = Touch("here/libtpu.so");
  EXPECT_EQ(*FindPlugin("tpu", {(root_ / "here").string()}), file);
}

TEST_F(PluginDiscoveryTest, APathIsTakenAsItIs) {
  const std::string file = Touch("mine.so");
  EXPECT_EQ(*FindPlugin(file, {}), file);
  EXPECT_EQ(FindPlugin("/nowhere/mine.so", {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FindPlugin(root_.string(), {}).status().code(), absl::StatusCode::kNotFound) << "a folder is no plugin";
}

TEST_F(PluginDiscoveryTest, WhatIsMissingComesWithWhereItWasSoughtAndTheCure) {
  const absl::Status missing = FindPlugin("cpu", {"/some/folder"}).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              testing::AllOf(testing::HasSubstr("/some/folder"),
                             testing::HasSubstr("pip install --no-deps lammps-jax-pjrt-cpu"),
                             testing::HasSubstr("CAUSEWAY_PLUGIN_DIR")));
}

TEST_F(PluginDiscoveryTest, UnknownNamesAreRefusedWithTheKnownOnes) {
  const absl::Status unknown = FindPlugin("rocm", {}).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), testing::HasSubstr("cpu, cuda, tpu"));
}

TEST_F(PluginDiscoveryTest, TheEnvironmentsFoldersComeFirst) {
  fs::create_directories(root_ / "one");
  fs::create_directories(root_ / "venv/lib/python3.11/site-packages");
  ASSERT_EQ(setenv("CAUSEWAY_PLUGIN_DIR", ("/nowhere:" + (root_ / "one").string()).c_str(), 1), 0);
  ASSERT_EQ(setenv("VIRTUAL_ENV", (root_ / "venv").c_str(), 1), 0);
  const std::vector<std::string> folders = PluginDirectories();
  ASSERT_GE(folders.size(), 2);
  EXPECT_EQ(folders[0], (root_ / "one").string()) << "folders that do not exist are left out";
  EXPECT_EQ(folders[1], (root_ / "venv/lib/python3.11/site-packages").string());
}

}  // namespace
}  // namespace causeway
