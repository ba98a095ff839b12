#include "controller/program_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMuch = 1 << 20;

class ProgramStoreTest : public testing::Test {
 protected:
  ProgramStoreTest() {
    std::string path = testing::TempDir() + "/program_store_XXXXXX";
    directory_ = mkdtemp(path.data());
  }
  ~ProgramStoreTest() override { fs::remove_all(directory_); }

  std::unique_ptr<ProgramStore> Open(int64_t max_bytes = kMuch) { return *ProgramStore::Open(directory_, max_bytes); }

  static proto::PortableProgram Program(const std::string& executable) {
    proto::PortableProgram program;
    program.set_executable(executable);
    return program;
  }

  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory_)) files.push_back(entry.path());
    return files;
  }

  std::string directory_;
};

TEST_F(ProgramStoreTest, KeepsWhatLaterControllersFind) {
  Open()->Keep("key", Program("code"));
  const PortableRef found = Open()->Find("key");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->executable(), "code");
  EXPECT_EQ(Open()->Find("other"), nullptr);
  EXPECT_EQ(Files().size(), 1);  // nothing is left aside
}

TEST_F(ProgramStoreTest, DamagedFilesAreRemoved) {
  const auto store = Open();
  store->Keep("key", Program("code"));
  const fs::path file = Files().at(0);
  for (const std::string bytes : {"", "short", "CWPROG\0\2 of another version, with enough bytes for its header"}) {
    std::ofstream(file, std::ios::trunc) << bytes;
    EXPECT_EQ(store->Find("key"), nullptr);
    EXPECT_FALSE(fs::exists(file));
  }
  std::string flipped = ProgramStore::Encode(Program("code"));
  flipped.back() ^= 1;
  EXPECT_EQ(ProgramStore::Decode(flipped).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ProgramStoreTest, WhatWasUsedLongestAgoGoesFirst) {
  const std::string half(600, 'x');
  const auto store = Open(/*max_bytes=*/1500);
  store->Keep("first", Program(half));
  store->Keep("second", Program(half));
  fs::last_write_time(directory_ + "/second.program", fs::file_time_type::clock::now() - std::chrono::hours(1));
  store->Keep("third", Program(half));
  EXPECT_NE(store->Find("first"), nullptr);
  EXPECT_EQ(store->Find("second"), nullptr);
  EXPECT_NE(store->Find("third"), nullptr);
}

TEST_F(ProgramStoreTest, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(directory_ + "/file") << "no folder";
  EXPECT_FALSE(ProgramStore::Open(directory_ + "/file/programs", kMuch).ok());
}

TEST_F(ProgramStoreTest, AFolderThatGoesCostsNoMoreThanTheKeeping) {
  const auto store = Open();
  fs::remove_all(directory_);
  store->Keep("key", Program("code"));
  EXPECT_EQ(store->Find("key"), nullptr);
}

}  // namespace
}  // namespace causeway
