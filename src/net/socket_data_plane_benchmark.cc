// Bytes a second between two planes on this machine, beside a plain socket: the line to hold is 80 % of it.
#include "net/socket_data_plane.h"

#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

namespace causeway {
namespace {

constexpr int64_t kBytes = int64_t{256} << 20;
// A plain loop as iperf3's: 128 KiB a call.
constexpr size_t kPlainCallBytes = 128 << 10;

class MemorySink final : public StreamSink {
 public:
  explicit MemorySink(std::vector<char>& memory) : memory_(memory) {}
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
  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    return absl::MakeConstSpan(memory_).subspan(offset, max_bytes);
  }
  void OnDone(absl::Status) override {}

 private:
  const std::vector<char>& memory_;
};

void MovePlane(benchmark::State& state, const std::string& low_address, const std::string& high_address) {
  constexpr PeerId kLow{0}, kHigh{1};
  auto low = *SocketDataPlane::Start({.self = kLow, .listen_address = low_address});
  auto high = *SocketDataPlane::Start({.self = kHigh, .listen_address = high_address});
  low->SetPeer(kHigh, high->listen_address(), 1);
  high->SetPeer(kLow, low->listen_address(), 1);
  std::vector<char> from(kBytes, 'x'), to(kBytes);
  uint64_t id = 0;
  for (auto _ : state) {
    auto sink = std::make_shared<MemorySink>(to);
    low->Receive(kHigh, StreamId{++id}, kBytes, kBytes, sink);
    high->Send(kLow, StreamId{id}, kBytes, std::make_shared<MemorySource>(from));
    if (!sink->Wait().ok()) state.SkipWithError("the stream failed");
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void PlaneOverTcp(benchmark::State& state) { MovePlane(state, "127.0.0.1:0", "127.0.0.1:0"); }
BENCHMARK(PlaneOverTcp)->UseRealTime()->Unit(benchmark::kMillisecond);

void PlaneOverUnix(benchmark::State& state) {
  const std::string path = "unix:/tmp/causeway-benchmark-" + std::to_string(getpid());
  MovePlane(state, path + "-low", path + "-high");
}
BENCHMARK(PlaneOverUnix)->UseRealTime()->Unit(benchmark::kMillisecond);

void PlainTcp(benchmark::State& state) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof(address);
  const int sender = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      connect(sender, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    return state.SkipWithError("no sockets");
  }
  const int receiver = accept(listener, nullptr, nullptr);
  std::vector<char> from(kBytes, 'x'), to(kBytes);
  for (auto _ : state) {
    std::thread writer([&] {
      for (int64_t at = 0; at < kBytes;) at += send(sender, from.data() + at, kPlainCallBytes, 0);
    });
    for (int64_t at = 0; at < kBytes;) at += recv(receiver, to.data() + at, kPlainCallBytes, 0);
    writer.join();
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
  for (const int fd : {listener, sender, receiver}) close(fd);
}
BENCHMARK(PlainTcp)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace causeway
