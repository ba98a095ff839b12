// One engine of a gang of three, whose peers say and stream whatever they like, while its devices arrive, its launches
// are aborted and end. Whoever arrives is answered exactly once, and nothing is written to once he is.
//
// The plane is the input's: streams move when it says so, in pieces of its choosing, or fail.
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "collectives/engine.h"

#include <unistd.h>
#include "collectives/wire.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "net/little_endian.h"

namespace causeway::collectives {
namespace {

constexpr int kDevices = 4;  // 0 and 1 are ours
constexpr EngineOptions kOptions{.message_bytes = 40,
                                 .direct_bytes = 40,
                                 .chunk_bytes = 64,
                                 .inline_bytes = int64_t{1} << 40,  // one thread: the same input does the same
                                 .pool_threads = 1,
                                 .max_early_bytes = 4000,
                                 .max_early_count = 20};

class FuzzPlane final : public DataPlane {
 public:
  struct End {
    PeerId peer;
    StreamId id;
    int64_t total = 0;
    int64_t moved = 0;
    std::shared_ptr<StreamSink> sink;
    std::shared_ptr<StreamSource> source;
  };
  // What we asked others to send us: what an honest peer would answer.
  struct Sent {
    PeerId peer;
    Header header;
  };

  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId peer, StreamId id, int64_t total, int64_t, std::shared_ptr<StreamSink> sink) override {
    FUZZ_CHECK(total >= 1);
    ends.push_back({peer, id, total, 0, std::move(sink), nullptr});
  }
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId peer, StreamId id, int64_t total, std::shared_ptr<StreamSource> source) override {
    ends.push_back({peer, id, total, 0, nullptr, std::move(source)});
  }
  void Wake(PeerId, StreamId) override {}
  void SetMessageHandler(MessageHandler* h) override { handler = h; }
  void SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) override {
    std::string bytes;
    for (const absl::Span<const char> part : parts) bytes.append(part.data(), part.size());
    FUZZ_CHECK(static_cast<int64_t>(bytes.size()) <= kMaxMessageBytes);
    const absl::StatusOr<Header> header = ParseHeader(bytes);
    FUZZ_CHECK(header.ok());
    if (sent.size() < 64) sent.push_back({peer, *header});
  }
  // As the contract allows: OnDone inside of Cancel.
  void Cancel(PeerId peer, StreamId id, absl::Status status) override {
    for (size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].peer == peer && ends[i].id == id) return Finish(i, status);
    }
  }

  void Finish(size_t i, const absl::Status& status) {
    const End end = std::move(ends[i]);
    ends.erase(ends.begin() + static_cast<std::ptrdiff_t>(i));
    if (end.sink != nullptr) end.sink->OnDone(status);
    if (end.source != nullptr) end.source->OnDone(status);
  }

  void Move(FuzzInput& in) {
    if (ends.empty()) return;
    const size_t i = in.Byte() % ends.size();
    End& end = ends[i];
    if (in.OneIn(16)) return Finish(i, absl::UnavailableError("gone"));
    if (end.sink != nullptr) {
      const absl::Span<char> to = end.sink->Buffer(end.moved, std::min<int64_t>(end.total - end.moved, 1 + in.Byte()));
      FUZZ_CHECK(!to.empty());
      std::memset(to.data(), in.Byte(), to.size());
      end.sink->OnData(end.moved, static_cast<int64_t>(to.size()));
      end.moved += static_cast<int64_t>(to.size());
    } else {
      std::vector<absl::Span<const char>> parts;
      end.source->ReadParts(end.moved, 1 + in.Byte(), 4, parts);
      FUZZ_CHECK(!parts.empty());
      for (const absl::Span<const char> part : parts) {
        sum += part[0] + part[part.size() - 1];
        end.moved += static_cast<int64_t>(part.size());
      }
    }
    FUZZ_CHECK(end.moved <= end.total);
    if (end.moved == end.total) Finish(i, absl::OkStatus());
  }

  std::vector<End> ends;
  std::vector<Sent> sent;
  MessageHandler* handler = nullptr;
  int sum = 0;
};

std::shared_ptr<const proto::Collectives> MakeTable() {
  auto table = std::make_shared<proto::Collectives>();
  const auto add = [&](proto::Collective::Kind kind) -> proto::Collective& {
    proto::Collective& c = *table->add_collectives();
    c.set_name("c");
    c.set_kind(kind);
    c.set_reduction(proto::Collective::SUM);
    auto* group = c.add_groups();
    for (int d = 0; d < kDevices; ++d) group->add_devices(d);
    return c;
  };
  for (int kind = 0; kind < 7; ++kind) add(static_cast<proto::Collective::Kind>(kind));
  proto::Collective& permute = *table->mutable_collectives(proto::Collective::COLLECTIVE_PERMUTE);
  for (int d = 0; d < 3; ++d) {
    permute.add_pairs()->set_source(d);
    permute.mutable_pairs(d)->set_target((d + 2) % kDevices);
  }
  add(proto::Collective::ALL_TO_ALL).set_tuple(true);
  proto::Collective& split = add(proto::Collective::ALL_REDUCE);
  split.clear_groups();
  for (int i = 0; i < 2; ++i) {
    auto* group = split.add_groups();
    group->add_devices(i);
    group->add_devices(i + 2);
  }
  return table;
}

class Fuzz {
 public:
  explicit Fuzz(FuzzInput& in) : in_(in), islands_(in.Below(4)) {}

  void Run() {
    for (int step = 0; step < 200 && !in_.empty(); ++step) Step();
    engine_ = nullptr;
    while (!plane_.ends.empty()) plane_.Finish(0, absl::CancelledError("the plane is gone"));
    for (const auto& device : devices_) FUZZ_CHECK(device->ends == 1);
  }

 private:
  struct Device {
    std::vector<std::vector<char>> memory;
    int ends = 0;
  };

  uint64_t AnyLaunch() { return 1 + in_.Below(4); }

  void Step() {
    switch (in_.Below(10)) {
      case 0:
        return Announce();
      case 1:
      case 2:
      case 3:
        return Arrive();
      case 4:
        return plane_.Move(in_);
      case 5:
        return Answer();
      case 6:
        return Say();
      case 7:
        if (in_.OneIn(4)) engine_->Abort(AnyLaunch(), absl::InternalError("it failed"));
        if (in_.OneIn(8)) engine_->PeerLost(WorkerId{in_.Below(3)}, absl::DataLossError("it is lost"));
        if (in_.OneIn(8)) plane_.handler->OnMessagesLost(PeerId{in_.Below(3)}, absl::UnavailableError("lost"));
        return;
      case 8:
        engine_->End(AnyLaunch());
        return;
      default:
        if (in_.OneIn(8)) {
          engine_->Reset(absl::UnavailableError("the controller is gone"));
          announced_ = 0;
        }
    }
  }

  void Announce() {
    auto gang = std::make_shared<Gang>();
    gang->self = WorkerId{0};
    gang->workers = {WorkerId{0}, WorkerId{0}, WorkerId{1}, WorkerId{2}};
    gang->islands = {0, 0, islands_ & 1, islands_ >> 1};
    if ((islands_ & 1) != 0) gang->machines = {0, 0, 0, 0};
    engine_->Announce(++announced_, std::move(gang));
  }

  void Arrive() {
    const int collective = in_.Below(table_->collectives_size());
    const proto::Collective& c = table_->collectives(collective);
    Arrival arrival{.launch = AnyLaunch(),
                    .device = in_.OneIn(32) ? 3 : in_.Below(2),
                    .table = table_,
                    .collective = collective,
                    .occurrence = static_cast<uint32_t>(in_.Below(2))};
    devices_.push_back(std::make_unique<Device>());
    Device& device = *devices_.back();
    const auto add = [&](auto& to, DType dtype, absl::InlinedVector<int64_t, 6> dims) {
      int64_t bytes = HostByteWidth(dtype);
      for (const int64_t dim : dims) bytes *= dim;
      device.memory.emplace_back(bytes);
      to.push_back({.data = device.memory.back().data(), .dtype = dtype, .dims = std::move(dims)});
    };
    const int64_t rows = in_.OneIn(32) ? 3 : 4 * (1 + (in_.Byte() & 8));
    if (c.kind() == proto::Collective::RAGGED_ALL_TO_ALL) {
      add(arrival.operands, DType::kBF16, {rows, 3});
      add(arrival.operands, DType::kBF16, {8, 3});
      for (int i = 0; i < 4; ++i) {
        add(arrival.operands, DType::kS32, {4});
        for (int j = 0; j < 4; ++j) {
          const auto number = static_cast<int32_t>(in_.OneIn(64) ? in_.Number() : in_.Below(3));
          std::memcpy(device.memory.back().data() + j * sizeof(number), &number, sizeof(number));
        }
      }
      add(arrival.results, DType::kBF16, {8, 3});
    } else {
      const int operands = c.tuple() ? kDevices : 1;
      for (int i = 0; i < operands; ++i) {
        const DType dtype = (rows & 1) != 0 ? DType::kPred : DType::kF32;
        add(arrival.operands, dtype, {rows});
        const int64_t results = c.kind() == proto::Collective::ALL_GATHER       ? rows * kDevices
                                : c.kind() == proto::Collective::REDUCE_SCATTER ? rows / kDevices
                                                                                : rows;
        add(arrival.results, dtype, {results});
      }
    }
    arrival.done = [&device](const absl::Status&) {
      ++device.ends;
      FUZZ_CHECK(device.ends == 1);
      device.memory.clear();
    };
    engine_->Arrive(std::move(arrival));
  }

  void Hear(int peer, const Header& header, const std::string& payload) {
    std::string bytes(kHeaderBytes, 0);
    WriteHeader(header, bytes.data());
    bytes += payload;
    plane_.handler->OnMessage(PeerId{peer}, bytes);
  }

  // What an honest peer might say, which knows what we said.
  void Answer() {
    if (plane_.sent.empty()) return;
    FuzzPlane::Sent& sent = plane_.sent[in_.Byte() % plane_.sent.size()];
    Header header = sent.header;
    if (in_.OneIn(4)) header.index = in_.Below(4);
    if (in_.OneIn(4)) header.round = in_.Below(4);
    if (in_.Flag()) header.type = MessageType::kPart;
    std::string payload;
    if (header.type == MessageType::kWant) {
      header.value = kStreamBit | in_.Byte();
    } else if (header.type == MessageType::kLook || header.type == MessageType::kTaken) {
      header.value = 0;
    } else {
      payload.assign(std::min<size_t>(header.length, 4096), static_cast<char>(in_.OneIn(4) ? in_.Byte() : 0));
      header.length = payload.size();
      header.value = header.type == MessageType::kAbort ? header.value : 0;
    }
    Hear(Raw(sent.peer), header, payload);
  }

  void Say() {
    if (in_.OneIn(16)) return plane_.handler->OnMessage(PeerId{in_.Below(4)}, in_.Bytes(80));
    Header header{.type = static_cast<MessageType>(1 + in_.Below(7)),
                  .launch = in_.OneIn(32) ? static_cast<uint64_t>(in_.Number()) : AnyLaunch(),
                  .instance = {.collective = static_cast<uint32_t>(in_.Below(table_->collectives_size())),
                               .occurrence = static_cast<uint32_t>(in_.Below(2)),
                               .group = static_cast<uint32_t>(in_.Below(2))},
                  .round = static_cast<uint32_t>(in_.Below(4)),
                  .index = static_cast<uint32_t>(in_.Below(4))};
    std::string payload;
    switch (header.type) {
      case MessageType::kPart:
        payload.assign(in_.Flag() ? 4 << in_.Below(8) : in_.Byte(), static_cast<char>(in_.Below(3)));
        header.length = payload.size();
        break;
      case MessageType::kWant:
        header.length = in_.Flag() ? 4 << in_.Below(8) : static_cast<uint64_t>(in_.Number());
        header.value = kStreamBit | in_.Byte();
        break;
      case MessageType::kLook:
        header.length = in_.Flag() ? 4 << in_.Below(8) : static_cast<uint64_t>(in_.Number());
        break;
      case MessageType::kHere: {
        // In this process's own memory, or nowhere.
        static char memory[4096];
        header.length = in_.Flag() ? 4 << in_.Below(8) : static_cast<uint64_t>(in_.Number());
        header.value = in_.OneIn(8) ? static_cast<uint64_t>(in_.Number()) : getpid();
        char stretch[kStretchBytes];
        StoreLittleEndian<uint64_t>(in_.OneIn(4) ? in_.Byte() : reinterpret_cast<uintptr_t>(memory), stretch);
        StoreLittleEndian<uint64_t>(header.length, stretch + 8);
        payload.assign(stretch, kStretchBytes);
        break;
      }
      case MessageType::kTaken:
        break;
      case MessageType::kAbort:
        if (!in_.OneIn(8)) return;
        header = {.type = MessageType::kAbort, .launch = header.launch, .value = static_cast<uint64_t>(in_.Below(18))};
        break;
      case MessageType::kLost:
        if (!in_.OneIn(8)) return;
        header = {.type = MessageType::kLost, .launch = header.launch};
    }
    Hear(in_.Below(4), header, payload);
  }

  FuzzInput& in_;
  const int islands_;
  const std::shared_ptr<const proto::Collectives> table_ = MakeTable();
  uint64_t announced_ = 0;
  std::vector<std::unique_ptr<Device>> devices_;
  FuzzPlane plane_;
  std::unique_ptr<Engine> engine_ = std::make_unique<Engine>(plane_, kOptions);
};

}  // namespace
}  // namespace causeway::collectives

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  causeway::collectives::Fuzz(in).Run();
  return 0;
}
