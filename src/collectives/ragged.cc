#include "collectives/ragged.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "net/little_endian.h"

namespace causeway::collectives {
namespace {

enum Operand { kInput, kOutput, kInputOffsets, kSendSizes, kOutputOffsets, kRecvSizes, kOperands };
enum Round : uint32_t { kTable = 0, kRows = 1 };

constexpr int64_t kEntryBytes = 16;

// A table's part, or the rows'.
constexpr uint64_t kRowsSlot = uint64_t{1} << 32;

}  // namespace

absl::Status RaggedInstance::Check() {
  const Arrival& first = arrival(0);
  if (first.operands.size() != kOperands || first.results.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(first.operands.size(), " operands and ", first.results.size(), " results, not 6 and 1"));
  }
  const Buffer& input = first.operands[kInput];
  const Buffer& output = first.operands[kOutput];
  const Buffer& result = first.results[0];
  if (input.dims.empty() || output.dims.empty() || input.dtype != output.dtype ||
      absl::MakeConstSpan(input.dims).subspan(1) != absl::MakeConstSpan(output.dims).subspan(1)) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", Describe(input), " are no rows of ", Describe(output)));
  }
  if (result.dtype != output.dtype || result.dims != output.dims) {
    return absl::InvalidArgumentError(absl::StrCat("the result is ", Describe(result), ", not ", Describe(output)));
  }
  const Buffer& sizes = first.operands[kSendSizes];
  for (int i = kInputOffsets; i < kOperands; ++i) {
    const Buffer& numbers = first.operands[i];
    if ((numbers.dtype != DType::kS32 && numbers.dtype != DType::kS64) || numbers.dims.size() != 1 ||
        numbers.dims[0] % group().size != 0 || (i != kRecvSizes && numbers.dims != sizes.dims)) {
      return absl::InvalidArgumentError(absl::StrCat("operand ", i, " is ", Describe(numbers), ", with ", group().size,
                                                     " ranks and sizes in ", Describe(sizes)));
    }
  }
  per_rank_ = sizes.dims[0] / group().size;
  row_bytes_ = ElementsOf(absl::MakeConstSpan(input.dims).subspan(1)) * HostByteWidth(input.dtype);
  input_rows_ = input.dims[0];
  output_rows_ = output.dims[0];
  return absl::OkStatus();
}

int64_t RaggedInstance::Number(int slot, int operand, int64_t index) const {
  const Buffer& numbers = arrival(slot).operands[operand];
  if (numbers.dtype == DType::kS64) {
    int64_t number = 0;
    std::memcpy(&number, numbers.data + index * sizeof(number), sizeof(number));
    return number;
  }
  int32_t number = 0;
  std::memcpy(&number, numbers.data + index * sizeof(number), sizeof(number));
  return number;
}

int64_t RaggedInstance::TableBytes(int worker) const {
  return group().locals() * static_cast<int64_t>(group().workers[worker].ranks.size()) * per_rank_ * kEntryBytes;
}

bool RaggedInstance::TableIsLarge(int worker) const { return !ByMessage(TableBytes(worker)); }

absl::Status RaggedInstance::Collect(int worker, std::vector<Entry>& table, Pieces& rows) const {
  for (int slot = 0; slot < group().locals(); ++slot) {
    for (const int target : group().workers[worker].ranks) {
      for (int64_t i = target * per_rank_; i < (target + 1) * per_rank_; ++i) {
        const int64_t from = Number(slot, kInputOffsets, i);
        const Entry entry{Number(slot, kSendSizes, i), Number(slot, kOutputOffsets, i)};
        if (from < 0 || entry.rows < 0 || from > input_rows_ || entry.rows > input_rows_ - from) {
          return Error(absl::StrCat("device ", arrival(slot).device, " sends ", entry.rows, " rows from row ", from,
                                    " of ", input_rows_));
        }
        table.push_back(entry);
        if (entry.rows * row_bytes_ > 0) {
          rows.push_back(
              {.data = arrival(slot).operands[kInput].data + from * row_bytes_, .row_bytes = entry.rows * row_bytes_});
        }
      }
    }
  }
  return absl::OkStatus();
}

void RaggedInstance::Run() {
  const int workers = static_cast<int>(group().workers.size());
  tables_.resize(workers);
  incoming_.resize(workers);
  // First all of the old output, as rows that come are put over it.
  const int64_t bytes = output_rows_ * row_bytes_;
  Later(bytes * group().locals(), [this, bytes] {
    for (int slot = 0; slot < group().locals() && bytes > 0; ++slot) {
      std::memcpy(arrival(slot).results[0].data, arrival(slot).operands[kOutput].data, bytes);
    }
    Exchange();
  });
}

void RaggedInstance::Exchange() {
  const int workers = static_cast<int>(group().workers.size());
  if (per_rank_ == 0) return;
  for (int i = 0; i < workers; ++i) {
    if (i != group().self) SendTo(i);
  }
  for (int i = 0; i < workers; ++i) {
    if (i == group().self) continue;
    if (!TableIsLarge(i)) {
      ExpectMessage(kTable, 0, i, i);
      continue;
    }
    incoming_[i].table = NewBytes(TableBytes(i));
    Expect(kTable, 0, i, {Piece{.data = incoming_[i].table.get(), .row_bytes = TableBytes(i)}}, TableBytes(i), i);
  }
  if (const absl::Status status = MoveLocally(); !status.ok()) Break(status);
}

void RaggedInstance::SendTo(int worker) {
  std::vector<Entry> table;
  Pieces rows;
  if (const absl::Status status = Collect(worker, table, rows); !status.ok()) return Break(status);
  const int64_t table_bytes = TableBytes(worker);
  tables_[worker] = NewBytes(table_bytes);
  char* to = tables_[worker].get();
  for (const Entry& entry : table) {
    StoreLittleEndian<int64_t>(entry.rows, to);
    StoreLittleEndian<int64_t>(entry.to, to + 8);
    to += kEntryBytes;
  }
  const int64_t row_bytes = TotalBytes(rows);
  Pieces all{Piece{.data = tables_[worker].get(), .row_bytes = table_bytes}};
  if (!TableIsLarge(worker) && ByMessage(table_bytes + row_bytes)) {
    all.insert(all.end(), rows.begin(), rows.end());
    return Send(kTable, 0, worker, all, table_bytes + row_bytes, 0);
  }
  Send(kTable, 0, worker, all, table_bytes, 0);
  Send(kRows, 0, worker, rows, row_bytes, 0);
}

absl::Status RaggedInstance::PlaceOf(int slot, const Entry& entry, Piece& piece) const {
  if (entry.rows < 0 || entry.to < 0 || entry.to > output_rows_ || entry.rows > output_rows_ - entry.to) {
    return Error(absl::StrCat("device ", arrival(slot).device, " is sent ", entry.rows, " rows for row ", entry.to,
                              " of ", output_rows_));
  }
  piece = {.data = arrival(slot).results[0].data + entry.to * row_bytes_, .row_bytes = entry.rows * row_bytes_};
  return absl::OkStatus();
}

absl::Status RaggedInstance::MoveLocally() {
  std::vector<Entry> table;
  Pieces rows;
  RETURN_IF_ERROR(Collect(group().self, table, rows));
  size_t next = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const int slot = static_cast<int>((i / per_rank_) % group().locals());
    Piece to;
    RETURN_IF_ERROR(PlaceOf(slot, table[i], to));
    if (to.row_bytes > 0) CopyPiece(rows[next++], to);
  }
  return absl::OkStatus();
}

absl::Status RaggedInstance::Place(int worker, const char* table, Pieces& into) const {
  const int64_t entries = TableBytes(worker) / kEntryBytes;
  for (int64_t i = 0; i < entries; ++i) {
    const Entry entry{LoadLittleEndian<int64_t>(table + i * kEntryBytes),
                      LoadLittleEndian<int64_t>(table + i * kEntryBytes + 8)};
    Piece piece;
    RETURN_IF_ERROR(PlaceOf(static_cast<int>((i / per_rank_) % group().locals()), entry, piece));
    if (piece.row_bytes > 0) into.push_back(piece);
  }
  return absl::OkStatus();
}

void RaggedInstance::OnCame(uint64_t slot, absl::Span<const char> bytes) {
  if ((slot & kRowsSlot) != 0) {
    const char* from = bytes.data();
    for (const Piece& piece : incoming_[slot & ~kRowsSlot].into) from = Scatter(from, piece);
    return;
  }
  const int worker = static_cast<int>(slot);
  const auto table_bytes = static_cast<size_t>(TableBytes(worker));
  if (bytes.size() < table_bytes) return Break(Error("a peer's table of rows is too short"));
  TableCame(worker, bytes.data(), bytes.subspan(table_bytes));
}

void RaggedInstance::OnInPlace(uint64_t slot) {
  if ((slot & kRowsSlot) == 0) TableCame(static_cast<int>(slot), incoming_[slot].table.get(), {});
}

void RaggedInstance::TableCame(int worker, const char* table, absl::Span<const char> rows) {
  Incoming& in = incoming_[worker];
  if (const absl::Status status = Place(worker, table, in.into); !status.ok()) return Break(status);
  const int64_t bytes = TotalBytes(in.into);
  if (rows.empty()) return Expect(kRows, 0, worker, in.into, bytes, kRowsSlot | worker);
  if (static_cast<int64_t>(rows.size()) != bytes) return Break(Error("a peer's rows are not as many as it says"));
  const char* from = rows.data();
  for (const Piece& piece : in.into) from = Scatter(from, piece);
}

}  // namespace causeway::collectives
