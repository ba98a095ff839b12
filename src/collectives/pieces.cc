#include "collectives/pieces.h"

#include <algorithm>
#include <cstring>

namespace causeway::collectives {

int64_t TotalBytes(const Pieces& pieces) {
  int64_t total = 0;
  for (const Piece& piece : pieces) total += piece.bytes();
  return total;
}

Piece Joined(Piece piece) {
  if (piece.rows > 1 && piece.stride == piece.row_bytes) {
    piece.row_bytes *= piece.rows;
    piece.rows = 1;
  }
  return piece;
}

const char* Scatter(const char* from, const Piece& to) {
  if (to.bytes() == 0) return from;
  char* row = to.data;
  for (int64_t i = 0; i < to.rows; ++i, row += to.stride, from += to.row_bytes) std::memcpy(row, from, to.row_bytes);
  return from;
}

char* Gather(const Piece& from, char* to) {
  if (from.bytes() == 0) return to;
  const char* row = from.data;
  for (int64_t i = 0; i < from.rows; ++i, row += from.stride, to += from.row_bytes) {
    std::memcpy(to, row, from.row_bytes);
  }
  return to;
}

void CopyPiece(const Piece& from, const Piece& to) {
  if (from.bytes() == 0) return;
  if (from.rows == 1) {
    Scatter(from.data, to);
  } else if (to.rows == 1) {
    Gather(from, to.data);
  } else {
    for (int64_t i = 0; i < from.rows; ++i) {
      std::memcpy(to.data + i * to.stride, from.data + i * from.stride, from.row_bytes);
    }
  }
}

std::unique_ptr<char[]> NewBytes(int64_t bytes) { return std::unique_ptr<char[]>(new char[bytes]); }

absl::Span<char> PieceCursor::Run(int64_t offset, int64_t length) {
  if (offset < begin_) at_ = 0, begin_ = 0;
  while (offset - begin_ >= pieces_[at_].bytes()) begin_ += pieces_[at_++].bytes();
  const Piece& piece = pieces_[at_];
  const int64_t row = (offset - begin_) / piece.row_bytes;
  const int64_t column = (offset - begin_) % piece.row_bytes;
  return {piece.data + row * piece.stride + column, static_cast<size_t>(std::min(length, piece.row_bytes - column))};
}

}  // namespace causeway::collectives
