// Bytes a second and messages there and back between two planes on this machine, beside a plain socket. `make bench`
// runs it beside iperf3.
//
//   build/release/benchmarks/net_socket_data_plane_benchmark --benchmark_filter=PlaneOverTcp
#include "net/socket_data_plane.h"

#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace causeway {
namespace {

constexpr int64_t kBytesAtOnce = int64_t{64} << 20;
constexpr int64_t kPlainBytes = int64_t{256} << 20;
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

// Moves streams of so many KiB each, as many at once as make up kBytesAtOnce.
void MovePlane(benchmark::State& state, const std::string& low_address, const std::string& high_address) {
  constexpr PeerId kLow{0}, kHigh{1};
  const int64_t bytes = state.range(0) << 10;
  const int64_t streams = std::max<int64_t>(kBytesAtOnce / bytes, 1);
  auto low = *SocketDataPlane::Start({.self = kLow, .listen_address = low_address});
  auto high = *SocketDataPlane::Start({.self = kHigh, .listen_address = high_address});
  low->SetPeer(kHigh, high->listen_address(), 1);
  high->SetPeer(kLow, low->listen_address(), 1);
  std::vector<char> from(bytes, 'x'), to(bytes);
  uint64_t id = 0;
  for (auto _ : state) {
    std::vector<std::shared_ptr<MemorySink>> sinks;
    for (int64_t i = 0; i < streams; ++i) {
      sinks.push_back(std::make_shared<MemorySink>(to));
      low->Receive(kHigh, StreamId{++id}, bytes, bytes, sinks.back());
      high->Send(kLow, StreamId{id}, bytes, std::make_shared<MemorySource>(from));
    }
    for (const auto& sink : sinks) {
      if (!sink->Wait().ok()) state.SkipWithError("a stream failed");
    }
  }
  state.SetBytesProcessed(state.iterations() * streams * bytes);
}

void Sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgName("KiB")->Arg(64)->Arg(1 << 10)->Arg(16 << 10)->Arg(256 << 10)->UseRealTime();
  bench->Unit(benchmark::kMillisecond);
}

void PlaneOverTcp(benchmark::State& state) { MovePlane(state, "127.0.0.1:0", "127.0.0.1:0"); }
BENCHMARK(PlaneOverTcp)->Apply(Sizes);

void PlaneOverUnix(benchmark::State& state) {
  const std::string path = "unix:/tmp/causeway-benchmark-" + std::to_string(getpid());
  MovePlane(state, path + "-low", path + "-high");
}
BENCHMARK(PlaneOverUnix)->Apply(Sizes);

// Messages of so many bytes there and back, each answered by the handler that gets it.
class Echo final : public MessageHandler {
 public:
  explicit Echo(DataPlane& plane) : plane_(plane) {}
  void OnMessage(PeerId peer, absl::Span<const char> message) override { plane_.SendMessage(peer, {message}); }
  void OnMessagesLost(PeerId, const absl::Status&) override {}

 private:
  DataPlane& plane_;
};

class PingPong final : public MessageHandler {
 public:
  PingPong(DataPlane& plane, PeerId peer, size_t bytes) : plane_(plane), peer_(peer), message_(bytes, 'x') {}
  void OnMessage(PeerId, absl::Span<const char>) override {
    if (--left_ == 0) return done_.set_value();
    Send();
  }
  void OnMessagesLost(PeerId, const absl::Status&) override {}
  void Run(int rounds) {
    done_ = {};
    left_ = rounds;
    Send();
    done_.get_future().wait();
  }

 private:
  void Send() { plane_.SendMessage(peer_, {absl::MakeConstSpan(message_)}); }

  DataPlane& plane_;
  const PeerId peer_;
  const std::vector<char> message_;
  int left_ = 0;
  std::promise<void> done_;
};

constexpr int kRounds = 1000;

void RoundTrips(benchmark::State& state, const std::string& low_address, const std::string& high_address) {
  constexpr PeerId kLow{0}, kHigh{1};
  auto low = *SocketDataPlane::Start({.self = kLow, .listen_address = low_address});
  auto high = *SocketDataPlane::Start({.self = kHigh, .listen_address = high_address});
  Echo echo(*low);
  PingPong ping(*high, kLow, state.range(0));
  low->SetMessageHandler(&echo);
  high->SetMessageHandler(&ping);
  low->SetPeer(kHigh, high->listen_address(), 1);
  high->SetPeer(kLow, low->listen_address(), 1);
  ping.Run(1);
  for (auto _ : state) ping.Run(kRounds);
  state.SetItemsProcessed(state.iterations() * kRounds);
  low->SetMessageHandler(nullptr);
  high->SetMessageHandler(nullptr);
}

// A thousand of them an iteration, so a millisecond here is a microsecond each.
void MessageSizes(benchmark::internal::Benchmark* bench) {
  bench->ArgName("bytes")->Arg(16)->Arg(4 << 10)->Arg(64 << 10)->Arg(256 << 10)->UseRealTime();
  bench->Unit(benchmark::kMillisecond);
}

void MessagesOverTcp(benchmark::State& state) { RoundTrips(state, "127.0.0.1:0", "127.0.0.1:0"); }
BENCHMARK(MessagesOverTcp)->Apply(MessageSizes);

void MessagesOverUnix(benchmark::State& state) {
  const std::string path = "unix:/tmp/causeway-benchmark-" + std::to_string(getpid());
  RoundTrips(state, path + "-low", path + "-high");
}
BENCHMARK(MessagesOverUnix)->Apply(MessageSizes);

// Two threads that do nothing else, in blocking calls.
void PlainTcpRoundTrips(benchmark::State& state) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof(address);
  const int near = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      connect(near, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    return state.SkipWithError("no sockets");
  }
  const int far = accept(listener, nullptr, nullptr);
  const int yes = 1;
  for (const int fd : {near, far}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  const auto bytes = static_cast<ssize_t>(state.range(0));
  std::thread echo([&] {
    std::vector<char> message(bytes);
    while (recv(far, message.data(), bytes, MSG_WAITALL) == bytes && send(far, message.data(), bytes, 0) == bytes) {
    }
  });
  std::vector<char> message(bytes);
  for (auto _ : state) {
    for (int i = 0; i < kRounds; ++i) {
      if (send(near, message.data(), bytes, 0) != bytes || recv(near, message.data(), bytes, MSG_WAITALL) != bytes) {
        state.SkipWithError("the connection is lost");
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * kRounds);
  shutdown(near, SHUT_RDWR);
  echo.join();
  for (const int fd : {listener, near, far}) close(fd);
}
BENCHMARK(PlainTcpRoundTrips)->Apply(MessageSizes);

// One stream of 256 MiB in calls of 128 KiB, as iperf3 makes them, but into memory of that size.
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
  std::vector<char> from(kPlainBytes, 'x'), to(kPlainBytes);
  for (auto _ : state) {
    std::thread writer([&] {
      for (int64_t at = 0; at < kPlainBytes;) at += send(sender, from.data() + at, kPlainCallBytes, 0);
    });
    for (int64_t at = 0; at < kPlainBytes;) at += recv(receiver, to.data() + at, kPlainCallBytes, 0);
    writer.join();
  }
  state.SetBytesProcessed(state.iterations() * kPlainBytes);
  for (const int fd : {listener, sender, receiver}) close(fd);
}
BENCHMARK(PlainTcp)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace causeway
