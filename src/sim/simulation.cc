#include "sim/simulation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/client.h"
#include "sim/controller_process.h"
#include "sim/data_network.h"
#include "sim/door.h"
#include "sim/model.h"
#include "sim/profile.h"
#include "sim/worker_process.h"
#include "sim/world.h"

namespace causeway::sim {
namespace {

// Of a run that does not come to rest. Far more than any that does has taken.
constexpr int64_t kMostEvents = 20'000'000;

// With a silent worker. Short against the pauses that clients make, so that it does run out.
constexpr absl::Duration kPatience = absl::Seconds(1);

class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options)
      : steps_(options.steps),
        world_(options.seed, options.trace),
        profile_(Profile::Draw(world_.random())),
        network_(world_, profile_.data),
        model_(
            world_, [this](const std::string& worker) { return IsHealthy(worker); },
            [this](std::string finding) { world_.Fail(std::move(finding)); }),
        door_(world_),
        clients_context_{world_, profile_, model_, door_} {}

  ~Simulation() {
    watching_ = false;
    for (auto& [name, host] : hosts_) StopWorker(host);
    StopController();
  }

  SimulationResult Run();

 private:
  // A machine on which a worker runs, or will again.
  struct Host {
    WorkerProcessOptions options;
    std::shared_ptr<WorkerProcess> process;
  };

  // ---- the cluster
  void StartController();
  void StopController();
  void StartWorker(Host& host);
  void StopWorker(Host& host);
  bool IsHealthy(const std::string& worker) const;
  std::shared_ptr<ControlLink> Dial();

  // ---- what happens
  void Step();
  bool Inflict();
  void CrashWorker(Host& host);
  void BreakLink(Host& host);
  void StallLink(Host& host);
  void CutData();
  void RestartController();
  void OpenSession();
  void CloseSession(Client& client);
  Host& AnyHost();
  Client* AnyClient();

  // ---- the end
  void Drain(const char* what);
  // At rest: the controller's accounts are the workers'.
  void CheckMemory();
  void ExpectAnswers(const char* what);
  void Finish();

  const int steps_;
  World world_;
  const Profile profile_;
  DataNetwork network_;
  Model model_;
  Door door_;
  ClientContext clients_context_;
  std::unique_ptr<ControllerProcess> controller_;
  std::map<std::string, Host> hosts_;
  std::vector<std::unique_ptr<Client>> clients_;  // whose sessions are open
  uint32_t last_session_ = 0;
  int steps_done_ = 0;
  bool watching_ = true;  // time is told, and silence listened for
  int64_t faults_ = 0;
  int64_t launches_ = 0;
  std::map<std::string, int> compiled_;  // by program
};

// ---------------------------------------------------------------- the cluster

void Simulation::StartController() {
  ControllerProcessOptions options;
  options.core.key_seed = world_.random().Next();
  options.core.heartbeat = absl::Milliseconds(100);
  options.core.heartbeat_timeout = kPatience;
  options.core.limits = profile_.limits;
  options.core.scheduling = profile_.scheduling;
  options.core.memory_wait = profile_.memory_wait;
  options.link_delay = profile_.link_delay;
  options.full_frames = profile_.full_frames;
  options.caps = profile_.caps;
  // Waiting for memory has an end that time brings.
  options.watching = [this] {
    return watching_ || (profile_.device_memory_bytes > 0 && controller_->core().Counts().held > 0);
  };
  model_.SetMemoryLimited(profile_.device_memory_bytes > 0);
  controller_ = std::make_unique<ControllerProcess>(world_, network_, options, door_, model_);
  clients_context_.controller = controller_.get();
  door_.Restart(controller_.get());
}

void Simulation::StopController() {
  door_.Restart(nullptr);
  clients_context_.controller = nullptr;
  clients_.clear();
  model_.Reset();
  controller_ = nullptr;
}

void Simulation::StartWorker(Host& host) {
  host.process = std::make_shared<WorkerProcess>(world_, network_, host.options);
  host.process->Start([this](const auto&) { return Dial(); });
}

void Simulation::StopWorker(Host& host) {
  if (host.process != nullptr) launches_ += host.process->launches_run();
  host.process = nullptr;
}

std::shared_ptr<ControlLink> Simulation::Dial() { return controller_ == nullptr ? nullptr : controller_->Accept(); }

bool Simulation::IsHealthy(const std::string& worker) const {
  const auto found = hosts_.find(worker);
  if (found == hosts_.end() || found->second.process == nullptr) return false;
  const std::shared_ptr<ControlLink>& link = found->second.process->link();
  return link != nullptr && link->open(ControlLink::kWorker) && !link->broken();
}

// ---------------------------------------------------------------- what happens

Simulation::Host& Simulation::AnyHost() {
  return std::next(hosts_.begin(), world_.random().Pick(static_cast<int64_t>(hosts_.size())))->second;
}

Client* Simulation::AnyClient() { return clients_.empty() ? nullptr : world_.random().Of(clients_).get(); }

void Simulation::CrashWorker(Host& host) {
  if (host.process == nullptr) return;
  world_.Note(host.options.name, " is killed");
  model_.Impair(host.options.name);
  StopWorker(host);
  world_.After(world_.random().Delay(absl::Milliseconds(20)), [this, &host] { StartWorker(host); });
}

void Simulation::BreakLink(Host& host) {
  if (host.process == nullptr || host.process->link() == nullptr) return;
  world_.Note("the link of ", host.options.name, " breaks");
  model_.Impair(host.options.name);
  host.process->link()->Break();
}

void Simulation::StallLink(Host& host) {
  if (host.process == nullptr || host.process->link() == nullptr) return;
  world_.Note("the link of ", host.options.name, " stalls");
  host.process->link()->Stall(world_.Now() + world_.random().Between(1, 50) * kPatience / 10);
}

void Simulation::CutData() {
  const Host& host = AnyHost();
  const Host& other = AnyHost();
  if (host.process == nullptr) return;
  const std::optional<WorkerId> worker = model_.WorkerNamed(host.options.name);
  if (!worker) return;
  std::string address = controller_->data_plane().listen_address();
  PeerId peer = kControllerPeer;
  if (other.process != nullptr && other.process != host.process) {
    address = other.process->data_address();
    const std::optional<WorkerId> other_worker = model_.WorkerNamed(other.options.name);
    if (!other_worker) return;
    peer = PeerOf(*other_worker);
  }
  if (!network_.Break(host.process->data_address(), address)) return;
  world_.Note("the data connection of ", host.options.name, " to peer ", static_cast<int>(peer), " breaks");
  model_.Cut(PathBetween(PeerOf(*worker), peer));
}

void Simulation::RestartController() {
  world_.Note("the controller is killed");
  StopController();
  StartController();
}

bool Simulation::Inflict() {
  Random& random = world_.random();
  const auto begins = [&](double percent) { return percent > 0 && random.Chance(percent); };
  if (begins(profile_.crashes)) {
    CrashWorker(AnyHost());
  } else if (begins(profile_.breaks)) {
    BreakLink(AnyHost());
  } else if (begins(profile_.stalls)) {
    StallLink(AnyHost());
  } else if (begins(profile_.cuts)) {
    CutData();
  } else if (begins(profile_.restarts)) {
    RestartController();
  } else {
    return false;
  }
  ++faults_;
  return true;
}

void Simulation::OpenSession() {
  clients_.push_back(std::make_unique<Client>(clients_context_, SessionId{++last_session_}));
  clients_.back()->Open();
  if (!clients_.back()->open()) clients_.pop_back();
}

void Simulation::CloseSession(Client& client) {
  client.Close();
  std::erase_if(clients_, [&](const auto& known) { return known.get() == &client; });
}

void Simulation::Step() {
  if (++steps_done_ > steps_) return;
  Random& random = world_.random();
  absl::Duration pause = random.Delay(profile_.think_time);
  Client* const client = AnyClient();
  if (Inflict()) {
    // That is enough for one step.
  } else if (client == nullptr ||
             (static_cast<int>(clients_.size()) < profile_.max_sessions && random.Chance(profile_.opens))) {
    OpenSession();
    if (clients_.empty()) pause = absl::Milliseconds(50);
  } else if (random.Chance(profile_.closes)) {
    CloseSession(*client);
  } else if (random.Chance(profile_.pauses)) {
    pause = absl::Milliseconds(random.Between(1, 3000));
  } else if (!profile_.obedient || !door_.held(client->session())) {
    client->Step();
  }
  world_.After(pause, [this] { Step(); });
}

// ---------------------------------------------------------------- the end

void Simulation::Drain(const char* what) {
  while (world_.RunOne()) {
    if (world_.calls() > kMostEvents) return world_.Fail(absl::StrCat("there is no rest ", what));
  }
}

void Simulation::ExpectAnswers(const char* what) {
  for (const std::string& open : door_.Unfinished()) world_.Fail(absl::StrCat(open, ": no answer ", what));
}

void Simulation::CheckMemory() {
  for (const DeviceView& device : controller_->core().Devices()) {
    const auto host = hosts_.find(device.worker_name);
    if (host == hosts_.end() || host->second.process == nullptr) continue;
    const DeviceMemory::Use use = controller_->core().MemoryOf(device.id);
    const int64_t held = host->second.process->Counts().device_bytes[device.local_index];
    if (use.bytes + use.elsewhere == held) continue;
    world_.Fail(absl::StrCat("device ", Raw(device.id), " of ", device.worker_name, " holds ", held,
                             " bytes, the controller counts ", use.bytes + use.elsewhere));
  }
}

void Simulation::Finish() {
  // Everybody is back, nobody watches the clock, and what is under way comes to its end.
  watching_ = false;
  Drain("when all requests have been made");
  ExpectAnswers("when all has come to rest");
  CheckMemory();
  for (const auto& client : clients_) client->AskForEverything();
  Drain("when everything has been asked for");
  ExpectAnswers("when everything has been asked for");

  bool everybody = true;
  for (const auto& client : clients_) {
    const bool lets_go = world_.random().Chance(50);
    if (lets_go) client->LetGoOfEverything();
    everybody = everybody && lets_go;
  }
  Drain("when clients have let go");
  const auto expect_empty = [this] {
    for (auto& [name, host] : hosts_) {
      if (host.process != nullptr) host.process->CheckEmpty();
    }
  };
  if (everybody) expect_empty();
  while (!clients_.empty()) CloseSession(*clients_.front());
  Drain("when all sessions are closed");
  ExpectAnswers("when all sessions are closed");
  expect_empty();
  controller_->CheckEmpty();
}

SimulationResult Simulation::Run() {
  world_.Note(profile_.Describe());
  StartController();
  for (WorkerProcessOptions options : profile_.workers) {
    options.watching = [this] { return watching_; };
    options.compiled_before = [this](const std::string& program) { return compiled_[program]++; };
    options.on_link_lost = [this, name = options.name] { model_.Impair(name); };
    Host& host = hosts_[options.name];
    host.options = options;
    StartWorker(host);
  }
  Step();
  while (steps_done_ <= steps_ && world_.findings().empty() && world_.RunOne()) {
  }
  if (world_.findings().empty()) Finish();

  SimulationResult result;
  for (auto& [name, host] : hosts_) StopWorker(host);
  result.findings = world_.findings();
  result.trace_hash = world_.trace_hash();
  result.profile = profile_.Describe();
  result.events = world_.calls();
  result.answers = door_.answers();
  result.launches = launches_;
  result.faults = faults_;
  return result;
}

}  // namespace

SimulationResult RunSimulation(const SimulationOptions& options) { return Simulation(options).Run(); }

}  // namespace causeway::sim
