// Shapes, strides and boxes as the control protocol says them: what is accepted never touches memory outside the shard,
// and a rectangle comes out of memory as it went in, piece by piece and through the streams of the data plane.
#include "worker/byte_runs.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "hlo/fuzz_sharding.h"
#include "worker/host_block.h"
#include "worker/host_streams.h"
#include "worker/shapes.h"

namespace causeway::worker {
namespace {

constexpr int64_t kMostBytes = 4096;

// A box that lies in the shard, or any numbers.
proto::Box FuzzBox(FuzzInput& in, const std::vector<int64_t>& dims) {
  proto::Box box;
  const bool fitting = in.Byte() < 224;
  for (int64_t d : dims) {
    int64_t start = in.Number();
    int64_t size = in.Number();
    if (fitting) {
      start = d == 0 ? 0 : static_cast<int64_t>(static_cast<uint64_t>(start) % static_cast<uint64_t>(d));
      size = static_cast<int64_t>(static_cast<uint64_t>(size) % static_cast<uint64_t>(d - start + 1));
    }
    box.add_start(start);
    box.add_size(size);
  }
  if (in.OneIn(32)) box.add_size(1);
  return box;
}

// Moves the rectangle's bytes out of one memory and into another, in pieces, as streams do.
void CheckMoves(const ByteRuns& runs, FuzzInput& in) {
  const std::shared_ptr<HostBlock> from = HostBlock::Allocate(runs.memory_bytes());
  const std::shared_ptr<HostBlock> to = HostBlock::Allocate(runs.memory_bytes());
  for (int64_t i = 0; i < runs.memory_bytes(); ++i) from->writable[i] = static_cast<char>(i * 7 + (i >> 8));
  std::fill_n(to->writable, runs.memory_bytes(), '\x55');
  std::string all(runs.total_bytes(), '\0');
  runs.Gather(from->bytes.data(), 0, absl::MakeSpan(all));

  bool sent = false;
  bool received = false;
  const auto source = MakeHostSource(from, runs, [&](absl::Status) { sent = true; });
  const auto sink = MakeHostSink(to, runs, [&](absl::Status) { received = true; });
  for (int64_t at = 0; at < runs.total_bytes();) {
    const int64_t most = std::min<int64_t>(1 + in.Byte(), runs.total_bytes() - at);
    const absl::Span<const char> data = source->Read(at, most);
    FUZZ_CHECK(!data.empty() && static_cast<int64_t>(data.size()) <= most);
    FUZZ_CHECK(std::equal(data.begin(), data.end(), all.begin() + at));
    for (size_t done = 0; done < data.size();) {
      const auto room = sink->Buffer(at, static_cast<int64_t>(data.size() - done));
      FUZZ_CHECK(!room.empty() && room.size() <= data.size() - done);
      std::copy_n(data.begin() + done, room.size(), room.begin());
      sink->OnData(at, static_cast<int64_t>(room.size()));
      at += static_cast<int64_t>(room.size());
      done += room.size();
    }
  }
  source->OnDone(absl::OkStatus());
  sink->OnDone(absl::OkStatus());
  FUZZ_CHECK(sent && received);
  std::string again(runs.total_bytes(), '\0');
  runs.Gather(to->bytes.data(), 0, absl::MakeSpan(again));
  FUZZ_CHECK(again == all);

  std::string third(runs.memory_bytes(), '\x55');
  runs.Scatter(all, 0, third.data());
  FUZZ_CHECK(std::equal(third.begin(), third.end(), to->writable));
}

void Feed(FuzzInput in) {
  const auto dtype = static_cast<int32_t>(in.Byte() < 224 ? in.Below(36) : in.Number());
  const std::vector<int64_t> dims = in.Byte() < 240 ? FuzzDims(in) : std::vector<int64_t>(66, in.Number());
  std::vector<int64_t> strides;
  if (in.Flag()) {
    for (size_t i = in.Byte() < 240 ? dims.size() : in.Below(70); i > 0; --i) strides.push_back(in.Number());
  }
  const absl::StatusOr<HostShape> shape = ShapeFrom(dtype, dims, strides);
  if (!shape.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(shape.status()));
    return;
  }
  const int64_t dense = DenseBytes(shape->dtype, shape->dims);
  const absl::StatusOr<int64_t> span = SpanBytes(*shape);
  FUZZ_CHECK(dense >= 0 && span.ok() && *span >= 0);
  if (IsDense(*shape)) FUZZ_CHECK(*span == dense);

  const proto::Box box = FuzzBox(in, dims);
  const int width = std::max(1, HostByteWidth(shape->dtype));
  const absl::StatusOr<ByteRuns> runs = ByteRuns::OfBox(dims, box, width);
  if (!runs.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(runs.status()));
    return;
  }
  FUZZ_CHECK(runs->total_bytes() >= 0 && runs->total_bytes() <= runs->memory_bytes());
  if (runs->total_bytes() > 0) {
    const ByteRuns::Run last = runs->At(runs->total_bytes() - 1);
    FUZZ_CHECK(last.memory_offset >= 0 && last.memory_offset < runs->memory_bytes() && last.bytes >= 1);
  }
  if (runs->memory_bytes() <= kMostBytes) CheckMoves(*runs, in);
}

}  // namespace
}  // namespace causeway::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::worker::Feed(causeway::FuzzInput(data, size));
  return 0;
}
