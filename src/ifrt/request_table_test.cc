#include "ifrt/request_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

using xla::ifrt::proxy::IfrtRequest;

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const RequestEntry& entry : RequestTable()) names.push_back(entry.name);
  return names;
}

TEST(RequestTableTest, ListsEveryRequestAndMethodOfTheProtocolOnce) {
  std::vector<std::string> expected;
  const auto* requests = IfrtRequest::descriptor()->FindOneofByName("request");
  for (int i = 0; i < requests->field_count(); ++i) {
    const std::string& name = requests->field(i)->name();
    expected.push_back(name.substr(0, name.size() - std::string("_request").size()));
  }
  const auto* service =
      xla::ifrt::proxy::GrpcGetVersionRequest::descriptor()->file()->FindServiceByName("GrpcIfrtService");
  for (int i = 0; i < service->method_count(); ++i) expected.push_back(service->method(i)->name());
  EXPECT_THAT(Names(), ::testing::UnorderedElementsAreArray(expected));
}

TEST(RequestTableTest, WhateverDoesNotFullyWorkSaysWhy) {
  for (const RequestEntry& entry : RequestTable()) {
    if (entry.state == RequestState::kWorks) continue;
    EXPECT_STRNE(entry.note, "") << entry.name;
  }
}

TEST(RequestTableTest, RefusalsQuoteTheTable) {
  const absl::Status status = WhyRefused(IfrtRequest::kLoadedHostCallbackPollRequest);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("host callbacks"));
}

TEST(RequestTableTest, TheCompatibilityPageShowsThisTable) {
  const char* root = std::getenv("CAUSEWAY_ROOT");
  if (root == nullptr) GTEST_SKIP() << "CAUSEWAY_ROOT is not set; run me through ctest";
  std::ifstream file(std::string(root) + "/docs/COMPATIBILITY.md");
  std::stringstream page;
  page << file.rdbuf();
  const std::string expected = "<!-- requests: begin (checked by src/ifrt/request_table_test.cc) -->\n" +
                               RequestTableMarkdown() + "<!-- requests: end -->\n";
  EXPECT_NE(page.str().find(expected), std::string::npos) << "docs/COMPATIBILITY.md must contain exactly:\n"
                                                          << expected;
}

}  // namespace
}  // namespace causeway
