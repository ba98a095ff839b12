// A cluster in one process for tests: an engine a worker over a FakeNet, arrays in memory, and what a collective must
// make of them, computed on whole arrays.
//
//   World world({.workers = {0, 0, 1, 1}});            // by device
//   Outcome outcome = world.Run(collective, inputs);   // inputs[device][operand]
//   EXPECT_EQ(outcome.results, Expected(collective, inputs));
#ifndef CAUSEWAY_COLLECTIVES_TEST_WORLD_H_
#define CAUSEWAY_COLLECTIVES_TEST_WORLD_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/mutex.h"
#include "collectives/engine.h"
#include "collectives/fake_planes.h"
#include "collectives/reduce.h"

namespace causeway::collectives {

struct Array {
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  std::vector<char> bytes;

  friend bool operator==(const Array& a, const Array& b) {
    return a.dtype == b.dtype && a.dims == b.dims && a.bytes == b.bytes;
  }
};

inline int64_t Elements(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

inline Array Zeros(DType dtype, std::vector<int64_t> dims) {
  Array array{dtype, std::move(dims), {}};
  array.bytes.resize(Elements(array.dims) * HostByteWidth(dtype));
  return array;
}

template <typename T>
Array Make(DType dtype, std::vector<int64_t> dims, const std::vector<T>& values) {
  Array array = Zeros(dtype, std::move(dims));
  std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

template <typename T>
std::vector<T> Values(const Array& array) {
  std::vector<T> values(array.bytes.size() / sizeof(T));
  std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
  return values;
}

using Arrays = std::vector<Array>;         // of one device
using DeviceArrays = std::vector<Arrays>;  // by device

// The arrays' shapes of results for these operands.
inline Arrays ResultShapes(const proto::Collective& c, int ranks, const Arrays& operands) {
  if (c.kind() == proto::Collective::RAGGED_ALL_TO_ALL) return {Zeros(operands[1].dtype, operands[1].dims)};
  Arrays results;
  for (const Array& operand : operands) {
    std::vector<int64_t> dims = operand.dims;
    if (c.kind() == proto::Collective::ALL_GATHER) dims[c.dimension()] *= ranks;
    if (c.kind() == proto::Collective::REDUCE_SCATTER) dims[c.dimension()] /= ranks;
    results.push_back(Zeros(operand.dtype, dims));
  }
  return results;
}

// Copies the block of `from` that begins at `at` along `dimension` and is as long as `to`, or puts it there.
inline void CopyBlock(Array& whole, Array& part, int64_t dimension, int64_t at, bool out) {
  const int64_t width = HostByteWidth(whole.dtype);
  const std::vector<int64_t>& dims = part.dims;
  const int64_t outer = std::accumulate(dims.begin(), dims.begin() + dimension, int64_t{1}, std::multiplies<>());
  const int64_t inner = std::accumulate(dims.begin() + dimension + 1, dims.end(), width, std::multiplies<>());
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t j = 0; j < dims[dimension]; ++j) {
      char* in_whole = whole.bytes.data() + (i * whole.dims[dimension] + at + j) * inner;
      char* in_part = part.bytes.data() + (i * dims[dimension] + j) * inner;
      for (int64_t k = 0; k < inner; ++k) (out ? in_part : in_whole)[k] = (out ? in_whole : in_part)[k];
    }
  }
}

inline Array ReduceAll(const proto::Collective& c, const std::vector<const Array*>& operands) {
  const Reducer& reducer = *FindReducer(c.reduction(), operands[0]->dtype);
  Array result = *operands[0];
  const int64_t n = Elements(result.dims);
  std::vector<char> partial(n * reducer.partial_bytes);
  for (size_t i = 0; i < operands.size(); ++i) {
    (i == 0 ? reducer.first : reducer.add)(operands[i]->bytes.data(), partial.data(), n);
  }
  reducer.last(partial.data(), result.bytes.data(), n);
  return result;
}

inline DeviceArrays Expected(const proto::Collective& c, const DeviceArrays& inputs) {
  DeviceArrays results(inputs.size());
  if (c.kind() == proto::Collective::COLLECTIVE_PERMUTE) {
    for (size_t d = 0; d < inputs.size(); ++d) results[d] = ResultShapes(c, 1, inputs[d]);
    for (const auto& pair : c.pairs()) results[pair.target()] = inputs[pair.source()];
    return results;
  }
  for (const auto& group : c.groups()) {
    const int ranks = group.devices_size();
    for (int rank = 0; rank < ranks; ++rank) {
      Arrays& out = results[group.devices(rank)];
      out = ResultShapes(c, ranks, inputs[group.devices(rank)]);
      if (c.kind() == proto::Collective::RAGGED_ALL_TO_ALL) {
        out[0] = inputs[group.devices(rank)][1];
        const int64_t row = Elements(out[0].dims) == 0 ? 0 : static_cast<int64_t>(out[0].bytes.size()) / out[0].dims[0];
        for (int source = 0; source < ranks; ++source) {
          const Arrays& in = inputs[group.devices(source)];
          const auto from = Values<int32_t>(in[2]), rows = Values<int32_t>(in[3]), to = Values<int32_t>(in[4]);
          const int each = static_cast<int>(rows.size()) / ranks;
          for (int e = rank * each; e < (rank + 1) * each; ++e) {
            std::copy_n(in[0].bytes.begin() + from[e] * row, rows[e] * row, out[0].bytes.begin() + to[e] * row);
          }
        }
        continue;
      }
      for (size_t i = 0; i < out.size(); ++i) {
        std::vector<const Array*> all;
        for (const int device : group.devices()) all.push_back(&inputs[device][i]);
        switch (c.kind()) {
          case proto::Collective::ALL_REDUCE:
            out[i] = ReduceAll(c, all);
            break;
          case proto::Collective::REDUCE_SCATTER: {
            Array sum = ReduceAll(c, all);
            CopyBlock(sum, out[i], c.dimension(), rank * out[i].dims[c.dimension()], /*out=*/true);
            break;
          }
          case proto::Collective::COLLECTIVE_BROADCAST:
            out[i] = *all[0];
            break;
          case proto::Collective::ALL_GATHER:
            for (int source = 0; source < ranks; ++source) {
              Array part = *all[source];
              CopyBlock(out[i], part, c.dimension(), source * part.dims[c.dimension()], /*out=*/false);
            }
            break;
          default:
            if (c.tuple()) {
              out[i] = inputs[group.devices(static_cast<int>(i))][rank];
              break;
            }
            for (int source = 0; source < ranks; ++source) {
              Array whole = *all[source];
              const int64_t length = whole.dims[c.dimension()] / ranks;
              std::vector<int64_t> dims = whole.dims;
              dims[c.dimension()] = length;
              Array part = Zeros(whole.dtype, dims);
              CopyBlock(whole, part, c.dimension(), rank * length, /*out=*/true);
              CopyBlock(out[i], part, c.dimension(), source * length, /*out=*/false);
            }
        }
      }
    }
  }
  return results;
}

// So small that everything happens to arrays of a few elements.
inline constexpr EngineOptions kTiny{.message_bytes = 48, .direct_bytes = 48, .chunk_bytes = 64, .inline_bytes = 100};
inline constexpr EngineOptions kSmallDirect{.message_bytes = 1000, .direct_bytes = 100, .chunk_bytes = 300};

inline proto::Collective MakeCollective(proto::Collective::Kind kind, const std::vector<std::vector<int>>& groups,
                                        proto::Collective::Reduction reduction = proto::Collective::NONE) {
  proto::Collective c;
  c.set_name("it");
  c.set_kind(kind);
  c.set_reduction(reduction);
  for (const auto& group : groups) {
    auto* g = c.add_groups();
    for (const int device : group) g->add_devices(device);
  }
  return c;
}

inline Array Floats(std::vector<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  return Make(DType::kF32, {n}, values);
}

inline Buffer BufferOf(Array& array) {
  return {.data = array.bytes.data(), .dtype = array.dtype, .dims = {array.dims.begin(), array.dims.end()}};
}

// Counts and keeps what `done` was called with.
class Ends {
 public:
  explicit Ends(int devices) : statuses_(devices) {}
  std::function<void(absl::Status)> Of(int device) {
    return [this, device](absl::Status status) {
      MutexLock lock(&mu_);
      statuses_[device].push_back(std::move(status));
      ++count_;
      changed_.SignalAll();
    };
  }
  // False: not within 30 seconds.
  bool Wait(int count) {
    MutexLock lock(&mu_);
    for (int i = 0; i < 3000 && count_ < count; ++i) changed_.WaitWithTimeout(&mu_, absl::Milliseconds(10));
    return count_ >= count;
  }
  int count() const {
    MutexLock lock(&mu_);
    return count_;
  }
  void Clear() {
    MutexLock lock(&mu_);
    count_ = 0;
    for (auto& statuses : statuses_) statuses.clear();
  }
  std::vector<absl::Status> AllOf(int device) const {
    MutexLock lock(&mu_);
    return statuses_[device];
  }
  // The first error, or OK; every device has ended exactly once.
  absl::Status All() const {
    MutexLock lock(&mu_);
    absl::Status first;
    for (const auto& statuses : statuses_) {
      if (statuses.size() != 1) return absl::InternalError(absl::StrCat("done was called ", statuses.size(), " times"));
      first.Update(statuses[0]);
    }
    return first;
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::vector<absl::Status>> statuses_ ABSL_GUARDED_BY(mu_);
};

struct WorldOptions {
  std::vector<int> workers;  // by device
  std::vector<int> islands;  // by worker; empty: one island
  bool near = false;         // all workers are on one machine
  uint64_t seed = 1;
  EngineOptions engine;
};

struct Outcome {
  absl::Status status;
  DeviceArrays results;
  Traffic traffic;  // of all workers
};

class World {
 public:
  explicit World(const WorldOptions& options) : workers_(options.workers), net_(Count(options.workers), options.seed) {
    for (int i = 0; i < Count(workers_); ++i) {
      auto gang = std::make_shared<Gang>();
      gang->self = WorkerId{i};
      for (const int worker : workers_) {
        gang->workers.push_back(WorkerId{worker});
        gang->islands.push_back(options.islands.empty() ? 0 : options.islands[worker]);
        if (options.near) gang->machines.push_back(0);
      }
      gangs_.push_back(std::move(gang));
      engines_.push_back(std::make_unique<Engine>(net_.plane(i), options.engine));
    }
  }

  int devices() const { return static_cast<int>(workers_.size()); }
  int workers() const { return static_cast<int>(engines_.size()); }
  Engine& engine(int worker) { return *engines_[worker]; }
  Engine& engine_of(int device) { return *engines_[workers_[device]]; }
  FakeNet& net() { return net_; }
  void Drop(int worker) { engines_[worker] = nullptr; }

  void Announce(uint64_t launch) {
    for (int i = 0; i < workers(); ++i) Announce(launch, i);
  }
  void Announce(uint64_t launch, int worker) { engines_[worker]->Announce(launch, gangs_[worker]); }
  Traffic End(uint64_t launch) {
    Traffic all;
    for (const auto& engine : engines_) {
      const Traffic traffic = engine->End(launch);
      all.worker_bytes += traffic.worker_bytes;
      all.island_bytes += traffic.island_bytes;
    }
    return all;
  }

  static std::shared_ptr<const proto::Collectives> TableOf(std::vector<proto::Collective> collectives) {
    auto table = std::make_shared<proto::Collectives>();
    for (proto::Collective& c : collectives) *table->add_collectives() = std::move(c);
    return table;
  }

  void Arrive(uint64_t launch, int device, const std::shared_ptr<const proto::Collectives>& table, int collective,
              uint32_t occurrence, Arrays& operands, Arrays& results, std::function<void(absl::Status)> done) {
    Arrival arrival{.launch = launch,
                    .device = device,
                    .table = table,
                    .collective = collective,
                    .occurrence = occurrence,
                    .done = std::move(done)};
    for (Array& array : operands) arrival.operands.push_back(BufferOf(array));
    for (Array& array : results) arrival.results.push_back(BufferOf(array));
    engine_of(device).Arrive(std::move(arrival));
  }

  // All devices get to it once, in the order given (empty: ascending).
  Outcome Run(const proto::Collective& collective, DeviceArrays inputs, std::vector<int> order = {}) {
    const auto table = TableOf({collective});
    Outcome outcome{.results = DeviceArrays(inputs.size())};
    const uint64_t launch = ++launch_;
    if (order.empty()) {
      order.resize(devices());
      std::iota(order.begin(), order.end(), 0);
    }
    std::vector<int> ranks(devices(), 1);
    for (const auto& group : collective.groups()) {
      for (const int device : group.devices()) ranks[device] = group.devices_size();
    }
    Ends ends(devices());
    std::set<int> announced;
    for (const int device : order) {
      // Each as late as can be, so that messages come before.
      if (announced.insert(workers_[device]).second) Announce(launch, workers_[device]);
      outcome.results[device] = ResultShapes(collective, ranks[device], inputs[device]);
      for (Array& array : outcome.results[device]) std::fill(array.bytes.begin(), array.bytes.end(), '\x5a');
      Arrive(launch, device, table, 0, 0, inputs[device], outcome.results[device], ends.Of(device));
    }
    if (!ends.Wait(devices())) {
      outcome.status = absl::DeadlineExceededError("not all have ended");
      net_.Settle();
      return outcome;
    }
    outcome.status = ends.All();
    outcome.traffic = End(launch);
    return outcome;
  }

 private:
  static int Count(const std::vector<int>& workers) { return *std::max_element(workers.begin(), workers.end()) + 1; }

  const std::vector<int> workers_;
  FakeNet net_;
  std::vector<std::shared_ptr<const Gang>> gangs_;
  std::vector<std::unique_ptr<Engine>> engines_;
  uint64_t launch_ = 0;
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_TEST_WORLD_H_
