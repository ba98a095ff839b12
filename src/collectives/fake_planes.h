// Data planes in one process for tests, with messages: threads that carry what is under way in an order of a seed's
// choosing, though always in order between two workers (messages) and within a stream, as the contract says.
//
//   FakeNet net(/*workers=*/2, /*seed=*/7);
//   Engine engine(net.plane(0));
//   net.Cut(0, 1, absl::UnavailableError("cable"));     // messages and streams between the two are lost
//
// Threading: thread-safe. Lifetime: engines go before the net, or Stop is called first.
#ifndef CAUSEWAY_COLLECTIVES_FAKE_PLANES_H_
#define CAUSEWAY_COLLECTIVES_FAKE_PLANES_H_

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "net/data_plane.h"

namespace causeway::collectives {

class FakeNet {
 public:
  FakeNet(int workers, uint64_t seed, int threads = 2) : random_(seed) {
    for (int i = 0; i < workers; ++i) planes_.push_back(std::make_unique<Plane>(*this, i));
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Carry(); });
  }
  ~FakeNet() {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      changed_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  DataPlane& plane(int worker) { return *planes_[worker]; }

  // Nothing is carried until Resume.
  void Pause() {
    MutexLock lock(&mu_);
    paused_ = true;
  }
  void Resume() {
    MutexLock lock(&mu_);
    paused_ = false;
    changed_.SignalAll();
  }

  // Waits until nothing is under way.
  void Settle() {
    MutexLock lock(&mu_);
    while (running_ > 0 || (!paused_ && !lanes_.empty())) changed_.WaitWithTimeout(&mu_, absl::Milliseconds(1));
  }

  // Puts bytes into a worker's ears as if `from` had sent them.
  void Inject(int from, int to, std::string bytes) { PostMessage(from, to, std::move(bytes)); }

  // What was sent between the two is lost, and both learn of it.
  void Cut(int a, int b, const absl::Status& why) {
    std::vector<Stream> ended;
    {
      MutexLock lock(&mu_);
      lanes_.erase({a, b, 0});
      lanes_.erase({b, a, 0});
      for (auto it = streams_.begin(); it != streams_.end();) {
        const auto [from, to, id] = it->first;
        const bool cut = (from == a && to == b) || (from == b && to == a);
        if (cut && it->second.moving) {
          it->second.status = why;
          ++it;
        } else if (cut) {
          ended.push_back(std::move(it->second));
          it = streams_.erase(it);
        } else {
          ++it;
        }
      }
      for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
        lanes_[{from, to, 0}].push_back([this, to = to, from = from, why] {
          if (MessageHandler* handler = HandlerOf(to)) handler->OnMessagesLost(PeerId{from}, why);
          HandlerDone(to);
        });
      }
      for (Stream& stream : ended) EndLater(std::move(stream), why);
      changed_.SignalAll();
    }
  }

  int64_t messages() const {
    MutexLock lock(&mu_);
    return messages_;
  }

 private:
  class Plane final : public DataPlane {
   public:
    Plane(FakeNet& net, int self) : net_(net), self_(self) {}
    void SetPeer(PeerId, std::string, uint64_t) override {}
    void DropPeer(PeerId) override {}
    void Receive(PeerId peer, StreamId id, int64_t total, int64_t, std::shared_ptr<StreamSink> sink) override {
      net_.Join(Raw(peer), self_, id, total, std::move(sink), nullptr);
    }
    void Grant(PeerId, StreamId, int64_t) override {}
    void Send(PeerId peer, StreamId id, int64_t total, std::shared_ptr<StreamSource> source) override {
      net_.Join(self_, Raw(peer), id, total, nullptr, std::move(source));
    }
    void Wake(PeerId, StreamId) override {}
    void SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) override {
      std::string bytes;
      for (const absl::Span<const char> part : parts) bytes.append(part.data(), part.size());
      net_.PostMessage(self_, Raw(peer), std::move(bytes));
    }
    void SetMessageHandler(MessageHandler* handler) override { net_.SetHandler(self_, handler); }
    void Cancel(PeerId peer, StreamId id, absl::Status status) override { net_.End(self_, Raw(peer), id, status); }

   private:
    FakeNet& net_;
    const int self_;
  };

  using Lane = std::tuple<int, int, uint64_t>;  // from, to, stream; 0: messages
  using Task = std::function<void()>;
  struct Stream {
    int64_t total = -1;
    int64_t moved = 0;
    bool moving = false;
    absl::Status status;
    std::shared_ptr<StreamSink> sink;
    std::shared_ptr<StreamSource> source;
  };
  struct Handler {
    MessageHandler* handler = nullptr;
    int calls = 0;
  };

  void PostMessage(int from, int to, std::string bytes) {
    MutexLock lock(&mu_);
    ++messages_;
    lanes_[{from, to, 0}].push_back([this, from, to, bytes = std::move(bytes)] {
      if (MessageHandler* handler = HandlerOf(to)) {
        // Of its own size, so that sanitizers see what is read beyond it.
        const std::unique_ptr<char[]> copy(new char[bytes.size()]);
        std::memcpy(copy.get(), bytes.data(), bytes.size());
        handler->OnMessage(PeerId{from}, {copy.get(), bytes.size()});
      }
      HandlerDone(to);
    });
    changed_.SignalAll();
  }

  MessageHandler* HandlerOf(int worker) {
    MutexLock lock(&mu_);
    ++handlers_[worker].calls;
    return handlers_[worker].handler;
  }
  void HandlerDone(int worker) {
    MutexLock lock(&mu_);
    --handlers_[worker].calls;
    changed_.SignalAll();
  }
  void SetHandler(int worker, MessageHandler* handler) {
    MutexLock lock(&mu_);
    handlers_[worker].handler = handler;
    while (handler == nullptr && handlers_[worker].calls > 0) changed_.Wait(&mu_);
  }

  void Join(int from, int to, StreamId id, int64_t total, std::shared_ptr<StreamSink> sink,
            std::shared_ptr<StreamSource> source) {
    MutexLock lock(&mu_);
    Stream& stream = streams_[{from, to, Raw(id)}];
    stream.total = total;
    if (sink != nullptr) stream.sink = std::move(sink);
    if (source != nullptr) stream.source = std::move(source);
    if (stream.sink == nullptr || stream.source == nullptr) return;
    Lane lane{from, to, Raw(id)};
    lanes_[lane].push_back([this, lane] { Move(lane); });
    changed_.SignalAll();
  }

  // One chunk of a stream.
  void Move(const Lane& lane) {
    Stream stream;
    {
      MutexLock lock(&mu_);
      const auto it = streams_.find(lane);
      if (it == streams_.end()) return;
      it->second.moving = true;
      stream = it->second;
    }
    if (stream.moved < stream.total) {
      std::vector<absl::Span<const char>> parts;
      stream.source->ReadParts(stream.moved, kChunk, 8, parts);
      for (absl::Span<const char> part : parts) {
        while (!part.empty()) {
          const absl::Span<char> to = stream.sink->Buffer(stream.moved, static_cast<int64_t>(part.size()));
          std::memcpy(to.data(), part.data(), to.size());
          stream.sink->OnData(stream.moved, static_cast<int64_t>(to.size()));
          stream.moved += static_cast<int64_t>(to.size());
          part.remove_prefix(to.size());
        }
      }
    }
    MutexLock lock(&mu_);
    const auto it = streams_.find(lane);
    if (it == streams_.end()) return;
    it->second.moving = false;
    it->second.moved = stream.moved;
    if (!it->second.status.ok() || stream.moved == stream.total) {
      Stream ended = std::move(it->second);
      streams_.erase(it);
      const absl::Status status = ended.status;
      EndLater(std::move(ended), status);
    } else {
      lanes_[lane].push_back([this, lane] { Move(lane); });
    }
    changed_.SignalAll();
  }

  void End(int self, int peer, StreamId id, const absl::Status& why) {
    MutexLock lock(&mu_);
    for (const Lane& lane : {Lane{self, peer, Raw(id)}, Lane{peer, self, Raw(id)}}) {
      const auto it = streams_.find(lane);
      if (it == streams_.end()) continue;
      if (it->second.moving) {
        it->second.status = why;
        continue;
      }
      Stream ended = std::move(it->second);
      streams_.erase(it);
      EndLater(std::move(ended), why);
    }
    changed_.SignalAll();
  }

  void EndLater(Stream stream, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    // A lane of its own each: neither side waits for the other.
    if (stream.sink != nullptr) {
      lanes_[{-1, 0, ++ends_}].push_back([sink = std::move(stream.sink), status] { sink->OnDone(status); });
    }
    if (stream.source != nullptr) {
      lanes_[{-1, 0, ++ends_}].push_back([source = std::move(stream.source), status] { source->OnDone(status); });
    }
  }

  void Carry() {
    MutexLock lock(&mu_);
    while (!stopping_) {
      auto it = lanes_.begin();
      if (!paused_ && !lanes_.empty()) std::advance(it, random_() % lanes_.size());
      // One whose turn another thread has is passed over.
      size_t tried = 0;
      while (!paused_ && tried < lanes_.size() && busy_.contains(it->first)) {
        ++tried;
        if (++it == lanes_.end()) it = lanes_.begin();
      }
      if (paused_ || tried == lanes_.size()) {
        changed_.Wait(&mu_);
        continue;
      }
      const Lane lane = it->first;
      Task task = std::move(it->second.front());
      it->second.pop_front();
      if (it->second.empty()) lanes_.erase(it);
      busy_[lane] = true;
      ++running_;
      mu_.Unlock();
      task();
      task = nullptr;
      mu_.Lock();
      --running_;
      busy_.erase(lane);
      changed_.SignalAll();
    }
  }

  static constexpr int64_t kChunk = 5000;

  mutable Mutex mu_;
  CondVar changed_;
  std::minstd_rand random_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool paused_ ABSL_GUARDED_BY(mu_) = false;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t messages_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t ends_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Lane, std::deque<Task>> lanes_ ABSL_GUARDED_BY(mu_);
  std::map<Lane, bool> busy_ ABSL_GUARDED_BY(mu_);
  std::map<Lane, Stream> streams_ ABSL_GUARDED_BY(mu_);
  std::map<int, Handler> handlers_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Plane>> planes_;
  std::vector<std::thread> threads_;
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_FAKE_PLANES_H_
