#include "controller/program_cache.h"

#include <gtest/gtest.h>

#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

PortableRef Program(size_t bytes) {
  auto program = std::make_shared<proto::PortableProgram>();
  program->set_executable(std::string(bytes, 'x'));
  return program;
}

proto::Compile Compile(const std::string& code, const std::string& options) {
  proto::Compile compile;
  compile.set_format("mlir");
  compile.set_code(code);
  compile.set_options(options);
  return compile;
}

TEST(ProgramCacheTest, GivesWhatItKept) {
  ProgramCache cache(1000);
  const PortableRef program = Program(100);
  cache.Keep("a", program);
  EXPECT_EQ(cache.Find("a"), program);
  EXPECT_EQ(cache.Find("b"), nullptr);
}

TEST(ProgramCacheTest, TheLeastRecentlyUsedGoesFirst) {
  ProgramCache cache(1000);
  cache.Keep("a", Program(400));
  cache.Keep("b", Program(400));
  EXPECT_NE(cache.Find("a"), nullptr);
  cache.Keep("c", Program(400));
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_NE(cache.Find("c"), nullptr);
  EXPECT_LE(cache.bytes(), 1000);
}

TEST(ProgramCacheTest, WhatIsLargerThanAllOfItIsNotKept) {
  ProgramCache cache(1000);
  cache.Keep("a", Program(400));
  cache.Keep("b", Program(2000));
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.Find("b"), nullptr);
}

TEST(ProgramCacheTest, TheKeyIsOfAllThatMattersAndNothingElse) {
  xla::CompileOptionsProto options;
  options.mutable_executable_build_options()->set_num_partitions(4);
  const std::string plain = options.SerializeAsString();
  options.mutable_executable_build_options()->mutable_device_assignment()->set_replica_count(1);
  const std::string elsewhere = options.SerializeAsString();
  options.mutable_executable_build_options()->set_num_partitions(8);
  const std::string other = options.SerializeAsString();

  const std::string key = ProgramCache::Key(Compile("code", plain), 4, "plugin");
  EXPECT_EQ(key, ProgramCache::Key(Compile("code", elsewhere), 4, "plugin"));
  EXPECT_NE(key, ProgramCache::Key(Compile("code", other), 4, "plugin"));
  EXPECT_NE(key, ProgramCache::Key(Compile("code2", plain), 4, "plugin"));
  EXPECT_NE(key, ProgramCache::Key(Compile("code", plain), 8, "plugin"));
  EXPECT_NE(key, ProgramCache::Key(Compile("code", plain), 4, "plugin2"));
  EXPECT_EQ(key.size(), 64);
}

}  // namespace
}  // namespace causeway
