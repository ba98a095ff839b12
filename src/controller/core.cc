#include "controller/core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "controller/core_impl.h"

namespace causeway {
namespace {

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

}  // namespace causeway
