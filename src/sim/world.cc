#include "sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace causeway::sim {
namespace {

// Of a broken core there may be no end of findings.
constexpr size_t kMaxFindings = 20;

}  // namespace

uint64_t Random::Next() {
  state_ += 0x9e3779b97f4a7c15;
  return Scramble(state_);
}

absl::Duration Random::Delay(absl::Duration usual) {
  const int64_t dice = Pick(100);
  const int64_t stretch = dice < 85 ? 1 : dice < 98 ? 10 : 100;
  return absl::Nanoseconds(Pick(std::max<int64_t>(1, absl::ToInt64Nanoseconds(usual) * stretch)));
}

int Random::Weighted(const std::vector<int>& weights) {
  int total = 0;
  for (int weight : weights) total += weight;
  int64_t at = Pick(total);
  int chosen = 0;
  while (at >= weights[chosen]) at -= weights[chosen++];
  return chosen;
}

void World::At(absl::Time when, std::function<void()> call) {
  queue_.push_back({std::max(when, now_), ++last_number_, std::move(call)});
  std::push_heap(queue_.begin(), queue_.end());
}

bool World::RunOne() {
  if (queue_.empty()) return false;
  std::pop_heap(queue_.begin(), queue_.end());
  const Call next = std::move(queue_.back());
  queue_.pop_back();
  now_ = next.when;
  ++calls_;
  next.call();
  return true;
}

void World::NoteBytes(absl::string_view bytes, const std::function<std::string()>& describe) {
  Add(bytes);
  Add(absl::ToUnixNanos(now_));
  if (trace_ != nullptr) Write(describe());
}

void World::Write(absl::string_view line) {
  *trace_ << absl::StrFormat("%14.3f us  ", static_cast<double>(absl::ToUnixNanos(now_)) / 1e3) << line << '\n';
}

void World::Fail(std::string finding) {
  Note("WRONG: ", finding);
  if (findings_.size() < kMaxFindings) findings_.push_back(std::move(finding));
}

}  // namespace causeway::sim
