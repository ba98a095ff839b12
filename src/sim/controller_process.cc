#include "sim/controller_process.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "sim/describe.h"

namespace causeway::sim {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);

// Where nobody watches any more, launches may still wait for their sessions' caps, which so many ticks are enough for.
// Without caps nothing waits for time alone, and a launch that does is to be found.
constexpr int kLateTicks = 1000;

ControllerOptions WithAddress(ControllerOptions options, const std::string& address) {
  options.data_address = address;
  return options;
}

// The name in what the core calls a worker for people: "worker NAME (devices ...)".
std::string NameIn(absl::string_view described) {
  absl::ConsumePrefix(&described, "worker ");
  return std::string(described.substr(0, described.find(' ')));
}

}  // namespace

ControllerProcess::ControllerProcess(World& world, DataNetwork& network, ControllerProcessOptions options,
                                     ClientActions& door, ClusterWatcher& watcher)
    : world_(world),
      options_(std::move(options)),
      door_(door),
      watcher_(watcher),
      plane_(network.Add(kControllerPeer)),
      core_(WithAddress(options_.core, plane_->listen_address())) {
  Tick();
}

ControllerProcess::~ControllerProcess() {
  *alive_ = false;
  for (const auto& [id, link] : links_) link->Abandon(ControlLink::kController);
}

void ControllerProcess::Handle(Event event) {
  if (std::exchange(inside_, true)) world_.Fail("the controller core is entered from within");
  core_.Handle(std::move(event), world_.Now(), *this);
  inside_ = false;
}

void ControllerProcess::Tick() {
  if (!options_.watching() && (!options_.caps || core_.Counts().held == 0 || ++late_ticks_ > kLateTicks)) return;
  Handle(causeway::Tick{});
  world_.After(kTick, [this, alive = alive_] {
    if (*alive) Tick();
  });
}

std::shared_ptr<ControlLink> ControllerProcess::Accept() {
  const LinkId id{++last_link_};
  const auto link = std::make_shared<ControlLink>(world_, id, options_.link_delay);
  link->Open(ControlLink::kController, {[this, alive = alive_, id](const std::string& frame) {
                                          if (*alive) OnFrame(id, frame);
                                        },
                                        [this, alive = alive_, id](const absl::Status& why) {
                                          if (!*alive) return;
                                          world_.Note("controller has lost link ", id);
                                          Handle(LinkClosed{id, why});
                                          links_.erase(id);
                                          full_.erase(id);
                                        }});
  links_[id] = link;
  return link;
}

void ControllerProcess::OnFrame(LinkId link, const std::string& frame) {
  proto::ToController message;
  if (!message.ParseFromString(frame)) return world_.Fail("a frame that is no message");
  world_.NoteBytes(frame, [&] { return absl::StrCat("controller <- link ", Raw(link), ": ", Describe(message)); });
  Handle(WorkerFrame{link, std::move(message), "sim"});
}

void ControllerProcess::Send(LinkId link, const proto::ToWorker& message) {
  const auto found = links_.find(link);
  if (found == links_.end()) return;
  found->second->Send(ControlLink::kWorker, message.SerializeAsString());
  if (found->second->in_flight(ControlLink::kWorker) > options_.full_frames && full_.insert(link).second) {
    WatchFullness(link, true);
  }
}

// Tells the core that the link is full, and then that it is not.
void ControllerProcess::WatchFullness(LinkId link, bool full) {
  world_.After(world_.random().Delay(options_.link_delay), [this, alive = alive_, link, full] {
    const auto found = *alive ? links_.find(link) : links_.end();
    if (!*alive || found == links_.end()) return;
    if (!full && found->second->in_flight(ControlLink::kWorker) > options_.full_frames / 2) {
      return WatchFullness(link, full);
    }
    if (!full) full_.erase(link);
    world_.Note("link ", link, full ? " is full" : " has room");
    Handle(LinkFull{link, full});
    if (full) WatchFullness(link, false);
  });
}

void ControllerProcess::CloseLink(LinkId link, const absl::Status& why) {
  const auto found = links_.find(link);
  if (found != links_.end()) found->second->Close(ControlLink::kController, why);
}

void ControllerProcess::WorkerUp(LinkId, WorkerId worker, uint64_t data_key, const std::string& name) {
  world_.Note("worker ", worker, " is up: ", name);
  plane_->SetPeer(PeerOf(worker), "", data_key);
  watcher_.OnWorkerUp(worker, NameIn(name));
}

void ControllerProcess::WorkerDown(WorkerId worker, const absl::Status& why) {
  world_.Note("worker ", worker, " is down: ", why.message());
  plane_->DropPeer(PeerOf(worker));
  watcher_.OnWorkerDown(worker);
}

void ControllerProcess::CheckEmpty() {
  const ControllerCounts counts = core_.Counts();
  const auto expect_none = [this](const char* what, int64_t count) {
    if (count != 0) world_.Fail(absl::StrCat("controller: ", count, " ", what, " are left over"));
  };
  expect_none("sessions", counts.sessions);
  expect_none("arrays", counts.arrays);
  expect_none("programs", counts.programs);
  expect_none("bytes of arrays", counts.named_bytes);
  expect_none("launches", counts.launches);
  expect_none("makes", counts.makes);
  expect_none("compiles", counts.compiles);
  expect_none("fetches", counts.fetches);
  expect_none("queries", counts.queries);
  expect_none("waits for host data", counts.host_data);
  expect_none("held operations", counts.held);
  expect_none("credits given out", counts.credits);
  expect_none("streams in the data plane", plane_->open_streams());
}

}  // namespace causeway::sim
