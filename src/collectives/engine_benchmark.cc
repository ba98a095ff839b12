// What the engine itself costs: a plane that hands messages over at once, streams by memcpy.
//
//   build/release/benchmarks/collectives_engine_benchmark
#include "collectives/engine.h"

#include <benchmark/benchmark.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "collectives/reduce.h"

namespace causeway::collectives {
namespace {

// Two workers; whatever goes over is there when the call returns.
class DirectPlane final : public DataPlane {
 public:
  DirectPlane(int self, DirectPlane* other) : self_(self), other_(other) {
    if (other != nullptr) other->other_ = this;
  }
  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId id, int64_t total, int64_t, std::shared_ptr<StreamSink> sink) override {
    std::shared_ptr<StreamSource> source;
    {
      std::lock_guard lock(mu_);
      const auto it = sources_.find(Raw(id));
      if (it == sources_.end()) {
        sinks_[Raw(id)] = std::move(sink);
        return;
      }
      source = std::move(it->second);
      sources_.erase(it);
    }
    Move(total, *sink, *source);
  }
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId, StreamId id, int64_t total, std::shared_ptr<StreamSource> source) override {
    std::shared_ptr<StreamSink> sink;
    {
      std::lock_guard lock(other_->mu_);
      const auto it = other_->sinks_.find(Raw(id));
      if (it == other_->sinks_.end()) {
        other_->sources_[Raw(id)] = std::move(source);
        return;
      }
      sink = std::move(it->second);
      other_->sinks_.erase(it);
    }
    Move(total, *sink, *source);
  }
  void Wake(PeerId, StreamId) override {}
  void Cancel(PeerId, StreamId, absl::Status) override {}
  void SetMessageHandler(MessageHandler* handler) override { handler_ = handler; }
  void SendMessage(PeerId, absl::Span<const absl::Span<const char>> parts) override {
    char buffer[kMaxMessageBytes];
    size_t length = 0;
    for (const absl::Span<const char> part : parts) {
      std::memcpy(buffer + length, part.data(), part.size());
      length += part.size();
    }
    other_->handler_->OnMessage(PeerId{self_}, {buffer, length});
  }

 private:
  static void Move(int64_t total, StreamSink& sink, StreamSource& source) {
    for (int64_t at = 0; at < total;) {
      const absl::Span<const char> from = source.Read(at, std::min<int64_t>(total - at, 1 << 20));
      const absl::Span<char> to = sink.Buffer(at, static_cast<int64_t>(from.size()));
      std::memcpy(to.data(), from.data(), to.size());
      sink.OnData(at, static_cast<int64_t>(to.size()));
      at += static_cast<int64_t>(to.size());
    }
    source.OnDone(absl::OkStatus());
    sink.OnDone(absl::OkStatus());
  }

  const int self_;
  DirectPlane* other_;
  MessageHandler* handler_ = nullptr;
  std::mutex mu_;
  std::map<uint64_t, std::shared_ptr<StreamSink>> sinks_;
  std::map<uint64_t, std::shared_ptr<StreamSource>> sources_;
};

// An all-reduce of f32 over so many workers of so many devices.
class Bench {
 public:
  Bench(int workers, int each, int64_t elements) : elements_(elements) {
    auto table = std::make_shared<proto::Collectives>();
    auto* c = table->add_collectives();
    c->set_kind(proto::Collective::ALL_REDUCE);
    c->set_reduction(proto::Collective::SUM);
    auto* group = c->add_groups();
    for (int w = 0; w < workers; ++w) {
      planes_.push_back(std::make_unique<DirectPlane>(w, w == 0 ? nullptr : planes_[0].get()));
      engines_.push_back(std::make_unique<Engine>(*planes_.back()));
      auto gang = std::make_shared<Gang>();
      gang->self = WorkerId{w};
      for (int d = 0; d < workers * each; ++d) {
        gang->workers.push_back(WorkerId{d / each});
        gang->islands.push_back(0);
      }
      gangs_.push_back(std::move(gang));
      for (int d = 0; d < each; ++d) {
        worker_of_.push_back(w);
        group->add_devices(static_cast<int>(worker_of_.size()) - 1);
        operands_.emplace_back(elements, 1.0f);
        results_.emplace_back(elements, 0.0f);
      }
    }
    table_ = std::move(table);
  }

  void Announce(uint64_t launch) {
    for (size_t w = 0; w < engines_.size(); ++w) engines_[w]->Announce(launch, gangs_[w]);
  }
  void End(uint64_t launch) {
    for (const auto& engine : engines_) engine->End(launch);
  }
  void Run(uint64_t launch, uint32_t occurrence) {
    left_ = static_cast<int>(worker_of_.size());
    for (size_t d = 0; d < worker_of_.size(); ++d) {
      Arrival arrival{.launch = launch, .device = static_cast<int>(d), .table = table_, .occurrence = occurrence};
      arrival.operands.push_back({reinterpret_cast<char*>(operands_[d].data()), DType::kF32, {elements_}});
      arrival.results.push_back({reinterpret_cast<char*>(results_[d].data()), DType::kF32, {elements_}});
      arrival.done = [this](const absl::Status&) {
        if (left_.fetch_sub(1) != 1) return;
        std::lock_guard lock(mu_);
        changed_.notify_one();
      };
      engines_[worker_of_[d]]->Arrive(std::move(arrival));
    }
    if (left_ == 0) return;
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  const int64_t elements_;
  std::shared_ptr<const proto::Collectives> table_;
  std::vector<std::unique_ptr<DirectPlane>> planes_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<std::shared_ptr<const Gang>> gangs_;
  std::vector<int> worker_of_;
  std::vector<std::vector<float>> operands_, results_;
  std::atomic<int> left_{0};
  std::mutex mu_;
  std::condition_variable changed_;
};

void BM_Small(benchmark::State& state) {
  Bench bench(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), 4);
  uint32_t occurrence = 0;
  bench.Announce(1);
  for (auto _ : state) bench.Run(1, occurrence++);
  bench.End(1);
}
BENCHMARK(BM_Small)
    ->ArgNames({"workers", "devices"})
    ->Args({1, 2})
    ->Args({1, 4})
    ->Args({2, 1})
    ->Args({2, 2})
    ->Args({2, 4});

void BM_SmallWithLaunch(benchmark::State& state) {
  Bench bench(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), 4);
  uint64_t launch = 0;
  for (auto _ : state) {
    bench.Announce(++launch);
    bench.Run(launch, 0);
    bench.End(launch);
  }
}
BENCHMARK(BM_SmallWithLaunch)->ArgNames({"workers", "devices"})->Args({1, 2})->Args({2, 2});

void BM_Large(benchmark::State& state) {
  const int64_t bytes = state.range(2) << 20;
  Bench bench(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), bytes / 4);
  uint32_t occurrence = 0;
  bench.Announce(1);
  for (auto _ : state) bench.Run(1, occurrence++);
  bench.End(1);
  state.SetBytesProcessed(state.iterations() * bytes);
}
BENCHMARK(BM_Large)
    ->ArgNames({"workers", "devices", "MiB"})
    ->Args({1, 2, 64})
    ->Args({2, 1, 64})
    ->Args({2, 2, 64})
    ->Args({2, 2, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void BM_Memcpy(benchmark::State& state) {
  std::vector<char> from(state.range(0) << 20, 'x'), to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::DoNotOptimize(to.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(from.size()));
}
BENCHMARK(BM_Memcpy)->ArgName("MiB")->Arg(64)->Unit(benchmark::kMillisecond);

void BM_Add(benchmark::State& state, DType dtype) {
  const Reducer& sum = *FindReducer(proto::Collective::SUM, dtype);
  constexpr int64_t kElements = 4096;
  std::vector<char> from(kElements * sum.element_bytes), partial(kElements * sum.partial_bytes);
  for (auto _ : state) {
    sum.add(from.data(), partial.data(), kElements);
    benchmark::DoNotOptimize(partial.data());
  }
  state.SetItemsProcessed(state.iterations() * kElements);
}
BENCHMARK_CAPTURE(BM_Add, f32, DType::kF32);
BENCHMARK_CAPTURE(BM_Add, f64, DType::kF64);
BENCHMARK_CAPTURE(BM_Add, bf16, DType::kBF16);
BENCHMARK_CAPTURE(BM_Add, f16, DType::kF16);
BENCHMARK_CAPTURE(BM_Add, s32, DType::kS32);
BENCHMARK_CAPTURE(BM_Add, f8e4m3fn, DType::kF8E4M3FN);

void BM_Last(benchmark::State& state, DType dtype, proto::Collective::Reduction reduction) {
  const Reducer& reducer = *FindReducer(reduction, dtype);
  constexpr int64_t kElements = 4096;
  std::vector<char> to(kElements * reducer.element_bytes), partial(kElements * reducer.partial_bytes);
  for (auto _ : state) {
    if (reduction == proto::Collective::SUM) reducer.last(partial.data(), to.data(), kElements);
    if (reduction == proto::Collective::MAX) reducer.add(to.data(), partial.data(), kElements);
    benchmark::DoNotOptimize(to.data());
  }
  state.SetItemsProcessed(state.iterations() * kElements);
}
BENCHMARK_CAPTURE(BM_Last, round_bf16, DType::kBF16, proto::Collective::SUM);
BENCHMARK_CAPTURE(BM_Last, round_f16, DType::kF16, proto::Collective::SUM);
BENCHMARK_CAPTURE(BM_Last, round_f8e4m3fn, DType::kF8E4M3FN, proto::Collective::SUM);
BENCHMARK_CAPTURE(BM_Last, max_f32, DType::kF32, proto::Collective::MAX);
BENCHMARK_CAPTURE(BM_Last, max_bf16, DType::kBF16, proto::Collective::MAX);

}  // namespace
}  // namespace causeway::collectives
