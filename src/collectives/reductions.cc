#include "collectives/reductions.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway::collectives {
namespace {

enum Round : uint32_t { kToLeader = 0, kAcross = 1, kBack = 2, kSpread = 3 };

// Elements that are combined at once, so that a block stays in the nearest cache.
constexpr int64_t kBlock = 2048;
constexpr int64_t kMaxPartialBytes = 16;

// Shares of a worker's own: more would only be more messages.
constexpr int64_t kMaxShares = 1 << 16;

uint64_t SlotOf(uint32_t round, uint32_t index, int who) {
  return uint64_t{round} << 56 | uint64_t{index} << 32 | static_cast<uint32_t>(who);
}

}  // namespace

absl::Status ReduceInstance::Check() {
  const proto::Collective& c = collective();
  const Arrival& first = arrival(0);
  if (first.operands.size() != first.results.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(first.operands.size(), " operands but ", first.results.size(), " results"));
  }
  for (size_t i = 0; i < first.operands.size(); ++i) {
    const Buffer& operand = first.operands[i];
    const Buffer& result = first.results[i];
    reducers_.push_back(FindReducer(c.reduction(), operand.dtype));
    if (reducers_.back() == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("there is no ", proto::Collective::Reduction_Name(c.reduction()),
                                                     " of ", absl::string_view(Name(operand.dtype))));
    }
    auto expected = operand.dims;
    if (c.kind() == proto::Collective::REDUCE_SCATTER) {
      const int64_t d = c.dimension();
      if (d < 0 || d >= static_cast<int64_t>(operand.dims.size()) || operand.dims[d] % group().size != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("dimension ", d, " of ", Describe(operand), " is no multiple of ", group().size, " ranks"));
      }
      expected[d] /= group().size;
    }
    if (expected != result.dims || operand.dtype != result.dtype) {
      return absl::InvalidArgumentError(
          absl::StrCat("operand ", i, " is ", Describe(operand), " and result ", i, " is ", Describe(result)));
    }
  }
  return absl::OkStatus();
}

void ReduceInstance::Run() {
  if (collective().kind() == proto::Collective::REDUCE_SCATTER) {
    CutByWorkers();
  } else {
    CutByBytes();
  }
  for (uint32_t i = 0; i < shares_.size(); ++i) {
    const Share& share = shares_[i];
    if (share.partial_bytes == 0) continue;
    if (group().workers.size() == 1) {
      Later(share.partial_bytes * group().locals(), [this, &share] { ReduceHere(share); });
    } else {
      StartShare(i);
    }
  }
}

ReduceInstance::Share& ReduceInstance::NewShare() {
  Share& share = shares_.emplace_back();
  share.spreads = collective().kind() == proto::Collective::ALL_REDUCE;
  return share;
}

void ReduceInstance::CutByWorkers() {
  for (const GroupWorker& worker : group().workers) {
    Share& share = NewShare();
    share.owner_cell = worker.cell;
    share.leader = worker.position;
    const bool mine = worker.id == group().me().id;
    for (int i = 0; i < static_cast<int>(reducers_.size()); ++i) {
      const auto dims = absl::MakeConstSpan(arrival(0).operands[i].dims);
      const int64_t outer = ElementsOf(dims.first(collective().dimension()));
      const int64_t row = ElementsOf(dims.subspan(collective().dimension())) / group().size;
      for (int slot = 0; slot < static_cast<int>(worker.ranks.size()); ++slot) {
        share.regions.push_back({.operand = i,
                                 .rows = outer,
                                 .row = row,
                                 .stride = row * group().size,
                                 .from = worker.ranks[slot] * row,
                                 .slot = mine ? slot : -1});
      }
    }
    Measure(share);
  }
}

void ReduceInstance::CutByBytes() {
  int64_t total = 0;
  for (size_t i = 0; i < reducers_.size(); ++i) {
    total += ElementsOf(arrival(0).operands[i].dims) * reducers_[i]->partial_bytes;
  }
  const auto cells = static_cast<int64_t>(group().cells.size());
  size_t largest = 0;
  for (const std::vector<int>& cell : group().cells) largest = std::max(largest, cell.size());
  const bool alone = group().workers.size() == 1;
  // The largest block must be one message.
  const int64_t block = group().alike ? 1 : group().size;
  const bool direct = alone ? total * group().locals() <= options().inline_bytes
                            : total * block <= std::min(options().direct_bytes, options().message_bytes);
  int64_t shares = 1;
  if (!direct) {
    const int64_t owners = cells * static_cast<int64_t>(largest);
    shares =
        owners * std::max<int64_t>((total + owners * options().chunk_bytes - 1) / (owners * options().chunk_bytes), 1);
    shares = std::min(shares, kMaxShares);
  }
  for (int64_t i = 0; i < shares; ++i) {
    Share& share = NewShare();
    if (!direct && !alone) {
      share.owner_cell = static_cast<int>(i % cells);
      share.leader = static_cast<int>(i / cells % static_cast<int64_t>(largest));
    }
    const auto at = [&](int64_t n) { return static_cast<int64_t>(static_cast<__int128>(total) * n / shares); };
    AddRegions(at(i), at(i + 1), share);
    Measure(share);
  }
}

void ReduceInstance::AddRegions(int64_t begin, int64_t end, Share& share) const {
  int64_t first = 0;  // of the operand, among all bytes
  for (int i = 0; i < static_cast<int>(reducers_.size()); ++i) {
    const int64_t elements = ElementsOf(arrival(0).operands[i].dims);
    const int64_t width = reducers_[i]->partial_bytes;
    // Both ends are rounded alike, so that shares neither overlap nor leave anything out.
    const auto element_at = [&](int64_t byte) {
      return std::clamp<int64_t>((byte - first + width - 1) / width, 0, elements);
    };
    const int64_t from = begin <= first ? 0 : element_at(begin);
    const int64_t to = end <= first ? 0 : element_at(end);
    if (to > from)
      share.regions.push_back({.operand = i, .row = to - from, .stride = to - from, .from = from, .to = from});
    first += elements * width;
  }
}

void ReduceInstance::Measure(Share& share) const {
  for (const Region& region : share.regions) {
    share.partial_bytes += region.rows * region.row * reducers_[region.operand]->partial_bytes;
    share.result_bytes += region.rows * region.row * reducers_[region.operand]->element_bytes;
  }
}

int ReduceInstance::Leader(const Share& share, int cell) const {
  const std::vector<int>& members = group().cells[cell];
  return members[share.leader % members.size()];
}

void ReduceInstance::ReduceHere(const Share& share) {
  char block[kBlock * kMaxPartialBytes];
  for (const Region& region : share.regions) {
    const Reducer& reducer = *reducers_[region.operand];
    const int64_t width = reducer.element_bytes;
    int64_t to = region.to;
    for (int64_t row = 0; row < region.rows; ++row) {
      const int64_t from = region.from + row * region.stride;
      for (int64_t done = 0; done < region.row; done += kBlock) {
        const int64_t n = std::min(kBlock, region.row - done);
        for (int slot = 0; slot < group().locals(); ++slot) {
          const char* operand = arrival(slot).operands[region.operand].data + (from + done) * width;
          (slot == 0 ? reducer.first : reducer.add)(operand, block, n);
        }
        const int first = region.slot < 0 ? 0 : region.slot;
        const int last = region.slot < 0 ? group().locals() - 1 : region.slot;
        for (int slot = first; slot <= last; ++slot) {
          reducer.last(block, arrival(slot).results[region.operand].data + to * width, n);
        }
        to += n;
      }
    }
  }
}

void ReduceInstance::StartShare(uint32_t index) {
  Share& share = shares_[index];
  if (Leads(share)) {
    ExpectPartials(index);
  } else if (share.spreads) {
    Expect(kSpread, index, Leader(share, group().me().cell), ResultOf(share, 0), share.result_bytes,
           SlotOf(kSpread, index, 0));
  }
  const bool as_it_is = group().locals() == 1 && reducers_[share.regions[0].operand]->plain;
  Later(as_it_is ? 0 : share.partial_bytes * group().locals(), [this, index] { Begin(index); });
}

void ReduceInstance::ExpectPartials(uint32_t index) {
  Share& share = shares_[index];
  const int cell = group().me().cell;
  const std::vector<int>& members = group().cells[cell];
  const int cells = static_cast<int>(group().cells.size());
  share.members.resize(members.size());
  share.members_missing = static_cast<int>(members.size());
  share.cells.resize(cells);
  share.cells_missing = cells;
  const auto expect = [&](uint32_t round, int from, int who, Partial& partial) {
    partial = NewPartial(share, BlockOf(from));
    const int64_t bytes = share.partial_bytes * BlockOf(from);
    Expect(round, index, from, {Piece{.data = partial.data, .row_bytes = bytes}}, bytes, SlotOf(round, index, who));
  };
  const bool owns = OwnsIn(share, cell);
  // All places are there before anything can come.
  for (int i = 0; i < static_cast<int>(members.size()); ++i) {
    if (members[i] != group().self) expect(kToLeader, members[i], i, share.members[i]);
  }
  for (int i = 0; i < cells && owns; ++i) {
    if (i != cell) expect(kAcross, Leader(share, i), i, share.cells[i]);
  }
  if (!owns && share.spreads) {
    Expect(kBack, index, Leader(share, share.owner_cell), ResultOf(share, 0), share.result_bytes,
           SlotOf(kBack, index, 0));
  }
}

ReduceInstance::Partial ReduceInstance::NewPartial(const Share& share, int64_t block) const {
  Partial partial;
  partial.owned = shared().scratch.Get(share.partial_bytes * block);
  partial.data = partial.owned.get();
  return partial;
}

ReduceInstance::Partial ReduceInstance::MakePartial(const Share& share) const {
  Partial partial;
  const Region& only = share.regions[0];
  if (group().locals() == 1 && share.regions.size() == 1 && only.rows == 1 && reducers_[only.operand]->plain) {
    partial.data = arrival(0).operands[only.operand].data + only.from * reducers_[only.operand]->element_bytes;
    return partial;
  }
  partial = NewPartial(share, BlockOf(group().self));
  char* to = partial.data;
  for (int slot = 0; slot < group().locals() && !group().alike; ++slot) {
    for (const Region& region : share.regions) {
      const Reducer& reducer = *reducers_[region.operand];
      for (int64_t row = 0; row < region.rows; ++row) {
        const int64_t from = region.from + row * region.stride;
        reducer.first(arrival(slot).operands[region.operand].data + from * reducer.element_bytes, to, region.row);
        to += region.row * reducer.partial_bytes;
      }
    }
  }
  if (!group().alike) return partial;
  for (const Region& region : share.regions) {
    const Reducer& reducer = *reducers_[region.operand];
    for (int64_t row = 0; row < region.rows; ++row) {
      const int64_t from = region.from + row * region.stride;
      for (int64_t done = 0; done < region.row; done += kBlock) {
        const int64_t n = std::min(kBlock, region.row - done);
        for (int slot = 0; slot < group().locals(); ++slot) {
          const char* operand = arrival(slot).operands[region.operand].data + (from + done) * reducer.element_bytes;
          (slot == 0 ? reducer.first : reducer.add)(operand, to, n);
        }
        to += n * reducer.partial_bytes;
      }
    }
  }
  return partial;
}

void ReduceInstance::Begin(uint32_t index) {
  Share& share = shares_[index];
  Partial partial = MakePartial(share);
  if (Leads(share)) {
    share.members[group().me().position] = std::move(partial);
    return MemberCame(index);
  }
  share.own = std::move(partial);
  Send(kToLeader, index, Leader(share, group().me().cell),
       {Piece{.data = share.own.data, .row_bytes = share.partial_bytes}}, share.partial_bytes,
       SlotOf(kToLeader, index, 0));
}

void ReduceInstance::MemberCame(uint32_t index) {
  Share& share = shares_[index];
  if (share.members_missing.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const auto members = static_cast<int64_t>(share.members.size());
  Later(members == 1 ? 0 : share.partial_bytes * members, [this, index] {
    Share& share = shares_[index];
    const int cell = group().me().cell;
    Partial& partial = share.cells[cell];
    partial = Combine(share, absl::MakeSpan(share.members));
    const int64_t bytes = share.partial_bytes * BlockOf(group().self);
    const Pieces pieces{Piece{.data = partial.data, .row_bytes = bytes}};
    if (!OwnsIn(share, cell)) {
      return Send(kAcross, index, Leader(share, share.owner_cell), pieces, bytes, SlotOf(kAcross, index, 0));
    }
    if (share.owner_cell < 0) {
      // Only as messages, which are copied: the partial may be combined with others now (and is not given back when it
      // is sent).
      for (int i = 0; i < static_cast<int>(share.cells.size()); ++i) {
        if (i != cell) Send(kAcross, index, Leader(share, i), pieces, bytes, SlotOf(kBack, index, 0));
      }
    }
    CellCame(index);
  });
}

void ReduceInstance::CellCame(uint32_t index) {
  Share& share = shares_[index];
  if (share.cells_missing.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  Later(share.partial_bytes * static_cast<int64_t>(share.cells.size() + group().locals()),
        [this, index] { HaveResult(index); });
}

void ReduceInstance::HaveResult(uint32_t index) {
  Share& share = shares_[index];
  const absl::Span<Partial> cells = absl::MakeSpan(share.cells);
  const Partial result = group().alike ? Combine(share, cells) : CombineByRanks(share, cells);
  WriteResult(share, result.data);
  if (!share.spreads) return;
  const Pieces pieces = ResultOf(share, 0);
  if (share.owner_cell >= 0) SendBack(index, kBack, pieces);
  SendBack(index, kSpread, pieces);
}

ReduceInstance::Partial ReduceInstance::Combine(const Share& share, absl::Span<Partial> partials) const {
  Partial sum = std::move(partials[0]);
  if (partials.size() == 1) return sum;
  if (sum.owned.get() == nullptr) {
    Partial copy = NewPartial(share);
    std::memcpy(copy.data, sum.data, share.partial_bytes);
    sum = std::move(copy);
  }
  for (Partial& partial : partials.subspan(1)) {
    Merge(share, partial.data, sum.data);
    partial = {};
  }
  return sum;
}

ReduceInstance::Partial ReduceInstance::CombineByRanks(const Share& share, absl::Span<Partial> blocks) const {
  absl::InlinedVector<const char*, 8> by_rank(group().size);
  for (size_t i = 0; i < blocks.size(); ++i) {
    // Every worker is a cell of its own.
    const std::vector<int>& ranks = group().workers[group().cells[i][0]].ranks;
    for (size_t slot = 0; slot < ranks.size(); ++slot) {
      by_rank[ranks[slot]] = blocks[i].data + static_cast<int64_t>(slot) * share.partial_bytes;
    }
  }
  Partial sum = NewPartial(share);
  std::memcpy(sum.data, by_rank[0], share.partial_bytes);
  for (int rank = 1; rank < group().size; ++rank) Merge(share, by_rank[rank], sum.data);
  for (Partial& block : blocks) block = {};
  return sum;
}

void ReduceInstance::Merge(const Share& share, const char* partial, char* sum) const {
  int64_t at = 0;
  for (const Region& region : share.regions) {
    const Reducer& reducer = *reducers_[region.operand];
    const int64_t n = region.rows * region.row;
    reducer.merge(partial + at, sum + at, n);
    at += n * reducer.partial_bytes;
  }
}

void ReduceInstance::WriteResult(const Share& share, const char* partial) {
  for (const Region& region : share.regions) {
    const Reducer& reducer = *reducers_[region.operand];
    const int64_t n = region.rows * region.row;
    const int first = region.slot < 0 ? 0 : region.slot;
    const int last = region.slot < 0 ? group().locals() - 1 : region.slot;
    for (int slot = first; slot <= last; ++slot) {
      reducer.last(partial, arrival(slot).results[region.operand].data + region.to * reducer.element_bytes, n);
    }
    partial += n * reducer.partial_bytes;
  }
}

Pieces ReduceInstance::ResultOf(const Share& share, int slot) const {
  Pieces pieces;
  for (const Region& region : share.regions) {
    const int64_t width = reducers_[region.operand]->element_bytes;
    pieces.push_back(
        {.data = arrival(slot).results[region.operand].data + region.to * width, .row_bytes = region.row * width});
  }
  return pieces;
}

void ReduceInstance::SendBack(uint32_t index, uint32_t round, const Pieces& from) {
  const Share& share = shares_[index];
  const int my_cell = group().me().cell;
  if (round == kSpread) {
    for (const int worker : group().cells[my_cell]) {
      if (worker != group().self) Send(kSpread, index, worker, from, share.result_bytes, SlotOf(kBack, index, 0));
    }
    return;
  }
  for (int cell = 0; cell < static_cast<int>(group().cells.size()); ++cell) {
    if (cell != my_cell) Send(kBack, index, Leader(share, cell), from, share.result_bytes, SlotOf(kBack, index, 0));
  }
}

void ReduceInstance::OnCame(uint64_t slot, absl::Span<const char> bytes) {
  const auto round = static_cast<uint32_t>(slot >> 56);
  const auto index = static_cast<uint32_t>(slot >> 32) & 0xffffff;
  const auto who = static_cast<uint32_t>(slot);
  Share& share = shares_[index];
  switch (round) {
    case kToLeader:
      std::memcpy(share.members[who].data, bytes.data(), bytes.size());
      return MemberCame(index);
    case kAcross:
      std::memcpy(share.cells[who].data, bytes.data(), bytes.size());
      return CellCame(index);
    default:
      break;
  }
  const Pieces from{Piece{.data = const_cast<char*>(bytes.data()), .row_bytes = static_cast<int64_t>(bytes.size())}};
  if (round == kBack) SendBack(index, kSpread, from);
  for (int i = 0; i < group().locals(); ++i) {
    const char* at = bytes.data();
    for (const Piece& piece : ResultOf(share, i)) at = Scatter(at, piece);
  }
}

void ReduceInstance::OnInPlace(uint64_t slot) {
  const auto round = static_cast<uint32_t>(slot >> 56);
  const auto index = static_cast<uint32_t>(slot >> 32) & 0xffffff;
  if (round == kToLeader) return MemberCame(index);
  if (round == kAcross) return CellCame(index);
  if (round == kBack) SendBack(index, kSpread, ResultOf(shares_[index], 0));
  Later(shares_[index].result_bytes * (group().locals() - 1), [this, index] {
    const Pieces from = ResultOf(shares_[index], 0);
    for (int i = 1; i < group().locals(); ++i) {
      const Pieces to = ResultOf(shares_[index], i);
      for (size_t p = 0; p < to.size(); ++p) CopyPiece(from[p], to[p]);
    }
  });
}

void ReduceInstance::OnSent(uint64_t slot) {
  // The worker's partial, or its cell's, is not needed any more once it is with whom it was for.
  const auto round = static_cast<uint32_t>(slot >> 56);
  Share& share = shares_[static_cast<uint32_t>(slot >> 32) & 0xffffff];
  if (round == kToLeader) share.own = {};
  if (round == kAcross) share.cells[group().me().cell] = {};
}

}  // namespace causeway::collectives
