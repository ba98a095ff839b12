#include "worker/byte_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace causeway::worker {
namespace {

proto::Box MakeBox(const std::vector<int64_t>& start, const std::vector<int64_t>& size) {
  proto::Box box;
  for (int64_t s : start) box.add_start(s);
  for (int64_t s : size) box.add_size(s);
  return box;
}

std::string Counting(int64_t bytes) {
  std::string memory(bytes, '\0');
  std::iota(memory.begin(), memory.end(), static_cast<char>(0));
  return memory;
}

// The rectangle's bytes, found one element at a time.
std::string Expected(const std::string& memory, const std::vector<int64_t>& dims, const proto::Box& box, int width) {
  std::string out;
  std::vector<int64_t> index(dims.size());
  const std::function<void(size_t, int64_t)> visit = [&](size_t dim, int64_t element) {
    if (dim == dims.size()) {
      out.append(memory, element * width, width);
      return;
    }
    for (int64_t i = 0; i < box.size(dim); ++i) visit(dim + 1, element * dims[dim] + box.start(dim) + i);
  };
  visit(0, 0);
  return out;
}

TEST(ByteRuns, ABoxWithoutDimensionsIsAllOfTheShard) {
  const ByteRuns runs = *ByteRuns::OfBox({3, 4}, proto::Box(), 2);
  EXPECT_EQ(runs.total_bytes(), 24);
  EXPECT_EQ(runs.At(10).bytes, 14) << "one run";
}

TEST(ByteRuns, WholeRowsAreOneRun) {
  const ByteRuns runs = *ByteRuns::OfBox({8, 3, 4}, MakeBox({2, 0, 0}, {5, 3, 4}), 4);
  EXPECT_EQ(runs.At(0).memory_offset, 2 * 3 * 4 * 4);
  EXPECT_EQ(runs.At(0).bytes, runs.total_bytes());
}

TEST(ByteRuns, AnyBoxIsGatheredFromAnyPositionAndScatteredBack) {
  std::mt19937 random(1);
  const auto pick = [&](int64_t n) { return static_cast<int64_t>(random() % n); };
  for (int round = 0; round < 500; ++round) {
    const int width = 1 + static_cast<int>(pick(3));
    std::vector<int64_t> dims, start, size;
    int64_t bytes = width;
    for (int64_t i = pick(5); i > 0; --i) {
      dims.push_back(1 + pick(4));
      start.push_back(pick(dims.back()));
      size.push_back(pick(4) == 0 ? 0 : 1 + pick(dims.back() - start.back()));
      bytes *= dims.back();
    }
    const proto::Box box = MakeBox(start, size);
    const std::string memory = Counting(bytes);
    const std::string expected = Expected(memory, dims, box, width);
    const absl::StatusOr<ByteRuns> runs = ByteRuns::OfBox(dims, box, width);
    ASSERT_TRUE(runs.ok()) << runs.status();
    ASSERT_EQ(runs->total_bytes(), static_cast<int64_t>(expected.size()));
    EXPECT_LE(runs->memory_bytes(), bytes);

    std::string target(bytes, '\0');
    for (int64_t position = 0; position < runs->total_bytes();) {
      std::string chunk(1 + pick(runs->total_bytes() - position), '\0');
      runs->Gather(memory.data(), position, absl::MakeSpan(chunk));
      ASSERT_EQ(chunk, expected.substr(position, chunk.size()));
      ASSERT_EQ(memory[runs->At(position).memory_offset], expected[position]);
      runs->Scatter(chunk, position, target.data());
      position += static_cast<int64_t>(chunk.size());
    }
    EXPECT_EQ(Expected(target, dims, box, width), expected);
    EXPECT_EQ(std::count(target.begin(), target.end(), '\0'),
              bytes - static_cast<int64_t>(expected.size()) + std::count(expected.begin(), expected.end(), '\0'))
        << "nothing else was written";
  }
}

TEST(ByteRuns, ABoxOutsideTheShardIsRefused) {
  for (const proto::Box& box :
       {MakeBox({1, 0}, {3, 4}), MakeBox({-1, 0}, {1, 1}), MakeBox({0, 0}, {1, -1}), MakeBox({4, 0}, {0, 1}),
        MakeBox({0}, {3}), MakeBox({0, 0}, {3}), MakeBox({INT64_MAX, 0}, {INT64_MAX, 1})}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ByteRuns::OfBox({3, 4}, box, 4).status())) << box.DebugString();
  }
}

TEST(ByteRuns, APieceIsCopiedBetweenShardsOfDifferentShape) {
  const std::string source = Counting(24);  // [4, 6]
  std::string target(12, 'x');              // [4, 3]
  CopyRuns(*ByteRuns::OfBox({4, 6}, MakeBox({0, 0}, {4, 2}), 1), source.data(),
           *ByteRuns::OfBox({4, 3}, MakeBox({0, 1}, {4, 2}), 1), target.data());
  EXPECT_EQ(target, (std::string{'x', 0, 1, 'x', 6, 7, 'x', 12, 13, 'x', 18, 19}));
}

}  // namespace
}  // namespace causeway::worker
