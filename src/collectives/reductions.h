// All-reduce and reduce-scatter, as shares: stretches of the operands that are combined each for itself. In every cell
// (layout.h) one worker leads a share:
//
//   1. the devices of a worker are combined, in the order of ranks, into the worker's partial
//   2. a cell's leader combines those of its workers, in the order of their first ranks          (kToLeader)
//   3. the owner combines those of the cells, in their order                                      (kAcross)
//   4. the result goes from the owner to the other leaders, and from leaders to their workers     (kBack, kSpread)
//
// A small all-reduce is one share, of which every leader is an owner: partials go to all at once and 4 needs no
// crossing between cells. A large one has about as many shares as workers, each with one owner. A reduce-scatter has a
// share for each worker, which leads it in its cell, owns it and keeps the result.
//
// Where the groups of a collective lie on workers in different ways (Group::alike), partials are not sums but blocks:
// one partial for each rank, and who has them all combines them in the order of ranks. More bytes travel, but members
// with the same numbers get the same bits in every group.
//
// Which of these depends on shapes and gang alone, and so do the bits of the result.
#ifndef CAUSEWAY_COLLECTIVES_REDUCTIONS_H_
#define CAUSEWAY_COLLECTIVES_REDUCTIONS_H_

#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "collectives/instance.h"
#include "collectives/reduce.h"
#include "collectives/scratch.h"

namespace causeway::collectives {

class ReduceInstance final : public Instance {
 public:
  explicit ReduceInstance(InstanceInit init) : Instance(std::move(init)) {}

 private:
  // Elements of one operand, in rows, and where their result lies.
  struct Region {
    int operand = 0;
    int64_t rows = 1;
    int64_t row = 0;     // elements
    int64_t stride = 0;  // elements
    int64_t from = 0;    // the first element, in the operand
    int64_t to = 0;      // and in the result, where they lie dense
    int slot = -1;       // whose result; -1: everybody's
  };
  // Dense bytes; not owned where they are an operand's.
  struct Partial {
    char* data = nullptr;
    Scratch::Block owned;
  };
  struct Share {
    absl::InlinedVector<Region, 1> regions;
    int64_t partial_bytes = 0;
    int64_t result_bytes = 0;
    int owner_cell = -1;  // -1: all
    int leader = 0;       // in a cell: the member at this position, modulo their number
    bool spreads = false;

    Partial own;                              // on its way to the leader
    absl::InlinedVector<Partial, 1> members;  // of this cell, by position
    absl::InlinedVector<Partial, 2> cells;
    std::atomic<int> members_missing{0};
    std::atomic<int> cells_missing{0};
  };

  absl::Status Check() override;
  void Run() override;
  void OnCame(uint64_t slot, absl::Span<const char> bytes) override;
  void OnInPlace(uint64_t slot) override;
  void OnSent(uint64_t slot) override;

  void CutByWorkers();  // reduce-scatter
  void CutByBytes();    // all-reduce
  Share& NewShare();
  // The bytes [begin, end) of all operands' partials, put one behind the other; boundaries fall between elements.
  void AddRegions(int64_t begin, int64_t end, Share& share) const;
  void Measure(Share& share) const;

  int Leader(const Share& share, int cell) const;
  bool Leads(const Share& share) const { return Leader(share, group().me().cell) == group().self; }
  bool OwnsIn(const Share& share, int cell) const { return share.owner_cell < 0 || share.owner_cell == cell; }

  void ReduceHere(const Share& share);  // where there is no other worker
  void StartShare(uint32_t index);
  void ExpectPartials(uint32_t index);
  void Begin(uint32_t index);  // with this worker's partial
  // How many partials one is that travels from `worker`.
  int64_t BlockOf(int worker) const {
    return group().alike ? 1 : static_cast<int64_t>(group().workers[worker].ranks.size());
  }
  Partial NewPartial(const Share& share, int64_t block = 1) const;
  Partial MakePartial(const Share& share) const;
  void MemberCame(uint32_t index);
  void CellCame(uint32_t index);
  void HaveResult(uint32_t index);
  // Combines in order, into the first.
  Partial Combine(const Share& share, absl::Span<Partial> partials) const;
  // Combines the blocks of all workers in the order of ranks.
  Partial CombineByRanks(const Share& share, absl::Span<Partial> blocks) const;
  void Merge(const Share& share, const char* partial, char* sum) const;
  void WriteResult(const Share& share, const char* partial);
  // Where the result of an all-reduce lies.
  Pieces ResultOf(const Share& share, int slot) const;
  void SendBack(uint32_t index, uint32_t round, const Pieces& from);

  absl::InlinedVector<const Reducer*, 2> reducers_;  // by operand
  std::deque<Share> shares_;
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_REDUCTIONS_H_
