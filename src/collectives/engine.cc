#include "collectives/engine.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "collectives/launch.h"
#include "collectives/parts.h"
#include "collectives/wire.h"

namespace causeway::collectives {
namespace {

// What a message takes besides its bytes that came before its launch.
constexpr int64_t kMessageOverhead = 256;

constexpr uint64_t kAllLaunches = ~uint64_t{0};

}  // namespace

class Engine::Impl final : public MessageHandler {
 public:
  Impl(DataPlane& plane, const EngineOptions& options) : shared_(std::make_shared<Shared>(plane, options)) {}

  void Announce(uint64_t number, std::shared_ptr<const Gang> gang);
  void Arrive(Arrival arrival);
  std::shared_ptr<Launch> Find(uint64_t number) const;
  std::shared_ptr<Launch> Take(uint64_t number);
  // Launches up to `last` of gangs with this worker.
  void FailAllOf(WorkerId peer, uint64_t last, const absl::Status& why, bool tell);
  void Reset(const absl::Status& why);

  void OnMessage(PeerId peer, absl::Span<const char> message) override;
  void OnMessagesLost(PeerId peer, const absl::Status& why) override;

  Shared& shared() { return *shared_; }

 private:
  // Came before its launch was announced.
  struct Early {
    WorkerId peer{-1};
    Header header;
    std::string payload;
  };
  // Launches, perhaps still to be announced, of which a peer's messages are missing.
  struct Missing {
    uint64_t from = 0;
    uint64_t to = 0;
    absl::Status why;
  };

  static int64_t SizeOf(const Early& early) { return static_cast<int64_t>(early.payload.size()) + kMessageOverhead; }
  static void Hand(Launch& launch, WorkerId peer, const Header& header, absl::Span<const char> payload);
  // The peer says that what it sent for launches up to `last` may not have come.
  void PeerLostSome(WorkerId peer, uint64_t last);
  void NoteMissing(WorkerId peer, uint64_t from, uint64_t to, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void KeepEarly(WorkerId peer, const Header& header, absl::Span<const char> payload)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<Shared> shared_;
  mutable Mutex mu_;
  uint64_t last_announced_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Launch>> launches_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, std::vector<Early>> early_ ABSL_GUARDED_BY(mu_);  // of launches after the last
  absl::flat_hash_map<WorkerId, Missing> missing_ ABSL_GUARDED_BY(mu_);
  // Who has been told of lost messages, and not been heard of since: to tell again would be lost again.
  absl::flat_hash_set<WorkerId> told_of_loss_ ABSL_GUARDED_BY(mu_);
};

void Engine::Impl::Announce(uint64_t number, std::shared_ptr<const Gang> gang) {
  const absl::StatusOr<std::shared_ptr<const GangInfo>> info = shared_->layouts.Find(std::move(gang));
  if (!info.ok()) {
    Log(LogLevel::kWarning, absl::StrCat("launch ", number, " of collectives: ", info.status().message()));
    return;
  }
  auto launch = std::make_shared<Launch>(shared_, number, *info);
  std::vector<Early> early;
  absl::Status failed;
  {
    MutexLock lock(&mu_);
    if (number <= last_announced_) return;
    last_announced_ = number;
    launches_[number] = launch;
    if (const auto it = early_.find(number); it != early_.end()) {
      early = std::move(it->second);
      early_.erase(it);
    }
    for (const auto& [peer, missing] : missing_) {
      if ((*info)->Has(peer) && missing.from <= number && number <= missing.to) failed.Update(missing.why);
    }
  }
  for (const Early& message : early) {
    shared_->early.Give(message.peer, SizeOf(message));
    Hand(*launch, message.peer, message.header, message.payload);
  }
  if (!failed.ok()) launch->Fail(failed);
}

void Engine::Impl::Arrive(Arrival arrival) {
  if (const std::shared_ptr<Launch> launch = Find(arrival.launch)) return launch->Arrive(std::move(arrival));
  arrival.done(absl::FailedPreconditionError(absl::StrCat("launch ", arrival.launch,
                                                          " has ended, or was not announced, when device ",
                                                          arrival.device, " got to a collective")));
}

std::shared_ptr<Launch> Engine::Impl::Find(uint64_t number) const {
  MutexLock lock(&mu_);
  const auto it = launches_.find(number);
  return it == launches_.end() ? nullptr : it->second;
}

std::shared_ptr<Launch> Engine::Impl::Take(uint64_t number) {
  MutexLock lock(&mu_);
  const auto it = launches_.find(number);
  if (it == launches_.end()) return nullptr;
  std::shared_ptr<Launch> launch = std::move(it->second);
  launches_.erase(it);
  return launch;
}

void Engine::Impl::FailAllOf(WorkerId peer, uint64_t last, const absl::Status& why, bool tell) {
  std::vector<std::shared_ptr<Launch>> launches;
  {
    MutexLock lock(&mu_);
    for (const auto& [number, launch] : launches_) {
      if (number <= last && launch->gang().Has(peer)) launches.push_back(launch);
    }
  }
  for (const std::shared_ptr<Launch>& launch : launches) {
    if (tell) {
      launch->Fail(why);
    } else {
      launch->FailHere(why);
    }
  }
}

void Engine::Impl::Reset(const absl::Status& why) {
  absl::flat_hash_map<uint64_t, std::shared_ptr<Launch>> launches;
  {
    MutexLock lock(&mu_);
    launches.swap(launches_);
    for (const auto& [number, messages] : early_) {
      for (const Early& message : messages) shared_->early.Give(message.peer, SizeOf(message));
    }
    early_.clear();
    missing_.clear();
    told_of_loss_.clear();
    last_announced_ = 0;
  }
  for (const auto& [number, launch] : launches) launch->FailHere(why);
}

void Engine::Impl::OnMessage(PeerId peer, absl::Span<const char> message) {
  if (peer == kControllerPeer) return;
  const WorkerId worker{Raw(peer)};
  const absl::StatusOr<Header> header = ParseHeader(message);
  if (!header.ok()) return OnMessagesLost(peer, header.status());
  if (header->type == MessageType::kLost) return PeerLostSome(worker, header->launch);
  const absl::Span<const char> payload = message.subspan(kHeaderBytes);
  std::shared_ptr<Launch> launch;
  {
    MutexLock lock(&mu_);
    if (!told_of_loss_.empty()) told_of_loss_.erase(worker);
    const auto it = launches_.find(header->launch);
    if (it != launches_.end()) {
      launch = it->second;
    } else if (header->launch > last_announced_) {
      return KeepEarly(worker, *header, payload);
    }
  }
  if (launch != nullptr) Hand(*launch, worker, *header, payload);
}

void Engine::Impl::KeepEarly(WorkerId peer, const Header& header, absl::Span<const char> payload) {
  Early early{.peer = peer, .header = header};
  if (shared_->early.Take(peer, static_cast<int64_t>(payload.size()) + kMessageOverhead)) {
    early.payload.assign(payload.data(), payload.size());
    early_[header.launch].push_back(std::move(early));
    return;
  }
  NoteMissing(peer, header.launch, header.launch,
              absl::ResourceExhaustedError(absl::StrCat("worker ", Raw(peer), " sends too far ahead")));
}

void Engine::Impl::NoteMissing(WorkerId peer, uint64_t from, uint64_t to, const absl::Status& why) {
  Missing& missing = missing_.emplace(peer, Missing{from, to, why}).first->second;
  // What lies between two of them fails, too.
  missing.from = std::min(missing.from, from);
  missing.to = std::max(missing.to, to);
}

void Engine::Impl::PeerLostSome(WorkerId peer, uint64_t last) {
  const absl::Status why = absl::DataLossError(absl::StrCat("messages of worker ", Raw(peer), " are lost"));
  {
    MutexLock lock(&mu_);
    if (last > last_announced_) NoteMissing(peer, last_announced_ + 1, last, why);
  }
  FailAllOf(peer, last, why, /*tell=*/true);
}

void Engine::Impl::Hand(Launch& launch, WorkerId peer, const Header& header, absl::Span<const char> payload) {
  if (!launch.gang().Has(peer) || peer == launch.gang().self()) return;
  const PartId id{.instance = header.instance, .round = header.round, .index = header.index, .peer = peer};
  switch (header.type) {
    case MessageType::kPart:
      return launch.OnPart(id, payload);
    case MessageType::kWant:
      return launch.OnWant(id, static_cast<int64_t>(header.length), StreamId{header.value});
    case MessageType::kLook:
      return launch.OnLook(id, static_cast<int64_t>(header.length));
    case MessageType::kHere:
      return launch.OnHere(id, static_cast<int64_t>(header.length), static_cast<int>(header.value), payload);
    case MessageType::kTaken:
      return launch.OnTaken(id);
    case MessageType::kLost:
      return;  // of no single launch
    case MessageType::kAbort:
      return launch.FailHere(
          absl::Status(static_cast<absl::StatusCode>(header.value), absl::string_view(payload.data(), payload.size())));
  }
}

void Engine::Impl::OnMessagesLost(PeerId peer, const absl::Status& why) {
  if (peer == kControllerPeer) return;
  const WorkerId worker{Raw(peer)};
  FailAllOf(worker, kAllLaunches,
            absl::DataLossError(absl::StrCat("messages of worker ", Raw(peer), " are lost: ", why.message())),
            /*tell=*/true);
  // A launch may have ended here and still wait there, for what was sent to it.
  uint64_t last = 0;
  {
    MutexLock lock(&mu_);
    last = last_announced_;
    if (last == 0 || !told_of_loss_.insert(worker).second) return;
  }
  char header[kHeaderBytes];
  WriteHeader({.type = MessageType::kLost, .launch = last}, header);
  const absl::Span<const char> part(header, kHeaderBytes);
  shared_->plane.SendMessage(peer, {&part, 1});
}

Engine::Engine(DataPlane& plane, const EngineOptions& options) : impl_(std::make_shared<Impl>(plane, options)) {
  plane.SetMessageHandler(impl_.get());
}

Engine::~Engine() {
  impl_->shared().plane.SetMessageHandler(nullptr);
  impl_->Reset(absl::CancelledError("the collectives' engine is gone"));
  impl_->shared().pool.Stop();
}

void Engine::Announce(uint64_t launch, std::shared_ptr<const Gang> gang) { impl_->Announce(launch, std::move(gang)); }

void Engine::Arrive(Arrival arrival) { impl_->Arrive(std::move(arrival)); }

void Engine::Abort(uint64_t launch, const absl::Status& why) {
  if (const std::shared_ptr<Launch> found = impl_->Find(launch)) found->Fail(why);
}

Traffic Engine::End(uint64_t launch) {
  const std::shared_ptr<Launch> ended = impl_->Take(launch);
  if (ended == nullptr) return {};
  ended->FailHere(absl::CancelledError(absl::StrCat("launch ", launch, " has ended")));
  return ended->traffic();
}

void Engine::PeerLost(WorkerId peer, const absl::Status& why) {
  impl_->FailAllOf(peer, kAllLaunches, why, /*tell=*/false);
}

void Engine::Reset(const absl::Status& why) { impl_->Reset(why); }

}  // namespace causeway::collectives
