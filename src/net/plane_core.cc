#include "net/plane_core.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

std::string NameOf(PeerId id, const std::string& address) {
  const std::string name = id == kControllerPeer ? "the controller" : absl::StrCat("worker ", static_cast<int>(id));
  return address.empty() ? name : absl::StrCat(name, " (", address, ")");
}

absl::Status NotKnown(PeerId id) {
  return absl::UnavailableError(absl::StrCat("the data plane does not know ", NameOf(id, "")));
}

absl::Status Stopped() { return absl::CancelledError("the data plane is being shut down"); }

}  // namespace

PlaneCore::Peer::Peer(PeerId id, std::string address, uint64_t key)
    : id(id), address(std::move(address)), key(key), mux(NameOf(id, this->address)) {}

PlaneCore::Peer* PlaneCore::Find(PeerId id) {
  const auto it = peers_.find(id);
  return it == peers_.end() ? nullptr : it->second.get();
}

void PlaneCore::SetPeer(PeerId id, std::string address, uint64_t key) {
  if (stopped_) return;
  if (const Peer* peer = Find(id)) {
    if (peer->address == address && peer->key == key) return;
    DropPeer(id);
  }
  Peer& peer = *(peers_[id] = std::make_unique<Peer>(id, std::move(address), key));
  PeerSet(peer);
}

void PlaneCore::DropPeer(PeerId id) {
  const auto it = peers_.find(id);
  if (it == peers_.end()) return;
  const std::unique_ptr<Peer> peer = std::move(it->second);
  peers_.erase(it);
  Disconnect(*peer);
  PeerGone(*peer);
  peer->mux.Disconnected(
      absl::UnavailableError(absl::StrCat(NameOf(id, peer->address), " was dropped from the data plane")));
}

void PlaneCore::Receive(PeerId id, StreamId stream, int64_t total_bytes, int64_t window_bytes,
                        std::shared_ptr<StreamSink> sink) {
  Peer* const peer = Find(id);
  if (peer == nullptr) return sink->OnDone(stopped_ ? Stopped() : NotKnown(id));
  peer->mux.Receive(stream, total_bytes, window_bytes, std::move(sink));
  Attend(*peer);
}

void PlaneCore::Send(PeerId id, StreamId stream, int64_t total_bytes, std::shared_ptr<StreamSource> source) {
  Peer* const peer = Find(id);
  if (peer == nullptr) return source->OnDone(stopped_ ? Stopped() : NotKnown(id));
  peer->mux.Send(stream, total_bytes, std::move(source));
  Attend(*peer);
}

void PlaneCore::WithMux(PeerId id, const std::function<void(StreamMux&)>& call) {
  Peer* const peer = Find(id);
  if (peer == nullptr) return;
  call(peer->mux);
  Attend(*peer);
}

int PlaneCore::open_streams() const {
  int streams = 0;
  for (const auto& [id, peer] : peers_) streams += peer->mux.open_streams();
  return streams;
}

void PlaneCore::SetSelf(PeerId self) {
  if (self == self_) return;
  DropAll(absl::UnavailableError("this process has another place in the cluster now"));
  self_ = self;
}

void PlaneCore::Shutdown() {
  stopped_ = true;
  DropAll(Stopped());
}

void PlaneCore::DropAll(const absl::Status& why) {
  std::vector<std::unique_ptr<Peer>> dropped;
  for (auto& [id, peer] : peers_) dropped.push_back(std::move(peer));
  peers_.clear();
  std::sort(dropped.begin(), dropped.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  for (const std::unique_ptr<Peer>& peer : dropped) {
    Disconnect(*peer);
    PeerGone(*peer);
    peer->mux.Disconnected(why);
  }
}

void PostingDataPlane::SetPeer(PeerId peer, std::string address, uint64_t key) {
  executor_.Post([core = core_, peer, address = std::move(address), key] { core->SetPeer(peer, address, key); });
}

void PostingDataPlane::DropPeer(PeerId peer) {
  executor_.Post([core = core_, peer] { core->DropPeer(peer); });
}

void PostingDataPlane::Receive(PeerId peer, StreamId id, int64_t total_bytes, int64_t window_bytes,
                               std::shared_ptr<StreamSink> sink) {
  executor_.Post([core = core_, peer, id, total_bytes, window_bytes, sink = std::move(sink)] {
    core->Receive(peer, id, total_bytes, window_bytes, sink);
  });
}

void PostingDataPlane::Grant(PeerId peer, StreamId id, int64_t bytes) {
  executor_.Post(
      [core = core_, peer, id, bytes] { core->WithMux(peer, [&](StreamMux& mux) { mux.Grant(id, bytes); }); });
}

void PostingDataPlane::Send(PeerId peer, StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) {
  executor_.Post(
      [core = core_, peer, id, total_bytes, source = std::move(source)] { core->Send(peer, id, total_bytes, source); });
}

void PostingDataPlane::Wake(PeerId peer, StreamId id) {
  executor_.Post([core = core_, peer, id] { core->WithMux(peer, [&](StreamMux& mux) { mux.Wake(id); }); });
}

void PostingDataPlane::Cancel(PeerId peer, StreamId id, absl::Status status) {
  executor_.Post([core = core_, peer, id, status = std::move(status)] {
    core->WithMux(peer, [&](StreamMux& mux) { mux.Cancel(id, status); });
  });
}

void PostingDataPlane::Stop() {
  executor_.RunAndWait([this] { core_->Shutdown(); });
}

}  // namespace causeway
