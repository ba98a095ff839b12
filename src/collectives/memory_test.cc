#include "collectives/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <string>

namespace causeway::collectives {
namespace {

MemoryStretch At(const std::string& text, size_t from, int64_t bytes) {
  return {reinterpret_cast<uintptr_t>(text.data() + from), bytes};
}

// A process may always read its own memory in this way.
TEST(MemoryTest, PutsStretchesIntoPieces) {
  const std::string source = "0123456789abcdefghij";
  std::string target(30, '.');
  const Pieces into{Piece{.data = target.data(), .rows = 3, .row_bytes = 2, .stride = 4},
                    Piece{.data = target.data() + 20, .row_bytes = 5}};
  const absl::Status read = ReadMemory(getpid(), {At(source, 10, 4), At(source, 0, 0), At(source, 2, 7)}, into, 11);
  ASSERT_TRUE(read.ok()) << read;
  EXPECT_EQ(target, "ab..cd..23..........45678.....");
}

TEST(MemoryTest, ManyPiecesAndStretchesInSeveralCalls) {
  std::string source(4000, '\0');
  std::iota(source.begin(), source.end(), 0);
  std::vector<MemoryStretch> from;
  for (int i = 0; i < 400; ++i) from.push_back(At(source, (399 - i) * 10, 10));
  std::string target(4000, '.');
  const Pieces into{Piece{.data = target.data(), .rows = 500, .row_bytes = 8, .stride = 8}};
  ASSERT_TRUE(ReadMemory(getpid(), from, into, 4000).ok());
  for (int i = 0; i < 400; ++i) EXPECT_EQ(target.substr(i * 10, 10), source.substr((399 - i) * 10, 10));
}

TEST(MemoryTest, SaysWhatIsWrong) {
  std::string text(16, 'x');
  const Pieces into{Piece{.data = text.data(), .row_bytes = 16}};
  EXPECT_EQ(ReadMemory(getpid(), {At(text, 0, 8)}, into, 16).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadMemory(getpid(), {At(text, 0, 8), At(text, 0, 9)}, into, 16).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadMemory(getpid(), {At(text, 0, -1), At(text, 0, 17)}, into, 16).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadMemory(getpid(), {{.address = 8, .bytes = 16}}, into, 16).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReadMemory(0x7ffffffe, {At(text, 0, 16)}, into, 16).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace causeway::collectives
