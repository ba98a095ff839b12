// Memory that lies in rows, and the streams that read and fill it.
//
//   Piece block{.data = p, .rows = 3, .row_bytes = 64, .stride = 256};   // three rows of a wider array
//   Scatter(bytes, block);                                               // `bytes` are dense
//
// Threading: pure functions; a stream's end belongs to the data plane.
#ifndef CAUSEWAY_COLLECTIVES_PIECES_H_
#define CAUSEWAY_COLLECTIVES_PIECES_H_

#include <cstdint>
#include <memory>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace causeway::collectives {

struct Piece {
  char* data = nullptr;  // only read where it is a source
  int64_t rows = 1;
  int64_t row_bytes = 0;
  int64_t stride = 0;  // from one row to the next; anything where there is one row

  int64_t bytes() const { return rows * row_bytes; }
};

// In the order in which their bytes travel.
using Pieces = absl::InlinedVector<Piece, 2>;

int64_t TotalBytes(const Pieces& pieces);

// Rows that follow one another without a gap are one.
Piece Joined(Piece piece);

// Between dense bytes and a piece; both return where the dense bytes go on.
const char* Scatter(const char* from, const Piece& to);
char* Gather(const Piece& from, char* to);

// Of the same rows.
void CopyPiece(const Piece& from, const Piece& to);

// Memory without a value.
std::unique_ptr<char[]> NewBytes(int64_t bytes);

// Walks through pieces as one sequence of bytes. Asked for ascending offsets it costs nothing to go on.
class PieceCursor {
 public:
  explicit PieceCursor(Pieces pieces) : pieces_(std::move(pieces)) {}

  // The run from `offset` on, of at most `length` bytes and to the end of its row. `offset` is below the total.
  absl::Span<char> Run(int64_t offset, int64_t length);

 private:
  const Pieces pieces_;
  size_t at_ = 0;      // the piece last used
  int64_t begin_ = 0;  // its first byte in the sequence
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_PIECES_H_
