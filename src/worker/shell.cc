#include "worker/shell.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/task_pool.h"
#include "proto/control_version.h"
#include "worker/context.h"
#include "worker/host_block.h"
#include "worker/host_streams.h"
#include "worker/in_flight.h"
#include "worker/pace.h"
#include "worker/running_gang.h"
#include "worker/shapes.h"
#include "worker/strand.h"

namespace causeway::worker {
namespace {

constexpr int kCompileThreads = 2;
constexpr int kCopyThreads = 2;

// Enough that a device's thread never runs dry in a loop, few enough that nobody else waits long.
constexpr int kGangsAhead = 4;

CoreOptions Core(CoreOptions options) {
  options.gangs_ahead = kGangsAhead;
  return options;
}

// The same for all processes that may be able to read one another's memory: of one boot of one machine, with the same
// process ids, and without a network between them that somebody has put there (so that who lays cables inside one
// machine, as tests do, has them used). Empty where the system does not say.
std::string MachineName() {
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string name;
  std::getline(boot, name);
  std::error_code error;
  for (const char* space : {"pid", "net"}) {
    absl::StrAppend(&name, " ", std::filesystem::read_symlink(absl::StrCat("/proc/self/ns/", space), error).string());
    if (error) return "";
  }
  return name;
}

proto::Hello MakeHello(const DeviceRuntime& runtime, const ShellOptions& options) {
  proto::Hello hello = runtime.Describe();
  hello.set_version(kControlVersion);
  hello.set_name(options.name);
  hello.set_island(options.island);
  hello.set_host(options.host);
  hello.set_token(options.token);
  hello.set_data_address(options.data_address);
  hello.set_machine(MachineName());
  if (!options.group.empty()) hello.set_group(options.group);
  if (options.device_memory_bytes.has_value()) {
    for (proto::Device& device : *hello.mutable_devices()) device.set_memory_bytes(*options.device_memory_bytes);
  }
  hello.set_pid(getpid());
  hello.set_process(std::max<uint64_t>(1, (uint64_t{std::random_device{}()} << 32) | std::random_device{}()));
  return hello;
}

// An end of a stream that exists only to be cancelled.
class NoBytes final : public StreamSource, public StreamSink {
 public:
  explicit NoBytes(InFlight& in_flight) : hold_(in_flight) {}

  absl::Span<const char> Read(int64_t, int64_t) override { return {}; }
  absl::Span<char> Buffer(int64_t, int64_t) override { return {}; }
  void OnData(int64_t, int64_t) override {}
  void OnDone(absl::Status) override {}

 private:
  const InFlight::Hold hold_;
};

// A compiled program, and how it has behaved.
struct LoadedProgram {
  LoadedProgram(std::shared_ptr<DeviceProgram> p, bool waits) : program(std::move(p)), waits_for_others(waits) {}
  explicit LoadedProgram(std::vector<std::shared_ptr<DeviceProgram>> p) : program(p.front()), gang(std::move(p)) {}

  const std::shared_ptr<DeviceProgram> program;
  const std::vector<std::shared_ptr<DeviceProgram>> gang;  // one for each device; empty: `program` serves them all
  const bool waits_for_others = false;                     // in the plugin, for other workers
  Pace pace;
};

// Joins the two answers to one launch, which may come in either order and on two threads, into as few events as
// possible.
struct RunningLaunch {
  Mutex mu;
  bool returned ABSL_GUARDED_BY(mu) = false;
  std::optional<absl::Status> finished ABSL_GUARDED_BY(mu);
};

}  // namespace

class WorkerShell::Impl final : public WorkerActions, public LinkUser {
 public:
  Impl(DeviceRuntime& runtime, DataPlane& plane, Dial dial, const Clock& clock, ShellOptions options);
  ~Impl() override;

  // LinkUser.
  void OnUp(std::shared_ptr<Link> link) override;
  void OnFrame(proto::ToWorker message) override;
  void OnLost() override;
  bool IsIdle() override { return in_flight_.none(); }
  void OnStuck() override;

  // WorkerActions: called by the core, inside the strand.
  void Send(const proto::ToController& message) override;
  void SendFetched(proto::FetchDone done, HostKey data) override;
  void SetSelf(WorkerId self) override;
  void SetPeer(PeerId peer, const std::string& address, uint64_t key) override { plane_.SetPeer(peer, address, key); }
  void DropPeer(PeerId peer) override;
  void Compile(ProgramKey program, CompileRequest request) override;
  void CompileGang(ProgramKey program, GangProgram request) override;
  void DropProgram(ProgramKey program) override { programs_.erase(program); }
  void Execute(ExecuteRequest request) override;
  void AnnounceGang(uint64_t launch, std::shared_ptr<const collectives::Gang> gang) override {
    engine_.Announce(launch, std::move(gang));
  }
  void AbortGang(uint64_t launch, const absl::Status& why) override { engine_.Abort(launch, why); }
  collectives::Traffic EndGang(uint64_t launch) override { return engine_.End(launch); }
  void Ask(Life life, const proto::Query& query, std::optional<ProgramKey> program) override;
  void BufferFromHost(BufferKey buffer, HostKey host, const HostShape& shape, int device,
                      const std::string& memory_kind, const std::string& layout) override;
  void BufferFromBuffer(BufferKey buffer, BufferKey source, int device, const std::string& memory_kind) override;
  void DropBuffer(BufferKey buffer) override { buffers_.erase(buffer); }
  void AdoptHost(HostKey host, std::string data) override { hosts_[host] = HostBlock::Adopt(std::move(data)); }
  void AllocateHost(HostKey host, int64_t bytes) override { hosts_[host] = HostBlock::Allocate(bytes); }
  void DropHost(HostKey host) override { hosts_.erase(host); }
  void View(HostKey host, BufferKey buffer) override;
  void ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) override;
  void CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target, const ByteRuns& to) override;
  void Receive(StreamKey stream, PeerId peer, StreamId id, HostKey target, const ByteRuns& place) override;
  void SendStream(StreamKey stream, PeerId peer, StreamId id, HostKey source, const ByteRuns& place) override;
  void CancelStream(StreamKey stream, const absl::Status& status) override;
  void RefuseToSend(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) override;
  void RefuseToReceive(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) override;

 private:
  using Arguments = std::vector<std::vector<std::shared_ptr<DeviceBuffer>>>;  // by device, then parameter

  struct StreamName {
    PeerId peer;
    StreamId id;
  };

  // Brings an event to the core, from any thread.
  void Enter(Event event);

  // The rest of Enter, inside the strand.
  void Handle(Event event) { core_.Handle(std::move(event), clock_.Now(), *this); }

  // Whether Execute may be called on this thread, inside the strand: only on the link's, which brought the launch, and
  // only what returns at once and has nobody to wait for.
  bool MayRunHere(const LoadedProgram& loaded) const;

  void RunLaunch(ExecuteRequest request, LoadedProgram& loaded, const Arguments& arguments);
  void ExecuteGang(ExecuteRequest request, const std::shared_ptr<LoadedProgram>& loaded);
  void RunOnDevice(const std::shared_ptr<RunningGang>& running, DeviceProgram& program, size_t place);
  void TellOfGang(const std::shared_ptr<RunningGang>& running);
  absl::StatusOr<std::vector<int64_t>> KeepOutputs(const std::vector<BufferKey>& keys,
                                                   absl::StatusOr<Execution> execution);
  void OnMade(BufferKey key, absl::StatusOr<std::shared_ptr<DeviceBuffer>> buffer);
  StreamDone EndOf(StreamKey stream);
  proto::QueryDone Answer(const proto::Query& query, DeviceProgram* program);

  DeviceRuntime& runtime_;
  DataPlane& plane_;
  const Clock& clock_;
  const ShellOptions options_;
  InFlight in_flight_;
  collectives::Engine engine_;
  Strand strand_;

  // What the core's keys stand for. Of the strand, as all up to the pools.
  std::shared_ptr<Link> link_;
  absl::flat_hash_map<BufferKey, std::shared_ptr<DeviceBuffer>> buffers_;
  absl::flat_hash_map<BufferKey, GangArgument> promised_;  // outputs of gangs' launches that have not returned
  absl::flat_hash_map<HostKey, std::shared_ptr<HostBlock>> hosts_;
  absl::flat_hash_map<ProgramKey, std::shared_ptr<LoadedProgram>> programs_;
  absl::flat_hash_map<StreamKey, StreamName> streams_;
  bool on_link_thread_ = false;  // the event at hand is a frame, on the thread that read it
  WorkerCore core_;

  std::vector<std::unique_ptr<TaskPool>> dispatch_;  // by device
  std::unique_ptr<TaskPool> compilers_ = std::make_unique<TaskPool>("cw-compile", kCompileThreads);
  std::unique_ptr<TaskPool> copiers_ = std::make_unique<TaskPool>("cw-copy", kCopyThreads);
  std::unique_ptr<LinkKeeper> keeper_;
};

// ---------------------------------------------------------------- life

WorkerShell::Impl::Impl(DeviceRuntime& runtime, DataPlane& plane, Dial dial, const Clock& clock, ShellOptions options)
    : runtime_(runtime),
      plane_(plane),
      clock_(clock),
      options_(std::move(options)),
      engine_(plane),
      core_(Core(options_.core), MakeHello(runtime_, options_)) {
  for (int device = 0; device < runtime_.Describe().devices_size(); ++device) {
    dispatch_.push_back(std::make_unique<TaskPool>(absl::StrCat("cw-device", device), 1));
  }
  keeper_ = std::make_unique<LinkKeeper>(std::move(dial), options_.link, this);
}

WorkerShell::Impl::~Impl() {
  keeper_.reset();
  // The streams have been cancelled with the link. The devices finish what they have begun: their events no longer
  // matter, but the memory that they use does.
  strand_.Close();
  engine_.Reset(absl::CancelledError("the worker is being shut down"));
  dispatch_.clear();
  compilers_.reset();
  copiers_.reset();
  in_flight_.WaitForNone();
}

void WorkerShell::Impl::Enter(Event event) {
  strand_.Run([this, event = std::move(event)]() mutable { Handle(std::move(event)); });
}

void WorkerShell::Impl::OnUp(std::shared_ptr<Link> link) {
  strand_.Run([this, link = std::move(link)]() mutable {
    link_ = std::move(link);
    Handle(LinkUp{});
  });
}

void WorkerShell::Impl::OnFrame(proto::ToWorker message) {
  strand_.Run([this, link_thread = std::this_thread::get_id(), event = FrameIn{std::move(message)}]() mutable {
    on_link_thread_ = std::this_thread::get_id() == link_thread;
    Handle(std::move(event));
    on_link_thread_ = false;
  });
}

void WorkerShell::Impl::OnLost() {
  strand_.Run([this] {
    link_ = nullptr;
    Handle(LinkLost{});
    engine_.Reset(absl::UnavailableError("the worker has lost its controller"));
  });
}

void WorkerShell::Impl::OnStuck() {
  if (!options_.start_anew) return;
  Log(LogLevel::kWarning,
      "the devices are still busy with what an earlier session began, and nobody can stop them: "
      "starting this process anew");
  options_.start_anew();
}

// ---------------------------------------------------------------- the controller and the other workers

void WorkerShell::Impl::Send(const proto::ToController& message) {
  if (link_ != nullptr) link_->Send(message.SerializeAsString());
}

void WorkerShell::Impl::SendFetched(proto::FetchDone done, HostKey data) {
  const absl::Span<const char> bytes = hosts_.at(data)->bytes;
  proto::ToController message;
  *message.mutable_fetch_done() = std::move(done);
  message.mutable_fetch_done()->set_data(bytes.data(), bytes.size());
  Send(message);
}

void WorkerShell::Impl::SetSelf(WorkerId self) {
  if (options_.on_identity) options_.on_identity(self);
}

void WorkerShell::Impl::DropPeer(PeerId peer) {
  plane_.DropPeer(peer);
  if (peer == kControllerPeer) return;
  const WorkerId worker{Raw(peer)};
  engine_.PeerLost(worker, absl::DataLossError(absl::StrCat("worker ", Raw(worker), " of the gang is lost")));
}

// ---------------------------------------------------------------- programs

void WorkerShell::Impl::Compile(ProgramKey program, CompileRequest request) {
  compilers_->Add(in_flight_.Track([this, program, request = std::move(request)] {
    const absl::Time start = clock_.Now();
    absl::StatusOr<std::shared_ptr<DeviceProgram>> compiled = runtime_.Compile(request);
    CompileDone event{program, absl::CancelledError(), clock_.Now() - start};
    if (!compiled.ok()) {
      event.info = compiled.status();
      return Enter(std::move(event));
    }
    event.info = (*compiled)->info();
    strand_.Run([this, compiled = *std::move(compiled), event = std::move(event),
                 waits = !request.global_devices.empty()]() mutable {
      programs_[event.program] = std::make_shared<LoadedProgram>(std::move(compiled), waits);
      Handle(std::move(event));
    });
  }));
}

void WorkerShell::Impl::CompileGang(ProgramKey program, GangProgram request) {
  compilers_->Add(in_flight_.Track([this, program, request = std::move(request)]() mutable {
    const absl::Time start = clock_.Now();
    CompileDone event{program, absl::CancelledError(), absl::ZeroDuration()};
    std::vector<std::shared_ptr<DeviceProgram>> loaded;
    const absl::Status status = [&]() -> absl::Status {
      if (request.portable == nullptr) {
        ASSIGN_OR_RETURN(proto::PortableProgram made, runtime_.CompilePortable(request.compile, request.devices));
        request.portable = event.portable = std::make_shared<const proto::PortableProgram>(std::move(made));
      }
      ASSIGN_OR_RETURN(loaded, runtime_.Load({request.portable, request.local, request.logical}));
      return absl::OkStatus();
    }();
    event.took = clock_.Now() - start;
    if (!status.ok()) {
      event.info = status;
      return Enter(std::move(event));
    }
    event.info = request.portable->info();
    strand_.Run([this, loaded = std::move(loaded), event = std::move(event)]() mutable {
      programs_[event.program] = std::make_shared<LoadedProgram>(std::move(loaded));
      Handle(std::move(event));
    });
  }));
}

void WorkerShell::Impl::Ask(Life life, const proto::Query& query, std::optional<ProgramKey> program) {
  // A question that names no program is answered at once, not behind compiles.
  if (!program) return Enter(Answered{life, Answer(query, /*program=*/nullptr)});
  std::shared_ptr<DeviceProgram> held = programs_.at(*program)->program;
  compilers_->Add(in_flight_.Track([this, life, query, held = std::move(held)] {
    Enter(Answered{life, Answer(query, held.get())});
  }));
}

proto::QueryDone WorkerShell::Impl::Answer(const proto::Query& query, DeviceProgram* program) {
  proto::QueryDone done;
  done.set_query(query.query());
  const absl::Status status = [&]() -> absl::Status {
    if (query.has_default_layout()) {
      const proto::Query::DefaultLayout& asked = query.default_layout();
      ASSIGN_OR_RETURN(*done.mutable_layout(),
                       runtime_.DefaultLayout(static_cast<DType>(asked.type().dtype()), asked.type().dims(),
                                              asked.device(), asked.memory_kind()));
    } else if (query.what_case() == proto::Query::kProgramText) {
      ASSIGN_OR_RETURN(*done.mutable_text(), runtime_.ProgramText(*program));
    } else {
      ASSIGN_OR_RETURN(const auto values, runtime_.CostAnalysis(*program));
      for (const auto& [name, value] : values) (*done.mutable_values())[name] = value;
    }
    return absl::OkStatus();
  }();
  *done.mutable_status() = ToProto(status);
  return done;
}

// ---------------------------------------------------------------- launches

void WorkerShell::Impl::Execute(ExecuteRequest request) {
  std::shared_ptr<LoadedProgram> loaded = programs_.at(request.program);
  if (!loaded->gang.empty()) return ExecuteGang(std::move(request), loaded);
  const size_t devices = loaded->program->devices().size();
  const size_t parameters = request.arguments.size() / devices;
  Arguments arguments(devices);
  for (size_t i = 0; i < request.arguments.size(); ++i) {
    arguments[i / parameters].push_back(buffers_.at(request.arguments[i]));
  }
  if (MayRunHere(*loaded)) return RunLaunch(std::move(request), *loaded, arguments);
  TaskPool& thread = *dispatch_[request.thread_device];
  thread.Add(in_flight_.Track(
      [this, request = std::move(request), loaded = std::move(loaded), arguments = std::move(arguments)]() mutable {
        RunLaunch(std::move(request), *loaded, arguments);
      }));
}

bool WorkerShell::Impl::MayRunHere(const LoadedProgram& loaded) const {
  return on_link_thread_ && loaded.pace.quick() && !loaded.waits_for_others && loaded.program->devices().size() == 1;
}

void WorkerShell::Impl::RunLaunch(ExecuteRequest request, LoadedProgram& loaded, const Arguments& arguments) {
  const auto running = std::make_shared<RunningLaunch>();
  const absl::Time start = clock_.Now();
  absl::StatusOr<Execution> execution =
      runtime_.Execute(*loaded.program, arguments, request.options,
                       in_flight_.Track([this, running, launch = request.launch](absl::Status status) {
                         {
                           MutexLock lock(&running->mu);
                           if (!running->returned) {
                             running->finished = std::move(status);
                             return;
                           }
                         }
                         Enter(LaunchFinished{launch, std::move(status)});
                       }));
  loaded.pace.Ran(clock_.Now() - start);
  std::optional<absl::Status> finished;
  {
    MutexLock lock(&running->mu);
    running->returned = true;
    finished = std::move(running->finished);
  }
  strand_.Run([this, launch = request.launch, outputs = std::move(request.outputs), execution = std::move(execution),
               finished = std::move(finished)]() mutable {
    Handle(ExecuteReturned{launch, KeepOutputs(outputs, std::move(execution)), std::move(finished)});
  });
}

// ---------------------------------------------------------------- launches of gangs

void WorkerShell::Impl::ExecuteGang(ExecuteRequest request, const std::shared_ptr<LoadedProgram>& loaded) {
  request.options.collectives = &engine_;
  const size_t devices = loaded->gang.size();
  std::vector<std::vector<GangArgument>> arguments(devices);
  const size_t parameters = request.arguments.size() / devices;
  for (size_t i = 0; i < request.arguments.size(); ++i) {
    const auto promised = promised_.find(request.arguments[i]);
    arguments[i / parameters].push_back(
        promised != promised_.end() ? promised->second : GangArgument{buffers_.at(request.arguments[i]), nullptr});
  }
  const auto running = std::make_shared<RunningGang>(std::move(request), std::move(arguments));
  const std::vector<BufferKey>& keys = running->request.outputs;
  const size_t outputs = keys.size() / devices;
  for (size_t i = 0; i < keys.size(); ++i) {
    promised_[keys[i]] = GangArgument{nullptr, running, i / outputs, i % outputs};
  }
  for (size_t i = 0; i < devices; ++i) {
    dispatch_[loaded->gang[i]->devices().front()]->Add(
        in_flight_.Track([this, running, loaded, i] { RunOnDevice(running, *loaded->gang[i], i); }));
  }
}

void WorkerShell::Impl::RunOnDevice(const std::shared_ptr<RunningGang>& running, DeviceProgram& program, size_t place) {
  // The other devices may be waiting for this one.
  const auto failed = [this, number = running->request.options.launch](const absl::Status& why) {
    engine_.Abort(number, why);
  };
  absl::StatusOr<Execution> execution = absl::CancelledError();
  if (auto arguments = Resolve(std::move(running->arguments[place])); !arguments.ok()) {
    execution = arguments.status();
  } else {
    execution = runtime_.Execute(program, {*std::move(arguments)}, running->request.options,
                                 in_flight_.Track([this, failed, running](absl::Status status) {
                                   if (!status.ok()) failed(status);
                                   {
                                     MutexLock lock(&running->mu);
                                     running->status.Update(status);
                                     --running->running;
                                   }
                                   TellOfGang(running);
                                 }));
  }
  if (!execution.ok()) failed(execution.status());
  {
    MutexLock lock(&running->mu);
    --running->executing;
    if (execution.ok()) {
      running->outputs[place] = std::move(execution->outputs.front());
    } else {
      running->status.Update(execution.status());
      running->refused = true;
      --running->running;
    }
  }
  TellOfGang(running);
}

void WorkerShell::Impl::TellOfGang(const std::shared_ptr<RunningGang>& running) {
  const LaunchKey launch = running->request.launch;
  absl::StatusOr<Execution> execution = Execution{};
  std::optional<absl::Status> finished;
  bool returns = false;
  {
    MutexLock lock(&running->mu);
    if (running->running == 0) finished = running->status;
    // A launch that a device has refused is over when the others are.
    if (running->executing > 0 || (running->refused && !finished)) return;
    returns = !std::exchange(running->returned, true);
    if (running->refused) {
      execution = running->status;
    } else if (returns) {
      execution->outputs = running->outputs;
    }
  }
  if (!returns) {
    if (finished) Enter(LaunchFinished{launch, *std::move(finished)});
    return;
  }
  strand_.Run([this, running, launch, execution = std::move(execution), finished = std::move(finished)]() mutable {
    for (BufferKey key : running->request.outputs) promised_.erase(key);
    Handle(ExecuteReturned{launch, KeepOutputs(running->request.outputs, std::move(execution)), std::move(finished)});
  });
}

absl::StatusOr<std::vector<int64_t>> WorkerShell::Impl::KeepOutputs(const std::vector<BufferKey>& keys,
                                                                    absl::StatusOr<Execution> execution) {
  if (!execution.ok()) return execution.status();
  std::vector<std::shared_ptr<DeviceBuffer>> made;
  for (auto& of_device : execution->outputs) std::move(of_device.begin(), of_device.end(), std::back_inserter(made));
  if (made.size() != keys.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the program has made ", made.size(), " shards of output, the launch names ", keys.size()));
  }
  std::vector<int64_t> bytes;
  bytes.reserve(made.size());
  for (size_t i = 0; i < made.size(); ++i) {
    bytes.push_back(made[i]->size_bytes());
    buffers_[keys[i]] = std::move(made[i]);
  }
  return bytes;
}

// ---------------------------------------------------------------- buffers and host memory

void WorkerShell::Impl::BufferFromHost(BufferKey buffer, HostKey host, const HostShape& shape, int device,
                                       const std::string& memory_kind, const std::string& layout) {
  const HostBlock& block = *hosts_.at(host);
  const absl::StatusOr<int64_t> needed_bytes = SpanBytes(shape);
  absl::Status ok = needed_bytes.ok() ? block.Check(*needed_bytes) : needed_bytes.status();
  if (!ok.ok()) return OnMade(buffer, std::move(ok));
  OnMade(buffer, runtime_.FromHost(HostBytes{block.owner, block.bytes}, shape, device, memory_kind, layout));
}

void WorkerShell::Impl::BufferFromBuffer(BufferKey buffer, BufferKey source, int device,
                                         const std::string& memory_kind) {
  OnMade(buffer, runtime_.CopyTo(*buffers_.at(source), device, memory_kind));
}

void WorkerShell::Impl::OnMade(BufferKey key, absl::StatusOr<std::shared_ptr<DeviceBuffer>> buffer) {
  if (!buffer.ok()) return Enter(BufferMade{key, buffer.status()});
  const std::shared_ptr<DeviceBuffer> made = *std::move(buffer);
  buffers_[key] = made;
  Enter(BufferMade{key, made->size_bytes()});
  made->OnReady(in_flight_.Track([this, key](absl::Status status) { Enter(BufferReady{key, std::move(status)}); }));
}

void WorkerShell::Impl::View(HostKey host, BufferKey buffer) {
  const std::shared_ptr<DeviceBuffer>& source = buffers_.at(buffer);
  Viewed event{host, source->dtype(), source->dims(), false};
  if (absl::StatusOr<HostBytes> bytes = runtime_.HostView(source); bytes.ok()) {
    hosts_[host] = HostBlock::View(*std::move(bytes));
    event.there = true;
  }
  Enter(std::move(event));
}

void WorkerShell::Impl::ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) {
  const std::shared_ptr<HostBlock> block = hosts_.at(host);
  if (absl::Status ok = block->Check(0); !ok.ok()) return Enter(HostFilled{host, ok});
  const absl::Span<char> target(block->writable, block->bytes.size());
  // Strides may leave gaps, which nobody writes: what was in this memory before may be another session's.
  if (!byte_strides.empty()) std::fill(target.begin(), target.end(), 0);
  runtime_.ToHost(buffers_.at(buffer), byte_strides, target,
                  in_flight_.Track([this, host, block, source = buffers_.at(buffer)](absl::Status status) {
                    Enter(HostFilled{host, std::move(status)});
                  }));
}

void WorkerShell::Impl::CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target,
                                  const ByteRuns& to) {
  copiers_->Add(in_flight_.Track([this, piece, source = hosts_.at(source), from, target = hosts_.at(target), to] {
    absl::Status ok = source->Check(from.memory_bytes());
    ok.Update(target->Check(to.memory_bytes()));
    if (ok.ok()) CopyRuns(from, source->bytes.data(), to, target->writable);
    Enter(PieceCopied{piece, std::move(ok)});
  }));
}

// ---------------------------------------------------------------- streams

StreamDone WorkerShell::Impl::EndOf(StreamKey stream) {
  return in_flight_.Track([this, stream](absl::Status status) {
    strand_.Run([this, stream, status = std::move(status)]() mutable {
      streams_.erase(stream);
      Handle(StreamEnded{stream, std::move(status)});
    });
  });
}

void WorkerShell::Impl::Receive(StreamKey stream, PeerId peer, StreamId id, HostKey target, const ByteRuns& place) {
  const std::shared_ptr<HostBlock>& block = hosts_.at(target);
  if (absl::Status ok = block->Check(place.memory_bytes()); !ok.ok()) {
    RefuseToReceive(peer, id, place.total_bytes(), ok);
    return Enter(StreamEnded{stream, std::move(ok)});
  }
  streams_[stream] = StreamName{peer, id};
  // There is room for all of it, so all of it is granted.
  plane_.Receive(peer, id, place.total_bytes(), place.total_bytes(), MakeHostSink(block, place, EndOf(stream)));
}

void WorkerShell::Impl::SendStream(StreamKey stream, PeerId peer, StreamId id, HostKey source, const ByteRuns& place) {
  const std::shared_ptr<HostBlock>& block = hosts_.at(source);
  if (absl::Status ok = block->Check(place.memory_bytes()); !ok.ok()) {
    RefuseToSend(peer, id, place.total_bytes(), ok);
    return Enter(StreamEnded{stream, std::move(ok)});
  }
  streams_[stream] = StreamName{peer, id};
  plane_.Send(peer, id, place.total_bytes(), MakeHostSource(block, place, EndOf(stream)));
}

void WorkerShell::Impl::CancelStream(StreamKey stream, const absl::Status& status) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  const StreamName name = found->second;
  streams_.erase(found);
  plane_.Cancel(name.peer, name.id, status);
}

void WorkerShell::Impl::RefuseToSend(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) {
  plane_.Send(peer, id, bytes, std::make_shared<NoBytes>(in_flight_));
  plane_.Cancel(peer, id, status);
}

void WorkerShell::Impl::RefuseToReceive(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) {
  plane_.Receive(peer, id, bytes, /*window_bytes=*/0, std::make_shared<NoBytes>(in_flight_));
  plane_.Cancel(peer, id, status);
}

// ---------------------------------------------------------------- the door

WorkerShell::WorkerShell(DeviceRuntime& runtime, DataPlane& plane, Dial dial, const Clock& clock, ShellOptions options)
    : impl_(std::make_unique<Impl>(runtime, plane, std::move(dial), clock, std::move(options))) {}

WorkerShell::~WorkerShell() = default;

}  // namespace causeway::worker
