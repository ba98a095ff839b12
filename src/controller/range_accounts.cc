#include "controller/range_accounts.h"

#include <algorithm>

namespace causeway {
namespace {

int64_t WrappingAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

}  // namespace

void RangeAccounts::Apply(Node& node, int64_t add, int64_t peak) {
  node.peak = std::max(node.peak, WrappingAdd(node.add, peak));
  node.add = WrappingAdd(node.add, add);
  node.max = WrappingAdd(node.max, add);
}

void RangeAccounts::Resize(int size) {
  if (size <= size_) return;
  std::vector<Node> row(size);
  for (int i = 0; i < size_; ++i) row[i] = Node{At(i), Peak(i), At(i)};
  size_ = size;
  for (leaves_ = 1; leaves_ < size_;) leaves_ *= 2;
  nodes_.assign(2 * static_cast<size_t>(leaves_), Node{});
  for (int i = 0; i < leaves_; ++i) nodes_[leaves_ + i] = row[std::min(i, size_ - 1)];
  for (int n = leaves_ - 1; n >= 1; --n) nodes_[n].max = std::max(nodes_[2 * n].max, nodes_[2 * n + 1].max);
}

void RangeAccounts::Add(int first, int last, int64_t amount) { Add(1, 0, leaves_, first, End(last), amount); }

void RangeAccounts::Add(int node, int low, int high, int first, int last, int64_t amount) {
  Node& here = nodes_[node];
  if (first <= low && high <= last) return Apply(here, amount, std::max<int64_t>(amount, 0));
  Node& left = nodes_[2 * node];
  Node& right = nodes_[2 * node + 1];
  Apply(left, here.add, here.peak);
  Apply(right, here.add, here.peak);
  here.add = here.peak = 0;
  const int middle = (low + high) / 2;
  if (first < middle) Add(2 * node, low, middle, first, last, amount);
  if (last > middle) Add(2 * node + 1, middle, high, first, last, amount);
  here.max = std::max(left.max, right.max);
}

int64_t RangeAccounts::Max(int first, int last) const { return Max(1, 0, leaves_, first, End(last)); }

int64_t RangeAccounts::Max(int node, int low, int high, int first, int last) const {
  const Node& here = nodes_[node];
  if (first <= low && high <= last) return here.max;
  const int middle = (low + high) / 2;
  if (last <= middle) return WrappingAdd(here.add, Max(2 * node, low, middle, first, last));
  if (first >= middle) return WrappingAdd(here.add, Max(2 * node + 1, middle, high, first, last));
  return WrappingAdd(here.add,
                     std::max(Max(2 * node, low, middle, first, last), Max(2 * node + 1, middle, high, first, last)));
}

int64_t RangeAccounts::At(int place) const {
  int64_t sum = 0;
  for (int n = leaves_ + place; n >= 1; n /= 2) sum = WrappingAdd(sum, nodes_[n].add);
  return sum;
}

int64_t RangeAccounts::Peak(int place) const {
  // What waits in a node came after all that has reached those below it.
  Node leaf = nodes_[leaves_ + place];
  for (int n = (leaves_ + place) / 2; n >= 1; n /= 2) Apply(leaf, nodes_[n].add, nodes_[n].peak);
  return leaf.peak;
}

}  // namespace causeway
