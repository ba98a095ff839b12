// The data plane fed with a peer's bytes, while this side begins, grants, cancels and drops streams.
//
// Held true: every sink and source is told of its end exactly once; data are told in order and only as granted, and no
// byte's place is asked for again once it is told; what is written is well-formed, in its place, and no more than the
// peer granted.
#include "net/plane_core.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/saturate.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "net/data_codec.h"

namespace causeway {
namespace {

constexpr PeerId kPeers[] = {kControllerPeer, PeerId{1}};
constexpr size_t kScratchBytes = 4096;
constexpr int kMostConnections = 3;

// Where all sinks write and all sources read: what the bytes are does not matter here.
std::array<char, kScratchBytes> scratch;

class Sink final : public StreamSink {
 public:
  Sink(int64_t total, int64_t room, bool any_order) : total_(total), room_(room), any_order_(any_order) {}
  ~Sink() override { FUZZ_CHECK(done_); }

  bool TakesAnyOrder() const override { return any_order_; }
  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    FUZZ_CHECK(!done_ && length >= 1 && offset + length <= total_);
    FUZZ_CHECK(any_order_ ? offset >= received_ : offset == received_);
    return absl::MakeSpan(scratch).subspan(0, std::min({length, room_, int64_t{kScratchBytes}}));
  }
  void OnData(int64_t offset, int64_t length) override {
    FUZZ_CHECK(!done_ && offset == received_ && length >= 1);
    received_ += length;
    FUZZ_CHECK(received_ <= total_);
  }
  void OnDone(absl::Status status) override {
    FUZZ_CHECK(!done_);
    done_ = true;
    if (status.ok()) FUZZ_CHECK(received_ == total_);
  }

 private:
  const int64_t total_;
  const int64_t room_;
  const bool any_order_;
  int64_t received_ = 0;
  bool done_ = false;
};

class Source final : public StreamSource {
 public:
  Source(int64_t total, int64_t available, bool keeps) : total_(total), available_(available), keeps_(keeps) {}
  ~Source() override { FUZZ_CHECK(done_); }

  bool KeepsMemory() const override { return keeps_; }
  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    FUZZ_CHECK(!done_ && max_bytes >= 1 && offset >= 0 && offset + max_bytes <= total_);
    const int64_t bytes = std::min({max_bytes, available_, int64_t{kScratchBytes}});
    available_ -= bytes;
    return absl::MakeConstSpan(scratch).subspan(0, bytes);
  }
  void ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                 std::vector<absl::Span<const char>>& parts) override {
    FUZZ_CHECK(max_parts >= 1);
    for (size_t left = std::min<size_t>(max_parts, 3); left > 0 && max_bytes > 0; --left) {
      const absl::Span<const char> part = Read(offset, left == 1 ? max_bytes : (max_bytes + 1) / 2);
      if (part.empty()) return;
      parts.push_back(part);
      offset += static_cast<int64_t>(part.size());
      max_bytes -= static_cast<int64_t>(part.size());
    }
  }
  void OnDone(absl::Status) override {
    FUZZ_CHECK(!done_);
    done_ = true;
  }
  void Add(int64_t bytes) { available_ += bytes; }

 private:
  const int64_t total_;
  int64_t available_;
  const bool keeps_;
  bool done_ = false;
};

// Reads what goes out to a peer, as that peer would.
class Reader {
 public:
  int connections = 1;  // that it would have

  void Granted(StreamId id, int64_t bytes) { granted_[id] = SaturatingAdd(granted_[id], bytes); }
  // Bytes have come that may be grants, or may make something else of what comes behind them.
  void GrantedUnknown() { known_ = false; }

  void Take(int connection, const char* data, size_t size) {
    std::string& bytes = bytes_[connection];
    bytes.append(data, size);
    while (bytes.size() >= kDataHeaderBytes) {
      const absl::StatusOr<DataHeader> header = ParseDataHeader(bytes.data());
      FUZZ_CHECK(header.ok());
      FUZZ_CHECK(connection == 0 || header->type == DataType::kData);
      if (bytes.size() - kDataHeaderBytes < header->length) return;
      bytes.erase(0, kDataHeaderBytes + header->length);
      if (header->type == DataType::kData) {
        FUZZ_CHECK(!known_ || header->length <= granted_[header->stream]);
        granted_[header->stream] -= header->length;
      }
    }
  }

  void Clear() {
    for (std::string& bytes : bytes_) bytes.clear();
    granted_.clear();
    known_ = true;
  }

 private:
  std::array<std::string, kMostConnections> bytes_;
  std::map<StreamId, int64_t> granted_;
  bool known_ = true;
};

// Connects at once, if it is let.
class Plane final : public PlaneCore {
 public:
  Plane() : PlaneCore(PeerId{0}) {}

  using PlaneCore::Find;

  std::map<PeerId, Reader> readers;

  void Connect(Peer& peer) {
    Reader& reader = readers[peer.id];
    reader.Clear();
    peer.mux.Connected();
    for (int i = 1; i < reader.connections; ++i) FUZZ_CHECK(peer.mux.AddConnection() == i);
  }

 private:
  void Attend(Peer& peer) override {
    if (peer.mux.WantsConnection() && !peer.mux.connected()) Connect(peer);
  }
  void Disconnect(Peer& peer) override { readers[peer.id].Clear(); }
  void PeerSet(Peer&) override {}
};

class Driver {
 public:
  Driver() {
    for (PeerId peer : kPeers) plane_->SetPeer(peer, "", 1);
  }
  ~Driver() { plane_->Shutdown(); }

  void Step(FuzzInput& in) {
    const int what = in.Below(16);
    const PeerId peer = kPeers[in.Below(2)];
    const StreamId id{static_cast<uint64_t>(in.Below(4))};
    switch (what) {
      case 0: {
        const int64_t total = in.Number();
        const int64_t room = 1 + in.Byte();
        const bool any_order = room % 4 != 0;
        return plane_->Receive(peer, id, total, in.Number(), std::make_shared<Sink>(total, room, any_order));
      }
      case 1: {
        const int64_t total = in.Number();
        const int available = in.Byte();
        sources_.push_back(std::make_shared<Source>(total, available, /*keeps=*/available % 4 != 0));
        return plane_->Send(peer, id, total, sources_.back());
      }
      case 2: {
        const int64_t bytes = in.Number();
        return plane_->WithMux(peer, [&](StreamMux& mux) { mux.Grant(id, bytes); });
      }
      case 3: {
        const int64_t bytes = in.Byte();
        for (const auto& source : sources_) source->Add(bytes);
        return plane_->WithMux(peer, [&](StreamMux& mux) { mux.Wake(id); });
      }
      case 4: {
        const absl::Status why(static_cast<absl::StatusCode>(in.Below(17)), std::string(in.Byte() * 8, 'r'));
        return plane_->WithMux(peer, [&](StreamMux& mux) { mux.Cancel(id, why); });
      }
      case 5:
        // The next ones may be more or fewer.
        plane_->readers[peer].connections = 1 + in.Below(kMostConnections);
        return Lose(peer, absl::UnavailableError("lost"));
      case 6:
        return plane_->SetPeer(peer, "", in.Below(2));
      case 7:
        if (in.OneIn(4)) plane_->DropPeer(peer);
        if (in.OneIn(16)) plane_->SetSelf(PeerId{in.Below(3)});
        return plane_->SetPeer(peer, "", 1);
      case 8:
        Connect(peer);
        plane_->readers[peer].GrantedUnknown();
        return Arrive(peer, Connection(peer, in), in.Bytes(64), in);
      case 9:
      case 10:
        return Write(peer, in);
      default: {
        Connect(peer);
        bool data = false;
        const std::string message = Message(peer, id, in, data);
        return Arrive(peer, data || in.OneIn(16) ? Connection(peer, in) : 0, message, in);
      }
    }
  }

 private:
  // A peer may be the one that connects.
  void Connect(PeerId id) {
    PlaneCore::Peer* const peer = plane_->Find(id);
    if (peer == nullptr || peer->mux.connected()) return;
    plane_->Connect(*peer);
  }

  // One of those that there are.
  int Connection(PeerId id, FuzzInput& in) {
    const int connections = plane_->readers[id].connections;
    return connections == 1 ? 0 : in.Below(connections);
  }

  // A message that the peer could send, with numbers that may fit.
  std::string Message(PeerId peer, StreamId id, FuzzInput& in, bool& data) {
    DataHeader header{.type = static_cast<DataType>(1 + in.Below(5)), .stream = id};
    std::string payload;
    switch (header.type) {
      case DataType::kGrant:
        header.value = in.Number();
        header.total = in.Number();
        header.detail = static_cast<uint8_t>(in.OneIn(8));
        if (header.value > 0) plane_->readers[peer].Granted(id, header.value);
        break;
      case DataType::kData:
        data = true;
        header.value = in.Number();
        header.total = in.Number();
        payload.assign(in.Byte() * (in.OneIn(8) ? 64 : 1), 'd');
        break;
      case DataType::kAbort:
      case DataType::kRefuse:
        header.detail = static_cast<uint8_t>(in.Below(18));
        if (header.type == DataType::kAbort) header.value = in.Number();
        payload = in.Bytes(64);
        break;
      case DataType::kFinished:
        break;
    }
    header.length = static_cast<uint32_t>(payload.size());
    std::string bytes(kDataHeaderBytes, '\0');
    WriteDataHeader(header, bytes.data());
    return bytes + payload;
  }

  // Bytes come in, in one piece or several.
  void Arrive(PeerId id, int connection, const std::string& bytes, FuzzInput& in) {
    const size_t most = in.OneIn(4) ? 1 + in.Byte() : bytes.size();
    for (size_t at = 0; at < bytes.size();) {
      PlaneCore::Peer* const peer = plane_->Find(id);
      if (peer == nullptr) return;
      Connect(id);
      std::array<iovec, 2> room;
      const int count = peer->mux.ReadBuffers(room, connection);
      FUZZ_CHECK(count >= 1 && count <= 2);
      size_t left = std::min(most, bytes.size() - at);
      size_t read = 0;
      for (int i = 0; i < count; ++i) {
        const size_t n = std::min(left, room[i].iov_len);
        if (n > 0) std::memcpy(room[i].iov_base, bytes.data() + at + read, n);
        read += n;
        left -= n;
      }
      FUZZ_CHECK(read > 0);
      at += read;
      if (const absl::Status breach = peer->mux.Filled(read, connection); !breach.ok()) {
        FUZZ_CHECK(absl::IsInvalidArgument(breach));
        return Lose(id, breach);
      }
    }
  }

  // Writes some of what is to be written.
  void Write(PeerId id, FuzzInput& in) {
    PlaneCore::Peer* const peer = plane_->Find(id);
    if (peer == nullptr) return;
    const int connection = Connection(id, in);
    size_t left = in.OneIn(4) ? in.Byte() : std::string::npos;
    while (left > 0) {
      const absl::Span<const iovec> parts = peer->mux.WriteBuffers(connection);
      if (parts.empty()) return;
      size_t written = 0;
      for (const iovec& part : parts) {
        const size_t n = std::min(left, part.iov_len);
        plane_->readers[id].Take(connection, static_cast<const char*>(part.iov_base), n);
        written += n;
        left -= n;
      }
      peer->mux.Written(written, connection);
    }
  }

  void Lose(PeerId id, const absl::Status& why) {
    PlaneCore::Peer* const peer = plane_->Find(id);
    if (peer == nullptr) return;
    plane_->readers[id].Clear();
    peer->mux.Disconnected(why);
  }

  const std::shared_ptr<Plane> plane_ = std::make_shared<Plane>();
  std::vector<std::shared_ptr<Source>> sources_;
};

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  causeway::Driver driver;
  while (!in.empty()) driver.Step(in);
  return 0;
}
