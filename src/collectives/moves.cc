#include "collectives/moves.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace causeway::collectives {
namespace {

enum Round : uint32_t { kDirect = 0, kPassedOn = 1 };

// Of large parts, rows shorter than this are not worth a system call's vector each.
constexpr int64_t kShortRow = 4096;

bool HasShortRows(const Pieces& pieces) {
  return std::any_of(pieces.begin(), pieces.end(),
                     [](const Piece& piece) { return piece.rows > 1 && piece.row_bytes < kShortRow; });
}

int64_t BytesOf(const Buffer& buffer) { return ElementsOf(buffer.dims) * HostByteWidth(buffer.dtype); }

}  // namespace

bool MoveInstance::Shares() const {
  return collective().kind() == proto::Collective::ALL_GATHER ||
         collective().kind() == proto::Collective::COLLECTIVE_BROADCAST;
}

absl::Status MoveInstance::Check() {
  const proto::Collective& c = collective();
  const Arrival& first = arrival(0);
  const bool is_tuple = c.kind() == proto::Collective::ALL_TO_ALL && c.tuple();
  const bool is_cut =
      c.kind() == proto::Collective::ALL_GATHER || (c.kind() == proto::Collective::ALL_TO_ALL && !is_tuple);
  const int ranks = group().size;
  if (first.operands.size() != first.results.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(first.operands.size(), " operands but ", first.results.size(), " results"));
  }
  if (is_tuple && static_cast<int>(first.operands.size()) != ranks) {
    return absl::InvalidArgumentError(absl::StrCat(first.operands.size(), " operands for ", ranks, " ranks"));
  }
  cuts_.resize(first.operands.size());
  for (size_t i = 0; i < first.operands.size(); ++i) {
    const Buffer& operand = first.operands[i];
    const Buffer& result = first.results[i];
    auto expected = operand.dims;
    if (is_cut) {
      const int64_t d = c.dimension();
      if (d < 0 || d >= static_cast<int64_t>(operand.dims.size())) {
        return absl::InvalidArgumentError(absl::StrCat("no dimension ", d, " in ", Describe(operand)));
      }
      if (c.kind() == proto::Collective::ALL_GATHER) {
        expected[d] *= ranks;
      } else if (operand.dims[d] % ranks != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("dimension ", d, " of ", Describe(operand), " is not a multiple of ", ranks, " ranks"));
      }
      const auto dims = absl::MakeConstSpan(operand.dims);
      cuts_[i].outer = ElementsOf(dims.first(d));
      cuts_[i].bytes = ElementsOf(dims.subspan(d)) * HostByteWidth(operand.dtype);
      if (c.kind() == proto::Collective::ALL_TO_ALL) cuts_[i].bytes /= ranks;
    } else {
      cuts_[i].bytes = BytesOf(operand);
    }
    const bool same = expected == result.dims && operand.dtype == result.dtype;
    if (!same || (is_tuple && operand.dims != first.operands[0].dims) ||
        (is_tuple && operand.dtype != first.operands[0].dtype)) {
      return absl::InvalidArgumentError(
          absl::StrCat("operand ", i, " is ", Describe(operand), " and result ", i, " is ", Describe(result)));
    }
  }
  return absl::OkStatus();
}

template <typename F>
void MoveInstance::ForEachMove(int source, int target, F f) const {
  const int64_t ranks = group().size;
  const auto whole = [&](int operand, int result) {
    const int64_t bytes = cuts_[operand].bytes;
    if (bytes > 0) f(Move{.operand = operand, .result = result, .rows = 1, .row_bytes = bytes});
  };
  const int operands = static_cast<int>(cuts_.size());
  switch (collective().kind()) {
    case proto::Collective::COLLECTIVE_BROADCAST:
      if (source != 0) return;
      for (int i = 0; i < operands; ++i) whole(i, i);
      return;
    case proto::Collective::COLLECTIVE_PERMUTE: {
      const auto it = group().targets.find(source);
      if (it == group().targets.end() || it->second != target) return;
      for (int i = 0; i < operands; ++i) whole(i, i);
      return;
    }
    case proto::Collective::ALL_TO_ALL:
      if (collective().tuple()) return whole(target, source);
      break;
    default:
      break;
  }
  const bool gather = collective().kind() == proto::Collective::ALL_GATHER;
  for (int i = 0; i < operands; ++i) {
    const auto& [outer, bytes] = cuts_[i];
    if (outer * bytes == 0) continue;
    f(Move{.operand = i,
           .result = i,
           .rows = outer,
           .row_bytes = bytes,
           .from = gather ? 0 : target * bytes,
           .from_stride = gather ? bytes : ranks * bytes,
           .to = source * bytes,
           .to_stride = ranks * bytes});
  }
}

template <typename F>
void MoveInstance::ForEachBetween(int from, int to, F f) const {
  const auto& sources = group().workers[from].ranks;
  const auto& targets = group().workers[to].ranks;
  const size_t to_each = Shares() ? 1 : targets.size();
  for (size_t s = 0; s < sources.size(); ++s) {
    for (size_t t = 0; t < to_each; ++t) {
      ForEachMove(sources[s], targets[t], [&](const Move& move) { f(move, static_cast<int>(s), static_cast<int>(t)); });
    }
  }
}

Piece MoveInstance::From(const Move& move, int slot) const {
  return Joined({arrival(slot).operands[move.operand].data + move.from, move.rows, move.row_bytes, move.from_stride});
}

Piece MoveInstance::To(const Move& move, int slot) const {
  return Joined({arrival(slot).results[move.result].data + move.to, move.rows, move.row_bytes, move.to_stride});
}

int MoveInstance::Gate(int cell, int origin) const {
  const std::vector<int>& members = group().cells[cell];
  return members[group().workers[origin].position % members.size()];
}

void MoveInstance::Run() {
  const int workers = static_cast<int>(group().workers.size());
  incoming_.resize(workers);
  outgoing_.resize(workers);
  if (Shares()) {
    SendShared();
  } else {
    for (int i = 0; i < workers; ++i) {
      if (i != group().self) SendTo(i);
    }
  }
  for (int i = 0; i < workers; ++i) {
    if (i != group().self) ExpectFrom(i);
  }
  MoveLocally();
}

void MoveInstance::SendShared() {
  Pieces pieces;
  ForEachBetween(group().self, group().self,
                 [&](const Move& move, int source, int) { pieces.push_back(From(move, source)); });
  const int64_t bytes = TotalBytes(pieces);
  const int self = group().self;
  for (int cell = 0; cell < static_cast<int>(group().cells.size()); ++cell) {
    if (cell != group().me().cell) {
      Send(kDirect, self, Gate(cell, self), pieces, bytes, 0);
      continue;
    }
    for (const int worker : group().cells[cell]) {
      if (worker != self) Send(kDirect, self, worker, pieces, bytes, 0);
    }
  }
}

void MoveInstance::SendTo(int worker) {
  Pieces pieces;
  ForEachBetween(group().self, worker,
                 [&](const Move& move, int source, int) { pieces.push_back(From(move, source)); });
  const int64_t bytes = TotalBytes(pieces);
  if (ByMessage(bytes) || !HasShortRows(pieces)) {
    return Send(kDirect, group().self, worker, pieces, bytes, 0);
  }
  outgoing_[worker] = NewBytes(bytes);
  Later(bytes, [this, worker, bytes, pieces = std::move(pieces)] {
    char* to = outgoing_[worker].get();
    for (const Piece& piece : pieces) to = Gather(piece, to);
    Send(kDirect, group().self, worker, {Piece{.data = outgoing_[worker].get(), .row_bytes = bytes}}, bytes, 0);
  });
}

void MoveInstance::ExpectFrom(int worker) {
  Incoming& in = incoming_[worker];
  ForEachBetween(worker, group().self, [&](const Move& move, int, int target) { in.into.push_back(To(move, target)); });
  in.bytes = TotalBytes(in.into);
  Pieces into;
  if (!ByMessage(in.bytes)) {
    if (HasShortRows(in.into)) {
      in.scratch = NewBytes(in.bytes);
      into.push_back({.data = in.scratch.get(), .row_bytes = in.bytes});
    } else {
      into = in.into;
    }
  }
  const int my_cell = group().me().cell;
  const bool passed_on = Shares() && group().workers[worker].cell != my_cell && Gate(my_cell, worker) != group().self;
  Expect(passed_on ? kPassedOn : kDirect, worker, passed_on ? Gate(my_cell, worker) : worker, into, in.bytes, worker);
}

void MoveInstance::MoveLocally() {
  const int self = group().self;
  int64_t bytes = 0;
  ForEachBetween(self, self, [&](const Move& move, int, int) { bytes += move.rows * move.row_bytes; });
  if (Shares()) bytes *= group().locals();
  Later(bytes, [this, self] {
    ForEachBetween(self, self, [&](const Move& move, int source, int target) {
      const Piece from = From(move, source);
      const int last = Shares() ? group().locals() - 1 : target;
      for (int slot = target; slot <= last; ++slot) CopyPiece(from, To(move, slot));
    });
    if (collective().kind() != proto::Collective::COLLECTIVE_PERMUTE) return;
    for (int slot = 0; slot < group().locals(); ++slot) {
      if (group().sources.contains(group().me().ranks[slot])) continue;
      for (const Buffer& result : arrival(slot).results) {
        if (BytesOf(result) > 0) std::memset(result.data, 0, BytesOf(result));
      }
    }
  });
}

void MoveInstance::OnCame(uint64_t slot, absl::Span<const char> bytes) {
  const int origin = static_cast<int>(slot);
  PassOn(origin, {Piece{.data = const_cast<char*>(bytes.data()), .row_bytes = incoming_[origin].bytes}},
         incoming_[origin].bytes);
  Put(origin, bytes.data());
}

void MoveInstance::OnInPlace(uint64_t slot) {
  const int origin = static_cast<int>(slot);
  const Incoming& in = incoming_[origin];
  if (in.scratch == nullptr) {
    PassOn(origin, in.into, in.bytes);
    if (Shares()) Later(in.bytes * (group().locals() - 1), [this, origin] { Spread(origin); });
    return;
  }
  PassOn(origin, {Piece{.data = in.scratch.get(), .row_bytes = in.bytes}}, in.bytes);
  Later(in.bytes * (Shares() ? group().locals() : 1), [this, origin] { Put(origin, incoming_[origin].scratch.get()); });
}

void MoveInstance::Put(int origin, const char* bytes) {
  ForEachBetween(origin, group().self, [&](const Move& move, int, int target) {
    const int last = Shares() ? group().locals() - 1 : target;
    for (int slot = target; slot <= last; ++slot) Scatter(bytes, To(move, slot));
    bytes += move.rows * move.row_bytes;
  });
}

void MoveInstance::Spread(int origin) {
  ForEachBetween(origin, group().self, [&](const Move& move, int, int) {
    for (int slot = 1; slot < group().locals(); ++slot) CopyPiece(To(move, 0), To(move, slot));
  });
}

void MoveInstance::PassOn(int origin, const Pieces& from, int64_t bytes) {
  const GroupWorker& me = group().me();
  if (!Shares() || group().workers[origin].cell == me.cell) return;
  for (const int worker : group().cells[me.cell]) {
    if (worker != group().self && Gate(me.cell, origin) == group().self) {
      Send(kPassedOn, origin, worker, from, bytes, 0);
    }
  }
}

}  // namespace causeway::collectives
