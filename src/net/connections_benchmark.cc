// What several connections between two processes are worth: one large stream a round from plane to plane, over 1, 2 and
// 4 connections, through a relay that lets each of them have so many bytes a second, and over the plain loopback. The
// sides of a round take turns, so that its ratios are of one time and one machine.
//
//   build/release/benchmarks/net_connections_benchmark [ROUNDS [MIB [MB_PER_SECOND]]]
//
// The last line is RESULT {json}: medians over the rounds, of rates and of their ratios to one connection's.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/socket_data_plane.h"
#include "net/test_relay.h"

namespace causeway {
namespace {

constexpr std::array<int, 3> kConnections = {1, 2, 4};
constexpr PeerId kWorker{0};

class MemorySink final : public StreamSink {
 public:
  explicit MemorySink(std::vector<char>& memory) : memory_(memory) {}
  bool TakesAnyOrder() const override { return true; }
  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    return absl::MakeSpan(memory_).subspan(offset, length);
  }
  void OnData(int64_t, int64_t) override {}
  void OnDone(absl::Status status) override { done_.set_value(std::move(status)); }
  absl::Status Wait() { return done_.get_future().get(); }

 private:
  std::vector<char>& memory_;
  std::promise<absl::Status> done_;
};

class MemorySource final : public StreamSource {
 public:
  explicit MemorySource(const std::vector<char>& memory) : memory_(memory) {}
  bool KeepsMemory() const override { return true; }
  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    return absl::MakeConstSpan(memory_).subspan(offset, max_bytes);
  }
  void OnDone(absl::Status) override {}

 private:
  const std::vector<char>& memory_;
};

// A controller and a worker that are connected, with or without the relay between them.
class Side {
 public:
  Side(int connections, double relay_bytes_per_second) {
    SocketDataPlaneOptions options;
    options.connections = connections;
    options.self = kControllerPeer;
    controller_ = *SocketDataPlane::Start(options);
    options.self = kWorker;
    worker_ = *SocketDataPlane::Start(options);
    std::string address = controller_->listen_address();
    if (relay_bytes_per_second > 0) {
      relay_ = std::make_unique<TestRelay>(address, relay_bytes_per_second);
      address = relay_->address();
    }
    controller_->SetPeer(kWorker, worker_->listen_address(), 1);
    worker_->SetPeer(kControllerPeer, address, 1);
  }

  // Seconds that a stream from worker to controller takes.
  double Move(const std::vector<char>& from, std::vector<char>& to) {
    const auto bytes = static_cast<int64_t>(from.size());
    const StreamId id{++last_id_};
    const auto sink = std::make_shared<MemorySink>(to);
    std::fill(to.begin(), to.end(), '\0');
    const auto begin = std::chrono::steady_clock::now();
    controller_->Receive(kWorker, id, bytes, bytes, sink);
    worker_->Send(kControllerPeer, id, bytes, std::make_shared<MemorySource>(from));
    const absl::Status status = sink->Wait();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (!status.ok() || to != from) {
      std::fprintf(stderr, "the stream did not arrive whole: %s\n", status.ToString().c_str());
      std::exit(1);
    }
    return took.count();
  }

 private:
  uint64_t last_id_ = 0;
  std::unique_ptr<SocketDataPlane> controller_;
  std::unique_ptr<SocketDataPlane> worker_;
  std::unique_ptr<TestRelay> relay_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(int argc, char** argv) {
  const int rounds = std::max(1, argc > 1 ? std::atoi(argv[1]) : 5);
  const int mib = std::max(1, argc > 2 ? std::atoi(argv[2]) : 64);
  const double relay_mb = argc > 3 ? std::atof(argv[3]) : 40;
  std::vector<char> from(static_cast<size_t>(mib) << 20), to(from.size());
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i * 7 + (i >> 11));

  std::map<std::string, std::vector<double>> rates, ratios;
  for (const auto& [path, limit] : {std::pair("relay", relay_mb * 1e6), std::pair("loopback", 0.0)}) {
    std::vector<std::unique_ptr<Side>> sides;
    for (const int connections : kConnections) sides.push_back(std::make_unique<Side>(connections, limit));
    // Makes the connections.
    for (const auto& side : sides) side->Move(from, to);
    for (int round = 0; round < rounds; ++round) {
      std::array<double, kConnections.size()> rate;
      for (size_t i = 0; i < sides.size(); ++i) {
        // Every other round backwards.
        const size_t at = round % 2 == 0 ? i : sides.size() - 1 - i;
        rate[at] = static_cast<double>(from.size()) / 1e6 / sides[at]->Move(from, to);
      }
      std::printf("%-8s round %d:", path, round + 1);
      for (size_t i = 0; i < rate.size(); ++i) {
        const std::string key = path + std::string("_") + std::to_string(kConnections[i]);
        rates[key].push_back(rate[i]);
        ratios[key].push_back(rate[i] / rate[0]);
        std::printf("  %d: %7.1f MB/s (%.2f)", kConnections[i], rate[i], rate[i] / rate[0]);
      }
      std::printf("\n");
    }
  }
  std::string result = "RESULT {\"mib\": " + std::to_string(mib) + ", \"relay_mb_per_s\": " + std::to_string(relay_mb);
  for (const auto& [key, values] : rates) {
    char text[128];
    std::snprintf(text, sizeof(text), ", \"%s_mb_per_s\": %.1f, \"%s_ratio\": %.3f", key.c_str(), Median(values),
                  key.c_str(), Median(ratios[key]));
    result += text;
  }
  std::printf("%s}\n", result.c_str());
  return 0;
}

}  // namespace
}  // namespace causeway

int main(int argc, char** argv) { return causeway::Main(argc, argv); }
