// RAGGED_ALL_TO_ALL: every rank says how many rows of its input go where in the output of each other. Operands: input,
// output, input_offsets, send_sizes, output_offsets, recv_sizes; rows are those of dimension 0, and each rank has the
// same number of entries for each other. The result begins as `output`.
//
// Only the sender knows the sizes. So workers first send each other a table of (rows, row in the output), and behind it
// the rows if there is room for them in that message; else these are a part of their own. `recv_sizes` is not needed.
#ifndef CAUSEWAY_COLLECTIVES_RAGGED_H_
#define CAUSEWAY_COLLECTIVES_RAGGED_H_

#include <memory>
#include <vector>

#include "collectives/instance.h"

namespace causeway::collectives {

class RaggedInstance final : public Instance {
 public:
  explicit RaggedInstance(InstanceInit init) : Instance(std::move(init)) {}

 private:
  struct Entry {
    int64_t rows = 0;
    int64_t to = 0;  // row in the output
  };
  struct Incoming {
    std::unique_ptr<char[]> table;  // where it is too large for a message
    Pieces into;
  };

  absl::Status Check() override;
  void Run() override;
  void OnCame(uint64_t slot, absl::Span<const char> bytes) override;
  void OnInPlace(uint64_t slot) override;

  int64_t Number(int slot, int operand, int64_t index) const;
  int64_t TableBytes(int worker) const;
  bool TableIsLarge(int worker) const;
  // Of what this worker sends to another, or to itself: appends the table and the rows. INVALID_ARGUMENT: they do not
  // lie in the input.
  absl::Status Collect(int worker, std::vector<Entry>& table, Pieces& rows) const;
  void SendTo(int worker);
  void Exchange();
  absl::Status MoveLocally();
  // Where the rows belong that a worker's table announces. INVALID_ARGUMENT: not in the output.
  absl::Status Place(int worker, const char* table, Pieces& into) const;
  void TableCame(int worker, const char* table, absl::Span<const char> rows);
  absl::Status PlaceOf(int slot, const Entry& entry, Piece& piece) const;

  int64_t per_rank_ = 0;  // entries
  int64_t row_bytes_ = 0;
  int64_t input_rows_ = 0;
  int64_t output_rows_ = 0;
  std::vector<std::unique_ptr<char[]>> tables_;  // by worker: what is being sent
  std::vector<Incoming> incoming_;               // by worker
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_RAGGED_H_
