// The core's workers: who joins, what they say, and what is to be done where one is lost.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/origin.h"
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

}  // namespace

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
      FailMakers(id, make, lost);
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

void ControllerCore::Impl::FailMakers(ArrayId id, const PendingMake& make, const absl::Status& lost) {
  proto::ToWorker message;
  message.mutable_fail()->set_array(Raw(id));
  *message.mutable_fail()->mutable_status() = ToProto(lost);
  const uint64_t holding = std::exchange(holding_, held_.contains(make.held) ? make.held : 0);
  for (const auto& [worker, reports] : make.reports) Send(worker, message);
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

}  // namespace causeway
