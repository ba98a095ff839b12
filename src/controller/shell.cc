#include "controller/shell.h"

#include <atomic>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "controller/event_kind.h"
#include "net/io_thread.h"
#include "net/socket_data_plane.h"
#include "net/tcp_link.h"

namespace causeway {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);

// How long a stranger may take to say who it is, and how many may be at it.
constexpr absl::Duration kHelloPatience = absl::Seconds(10);
constexpr size_t kMaxStrangers = 1024;

}  // namespace

// One link of a worker or tool. Reads frames on the io thread.
class ControllerShell::Connection final : public LinkHandler {
 public:
  Connection(ControllerShell& shell, LinkId id, std::unique_ptr<Link> link, absl::Time accepted)
      : shell_(shell), id_(id), link_(std::move(link)), accepted_(accepted) {}

  void OnFrame(std::string frame) override {
    WorkerFrame event{id_, {}, link_->PeerName()};
    if (!event.message.ParseFromString(frame)) {
      link_->Close(absl::InvalidArgumentError("a frame that is no message of the control protocol"));
      return;
    }
    introduced_ = true;
    shell_.Handle(std::move(event));
  }
  void OnClosed(absl::Status why) override { shell_.Closed(id_, why); }
  void OnFull(bool full) override { shell_.Handle(LinkFull{id_, full}); }

  Link& link() { return *link_; }
  bool IsStranger() const { return !introduced_; }
  bool HasWaitedTooLong(absl::Time now) const { return !introduced_ && now - accepted_ > kHelloPatience; }

 private:
  ControllerShell& shell_;
  const LinkId id_;
  const std::unique_ptr<Link> link_;
  const absl::Time accepted_;
  std::atomic<bool> introduced_ = false;
};

ControllerShell::ControllerShell(ControllerShellOptions options) : options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<ControllerShell>> ControllerShell::Start(ControllerShellOptions options) {
  std::unique_ptr<ControllerShell> shell(new ControllerShell(std::move(options)));
  RETURN_IF_ERROR(shell->Listen());
  return shell;
}

absl::Status ControllerShell::Listen() {
  io_ = std::make_unique<IoThread>("control");
  SocketDataPlaneOptions data;
  data.self = kControllerPeer;
  data.listen_address = options_.data_address;
  data.connections = options_.data_connections;
  ASSIGN_OR_RETURN(data_plane_, SocketDataPlane::Start(data));
  options_.core.data_address = data_plane_->listen_address();
  if (!options_.program_directory.empty()) {
    absl::StatusOr<std::unique_ptr<ProgramStore>> store =
        ProgramStore::Open(options_.program_directory, options_.program_directory_bytes);
    if (store.ok()) {
      programs_ = *std::move(store);
      disk_ = std::make_unique<TaskPool>("cw-programs", 1);
      options_.core.program_store = true;
    } else {
      Log(LogLevel::kWarning, absl::StrCat("compiled programs are not kept for later controllers: ",
                                           store.status().message(), " (--program-cache names another folder)"));
    }
  }
  options_.core.key_seed = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  {
    MutexLock lock(&mu_);
    core_ = std::make_unique<ControllerCore>(options_.core);
  }
  ASSIGN_OR_RETURN(listener_, LinkListener::Listen(io_.get(), options_.control_address,
                                                   [this](std::unique_ptr<Link> link) { Accept(std::move(link)); }));
  control_address_ = listener_->address();
  ticker_ = std::thread([this] { RunTicker(); });
  return absl::OkStatus();
}

ControllerShell::~ControllerShell() { Stop(); }

void ControllerShell::Stop() {
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    stopping_ = true;
    door_ = nullptr;
    stopping_changed_.SignalAll();
  }
  if (ticker_.joinable()) ticker_.join();
  disk_.reset();
  listener_.reset();
  {
    MutexLock lock(&mu_);
    for (auto& [id, connection] : connections_) connection->link().Close(absl::OkStatus());
  }
  data_plane_.reset();
  // Links' threads end with the io thread, and only then the handlers may go.
  io_.reset();
  MutexLock lock(&mu_);
  connections_.clear();
  closed_.clear();
}

void ControllerShell::SetClientAddress(std::string address) {
  MutexLock lock(&mu_);
  core_->SetClientAddress(std::move(address));
}

void ControllerShell::SetDoor(ClientActions* door) {
  MutexLock lock(&mu_);
  door_ = door;
}

DataPlane& ControllerShell::data_plane() { return *data_plane_; }

void ControllerShell::Handle(Event event) {
  MutexLock lock(&mu_);
  Enter(std::move(event));
}

void ControllerShell::Enter(Event event) {
  const absl::Time now = clock_.Now();
  const int kind = core_->traced() ? EventKindOf(event) : -1;
  core_->Handle(std::move(event), now, *this);
  if (kind >= 0) core_->Handled(kind, now, clock_.Now());
}

void ControllerShell::Read(absl::FunctionRef<void(const ControllerCore&)> look) {
  MutexLock lock(&mu_);
  look(*core_);
}

// ---------------------------------------------------------------- links

void ControllerShell::Accept(std::unique_ptr<Link> link) {
  Connection* connection = nullptr;
  {
    MutexLock lock(&mu_);
    size_t strangers = 0;
    for (const auto& [id, other] : connections_) strangers += other->IsStranger() ? 1 : 0;
    if (stopping_ || strangers >= kMaxStrangers) return;  // destroying the link closes it
    const LinkId id{++last_link_};
    auto& entry = connections_[id];
    entry = std::make_unique<Connection>(*this, id, std::move(link), clock_.Now());
    connection = entry.get();
  }
  connection->link().Start(connection);
}

void ControllerShell::Closed(LinkId link, const absl::Status& why) {
  MutexLock lock(&mu_);
  Enter(LinkClosed{link, why});
  const auto found = connections_.find(link);
  if (found == connections_.end()) return;
  // This is called from inside the link: the ticker destroys it.
  closed_.push_back(std::move(found->second));
  connections_.erase(found);
}

void ControllerShell::Send(LinkId link, const proto::ToWorker& message) {
  const auto found = connections_.find(link);
  if (found != connections_.end()) found->second->link().Send(message.SerializeAsString());
}

void ControllerShell::CloseLink(LinkId link, const absl::Status& why) {
  const auto found = connections_.find(link);
  if (found != connections_.end()) found->second->link().Close(why);
}

void ControllerShell::WorkerUp(LinkId link, WorkerId worker, uint64_t data_key, const std::string& name) {
  const auto found = connections_.find(link);
  if (found != connections_.end()) found->second->link().SetMaxFrameBytes(kMaxControlFrameBytes);
  data_plane_->SetPeer(PeerOf(worker), "", data_key);
  Log(LogLevel::kInfo, absl::StrCat(name, " has joined"));
}

void ControllerShell::WorkerDown(WorkerId worker, const absl::Status& why) {
  if (stopping_) return;
  data_plane_->DropPeer(PeerOf(worker));
  if (door_ != nullptr) door_->WorkerDown(worker, why);
  Log(LogLevel::kWarning, why.message());
}

void ControllerShell::LookUpProgram(ProgramId program, const std::string& key) {
  if (stopping_) return;
  disk_->Add([this, program, key] { Handle(ProgramLookedUp{program, programs_->Find(key)}); });
}

void ControllerShell::KeepProgram(const std::string& key, PortableRef portable) {
  if (stopping_) return;
  disk_->Add([this, key, portable = std::move(portable)] { programs_->Keep(key, *portable); });
}

void ControllerShell::RunTicker() {
  while (true) {
    std::vector<std::unique_ptr<Connection>> closed;
    {
      MutexLock lock(&mu_);
      if (!stopping_) stopping_changed_.WaitWithTimeout(&mu_, kTick);
      if (stopping_) return;
      const absl::Time now = clock_.Now();
      for (auto& [id, connection] : connections_) {
        if (connection->HasWaitedTooLong(now)) {
          connection->link().Close(absl::DeadlineExceededError("it did not say who it is"));
        }
      }
      Enter(causeway::Tick{});
      closed = std::exchange(closed_, {});
    }
  }
}

// ---------------------------------------------------------------- replies

void ControllerShell::ReplyDone(RequestHeader request, const absl::Status& status) {
  if (door_ != nullptr) door_->ReplyDone(request, status);
}

void ControllerShell::ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) {
  if (door_ != nullptr) door_->ReplyCompiled(request, std::move(program));
}

void ControllerShell::ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) {
  if (door_ != nullptr) door_->ReplyFetched(request, std::move(fetched));
}

void ControllerShell::ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) {
  if (door_ != nullptr) door_->ReplyQuery(request, std::move(answer));
}

void ControllerShell::WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream,
                                   int64_t total_bytes, bool in_frame, bool last) {
  if (door_ != nullptr) door_->WantHostData(session, buffer, worker, stream, total_bytes, in_frame, last);
}

void ControllerShell::Throttle(SessionId session, bool hold) {
  if (door_ != nullptr) door_->Throttle(session, hold);
}

void ControllerShell::OriginOpened(SessionId session, uint64_t origin) {
  if (door_ != nullptr) door_->OriginOpened(session, origin);
}

void ControllerShell::OriginClosed(SessionId session, uint64_t origin, bool failed) {
  if (door_ != nullptr) door_->OriginClosed(session, origin, failed);
}

}  // namespace causeway
