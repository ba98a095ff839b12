// Host data on their way in: what a client stores, in chunks of any size and against what it announced, and what its
// requests make of them, with memory so short that stores pause, spill to files and fail.
//
// Held true: memory that is taken is given back; a store is resumed only where it paused; what workers take is what was
// stored; nothing is left after Close.
#include "ifrt/uploads.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"

namespace causeway {
namespace {

constexpr SessionId kSession{1};
constexpr int kBuffers = 4;
constexpr int64_t kLargeChunk = 300 << 10;  // is worth a file
constexpr int64_t kMostBytes = kStreamWindowBytes + 1;

// As gRPC gives them: large ones lie somewhere, small ones are in the Cord.
absl::Cord Bytes(int64_t size) {
  static const std::string& all = *new std::string(kMostBytes, 'x');
  const absl::string_view bytes = absl::string_view(all).substr(0, size);
  return size < 4096 ? absl::Cord(bytes) : absl::MakeCordFromExternal(bytes, [] {});
}

// Streams whose bytes the input takes when it likes.
class Plane final : public DataPlane {
 public:
  struct Stream {
    std::shared_ptr<StreamSource> source;
    int64_t total;
    int64_t read = 0;
  };

  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId, int64_t, int64_t, std::shared_ptr<StreamSink>) override {}
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId, StreamId id, int64_t total, std::shared_ptr<StreamSource> source) override {
    FUZZ_CHECK(streams.emplace(id, Stream{std::move(source), total}).second);
  }
  void SendMessage(PeerId /*peer*/, absl::Span<const absl::Span<const char>> /*parts*/) override {}
  void SetMessageHandler(MessageHandler* /*handler*/) override {}
  void Wake(PeerId, StreamId) override {}
  void Cancel(PeerId, StreamId id, absl::Status status) override { End(id, std::move(status)); }

  // Reads some of a stream, and ends it when all has been read.
  void Take(StreamId id, int64_t most) {
    const auto found = streams.find(id);
    if (found == streams.end()) return;
    Stream& stream = found->second;
    const int64_t wanted = std::min(most, stream.total - stream.read);
    if (wanted > 0) {
      const absl::Span<const char> bytes = stream.source->Read(stream.read, wanted);
      FUZZ_CHECK(static_cast<int64_t>(bytes.size()) <= wanted);
      for (size_t i = 0; i < bytes.size(); i += 997) FUZZ_CHECK(bytes[i] == 'x');
      stream.read += static_cast<int64_t>(bytes.size());
    }
    if (stream.read == stream.total) End(id, absl::OkStatus());
  }

  void End(StreamId id, absl::Status status) {
    const auto found = streams.find(id);
    if (found == streams.end()) return;
    const std::shared_ptr<StreamSource> source = found->second.source;
    streams.erase(found);
    source->OnDone(std::move(status));
  }

  std::map<StreamId, Stream> streams;
};

// What uploads hold of a store's reader.
class Flow final : public UploadFlow {
 public:
  // Perhaps before the call that pauses has returned.
  void Resume() override {
    FUZZ_CHECK(!resumed);
    resumed = !paused;
    paused = false;
  }
  void Fail(const absl::Status& why) override {
    FUZZ_CHECK(!why.ok());
    ended = true;
  }

  bool paused = false;
  bool resumed = false;
  bool ended = false;
};

// The reader: appends only while it may.
struct Store {
  std::shared_ptr<Flow> flow;
  std::shared_ptr<Upload> upload;
};

class Driver {
 public:
  explicit Driver(FuzzInput& in) {
    HostMemoryLimits memory;
    memory.bytes = in.Flag() ? 8 << 10 : 4 << 20;
    memory.spill_bytes = in.Flag() ? 0 : 2 * kChunkBytes;
    memory_ = std::make_shared<HostMemory>(memory);
    UploadLimits limits;
    limits.spill_directory = in.OneIn(4) ? "" : "/dev/shm";
    limits.stall_timeout = absl::Seconds(60);
    limits.max_buffers = in.OneIn(8) ? 2 : 1 << 18;
    uploads_ = std::make_shared<HostUploads>(
        kSession, memory_, &plane_, [this](HostDataArrived arrived) { Delivered(std::move(arrived)); },
        [this](std::function<void()> task) { postponed_.push_back(std::move(task)); }, limits);
  }

  void Step(FuzzInput& in) {
    const int what = in.Below(13);
    const HostBufferId buffer{static_cast<uint64_t>(in.Below(kBuffers))};
    Store& store = stores_[buffer];
    const bool storing = store.upload != nullptr && !store.flow->ended;
    switch (what) {
      case 0:
      case 1: {
        const int64_t total = Size(in);
        auto flow = std::make_shared<Flow>();
        auto upload = uploads_->Begin(buffer, total, flow);
        if (!upload.ok()) return;
        store = {std::move(flow), *std::move(upload)};
        if (in.OneIn(8)) {
          // A file's.
          store.flow->ended = true;
          store.upload->AppendFile(Bytes(total <= kMostBytes ? total : 1)).IgnoreError();
          store.upload->End().IgnoreError();
          return;
        }
        return Goes(store, store.upload->Start());
      }
      case 2:
      case 3:
      case 4: {
        absl::Cord bytes = Bytes(std::min(Size(in), kMostBytes));
        if (!storing || store.flow->paused) return;
        const auto next = store.upload->Append(std::move(bytes));
        if (next.ok()) return Goes(store, *next);
        store.flow->ended = true;
        return;
      }
      case 5:
        if (!storing || store.flow->paused) return;
        store.flow->ended = true;
        store.upload->End().IgnoreError();
        return;
      case 6:
        if (!storing) return;
        store.flow->ended = true;
        return store.upload->Abort(absl::CancelledError("the client has left"));
      case 7:
      case 8: {
        const int64_t total = Size(in);
        const auto data = uploads_->Claim(buffer, total);
        if (!data.ok()) return;
        if (data->has_value()) {
          FUZZ_CHECK(static_cast<int64_t>((*data)->size()) == total);
          return;
        }
        claims_.push_back({buffer, total});
        return;
      }
      case 9: {
        if (claims_.empty()) return uploads_->Discard(buffer);
        const Claimed claim = claims_.front();
        claims_.pop_front();
        for (int workers = in.Below(3); workers >= 0; --workers) {
          const bool in_frame = claim.total <= kInlineBytes;
          wanted_.emplace(StreamId{++last_stream_}, in_frame);
          uploads_->Want(claim.buffer, WorkerId{workers}, StreamId{last_stream_}, claim.total, in_frame,
                         /*last=*/workers == 0);
        }
        return RunPostponed();
      }
      case 10:
      case 11: {
        if (plane_.streams.empty()) return;
        const auto stream = std::next(plane_.streams.begin(), in.Byte() % plane_.streams.size());
        if (in.OneIn(16)) return plane_.End(stream->first, absl::UnavailableError("the worker is lost"));
        return plane_.Take(stream->first, Size(in));
      }
      default:
        return uploads_->Expire(in.Flag() ? absl::Now() : absl::Now() + absl::Minutes(2), /*held=*/in.OneIn(4));
    }
  }

  void Close() {
    RunPostponed();
    FUZZ_CHECK(wanted_.empty() || uploads_->buffer_count() > 0);
    uploads_->Close();
    RunPostponed();
    for (auto& [buffer, store] : stores_) {
      if (store.upload != nullptr && !store.flow->ended) FUZZ_CHECK(!store.upload->Append(absl::Cord("x")).ok());
    }
    stores_.clear();
    FUZZ_CHECK(uploads_->buffer_count() == 0);
    FUZZ_CHECK(plane_.streams.empty());
    for (int pool = 0; pool < kHostPools; ++pool) {
      FUZZ_CHECK(memory_->used_bytes(static_cast<HostPool>(pool)) == 0);
    }
  }

 private:
  struct Claimed {
    HostBufferId buffer;
    int64_t total;
  };

  static void Goes(Store& store, Upload::Next next) {
    const bool resumed = std::exchange(store.flow->resumed, false);
    FUZZ_CHECK(next == Upload::Next::kPause || !resumed);
    store.flow->paused = next == Upload::Next::kPause && !resumed;
  }

  // Sizes that meet, and some at the limits between the ways that data take.
  static int64_t Size(FuzzInput& in) {
    constexpr int64_t kSizes[] = {0, 1, 8, 50, 100, 101, kInlineBytes, kInlineBytes + 1, kLargeChunk, 2 * kLargeChunk};
    const int byte = in.Byte();
    if (byte < 250) return kSizes[byte % 10];
    return byte < 253 ? kMostBytes : std::max<int64_t>(0, in.Number());
  }

  void Delivered(HostDataArrived arrived) {
    const auto wanted = wanted_.find(arrived.stream);
    FUZZ_CHECK(wanted != wanted_.end());
    if (arrived.data.ok())
      FUZZ_CHECK(static_cast<int64_t>(arrived.data->size()) <= (wanted->second ? kInlineBytes : 0));
    wanted_.erase(wanted);
  }

  void RunPostponed() {
    while (!postponed_.empty()) {
      const auto task = std::move(postponed_.front());
      postponed_.pop_front();
      task();
    }
  }

  Plane plane_;
  std::shared_ptr<HostMemory> memory_;
  std::shared_ptr<HostUploads> uploads_;
  std::map<HostBufferId, Store> stores_;
  std::deque<Claimed> claims_;  // that nobody has asked for yet
  std::deque<std::function<void()>> postponed_;
  uint64_t last_stream_ = 0;
  std::map<StreamId, bool> wanted_;  // whether in a frame; until the core is told
};

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  causeway::Driver driver(in);
  while (!in.empty()) driver.Step(in);
  driver.Close();
  return 0;
}
