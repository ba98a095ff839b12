// Shardings and shapes for fuzz targets: most of them fit, so that what is behind the first check is reached.
//
// Threading: none.
#ifndef CAUSEWAY_HLO_FUZZ_SHARDING_H_
#define CAUSEWAY_HLO_FUZZ_SHARDING_H_

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "xla/xla_data.pb.h"

namespace causeway {

// Factors of `n`, at most `most` of them; what they leave over of it comes second.
inline std::pair<std::vector<int64_t>, int64_t> FuzzFactors(FuzzInput& in, int64_t n, int most) {
  std::vector<int64_t> factors;
  for (int count = in.Below(most + 1); count > 0; --count) {
    int64_t factor = 1 + in.Byte() % n;
    while (n % factor != 0) --factor;
    factors.push_back(factor);
    n /= factor;
  }
  return {factors, n};
}

// Mixes what is in `list`.
template <typename List>
void FuzzShuffle(FuzzInput& in, List& list) {
  if (list.size() < 2) return;
  for (int swaps = in.Below(4); swaps > 0; --swaps) {
    std::swap(list[in.Byte() % list.size()], list[in.Byte() % list.size()]);
  }
}

// An OpSharding for `devices` devices, at least 1. Unless `in` wants it damaged, it fits.
inline xla::OpSharding FuzzOpSharding(FuzzInput& in, int devices) {
  xla::OpSharding op;
  const int kind = in.Below(10);
  if (kind == 0) return op;  // replicated
  op.set_type(xla::OpSharding::OTHER);
  auto [tiles, copies] = FuzzFactors(in, devices, /*most=*/4);
  op.mutable_tile_assignment_dimensions()->Add(tiles.begin(), tiles.end());
  if (copies > 1) {
    op.add_tile_assignment_dimensions(copies);
    if (kind == 1) {
      op.add_last_tile_dims(xla::OpSharding::MANUAL);
    } else {
      op.set_replicate_on_last_tile_dim(true);
    }
  }
  if (in.Flag()) {
    auto [reshape, rest] = FuzzFactors(in, devices, /*most=*/3);
    reshape.push_back(rest);
    std::vector<int32_t> permutation(reshape.size());
    std::iota(permutation.begin(), permutation.end(), 0);
    FuzzShuffle(in, permutation);
    op.mutable_iota_reshape_dims()->Add(reshape.begin(), reshape.end());
    op.mutable_iota_transpose_perm()->Add(permutation.begin(), permutation.end());
  } else {
    std::vector<int64_t> order(devices);
    std::iota(order.begin(), order.end(), 0);
    FuzzShuffle(in, order);
    op.mutable_tile_assignment_devices()->Add(order.begin(), order.end());
  }
  if (kind == 9) ProtoFiller().Fill(in, op);
  return op;
}

// A shape, as ParseDims would let it pass: most of them small.
inline std::vector<int64_t> FuzzDims(FuzzInput& in, int most_rank = 4) {
  constexpr int64_t kMostElements = int64_t{1} << 56;
  std::vector<int64_t> dims;
  int64_t elements = 1;
  for (int rank = in.Below(most_rank + 1); rank > 0; --rank) {
    const int byte = in.Byte();
    int64_t dim = byte < 240 ? byte % 12 : in.Number();
    if (dim < 0 || dim > kMostElements / elements) dim = 1;
    dims.push_back(dim);
    if (dim > 0) elements *= dim;
  }
  return dims;
}

}  // namespace causeway

#endif  // CAUSEWAY_HLO_FUZZ_SHARDING_H_
