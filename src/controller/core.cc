#include "controller/core.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/origin.h"
#include "base/saturate.h"
#include "controller/core_impl.h"
#include "proto/status.h"

namespace causeway {
namespace {

// Time of comparison depends on the lengths only, so that a token cannot be guessed byte by byte.
bool SameSecret(const std::string& a, const std::string& b) {
  unsigned char differs = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) differs |= static_cast<unsigned char>(a[i] ^ b[i]);
  return differs == 0;
}

proto::ToWorker Goodbye(const absl::Status& why) {
  proto::ToWorker message;
  *message.mutable_goodbye()->mutable_status() = ToProto(why);
  return message;
}

// What the session has of the device.
proto::ClusterStatus::Share& ShareOf(proto::ClusterStatus::DeviceStatus& device, SessionId session) {
  for (proto::ClusterStatus::Share& share : *device.mutable_shares()) {
    if (share.session() == Raw(session)) return share;
  }
  proto::ClusterStatus::Share& share = *device.add_shares();
  share.set_session(Raw(session));
  return share;
}

template <typename E>
const RequestHeader* RequestOf(const E& e) {
  if constexpr (requires { e.request; }) {
    return &e.request;
  } else {
    return nullptr;
  }
}

}  // namespace

ControllerCore::ControllerCore(ControllerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
ControllerCore::~ControllerCore() = default;

void ControllerCore::Handle(Event event, absl::Time now, ControllerActions& out) {
  impl_->now_ = now;
  impl_->out_ = &out;
  impl_->acting_ = SessionId{0};
  std::visit(
      [this, &out](auto& e) {
        const RequestHeader* request = RequestOf(e);
        constexpr bool opens = std::is_same_v<std::decay_t<decltype(e)>, OpenSession>;
        if (request != nullptr && !opens && impl_->FindSession(request->session) == nullptr) {
          out.ReplyDone(*request, absl::FailedPreconditionError("the session is not open"));
          return;
        }
        if (request != nullptr) impl_->acting_ = request->session;
        impl_->On(e);
      },
      event);
  impl_->Schedule();
  impl_->out_ = nullptr;
}

absl::Status ControllerCore::Ready() const { return impl_->Ready(); }

std::vector<DeviceView> ControllerCore::Devices() const { return impl_->cluster_.Views(); }

std::vector<DeviceView> ControllerCore::DevicesOf(SessionId session) const { return impl_->DevicesOf(session); }

std::string ControllerCore::Platform() const {
  const auto& slots = impl_->cluster_.slots();
  return slots.empty() ? "" : slots.front().hello.platform();
}

std::string ControllerCore::PlatformVersion() const {
  const auto& slots = impl_->cluster_.slots();
  return slots.empty() ? "" : slots.front().hello.platform_version();
}

std::vector<int64_t> ControllerCore::StablehloVersion() const {
  std::vector<int64_t> newest;
  for (const WorkerSlot& slot : impl_->cluster_.slots()) {
    const auto& version = slot.hello.stablehlo_version();
    std::vector<int64_t> takes(version.begin(), version.end());
    if (newest.empty() || takes < newest) newest = std::move(takes);
  }
  return newest;
}

std::shared_ptr<const ArraySpec> ControllerCore::FindArray(ArrayId array) const {
  const Array* found = impl_->FindArray(array);
  return found == nullptr ? nullptr : found->spec;
}

bool ControllerCore::IsDeleted(ArrayId array) const {
  const Array* found = impl_->FindArray(array);
  return found != nullptr && found->deleted;
}

bool ControllerCore::IsReady(ArrayId array) const {
  const Array* found = impl_->FindArray(array);
  return found != nullptr && found->on_workers && !found->deleted && found->KnownError().ok() &&
         std::all_of(found->futures.begin(), found->futures.end(), [](const auto& future) { return future->done(); });
}

std::shared_ptr<const ProgramView> ControllerCore::FindProgram(ProgramId program) const {
  const Program* found = impl_->FindProgram(program);
  return found == nullptr ? nullptr : found->view;
}

proto::ClusterStatus ControllerCore::Status(absl::Time now) const { return impl_->Status(now); }

void ControllerCore::SetClientAddress(std::string address) { impl_->client_address_ = std::move(address); }

bool ControllerCore::traced() const { return impl_->trace_.on(); }

void ControllerCore::Handled(int kind, absl::Time start, absl::Time end) { impl_->trace_.Handled(kind, start, end); }
DeviceMemory::Use ControllerCore::MemoryOf(DeviceId device) const { return impl_->MemoryOf(device); }

ControllerCounts ControllerCore::Counts() const { return impl_->Counts(); }

// ---------------------------------------------------------------- sessions

ControllerCore::Impl::Impl(ControllerOptions options)
    : options_(std::move(options)),
      cluster_(options_.key_seed),
      cache_(options_.program_cache_bytes),
      scheduler_(options_.scheduling),
      started_(absl::InfinitePast()),
      next_ping_(absl::InfinitePast()) {
  scheduler_.SetGate([this](Scheduler::Item& item) { return HasRoom(static_cast<PendingLaunch&>(item)); });
}

Session* ControllerCore::Impl::FindSession(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

bool ControllerCore::Impl::AnyAlive() const {
  return std::any_of(cluster_.slots().begin(), cluster_.slots().end(),
                     [](const WorkerSlot& slot) { return slot.alive; });
}

absl::Status ControllerCore::Impl::Ready() const {
  const int joined = static_cast<int>(cluster_.slots().size());
  const bool may_wait = started_ == absl::InfinitePast() || now_ - started_ < options_.workers_patience;
  if (AnyAlive() && (joined >= options_.expected_workers || !may_wait)) return absl::OkStatus();
  if (joined < options_.expected_workers) {
    return absl::UnavailableError(absl::StrCat(joined, " of ", options_.expected_workers,
                                               " workers have joined this cluster: start the others with `causeway "
                                               "worker`, or wait for them (`causeway status` shows who is there)"));
  }
  return absl::UnavailableError(
      "all workers of this cluster are lost: it can be used when one is back (`causeway "
      "status` says why they are)");
}

void ControllerCore::Impl::On(OpenSession& e) {
  if (!AnyAlive()) {
    out_->ReplyDone(e.request, absl::FailedPreconditionError(
                                   "no worker has joined this cluster yet: start one with `causeway worker`, or wait "
                                   "for it (`causeway status` shows who is there)"));
    return;
  }
  if (FindSession(e.request.session) != nullptr || Raw(e.request.session) > kMaxSession) {
    out_->ReplyDone(e.request, absl::ResourceExhaustedError("no session number is left: restart the controller"));
    return;
  }
  cluster_.AssignDeviceIds();
  absl::Status good = CheckWishes(e.wishes);
  if (good.ok()) good = slices_.Take(e.request.session, e.name, e.wishes, SliceWorkers()).status();
  if (!good.ok()) return out_->ReplyDone(e.request, good);
  SetMemoryLimits();
  auto session = std::make_unique<Session>(options_.limits);
  session->id = e.request.session;
  session->wishes = std::move(e.wishes);
  session->name = std::move(e.name);
  session->peer = std::move(e.peer);
  session->opened = now_;
  session->memory = &memory_.OpenSession(session->id, session->name, session->wishes.memory_bytes);
  scheduler_.OpenSession(session->id, session->wishes.weight, session->wishes.cap);
  sessions_[e.request.session] = std::move(session);
  out_->ReplyDone(e.request, absl::OkStatus());
}

void ControllerCore::Impl::On(CloseSession& e) {
  if (!sessions_.contains(e.session)) return;
  slices_.Release(e.session);
  scheduler_.CloseSession(e.session);
  memory_queue_.CloseSession(e.session);
  absl::erase_if(held_, [&](const auto& p) { return p.second->session == e.session; });
  sessions_.erase(e.session);
  memory_.CloseSession(e.session);
  absl::erase_if(compiles_, [&](const auto& p) { return p.second.request.session == e.session; });
  absl::erase_if(fetches_, [&](const auto& p) { return p.second.request.session == e.session; });
  absl::erase_if(queries_, [&](const auto& p) { return p.second.request.session == e.session; });
  absl::erase_if(makes_, [&](const auto& p) { return SessionOf(p.first) == e.session; });
  absl::erase_if(lost_makes_, [&](const auto& p) { return SessionOf(p.first) == e.session; });
  absl::erase_if(host_data_wanted_, [&](const auto& p) { return p.second.session == e.session; });
  proto::ToWorker message;
  message.mutable_drop_session()->set_session(Raw(e.session));
  for (const WorkerSlot& slot : cluster_.slots()) {
    if (slot.alive) out_->Send(slot.link, message);
  }
}

std::vector<SliceWorker> ControllerCore::Impl::SliceWorkers() const {
  std::vector<SliceWorker> workers;
  for (const WorkerSlot& slot : cluster_.slots()) {
    workers.push_back({slot.hello.island(), slot.hello.platform(), slot.alive, slot.devices});
  }
  return workers;
}

std::vector<DeviceView> ControllerCore::Impl::DevicesOf(SessionId session) const {
  std::vector<DeviceView> devices = cluster_.Views();
  std::erase_if(devices, [&](const DeviceView& device) { return !slices_.Has(session, device.id); });
  return devices;
}

void ControllerCore::Impl::Began(Session& session, const Load::Item& item) {
  session.load.Add(item);
  TellThrottled(session);
}

void ControllerCore::Impl::Ended(SessionId id, const Load::Item& item) {
  Session* session = FindSession(id);
  if (session == nullptr) return;
  session->load.Remove(item);
  TellThrottled(*session);
}

void ControllerCore::Impl::TellThrottled(Session& session) {
  // Only its client can say what it needs no more: that is read while something waits for memory.
  const bool patient = !memory_queue_.empty() && memory_queue_.FirstOf(session.id) != 0;
  if ((patient ? session.load.is_far_over() : session.load.is_over()) == session.throttled) return;
  session.throttled = !session.throttled;
  out_->Throttle(session.id, session.throttled);
}

// ---------------------------------------------------------------- workers

void ControllerCore::Impl::Send(WorkerId worker, const proto::ToWorker& message) {
  const WorkerSlot& slot = cluster_.slot(worker);
  if (!slot.alive) return;
  if (holding_ != 0) {
    held_.find(holding_)->second->frames.push_back({worker, slot.incarnation, message});
    return;
  }
  out_->Send(slot.link, message);
  if (!slot.full) return;
  if (Session* session = FindSession(acting_)) {
    session->load.AddSlowWorker(worker);
    TellThrottled(*session);
  }
}

absl::Status ControllerCore::Impl::Lost(const WorkerSlot& slot) const {
  return absl::DataLossError(absl::StrCat(slot.Describe(), " is lost: ", slot.lost_because.message(),
                                          ". What lived there is gone; the devices return with the worker"));
}

absl::Status ControllerCore::Impl::CheckAlive(const Placement& placement) const {
  absl::Status status;
  for (WorkerId worker : placement.workers) status.Update(CheckAlive(worker));
  return status;
}

absl::Status ControllerCore::Impl::CheckAlive(WorkerId worker) const {
  const WorkerSlot& slot = cluster_.slot(worker);
  return slot.alive ? absl::OkStatus() : Lost(slot);
}

void ControllerCore::Impl::On(WorkerFrame& e) {
  WorkerSlot* slot = cluster_.OnLink(e.link);
  if (slot == nullptr) {
    if (trace_.IsTool(e.link) || e.message.has_trace_request()) return OnTraceRequest(e);
    if (e.message.has_hello()) return OnHello(e);
    if (e.message.has_status_request()) return OnStatusRequest(e);
    if (e.message.has_key_value_request()) return OnKeyValueRequest(e);
    out_->CloseLink(
        e.link, absl::InvalidArgumentError("the first message must be a Hello, a StatusRequest, a TraceRequest or a "
                                           "KeyValueRequest"));
    return;
  }
  slot->last_heard = now_;
  switch (e.message.message_case()) {
    case proto::ToController::kPong:
      slot->accounts = std::move(*e.message.mutable_pong());
      return;
    case proto::ToController::kCompiled:
      return OnCompiled(slot->id, e.message.compiled());
    case proto::ToController::kLaunchesDone:
      for (const proto::LaunchDone& done : e.message.launches_done().done()) OnLaunchDone(slot->id, done);
      return LookAgain();
    case proto::ToController::kArrayDone:
      OnArrayDone(slot->id, e.message.array_done());
      return LookAgain();
    case proto::ToController::kFetchDone:
      return OnFetchDone(e.message.fetch_done());
    case proto::ToController::kQueryDone:
      return OnQueryDone(e.message.query_done());
    case proto::ToController::kTraceEvents:
      return trace_.OnEvents(cluster_, slot->id, std::move(*e.message.mutable_trace_events()), now_, *out_);
    default:
      return Lose(*slot, absl::InvalidArgumentError("it sent a message that a worker in the cluster does not send"),
                  /*close_link=*/true);
  }
}

void ControllerCore::Impl::OnHello(const WorkerFrame& e) {
  const auto refuse = [&](const absl::Status& why) {
    out_->Send(e.link, Goodbye(why));
    out_->CloseLink(e.link, absl::OkStatus());
  };
  const proto::Hello& hello = e.message.hello();
  if (!SameSecret(hello.token(), options_.token)) {
    return refuse(absl::UnauthenticatedError(
        "the worker's token is not the cluster's: give both the same --token-file (or CAUSEWAY_TOKEN)"));
  }
  // A process has one link. Its older one is dead, though nobody has said so yet: one of us stood still, or the
  // network.
  WorkerSlot* const older = cluster_.Find(hello.name());
  if (older != nullptr && older->alive && hello.process() != 0 && older->hello.process() == hello.process()) {
    Lose(*older, absl::UnavailableError("it has connected anew"), /*close_link=*/true);
  }
  absl::StatusOr<WorkerSlot*> joined = cluster_.Join(hello, e.link, now_);
  if (!joined.ok()) return refuse(joined.status());
  const WorkerSlot& slot = **joined;
  SetMemoryLimits();
  const uint64_t data_key = cluster_.NewKey();
  proto::ToWorker message;
  proto::Welcome& welcome = *message.mutable_welcome();
  welcome.set_worker(Raw(slot.id));
  welcome.set_data_address(options_.data_address);
  welcome.set_heartbeat_ms(absl::ToInt64Milliseconds(options_.heartbeat));
  welcome.set_heartbeat_timeout_ms(absl::ToInt64Milliseconds(options_.heartbeat_timeout));
  welcome.set_incarnation(slot.incarnation);
  welcome.set_data_key(data_key);
  out_->WorkerUp(e.link, slot.id, data_key, slot.Describe());
  out_->Send(e.link, message);
  SendPeers();
  trace_.OnWorkerUp(slot, now_, *out_);
}

absl::Status ControllerCore::Impl::CheckTool(uint32_t version, const std::string& token) const {
  if (version != kControlVersion) {
    return absl::FailedPreconditionError(absl::StrCat("this tool speaks control protocol ", version,
                                                      ", the controller ", kControlVersion,
                                                      ": use the same Causeway release"));
  }
  if (!SameSecret(token, options_.token)) {
    return absl::UnauthenticatedError("the token is not the cluster's: give --token-file (or CAUSEWAY_TOKEN)");
  }
  return absl::OkStatus();
}

void ControllerCore::Impl::OnStatusRequest(const WorkerFrame& e) {
  const proto::StatusRequest& request = e.message.status_request();
  if (absl::Status ok = CheckTool(request.version(), request.token()); !ok.ok()) {
    out_->Send(e.link, Goodbye(ok));
  } else {
    proto::ToWorker message;
    *message.mutable_cluster_status() = Status(now_);
    out_->Send(e.link, message);
  }
  out_->CloseLink(e.link, absl::OkStatus());
}

void ControllerCore::Impl::OnKeyValueRequest(const WorkerFrame& e) {
  const proto::KeyValueRequest& request = e.message.key_value_request();
  if (request.version() != kControlVersion) {
    return Answer({e.link, request.number(),
                   absl::FailedPreconditionError(absl::StrCat("this worker speaks control protocol ", request.version(),
                                                              ", the controller ", kControlVersion,
                                                              ": use the same Causeway release")),
                   ""});
  }
  if (!SameSecret(request.token(), options_.token)) {
    return Answer(
        {e.link, request.number(),
         absl::UnauthenticatedError("the worker's token is not the cluster's: give both the same --token-file "
                                    "(or CAUSEWAY_TOKEN)"),
         ""});
  }
  std::vector<KeyValues::Reply> replies;
  if (request.has_put()) {
    replies = key_values_.Put(e.link, request.number(), request.group(), request.key(), request.put());
  } else {
    replies = key_values_.Get(e.link, request.number(), request.group(), request.key(),
                              absl::Milliseconds(request.get_ms()), now_);
  }
  for (const KeyValues::Reply& reply : replies) Answer(reply);
}

void ControllerCore::Impl::Answer(const KeyValues::Reply& reply) {
  proto::ToWorker message;
  message.mutable_key_value_reply()->set_number(reply.number);
  *message.mutable_key_value_reply()->mutable_status() = ToProto(reply.status);
  message.mutable_key_value_reply()->set_value(reply.value);
  out_->Send(reply.link, message);
}

void ControllerCore::Impl::On(LinkClosed& e) {
  key_values_.Close(e.link);
  trace_.OnClosed(e.link, *out_);
  if (WorkerSlot* slot = cluster_.OnLink(e.link)) Lose(*slot, e.why, /*close_link=*/false);
}

void ControllerCore::Impl::On(LinkFull& e) {
  trace_.OnFull(e.link, e.full, now_, *out_);
  WorkerSlot* slot = cluster_.OnLink(e.link);
  if (slot == nullptr) return;
  slot->full = e.full;
  if (!e.full) ReleaseFrom(slot->id);
}

void ControllerCore::Impl::ReleaseFrom(WorkerId worker) {
  std::vector<Session*> sessions;
  for (const auto& [id, session] : sessions_) sessions.push_back(session.get());
  std::sort(sessions.begin(), sessions.end(), [](const Session* a, const Session* b) { return a->id < b->id; });
  for (Session* session : sessions) {
    session->load.RemoveSlowWorker(worker);
    TellThrottled(*session);
  }
}

void ControllerCore::Impl::Lose(WorkerSlot& slot, const absl::Status& why, bool close_link) {
  if (close_link) out_->CloseLink(slot.link, why);
  cluster_.Leave(slot, why);
  trace_.OnWorkerLost(slot.id, why);
  const absl::Status lost = Lost(slot);
  out_->WorkerDown(slot.id, lost);
  // What lived there holds the error from now on, before anybody who waits is told.
  LoseArrays(slot, lost);
  std::vector<LaunchNumber> launches;
  for (const auto& [number, launch] : launches_) {
    if (launch->WaitsFor(slot.id)) launches.push_back(number);
  }
  std::sort(launches.begin(), launches.end());
  for (LaunchNumber number : launches) {
    const std::unique_ptr<PendingLaunch> launch = std::move(launches_.extract(number).mapped());
    scheduler_.Drop(*launch, now_);
    launch->future->Fail(lost, *out_);
    Ended(launch->session, launch->load());
  }
  LoseHeld(slot, lost);
  ForgetLost(slot.id);
  std::vector<ArrayId> makes;
  for (const auto& [id, make] : makes_) makes.push_back(id);
  std::sort(makes.begin(), makes.end());
  for (ArrayId id : makes) {
    PendingMake& make = makes_[id];
    if (make.reports.contains(slot.id)) {
      const PendingMake ended = std::move(makes_.extract(id).mapped());
      ended.future->Fail(lost, *out_);
      if (const auto held = held_.find(ended.held); held != held_.end()) {
        // Those who were to send would wait for ever for one who has never heard of it.
        held->second->frames.clear();
        memory_.Evict(held->second->memory);
        HoldError(*held->second, id, *held->second->spec->sharding, ended.future->status());
      }
      Ended(SessionOf(id), ended.load);
      KeepLost(id, ended, slot.id);
    } else if (std::find(make.senders.begin(), make.senders.end(), slot.id) != make.senders.end()) {
      FailMakers(id, slot, lost);
    }
  }
  const auto take = [&](auto& pending) {
    std::vector<RequestHeader> requests;
    absl::erase_if(pending, [&](const auto& p) {
      if (p.second.worker == slot.id) requests.push_back(p.second.request);
      return p.second.worker == slot.id;
    });
    // In the order in which they were made, whatever the map's.
    std::sort(requests.begin(), requests.end(), [](const RequestHeader& a, const RequestHeader& b) {
      return std::pair(a.session, a.ticket) < std::pair(b.session, b.ticket);
    });
    return requests;
  };
  FailCompiles(slot.id, lost);
  for (RequestHeader request : take(fetches_)) out_->ReplyFetched(request, lost);
  for (RequestHeader request : take(queries_)) out_->ReplyQuery(request, lost);
  absl::erase_if(host_data_wanted_, [&](const auto& p) { return p.second.worker == slot.id; });
  ReleaseFrom(slot.id);
  SendPeers();
  LookAgain();
}

void ControllerCore::Impl::FailMakers(ArrayId id, const WorkerSlot& sender, const absl::Status& lost) {
  const PendingMake& make = makes_[id];
  proto::ToWorker message;
  message.mutable_fail()->set_array(Raw(id));
  *message.mutable_fail()->mutable_status() = ToProto(lost);
  const uint64_t holding = std::exchange(holding_, held_.contains(make.held) ? make.held : 0);
  for (const auto& [worker, reports] : make.reports) {
    if (worker != sender.id) Send(worker, message);
  }
  holding_ = holding;
}

void ControllerCore::Impl::LoseArrays(const WorkerSlot& slot, const absl::Status& lost) {
  // Who waits for one of them and for something else that goes on elsewhere need not wait any longer.
  std::vector<std::pair<std::shared_ptr<Wait>, absl::Status>> waits;
  std::vector<std::pair<WorkerId, ArrayId>> dropped;
  for (auto& [session_id, session] : sessions_) {
    for (auto& [id, array] : session->arrays) {
      if (!array.on_workers) continue;
      const auto& workers = array.placement->workers;
      if (std::find(workers.begin(), workers.end(), slot.id) == workers.end()) continue;
      Evict(array.memory, slot.id);
      // Nobody can use what is left of it.
      if (!DropHeld(*session, id, array)) {
        for (WorkerId worker : workers) dropped.emplace_back(worker, id);
      }
      array.on_workers = false;
      array.memory = {};
      if (array.deleted) continue;
      array.error.Update(WithOrigin(lost, array.LendPendingOrigin()));
      for (const std::shared_ptr<Future>& future : array.futures) {
        for (const std::shared_ptr<Wait>& wait : future->waits()) {
          if (std::find(wait->arrays.begin(), wait->arrays.end(), id) == wait->arrays.end()) continue;
          waits.emplace_back(wait, array.error);
        }
      }
    }
  }
  DropNames(std::move(dropped));
  // The order in which clients are told must not depend on where a table keeps its entries.
  std::sort(waits.begin(), waits.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->request.session, a.first->request.ticket) <
           std::pair(b.first->request.session, b.first->request.ticket);
  });
  for (const auto& [wait, error] : waits) wait->Fail(error, *out_);
}

void ControllerCore::Impl::SendPeers() {
  for (const WorkerSlot& to : cluster_.slots()) {
    if (!to.alive) continue;
    proto::ToWorker message;
    message.mutable_peers();
    for (const WorkerSlot& peer : cluster_.slots()) {
      if (!peer.alive || peer.id == to.id) continue;
      proto::Peers::Peer& entry = *message.mutable_peers()->add_peers();
      entry.set_worker(Raw(peer.id));
      entry.set_data_address(peer.hello.data_address());
      entry.set_data_key(cluster_.PairKey(to.id, peer.id));
      entry.set_incarnation(peer.incarnation);
    }
    out_->Send(to.link, message);
  }
}

void ControllerCore::Impl::On(Tick&) {
  if (started_ == absl::InfinitePast()) started_ = now_;
  for (const KeyValues::Reply& reply : key_values_.Expire(now_)) Answer(reply);
  trace_.OnTick(cluster_, now_, *out_);
  LookAgain();
  GiveUpOnRoom();
  for (WorkerSlot& slot : cluster_.slots()) {
    if (slot.alive && now_ - slot.last_heard > options_.heartbeat_timeout) {
      Lose(slot,
           absl::DeadlineExceededError(
               absl::StrCat("nothing was heard of it for ", absl::FormatDuration(options_.heartbeat_timeout))),
           /*close_link=*/true);
    }
  }
  if (now_ < next_ping_) return;
  next_ping_ = now_ + options_.heartbeat;
  proto::ToWorker message;
  message.mutable_ping()->set_number(++last_ping_);
  for (const WorkerSlot& slot : cluster_.slots()) {
    if (slot.alive) out_->Send(slot.link, message);
  }
}

// ---------------------------------------------------------------- for tools

proto::ClusterStatus ControllerCore::Impl::Status(absl::Time now) const {
  proto::ClusterStatus status;
  status.set_client_address(client_address_);
  status.set_expected_workers(options_.expected_workers);
  proto::ClusterStatus::Pending& pending = *status.mutable_pending();
  pending.set_launches(static_cast<int64_t>(launches_.size()) + scheduler_.queued());
  pending.set_makes(static_cast<int64_t>(makes_.size()));
  pending.set_compiles(static_cast<int64_t>(compiles_.size()));
  pending.set_fetches(static_cast<int64_t>(fetches_.size()));
  pending.set_queries(static_cast<int64_t>(queries_.size()));
  pending.set_host_data(static_cast<int64_t>(host_data_wanted_.size()));
  if (started_ != absl::InfinitePast()) status.set_uptime_ms(absl::ToInt64Milliseconds(now - started_));
  absl::flat_hash_map<DeviceId, int64_t> in_flight;
  absl::flat_hash_map<SessionId, int64_t> waiting;
  for (const auto& [number, launch] : launches_) {
    for (DeviceId device : launch->program->devices) ++in_flight[device];
    ++waiting[launch->session];
  }
  for (const auto& [id, held] : held_) {
    if (held->launch != nullptr) ++waiting[held->session];
  }
  for (const auto& [name, slots] : cluster_.Islands()) {
    proto::ClusterStatus::Island& island = *status.add_islands();
    island.set_name(name);
    for (const WorkerSlot* slot : slots) {
      proto::ClusterStatus::Worker& worker = *island.add_workers();
      worker.set_worker(Raw(slot->id));
      worker.set_name(slot->hello.name());
      worker.set_host(slot->hello.host());
      worker.set_pid(slot->hello.pid());
      worker.set_alive(slot->alive);
      worker.set_incarnation(slot->incarnation);
      worker.set_platform(slot->hello.platform());
      worker.set_plugin(slot->hello.plugin());
      worker.set_silent_ms(absl::ToInt64Milliseconds(now - slot->last_heard));
      worker.set_queued_launches(slot->accounts.queued_launches());
      worker.set_lost_because(std::string(slot->lost_because.message()));
      worker.set_host_bytes(slot->accounts.host_bytes());
      worker.set_programs(slot->accounts.programs());
    }
  }
  // Devices in the order in which sessions see them, so that those without ids yet show the ones they will get.
  absl::flat_hash_map<int32_t, proto::ClusterStatus::Worker*> workers;
  for (auto& island : *status.mutable_islands()) {
    for (auto& worker : *island.mutable_workers()) workers[worker.worker()] = &worker;
  }
  absl::flat_hash_map<DeviceId, proto::ClusterStatus::DeviceStatus*> devices;
  for (const DeviceView& view : cluster_.Views()) {
    const proto::Pong& accounts = cluster_.slot(view.worker).accounts;
    proto::ClusterStatus::DeviceStatus& device = *workers[Raw(view.worker)]->add_devices();
    devices[view.id] = &device;
    device.set_device(Raw(view.id));
    device.set_kind(view.device.kind());
    if (view.local_index < accounts.device_bytes_size()) device.set_bytes(accounts.device_bytes(view.local_index));
    if (view.local_index < accounts.device_buffers_size())
      device.set_buffers(accounts.device_buffers(view.local_index));
    device.set_launches_in_flight(in_flight[view.id]);
    const DeviceMemory::Use memory = memory_.Of(view.id);
    device.set_named_bytes(memory.bytes + memory.elsewhere);
    device.set_limit_bytes(view.device.memory_bytes());
    device.set_peak_bytes(memory.peak);
    const Scheduler::DeviceUse use = scheduler_.OfDevice(view.id);
    device.set_busy_us(absl::ToInt64Microseconds(use.busy));
    device.set_credits_in_flight(use.in_flight);
    device.set_credits(scheduler_.credits());
    for (const Scheduler::Use& session : use.sessions) {
      proto::ClusterStatus::Share& share = *device.add_shares();
      share.set_session(Raw(session.session));
      share.set_busy_us(absl::ToInt64Microseconds(session.busy));
    }
  }
  std::vector<const Session*> sessions;
  for (const auto& [id, session] : sessions_) sessions.push_back(session.get());
  std::sort(sessions.begin(), sessions.end(), [](const Session* a, const Session* b) { return a->id < b->id; });
  for (const Session* session : sessions) {
    proto::ClusterStatus::Session& out = *status.add_sessions();
    out.set_session(Raw(session->id));
    out.set_name(session->name);
    out.set_peer(session->peer);
    out.set_age_ms(absl::ToInt64Milliseconds(now - session->opened));
    out.set_programs(static_cast<int64_t>(session->programs.size()));
    out.set_launches(session->launches);
    out.set_launches_waiting(waiting[session->id]);
    out.set_in_flight(session->load.items());
    out.set_held_back(session->throttled);
    const absl::Span<const DeviceId> slice = slices_.Of(session->id);
    out.set_devices(DescribeDevices(slice));
    out.set_device_count(static_cast<int64_t>(slice.size()));
    out.set_cap(session->wishes.cap);
    out.set_memory_cap_bytes(session->wishes.memory_bytes);
    out.set_exclusive(session->wishes.exclusive);
    for (int i = 0; i < memory_.devices(); ++i) {
      const int64_t on_device = session->memory->On(DeviceId{i});
      if (on_device == 0) continue;
      out.add_device_bytes()->set_device(i);
      out.mutable_device_bytes()->rbegin()->set_bytes(on_device);
    }
    if (const uint64_t id = memory_queue_.FirstOf(session->id); id != 0) out.set_memory_wait(WhyNoRoom(id));
    const Scheduler::SessionUse use = scheduler_.OfSession(session->id, now);
    out.set_weight(use.weight);
    out.set_device_us(absl::ToInt64Microseconds(use.busy));
    out.set_queued(use.queued);
    out.set_expected_wait_us(absl::ToDoubleMicroseconds(use.expected_wait));
    out.set_place(use.place);
    int64_t bytes = 0;
    int64_t arrays = 0;
    absl::flat_hash_map<DeviceId, int64_t> bytes_on;
    for (const auto& [id, array] : session->arrays) {
      if (array.deleted || !array.on_workers) continue;
      ++arrays;
      for (int i = 0; i < array.spec->sharding->num_shards(); ++i) {
        const int64_t elements = array.spec->sharding->ShardBox(array.spec->dims, i).NumElements();
        const int64_t shard_bytes = elements * HostByteWidth(array.spec->dtype);
        bytes = SaturatingAdd(bytes, shard_bytes);
        int64_t& there = bytes_on[array.spec->sharding->devices()[i]];
        there = SaturatingAdd(there, shard_bytes);
      }
    }
    for (const auto& [device, held] : bytes_on) {
      if (devices.contains(device)) ShareOf(*devices[device], session->id).set_bytes(held);
    }
    out.set_arrays(arrays);
    out.set_array_bytes(bytes);
    AddPrograms(*session, status);
  }
  return status;
}

void ControllerCore::Impl::AddPrograms(const Session& session, proto::ClusterStatus& status) const {
  std::vector<const Program*> programs;
  for (const auto& [id, program] : session.programs) {
    if (program.compiled) programs.push_back(&program);
  }
  std::sort(programs.begin(), programs.end(),
            [](const Program* a, const Program* b) { return a->view->id < b->view->id; });
  for (const Program* program : programs) {
    proto::ClusterStatus::Program& out = *status.add_programs();
    out.set_session(Raw(session.id));
    out.set_name(program->view->info.name());
    out.set_devices(static_cast<int64_t>(program->view->devices.size()));
    out.set_workers(static_cast<int64_t>(program->placement->workers.size()));
    std::set<std::string> islands;
    for (WorkerId worker : program->placement->workers) islands.insert(cluster_.slot(worker).hello.island());
    out.set_islands(static_cast<int64_t>(islands.size()));
    out.set_launches(program->launches);
    out.set_worker_bytes(program->worker_bytes);
    out.set_island_bytes(program->island_bytes);
    out.set_compile_us(program->compile_us);
  }
}

ControllerCounts ControllerCore::Impl::Counts() const {
  ControllerCounts counts{.sessions = static_cast<int64_t>(sessions_.size()),
                          .launches = static_cast<int64_t>(launches_.size()),
                          .makes = static_cast<int64_t>(makes_.size()),
                          .compiles = static_cast<int64_t>(compiles_.size()),
                          .fetches = static_cast<int64_t>(fetches_.size()),
                          .queries = static_cast<int64_t>(queries_.size()),
                          .host_data = static_cast<int64_t>(host_data_wanted_.size()),
                          .traces = trace_.busy() ? 1 : 0};
  counts.held = static_cast<int64_t>(held_.size());
  counts.credits = scheduler_.in_flight();
  counts.memory_waits = static_cast<int64_t>(memory_queue_.orders().size());
  for (const auto& [id, session] : sessions_) {
    counts.arrays += static_cast<int64_t>(session->arrays.size());
    counts.programs += static_cast<int64_t>(session->programs.size());
  }
  for (int i = 0; i < memory_.devices(); ++i) {
    const DeviceMemory::Use use = memory_.Of(DeviceId{i});
    counts.named_bytes += use.bytes + use.elsewhere;
  }
  return counts;
}

}  // namespace causeway
