// The collectives that only move bytes: all-gather, all-to-all, permute, broadcast. Each pair of ranks has moves,
// blocks of an operand of one that become blocks of a result of the other; everything else follows from who lives
// where.
//
// Where all ranks get the same of a rank (all-gather, broadcast), its bytes go to a worker once, and to another cell
// once: one of its workers passes them on.
#ifndef CAUSEWAY_COLLECTIVES_MOVES_H_
#define CAUSEWAY_COLLECTIVES_MOVES_H_

#include <memory>
#include <vector>

#include "collectives/instance.h"

namespace causeway::collectives {

class MoveInstance final : public Instance {
 public:
  explicit MoveInstance(InstanceInit init) : Instance(std::move(init)) {}

 private:
  struct Move {
    int operand = 0;
    int result = 0;
    int64_t rows = 0;
    int64_t row_bytes = 0;
    int64_t from = 0;  // byte offsets
    int64_t from_stride = 0;
    int64_t to = 0;
    int64_t to_stride = 0;
  };
  // An operand, as the collective cuts it.
  struct Cut {
    int64_t outer = 1;  // rows: what is before the dimension
    int64_t bytes = 0;  // one rank's bytes of one row
  };
  // What comes from one worker.
  struct Incoming {
    Pieces into;                      // of the first device, where it is put together there
    std::unique_ptr<char[]> scratch;  // where rows are too short to be received one by one
    int64_t bytes = 0;
  };

  absl::Status Check() override;
  void Run() override;
  void OnCame(uint64_t slot, absl::Span<const char> bytes) override;
  void OnInPlace(uint64_t slot) override;

  // All ranks get the same of a rank.
  bool Shares() const;
  template <typename F>
  void ForEachMove(int source, int target, F f) const;
  // The moves of what travels together from one worker to another, in order; f(move, source's slot, target's slot). If
  // all ranks get the same, only those to the first one.
  template <typename F>
  void ForEachBetween(int from, int to, F f) const;
  Piece From(const Move& move, int slot) const;
  Piece To(const Move& move, int slot) const;
  // Of a cell: who takes what comes from a worker of another one.
  int Gate(int cell, int origin) const;

  void SendShared();
  void SendTo(int worker);
  void ExpectFrom(int worker);
  void MoveLocally();
  void Put(int origin, const char* bytes);
  void Spread(int origin);
  void PassOn(int origin, const Pieces& from, int64_t bytes);

  std::vector<Cut> cuts_;                          // by operand
  std::vector<Incoming> incoming_;                 // by worker
  std::vector<std::unique_ptr<char[]>> outgoing_;  // by worker: what is gathered first, as its rows are short
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_MOVES_H_
