// The data plane fed with a peer's bytes, while this side begins, grants, cancels and drops streams.
//
// Held true: every sink and source is told of its end exactly once; data come in order and only as granted; what is
// written is well-formed and no more than the peer granted.
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

// Where all sinks write and all sources read: what the bytes are does not matter here.
std::array<char, kScratchBytes> scratch;

class Sink final : public StreamSink {
 public:
  Sink(int64_t total, int64_t room) : total_(total), room_(room) {}
  ~Sink() override { FUZZ_CHECK(done_); }

  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    FUZZ_CHECK(!done_ && offset == received_ && length >= 1 && offset + length <= total_);
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
  int64_t received_ = 0;
  bool done_ = false;
};

class Source final : public StreamSource {
 public:
  Source(int64_t total, int64_t available) : total_(total), available_(available) {}
  ~Source() override { FUZZ_CHECK(done_); }

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
  bool done_ = false;
};

// Reads what goes out to a peer, as that peer would.
class Reader {
 public:
  void Granted(StreamId id, int64_t bytes) { granted_[id] = SaturatingAdd(granted_[id], bytes); }
  // Bytes have come that may be grants, or may make something else of what comes behind them.
  void GrantedUnknown() { known_ = false; }

  void Take(const char* data, size_t size) {
    bytes_.append(data, size);
    while (bytes_.size() >= kDataHeaderBytes) {
      const absl::StatusOr<DataHeader> header = ParseDataHeader(bytes_.data());
      FUZZ_CHECK(header.ok());
      if (bytes_.size() - kDataHeaderBytes < header->length) return;
      bytes_.erase(0, kDataHeaderBytes + header->length);
      if (header->type == DataType::kData) {
        FUZZ_CHECK(!known_ || header->length <= granted_[header->stream]);
        granted_[header->stream] -= header->length;
      }
    }
  }

  void Clear() {
    bytes_.clear();
    granted_.clear();
    known_ = true;
  }

 private:
  std::string bytes_;
  std::map<StreamId, int64_t> granted_;
  bool known_ = true;
};

// Connects at once, if it is let.
class Plane final : public PlaneCore {
 public:
  Plane() : PlaneCore(PeerId{0}) {}

  using PlaneCore::Find;

  std::map<PeerId, Reader> readers;

 private:
  void Attend(Peer& peer) override {
    if (peer.mux.WantsConnection() && !peer.mux.connected()) {
      readers[peer.id].Clear();
      peer.mux.Connected();
    }
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
        return plane_->Receive(peer, id, total, in.Number(), std::make_shared<Sink>(total, room));
      }
      case 1: {
        const int64_t total = in.Number();
        sources_.push_back(std::make_shared<Source>(total, in.Byte()));
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
        return Arrive(peer, in.Bytes(64), in);
      case 9:
      case 10:
        return Write(peer, in);
      default:
        Connect(peer);
        return Arrive(peer, Message(peer, id, in), in);
    }
  }

 private:
  // A peer may be the one that connects.
  void Connect(PeerId id) {
    PlaneCore::Peer* const peer = plane_->Find(id);
    if (peer == nullptr || peer->mux.connected()) return;
    plane_->readers[id].Clear();
    peer->mux.Connected();
  }

  // A message that the peer could send, with numbers that may fit.
  std::string Message(PeerId peer, StreamId id, FuzzInput& in) {
    DataHeader header{.type = static_cast<DataType>(1 + in.Below(5)), .stream = id};
    std::string payload;
    switch (header.type) {
      case DataType::kGrant:
        header.value = in.Number();
        header.total = in.Number();
        if (header.value > 0) plane_->readers[peer].Granted(id, header.value);
        break;
      case DataType::kData:
        header.value = in.Number();
        header.total = in.Number();
        payload.assign(in.Byte() * (in.OneIn(8) ? 64 : 1), 'd');
        break;
      case DataType::kAbort:
      case DataType::kRefuse:
        header.value = in.Below(18);
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
  void Arrive(PeerId id, const std::string& bytes, FuzzInput& in) {
    const size_t most = in.OneIn(4) ? 1 + in.Byte() : bytes.size();
    for (size_t at = 0; at < bytes.size();) {
      PlaneCore::Peer* const peer = plane_->Find(id);
      if (peer == nullptr) return;
      Connect(id);
      std::array<iovec, 2> room;
      const int count = peer->mux.ReadBuffers(room);
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
      if (const absl::Status breach = peer->mux.Filled(read); !breach.ok()) {
        FUZZ_CHECK(absl::IsInvalidArgument(breach));
        return Lose(id, breach);
      }
    }
  }

  // Writes some of what is to be written.
  void Write(PeerId id, FuzzInput& in) {
    PlaneCore::Peer* const peer = plane_->Find(id);
    if (peer == nullptr) return;
    size_t left = in.OneIn(4) ? in.Byte() : std::string::npos;
    while (left > 0) {
      const absl::Span<const iovec> parts = peer->mux.WriteBuffers();
      if (parts.empty()) return;
      size_t written = 0;
      for (const iovec& part : parts) {
        const size_t n = std::min(left, part.iov_len);
        plane_->readers[id].Take(static_cast<const char*>(part.iov_base), n);
        written += n;
        left -= n;
      }
      peer->mux.Written(written);
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
