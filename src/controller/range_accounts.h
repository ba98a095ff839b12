// A row of numbers of which many neighbours change at once, and what each was at most: bytes by device.
//
//   RangeAccounts bytes;
//   bytes.Resize(2048);
//   bytes.Add(0, 2048, 64);            // on all of them, in one step
//   bytes.Add(3, 4, 100);
//   bytes.Max(0, 8);                   // 164
//   bytes.Add(3, 4, -100);  bytes.Peak(3);   // still 164
//
// A segment tree whose nodes keep what is to be added to all below them, with the largest sum that this has had since
// it was last handed down: so the past of each number is exact though nobody walks over them.
//
// Numbers wrap around, so that amounts that nobody could have (a client may name them) do no harm: what is added and
// taken away again leaves no trace but in peaks.
//
// Threading: none of its own. Cost: Add and Max O(log size), and O(1) for the whole row; At and Peak O(log size).
#ifndef CAUSEWAY_CONTROLLER_RANGE_ACCOUNTS_H_
#define CAUSEWAY_CONTROLLER_RANGE_ACCOUNTS_H_

#include <cstdint>
#include <vector>

namespace causeway {

class RangeAccounts {
 public:
  // Makes the row longer; new numbers are 0. Those that are there stay, with their peaks.
  void Resize(int size);
  int size() const { return size_; }

  // To each of [first, last), which is not empty and within the row.
  void Add(int first, int last, int64_t amount);

  // The largest of [first, last).
  int64_t Max(int first, int last) const;

  int64_t At(int place) const;

  // The most that it ever was; at least 0.
  int64_t Peak(int place) const;

 private:
  // Of a node above others: what is still to be handed down. Of a leaf: its number and its peak.
  struct Node {
    int64_t add = 0;
    int64_t peak = 0;  // the largest `add` so far
    int64_t max = 0;   // of the numbers below, but for what waits above this node
  };

  static void Apply(Node& node, int64_t add, int64_t peak);
  void Add(int node, int low, int high, int first, int last, int64_t amount);
  int64_t Max(int node, int low, int high, int first, int last) const;

  // Where [.., last) ends, if the row is taken to be as long as the tree: the spare places repeat the last number, and
  // a range to the end of the row is one to the end of the tree.
  int End(int last) const { return last == size_ ? leaves_ : last; }

  int size_ = 0;
  int leaves_ = 0;           // a power of two
  std::vector<Node> nodes_;  // the root is 1; below n are 2n and 2n+1
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_RANGE_ACCOUNTS_H_
