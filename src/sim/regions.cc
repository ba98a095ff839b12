#include "sim/regions.h"

#include <cstring>
#include <functional>
#include <memory>

#include "base/dtype.h"

namespace causeway::sim {
namespace {

// Calls visit(offset in the box, offset in the array, bytes) for each row of the box.
void ForEachRow(absl::Span<const int64_t> dims, const Box& box, int element_bytes,
                const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  if (box.NumElements() == 0) return;
  const size_t rank = dims.size();
  const int64_t row_bytes = (rank == 0 ? 1 : box.size.back()) * element_bytes;
  std::vector<int64_t> at(rank, 0);
  for (int64_t in_box = 0; in_box < box.NumElements() * element_bytes; in_box += row_bytes) {
    int64_t element = 0;
    for (size_t d = 0; d < rank; ++d) element = element * dims[d] + box.start[d] + at[d];
    visit(in_box, element * element_bytes, row_bytes);
    for (size_t d = rank < 2 ? 0 : rank - 1; d-- > 0 && ++at[d] == box.size[d];) at[d] = 0;
  }
}

// The part `box` of an array of shape `dims` whose dense bytes are `whole`.
std::string Cut(absl::string_view whole, absl::Span<const int64_t> dims, const Box& box, int element_bytes) {
  std::string part(box.NumElements() * element_bytes, '\0');
  ForEachRow(dims, box, element_bytes, [&](int64_t in_box, int64_t in_array, int64_t bytes) {
    std::memcpy(part.data() + in_box, whole.data() + in_array, bytes);
  });
  return part;
}

// The whole array, from its shards; nothing where a shard is null.
std::string Assemble(const ArraySpec& spec, const std::vector<ContentsRef>& shards) {
  const int width = HostByteWidth(spec.dtype);
  int64_t elements = 1;
  for (int64_t d : spec.dims) elements *= d;
  std::string whole(elements * width, '\0');
  for (size_t i = 0; i < shards.size(); ++i) {
    if (shards[i] == nullptr) continue;
    const Box box = spec.sharding->ShardBox(spec.dims, static_cast<int>(i));
    ForEachRow(spec.dims, box, width, [&](int64_t in_box, int64_t in_array, int64_t bytes) {
      std::memcpy(whole.data() + in_array, shards[i]->bytes.data() + in_box, bytes);
    });
  }
  return whole;
}

}  // namespace

std::vector<ContentsRef> Reshard(const ArraySpec& spec, const std::vector<ContentsRef>& held, const Sharding& target) {
  const std::string whole = Assemble(spec, held);
  std::vector<ContentsRef> shards;
  for (int i = 0; i < target.num_shards(); ++i) {
    const Box box = target.ShardBox(spec.dims, i);
    bool there = true;
    for (size_t from = 0; from < held.size(); ++from) {
      const Box part = Intersect(spec.sharding->ShardBox(spec.dims, static_cast<int>(from)), box);
      there = there && (held[from] != nullptr || part.NumElements() == 0);
    }
    shards.push_back(there ? std::make_shared<const Contents>(Cut(whole, spec.dims, box, HostByteWidth(spec.dtype)))
                           : nullptr);
  }
  return shards;
}

}  // namespace causeway::sim
