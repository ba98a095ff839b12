#include "sim/gangs.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "controller/scheduler.h"
#include "sim/world.h"

namespace causeway::sim {
namespace {

// The only thing that futures here do to the outside is to answer waits.
class Answers final : public ControllerActions {
 public:
  void ReplyDone(RequestHeader request, const absl::Status&) override { ++count[Raw(request.ticket)]; }
  void ReplyCompiled(RequestHeader, absl::StatusOr<std::shared_ptr<const ProgramView>>) override {}
  void ReplyFetched(RequestHeader, absl::StatusOr<Fetched>) override {}
  void ReplyQuery(RequestHeader, absl::StatusOr<proto::QueryDone>) override {}
  void WantHostData(SessionId, HostBufferId, WorkerId, StreamId, int64_t, bool, bool) override {}
  void Throttle(SessionId, bool) override {}
  void WorkerDown(WorkerId, const absl::Status&) override {}
  void Send(LinkId, const proto::ToWorker&) override {}
  void CloseLink(LinkId, const absl::Status&) override {}
  void WorkerUp(LinkId, WorkerId, uint64_t, const std::string&) override {}

  std::map<uint64_t, int> count;
};

struct Launch : Scheduler::Item {
  uint64_t ticket = 0;
  absl::Duration takes;
  std::vector<std::shared_ptr<Future>> needs;  // as `inputs`, which the scheduler forgets
  std::vector<Launch*> next;                   // that take its outputs
  bool handed_over = false;
  bool running = false;
  bool over = false;
};

struct Kind {
  std::shared_ptr<const Placement> placement;
  std::shared_ptr<Scheduler::Measured> measured;
  absl::Duration takes;
};

struct Tenant {
  SessionId id{0};
  double weight = 1;
  double cap = 1;
  int at_most = 1;  // launches asked for and not ended
  int asked = 0;
  int left = 0;
  bool open = true;
  bool stands_still = false;                    // once it has not sent something
  std::vector<std::shared_ptr<Future>> unsent;  // data that launches take, and that come when it goes on
  std::vector<Kind> kinds;
  Launch* last = nullptr;
};

class Gangs {
 public:
  explicit Gangs(const GangsOptions& options)
      : world_(options.seed, options.trace), scheduler_(Draw()), launches_(options.launches) {
    DrawDevices();
    DrawTenants();
  }

  GangsResult Run();

 private:
  Scheduler::Options Draw();
  void DrawDevices();
  void DrawTenants();
  std::shared_ptr<const Placement> DrawPlacement();
  void Ask(Tenant& tenant);
  void TakeData(Tenant& tenant, Launch& launch);
  void Send(const std::shared_ptr<Future>& data);
  void WakeWhoStandsStill();
  void Schedule();
  void LookAgain();
  void HandOver(Launch& launch);
  void StartWhatCan();
  void End(Launch& launch);
  void Drop(Launch& launch, const absl::Status& why);
  void LoseDevice(int device);
  void Close(Tenant& tenant);
  void CheckCredits();
  void CheckShares();
  void CheckEnd();
  std::string Profile() const;

  World world_;
  bool shares_ = false;  // all sessions want the same devices all the time, and nothing fails
  double faults_percent_ = 0;
  Scheduler::Options options_;
  Scheduler scheduler_;
  const int launches_;
  Answers answers_;
  int islands_ = 1;
  int devices_per_island_ = 1;
  std::deque<Tenant> tenants_;
  std::deque<std::unique_ptr<Launch>> all_;
  std::map<int, std::deque<Launch*>> queues_;           // by device: handed over and not ended
  std::map<std::pair<SessionId, int>, uint64_t> last_;  // handed over, by session and device
  GangsResult result_;
};

Scheduler::Options Gangs::Draw() {
  Random& random = world_.random();
  shares_ = random.Chance(30);
  faults_percent_ = shares_ || random.Chance(40) ? 0 : 0.5;
  options_.policy = shares_ || random.Chance(60) ? Scheduler::Policy::kFair : Scheduler::Policy::kFirstCome;
  options_.credits = static_cast<int>(random.Between(1, 6));
  options_.ahead = random.Chance(50) ? absl::Milliseconds(1) : absl::ZeroDuration();
  options_.sequential = !shares_ && random.Chance(10);
  return options_;
}

void Gangs::DrawDevices() {
  islands_ = static_cast<int>(world_.random().Between(1, 4));
  devices_per_island_ = static_cast<int>(world_.random().Between(1, 4));
}

std::shared_ptr<const Placement> Gangs::DrawPlacement() {
  Random& random = world_.random();
  auto placement = std::make_shared<Placement>();
  const auto whole = static_cast<int>(random.Pick(4));
  for (int island = 0; island < islands_; ++island) {
    if (whole == 0 && random.Chance(50)) continue;  // some islands
    for (int device = 0; device < devices_per_island_; ++device) {
      if (whole == 1 && random.Chance(50)) continue;  // whatever devices
      placement->devices.push_back(DeviceId{island * devices_per_island_ + device});
    }
    if (whole == 2) break;  // one island
  }
  if (placement->devices.empty()) placement->devices.push_back(DeviceId{0});
  return placement;
}

void Gangs::DrawTenants() {
  Random& random = world_.random();
  const auto count = static_cast<int>(random.Between(1, 8));
  const std::shared_ptr<const Placement> common = DrawPlacement();
  for (int i = 0; i < count; ++i) {
    Tenant& tenant = tenants_.emplace_back();
    tenant.id = SessionId(i + 1);
    tenant.weight = static_cast<double>(int64_t{1} << random.Pick(4));
    tenant.stands_still = !shares_ && random.Chance(15);
    if (!shares_ && random.Chance(15)) tenant.cap = static_cast<double>(random.Between(2, 9)) / 10;
    tenant.at_most = static_cast<int>(shares_ ? 50 : random.Between(1, 60));
    tenant.left = shares_ ? launches_ : launches_ / count;
    scheduler_.OpenSession(tenant.id, tenant.weight, tenant.cap);
    for (int64_t kinds = random.Between(1, 3); kinds > 0; --kinds) {
      tenant.kinds.push_back({shares_ ? common : DrawPlacement(), std::make_shared<Scheduler::Measured>(),
                              absl::Microseconds(random.Between(50, 20000))});
    }
  }
}

void Gangs::Ask(Tenant& tenant) {
  Random& random = world_.random();
  while (tenant.open && tenant.asked < tenant.at_most && tenant.left > 0) {
    const Kind& kind = random.Of(tenant.kinds);
    auto launch = std::make_unique<Launch>();
    launch->session = tenant.id;
    launch->order = launch->ticket = all_.size() + 1;
    launch->placement = kind.placement;
    launch->measured = kind.measured;
    launch->takes = kind.takes * (static_cast<double>(random.Between(90, 110)) / 100);
    launch->future = std::make_shared<Future>(1, RequestHeader{}, answers_);
    auto wait = std::make_shared<Wait>();
    wait->request = {tenant.id, Ticket{launch->ticket}};
    wait->remaining = 1;
    launch->future->AddWait(std::move(wait));
    if (tenant.last != nullptr && !tenant.last->over && random.Chance(shares_ ? 0 : 40)) {
      launch->needs.push_back(tenant.last->future);
      launch->inputs.push_back(tenant.last->future);
      if (!tenant.last->handed_over) {
        ++launch->missing;
        tenant.last->next.push_back(launch.get());
      }
    }
    if (random.Chance(shares_ ? 0 : 20)) TakeData(tenant, *launch);
    ++tenant.asked;
    --tenant.left;
    tenant.last = launch.get();
    all_.push_back(std::move(launch));
    world_.Note("session ", Raw(tenant.id), " asks for launch ", all_.back()->ticket);
    scheduler_.Add(*all_.back());
  }
}

void Gangs::TakeData(Tenant& tenant, Launch& launch) {
  auto data = std::make_shared<Future>(1, RequestHeader{}, answers_);
  data->SetMake();
  data->ExpectFromClient(1);
  launch.needs.push_back(data);
  launch.inputs.push_back(data);
  if (tenant.stands_still) {
    tenant.unsent.push_back(std::move(data));
  } else {
    Send(data);
  }
}

// Its client sends it; some time later it is where it is needed.
void Gangs::Send(const std::shared_ptr<Future>& data) {
  Random& random = world_.random();
  const absl::Duration sent = absl::Microseconds(random.Between(0, 5000));
  world_.After(sent, [this, data] {
    data->ClientSent();
    LookAgain();
  });
  world_.After(sent + absl::Microseconds(random.Between(1, 5000)), [this, data] {
    data->PartDone(absl::OkStatus(), answers_);
    LookAgain();
  });
}

// Who waits for the data of its client holds nobody up: it goes on only when all others have done what they want.
void Gangs::WakeWhoStandsStill() {
  for (const Tenant& tenant : tenants_) {
    if (tenant.open && tenant.unsent.empty() && tenant.asked + tenant.left > 0) return;
  }
  for (Tenant& tenant : tenants_) {
    tenant.stands_still = false;
    for (const auto& data : std::exchange(tenant.unsent, {})) Send(data);
  }
}

void Gangs::Schedule() {
  for (Tenant& tenant : tenants_) Ask(tenant);
  scheduler_.Run(world_.Now(), [this](Scheduler::Item& item) { HandOver(static_cast<Launch&>(item)); });
  StartWhatCan();
  CheckCredits();
}

void Gangs::LookAgain() {
  scheduler_.LookAgain();
  Schedule();
}

void Gangs::HandOver(Launch& launch) {
  world_.Note("launch ", launch.ticket, " is handed over");
  if (launch.handed_over || launch.over) world_.Fail(absl::StrCat("launch ", launch.ticket, " is handed over again"));
  if (launch.missing > 0) world_.Fail(absl::StrCat("launch ", launch.ticket, " comes before what it takes"));
  if (std::any_of(launch.needs.begin(), launch.needs.end(), [](const auto& need) { return need->AwaitsClient(); })) {
    world_.Fail(absl::StrCat("launch ", launch.ticket, " comes before its client's data"));
  }
  launch.handed_over = true;
  for (DeviceId device : launch.placement->devices) {
    queues_[Raw(device)].push_back(&launch);
    uint64_t& last = last_[{launch.session, Raw(device)}];
    if (last >= launch.ticket) world_.Fail(absl::StrCat("launch ", launch.ticket, " comes after ", last));
    last = launch.ticket;
  }
  for (Launch* next : std::exchange(launch.next, {})) {
    if (--next->missing == 0 && !next->over) scheduler_.Release(*next);
  }
}

void Gangs::StartWhatCan() {
  for (auto& [device, queue] : queues_) {
    if (queue.empty() || queue.front()->running) continue;
    Launch& launch = *queue.front();
    const bool everywhere = std::all_of(launch.placement->devices.begin(), launch.placement->devices.end(),
                                        [&](DeviceId d) { return queues_[Raw(d)].front() == &launch; });
    const bool there = std::all_of(launch.needs.begin(), launch.needs.end(), [](const auto& f) { return f->done(); });
    if (!everywhere || !there) continue;
    launch.running = true;
    world_.After(launch.takes, [this, &launch] {
      if (!launch.over) End(launch);
    });
  }
}

void Gangs::End(Launch& launch) {
  world_.Note("launch ", launch.ticket, " ends");
  launch.over = true;
  ++result_.launches;
  const auto& devices = launch.placement->devices;
  if (Raw(devices.front()) / devices_per_island_ != Raw(devices.back()) / devices_per_island_) ++result_.gangs;
  for (DeviceId device : devices) queues_[Raw(device)].pop_front();
  launch.measured->Add(launch.takes);
  launch.future->PartDone(absl::OkStatus(), answers_);
  scheduler_.End(launch, launch.takes, world_.Now());
  Tenant& tenant = tenants_[Raw(launch.session) - 1];
  --tenant.asked;
  scheduler_.LookAgain();
  if (shares_ && std::any_of(tenants_.begin(), tenants_.end(), [](const Tenant& t) { return t.left == 0; })) {
    CheckShares();
  }
  Schedule();
}

void Gangs::Drop(Launch& launch, const absl::Status& why) {
  if (launch.over) return;
  world_.Note("launch ", launch.ticket, " is lost");
  launch.over = true;
  ++result_.dropped;
  for (DeviceId device : launch.placement->devices) std::erase(queues_[Raw(device)], &launch);
  scheduler_.Drop(launch, world_.Now());
  launch.future->Fail(why, answers_);
  --tenants_[Raw(launch.session) - 1].asked;
  for (Launch* next : std::exchange(launch.next, {})) {
    if (--next->missing == 0 && !next->over) scheduler_.Release(*next);
  }
}

void Gangs::LoseDevice(int device) {
  world_.Note("device ", device, " is lost");
  ++result_.faults;
  for (const auto& launch : all_) {
    const auto& devices = launch->placement->devices;
    if (std::find(devices.begin(), devices.end(), DeviceId{device}) == devices.end()) continue;
    Drop(*launch, absl::DataLossError("the device is lost"));
  }
}

void Gangs::Close(Tenant& tenant) {
  world_.Note("session ", Raw(tenant.id), " closes");
  ++result_.faults;
  tenant.open = false;
  scheduler_.CloseSession(tenant.id);
  // What was handed over goes on; the rest is gone, and nobody is told of it.
  for (const auto& launch : all_) {
    if (launch->session != tenant.id || launch->over || launch->handed_over) continue;
    launch->over = true;
    ++result_.dropped;
    launch->future->Fail(absl::CancelledError("closed"), answers_);
  }
}

void Gangs::CheckCredits() {
  if (options_.ahead > absl::ZeroDuration()) return;
  for (const auto& [device, queue] : queues_) {
    const int given = scheduler_.OfDevice(DeviceId{device}).in_flight;
    if (given > options_.credits || given != static_cast<int>(queue.size())) {
      world_.Fail(absl::StrCat("device ", device, " has ", queue.size(), " launches, ", given,
                               " credits are given out, ", options_.credits, " were allowed"));
    }
  }
}

// Start-time fair queueing keeps two sessions that always want the same within the longest launch of each, over its
// weight; here times are known only when launches end, so each may be ahead by what was in flight.
void Gangs::CheckShares() {
  shares_ = false;
  const double devices = static_cast<double>(tenants_[0].kinds[0].placement->devices.size());
  absl::Duration longest;
  for (const Tenant& tenant : tenants_) {
    for (const Kind& kind : tenant.kinds) longest = std::max(longest, kind.takes * 1.1);
  }
  double most = 0;
  double least = 1e300;
  double light = 1e300;
  for (const Tenant& tenant : tenants_) {
    const absl::Duration busy = scheduler_.OfSession(tenant.id, world_.Now()).busy / devices;
    most = std::max(most, absl::FDivDuration(busy, longest) / tenant.weight);
    least = std::min(least, absl::FDivDuration(busy, longest) / tenant.weight);
    light = std::min(light, tenant.weight);
  }
  // In launches of the longest kind of the lightest session.
  result_.worst_share = (most - least) * light;
  if (result_.worst_share > options_.credits + 2) {
    world_.Fail(absl::StrFormat("shares are %.1f of the longest launches apart", result_.worst_share));
  }
}

void Gangs::CheckEnd() {
  if (scheduler_.queued() != 0) world_.Fail(absl::StrCat(scheduler_.queued(), " launches wait for ever"));
  if (scheduler_.in_flight() != 0) world_.Fail(absl::StrCat(scheduler_.in_flight(), " credits are lost"));
  for (int device = 0; device < islands_ * devices_per_island_; ++device) {
    const int left = scheduler_.OfDevice(DeviceId{device}).in_flight;
    if (left != 0) world_.Fail(absl::StrCat("device ", device, " lacks ", left, " credits"));
  }
  for (const auto& launch : all_) {
    if (!launch->over) world_.Fail(absl::StrCat("launch ", launch->ticket, " never ends"));
    if (answers_.count[launch->ticket] != 1) {
      world_.Fail(absl::StrCat("launch ", launch->ticket, " is answered ", answers_.count[launch->ticket], " times"));
    }
  }
}

std::string Gangs::Profile() const {
  return absl::StrFormat(
      "%d islands of %d devices, %d sessions of weights %s, %s, %d credits, %s", islands_, devices_per_island_,
      tenants_.size(),
      absl::StrJoin(tenants_, " ", [](std::string* out, const Tenant& t) { absl::StrAppend(out, t.weight); }),
      options_.policy == Scheduler::Policy::kFair ? "fair" : "first come", options_.credits,
      options_.sequential ? "sequential" : "parallel");
}

GangsResult Gangs::Run() {
  result_.profile = Profile();
  Schedule();
  constexpr int kMostIdle = 100'000;  // looks of 1 ms at what waits for a cap
  for (int idle = 0; idle < kMostIdle && scheduler_.queued() + scheduler_.in_flight() > 0; ++idle) {
    if (world_.RunOne()) {
      if (world_.random().Chance(faults_percent_)) {
        if (world_.random().Chance(70)) {
          LoseDevice(static_cast<int>(world_.random().Pick(int64_t{islands_} * devices_per_island_)));
        } else {
          Tenant& tenant = tenants_[world_.random().Pick(static_cast<int64_t>(tenants_.size()))];
          if (tenant.open) Close(tenant);
        }
        Schedule();
      }
      continue;
    }
    WakeWhoStandsStill();
    world_.After(absl::Milliseconds(1), [this] { LookAgain(); });
  }
  CheckEnd();
  result_.findings = world_.findings();
  result_.trace_hash = world_.trace_hash();
  return std::move(result_);
}

}  // namespace

GangsResult RunGangs(const GangsOptions& options) { return Gangs(options).Run(); }

}  // namespace causeway::sim
