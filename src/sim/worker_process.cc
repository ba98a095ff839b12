#include "sim/worker_process.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "proto/control_version.h"
#include "proto/status.h"
#include "sim/behaviours.h"
#include "sim/describe.h"
#include "sim/simulated_runtime.h"
#include "worker/shapes.h"

namespace causeway::sim {

using namespace worker;  // NOLINT: this is the worker's shell

namespace {

// An end of a stream that exists only to be cancelled.
class NoBytes final : public StreamSource, public StreamSink {
 public:
  absl::Span<const char> Read(int64_t, int64_t) override { return {}; }
  absl::Span<char> Buffer(int64_t, int64_t) override { return {}; }
  void OnData(int64_t, int64_t) override {}
  void OnDone(absl::Status) override {}
};

std::unique_ptr<DeviceRuntime> MakeRuntime(World& world, const WorkerProcessOptions& options) {
  SimulatedRuntimeOptions runtime;
  runtime.devices = options.devices;
  runtime.memory_bytes = options.device_memory_bytes;
  runtime.contents = true;
  runtime.host_view = options.host_view;
  runtime.run_after = [&world, usual = options.launch_time](absl::Duration, std::function<void()> call) {
    world.After(world.random().Delay(usual), std::move(call));
  };
  runtime.outcome = [](const proto::ProgramInfo& info) {
    return KindOf(info.name()) == ProgramKind::kFailing ? LaunchError(info.name()) : absl::OkStatus();
  };
  runtime.host_outcome = [](absl::string_view bytes) {
    return absl::StartsWith(bytes, kSpoiltData) ? SpoilError() : absl::OkStatus();
  };
  return MakeSimulatedRuntime(std::move(runtime));
}

proto::Hello MakeHello(const DeviceRuntime& runtime, const WorkerProcessOptions& options, const std::string& address) {
  proto::Hello hello = runtime.Describe();
  hello.set_version(kControlVersion);
  hello.set_name(options.name);
  hello.set_island(options.island);
  hello.set_data_address(address);
  return hello;
}

}  // namespace

// ---------------------------------------------------------------- life

WorkerProcess::WorkerProcess(World& world, DataNetwork& network, WorkerProcessOptions options)
    : world_(world),
      options_(std::move(options)),
      plane_(network.Add(kControllerPeer)),
      runtime_(MakeRuntime(world, options_)),
      core_(options_.core, MakeHello(*runtime_, options_, plane_->listen_address())),
      device_bytes_(options_.devices),
      giving_(options_.devices, false),
      dispatch_free_(options_.devices, absl::InfinitePast()) {}

WorkerProcess::~WorkerProcess() {
  if (link_ != nullptr) link_->Abandon(ControlLink::kWorker);
}

void WorkerProcess::Start(Dial dial) {
  dial_ = std::move(dial);
  Later(options_.redial_delay, [this] { TryToDial(); });
}

void WorkerProcess::Later(absl::Duration usual, std::function<void()> call) {
  world_.After(world_.random().Delay(usual), [weak = weak_from_this(), call = std::move(call)] {
    if (const auto self = weak.lock()) call();
  });
}

void WorkerProcess::Fail(const std::string& finding) { world_.Fail(absl::StrCat(options_.name, ": ", finding)); }

void WorkerProcess::Enter(worker::Event event) {
  core_.Handle(std::move(event), world_.Now(), *this);
  CheckAccounts();
}

void WorkerProcess::CheckAccounts() {
  const CoreCounts counts = core_.Counts();
  if (counts.device_bytes != device_bytes_) Fail("the store's accounts differ from what the devices hold");
  if (counts.host_bytes != host_bytes_) {
    Fail(absl::StrCat("the core counts ", counts.host_bytes, " bytes of host memory, there are ", host_bytes_));
  }
  int64_t largest = 0;
  for (const auto& [key, host] : hosts_) largest = std::max(largest, host.bytes);
  for (const PoolUse& pool : counts.pools) {
    // One piece of each session is always taken.
    if (pool.bytes <= options_.core.staging_bytes + pool.sessions * largest) continue;
    Fail(absl::StrCat("a pool of host memory holds ", pool.bytes, " bytes of ", pool.sessions, " sessions"));
  }
}

void WorkerProcess::CheckEmpty() {
  const CoreCounts counts = core_.Counts();
  const auto expect_none = [this](const char* what, int64_t count) {
    if (count != 0) Fail(absl::StrCat(count, " ", what, " are left over"));
  };
  expect_none("arrays in the store", counts.arrays);
  expect_none("programs in the core", counts.programs);
  expect_none("programs being compiled", counts.compiling);
  expect_none("questions", counts.questions);
  expect_none("launches", counts.launches);
  expect_none("shards in the making", counts.makes);
  expect_none("reads", counts.reads);
  expect_none("puts", counts.puts);
  expect_none("copies", counts.copies);
  expect_none("streams in the core", counts.streams);
  expect_none("waiting for room", counts.waiting_for_room);
  expect_none("bytes of host memory", counts.host_bytes);
  for (int64_t bytes : counts.device_bytes) expect_none("bytes on a device", bytes);
  for (int64_t buffers : counts.device_buffers) expect_none("buffers on a device", buffers);
  expect_none("device buffers in the shell", static_cast<int64_t>(buffers_.size()));
  expect_none("host blocks in the shell", static_cast<int64_t>(hosts_.size()));
  expect_none("programs in the shell", static_cast<int64_t>(programs_.size()));
  expect_none("streams in the shell", static_cast<int64_t>(streams_.size()));
  expect_none("streams in the data plane", plane_->open_streams());
}

// ---------------------------------------------------------------- the link

void WorkerProcess::TryToDial() {
  if (link_ != nullptr) return;
  const std::shared_ptr<ControlLink> link = dial_(shared_from_this());
  if (link == nullptr) return Later(options_.redial_delay, [this] { TryToDial(); });
  link_ = link;
  link->Open(ControlLink::kWorker, {[weak = weak_from_this()](const std::string& frame) {
                                      if (const auto self = weak.lock()) self->OnFrame(frame);
                                    },
                                    [weak = weak_from_this()](const absl::Status&) {
                                      if (const auto self = weak.lock()) self->OnClosed();
                                    }});
  ++life_;
  last_number_ = 0;
  last_heard_ = world_.Now();
  world_.Note(options_.name, " has a link");
  Enter(LinkUp{});
  Watch();
}

void WorkerProcess::OnFrame(const std::string& frame) {
  proto::ToWorker message;
  if (!message.ParseFromString(frame)) return Fail("a frame that is no message");
  last_heard_ = world_.Now();
  world_.NoteBytes(frame, [&] { return absl::StrCat(options_.name, " <- ", Describe(message)); });
  if (message.has_welcome()) allowed_silence_ = absl::Milliseconds(message.welcome().heartbeat_timeout_ms());
  if (message.has_launch()) {
    const uint64_t number = message.launch().number();
    if (number <= last_number_) Fail(absl::StrCat("launch ", number, " comes after launch ", last_number_));
    last_number_ = number;
    places_[message.launch().launch_id()] = {SessionOf(ProgramId{message.launch().program()}), {life_, number}};
  }
  Enter(FrameIn{std::move(message)});
}

void WorkerProcess::OnClosed() {
  world_.Note(options_.name, " has lost its link");
  link_ = nullptr;
  options_.on_link_lost();
  Enter(LinkLost{});
  Later(options_.redial_delay, [this] { TryToDial(); });
}

void WorkerProcess::Watch() {
  if (!options_.watching()) return;
  world_.After(allowed_silence_ / 4, [weak = weak_from_this(), life = life_] {
    const auto self = weak.lock();
    if (self == nullptr || self->life_ != life || self->link_ == nullptr || !self->options_.watching()) return;
    if (self->world_.Now() - self->last_heard_ > self->allowed_silence_) {
      self->link_->Close(ControlLink::kWorker, absl::UnavailableError("nothing was heard"));
    } else {
      self->Watch();
    }
  });
}

void WorkerProcess::Send(const proto::ToController& message) {
  if (link_ == nullptr) return Fail("the core sends without a link");
  std::string frame = message.SerializeAsString();
  world_.NoteBytes(frame, [&] { return absl::StrCat(options_.name, " -> ", Describe(message)); });
  link_->Send(ControlLink::kController, std::move(frame));
}

void WorkerProcess::SendFetched(proto::FetchDone done, HostKey data) {
  const std::shared_ptr<HostBlock> block = FindHost(data, "a fetch is answered with");
  if (block == nullptr) return;
  proto::ToController message;
  *message.mutable_fetch_done() = std::move(done);
  message.mutable_fetch_done()->set_data(block->bytes.data(), block->bytes.size());
  Send(message);
}

void WorkerProcess::SetSelf(WorkerId self) { plane_->SetSelf(PeerOf(self)); }

// ---------------------------------------------------------------- programs

void WorkerProcess::Compile(ProgramKey program, CompileRequest request) {
  Later(options_.compile_time, [this, program, request = std::move(request)] {
    absl::StatusOr<std::shared_ptr<DeviceProgram>> compiled = runtime_->Compile(request);
    if (compiled.ok()) {
      const std::string& name = (*compiled)->info().name();
      const ProgramKind kind = KindOf(name);
      const bool again = options_.compiled_before(name) > 0;
      if (kind == ProgramKind::kBroken || (kind == ProgramKind::kOnce && again)) compiled = CompilerError(name);
    }
    if (!compiled.ok()) return Enter(CompileDone{program, compiled.status(), absl::ZeroDuration()});
    CompileDone event{program, (*compiled)->info(), absl::ZeroDuration()};
    programs_[program] = *std::move(compiled);
    Enter(std::move(event));
  });
}

void WorkerProcess::CompileGang(ProgramKey program, worker::GangProgram request) {
  Later(options_.compile_time, [this, program, request = std::move(request)]() mutable {
    CompileDone event{program, absl::CancelledError(), absl::ZeroDuration()};
    const absl::Status status = [&]() -> absl::Status {
      if (request.portable == nullptr) {
        ASSIGN_OR_RETURN(proto::PortableProgram made, runtime_->CompilePortable(request.compile, request.devices));
        const std::string& name = made.info().name();
        const ProgramKind kind = KindOf(name);
        const bool again = options_.compiled_before(name) > 0;
        if (kind == ProgramKind::kBroken || (kind == ProgramKind::kOnce && again)) return CompilerError(name);
        request.portable = event.portable = std::make_shared<const proto::PortableProgram>(std::move(made));
      }
      // Its devices need not wait for one another: one program runs those that are here.
      ASSIGN_OR_RETURN(programs_[program], runtime_->Compile(SimulatedGangPart(request.portable->info(), request.local,
                                                                               request.logical, request.devices)));
      return absl::OkStatus();
    }();
    if (status.ok()) {
      event.info = request.portable->info();
      gangs_.insert(program);
    } else {
      event.info = status;
    }
    Enter(std::move(event));
  });
}

void WorkerProcess::DropProgram(ProgramKey program) {
  // What was refused by the compiler is dropped as well.
  programs_.erase(program);
  gangs_.erase(program);
}

void WorkerProcess::Ask(Life life, const proto::Query& query, std::optional<ProgramKey> program) {
  std::shared_ptr<DeviceProgram> held;
  if (program) {
    const auto found = programs_.find(*program);
    if (found == programs_.end()) return Fail("a question is about a program that was dropped");
    held = found->second;
  }
  Later(options_.callback_delay, [this, life, query, held] { Enter(Answered{life, Answer(query, held.get())}); });
}

proto::QueryDone WorkerProcess::Answer(const proto::Query& query, DeviceProgram* program) {
  proto::QueryDone done;
  done.set_query(query.query());
  const absl::Status status = [&]() -> absl::Status {
    if (query.has_default_layout()) {
      const proto::Query::DefaultLayout& asked = query.default_layout();
      ASSIGN_OR_RETURN(*done.mutable_layout(),
                       runtime_->DefaultLayout(static_cast<DType>(asked.type().dtype()), asked.type().dims(),
                                               asked.device(), asked.memory_kind()));
    } else if (query.what_case() == proto::Query::kProgramText) {
      *done.mutable_text() = program->info().name();
    } else {
      (*done.mutable_values())["flops"] = 1;
    }
    return absl::OkStatus();
  }();
  *done.mutable_status() = ToProto(status);
  return done;
}

// ---------------------------------------------------------------- launches

void WorkerProcess::Execute(ExecuteRequest request) {
  const auto program = programs_.find(request.program);
  if (program == programs_.end()) return Fail("a launch is of a program that was dropped");
  auto launch = std::make_shared<Executing>();
  launch->program = program->second;
  const proto::ProgramInfo& info = launch->program->info();
  const size_t devices = launch->program->devices().size();
  const size_t parameters = request.arguments.size() / devices;
  launch->arguments.resize(devices);
  for (size_t i = 0; i < request.arguments.size(); ++i) {
    HeldBuffer* const held = FindBuffer(request.arguments[i], "a launch takes");
    if (held == nullptr) return;
    ++held->launches;
    launch->arguments[i / parameters].push_back(held->buffer);
    const auto& kept = request.options.non_donatable;
    const auto& donated = info.donated_parameters();
    const int parameter = static_cast<int>(i % parameters);
    if (held->reads > 0 && std::find(donated.begin(), donated.end(), parameter) != donated.end() &&
        std::find(kept.begin(), kept.end(), parameter) == kept.end()) {
      Fail(absl::StrCat("a launch of ", info.name(), " takes a buffer that is being read"));
    }
  }
  if (info.has_collectives() && devices > 1 && !gangs_.contains(request.program)) {
    if (!collectives_.empty()) Fail("two launches with collectives run at once");
    collectives_.insert(request.launch);
  }
  // Else two gangs could be given to two devices in different orders.
  for (int device : launch->program->devices()) {
    if (giving_[device]) Fail(absl::StrCat("device ", device, " is given two launches at once"));
    giving_[device] = true;
  }
  absl::Time& free = dispatch_free_[request.thread_device];
  free = std::max(free, world_.Now() + world_.random().Delay(options_.callback_delay));
  launch->request = std::move(request);
  world_.At(free, [weak = weak_from_this(), launch] {
    if (const auto self = weak.lock()) self->RunLaunch(launch);
  });
}

void WorkerProcess::CheckOrder(const Executing& launch) {
  // Those of other sessions may pass one that is stuck.
  const auto& [session, place] = places_[launch.request.options.launch_id];
  for (int device : launch.program->devices()) {
    Place& last = last_started_[{device, session}];
    if (place <= last) {
      Fail(absl::StrCat("device ", device, " gets launch ", place.second, " after launch ", last.second,
                        " of the same session"));
    }
    last = place;
  }
  world_.Note(options_.name, " starts launch ", place.second, " of ", launch.program->info().name());
}

void WorkerProcess::RunLaunch(const std::shared_ptr<Executing>& launch) {
  CheckOrder(*launch);
  ++launches_run_;
  const auto running = std::make_shared<Running>();
  const std::string& name = launch->program->info().name();
  absl::StatusOr<Execution> execution =
      KindOf(name) == ProgramKind::kRejected
          ? RejectionError(name)
          : runtime_->Execute(*launch->program, launch->arguments, launch->request.options,
                              [weak = weak_from_this(), running, launch](absl::Status status) {
                                const auto self = weak.lock();
                                if (self == nullptr) return;
                                self->collectives_.erase(launch->request.launch);
                                if (!running->returned && self->world_.random().Chance(50)) {
                                  running->finished = std::move(status);
                                  return;
                                }
                                self->Later(self->options_.callback_delay, [self = self.get(), launch, status] {
                                  if (!status.ok()) self->MarkFailed(launch->request.outputs);
                                  self->Enter(LaunchFinished{launch->request.launch, status});
                                });
                              });
  if (!execution.ok()) collectives_.erase(launch->request.launch);
  // The arguments belong to the plugin now, as far as it needs them.
  launch->arguments.clear();
  Later(options_.callback_delay, [this, launch, running, execution = std::move(execution)] {
    running->returned = true;
    Return(launch, execution, std::move(running->finished));
  });
}

void WorkerProcess::Return(const std::shared_ptr<Executing>& launch, absl::StatusOr<Execution> execution,
                           std::optional<absl::Status> finished) {
  for (int device : launch->program->devices()) giving_[device] = false;
  for (BufferKey argument : launch->request.arguments) {
    const auto held = buffers_.find(argument);
    if (held != buffers_.end()) --held->second.launches;
  }
  ExecuteReturned event{launch->request.launch, KeepOutputs(*launch, std::move(execution)), std::move(finished)};
  if (event.finished && !event.finished->ok()) MarkFailed(launch->request.outputs);
  Enter(std::move(event));
}

void WorkerProcess::Hold(BufferKey key, std::shared_ptr<DeviceBuffer> buffer, int device) {
  device_bytes_[device] += buffer->size_bytes();
  buffers_[key] = HeldBuffer{std::move(buffer), device};
}

absl::StatusOr<std::vector<int64_t>> WorkerProcess::KeepOutputs(const Executing& launch,
                                                                absl::StatusOr<Execution> execution) {
  if (!execution.ok()) return execution.status();
  const std::vector<BufferKey>& keys = launch.request.outputs;
  std::vector<std::shared_ptr<DeviceBuffer>> made;
  std::vector<int> devices;
  for (size_t i = 0; i < execution->outputs.size(); ++i) {
    for (const std::shared_ptr<DeviceBuffer>& output : execution->outputs[i]) {
      made.push_back(output);
      devices.push_back(launch.program->devices()[i]);
    }
  }
  if (made.size() != keys.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the program has made ", made.size(), " shards of output, the launch names ", keys.size()));
  }
  std::vector<int64_t> bytes;
  for (size_t i = 0; i < made.size(); ++i) {
    bytes.push_back(made[i]->size_bytes());
    Hold(keys[i], std::move(made[i]), devices[i]);
  }
  return bytes;
}

// ---------------------------------------------------------------- buffers and host memory

WorkerProcess::HeldBuffer* WorkerProcess::FindBuffer(BufferKey key, const char* what) {
  const auto found = buffers_.find(key);
  if (found != buffers_.end()) return &found->second;
  Fail(absl::StrCat(what, " buffer ", static_cast<uint64_t>(key), ", which is not there"));
  return nullptr;
}

void WorkerProcess::MarkFailed(const std::vector<BufferKey>& keys) {
  for (BufferKey key : keys) {
    const auto found = buffers_.find(key);
    if (found != buffers_.end()) found->second.failed = true;
  }
}

std::shared_ptr<HostBlock> WorkerProcess::FindHost(HostKey key, const char* what) {
  const auto found = hosts_.find(key);
  if (found != hosts_.end() && found->second.block != nullptr) return found->second.block;
  Fail(absl::StrCat(what, " host memory ", static_cast<uint64_t>(key), ", which is not there"));
  return nullptr;
}

void WorkerProcess::BufferFromHost(BufferKey buffer, HostKey host, const HostShape& shape, int device,
                                   const std::string& memory_kind, const std::string& layout) {
  const std::shared_ptr<HostBlock> block = FindHost(host, "a buffer is made from");
  if (block == nullptr) return;
  const absl::StatusOr<int64_t> needed_bytes = SpanBytes(shape);
  absl::Status ok = needed_bytes.ok() ? block->Check(*needed_bytes) : needed_bytes.status();
  const absl::string_view bytes(block->bytes.data(), block->bytes.size());
  if (ok.ok() && absl::StartsWith(bytes, kRefusedData)) ok = RefusalError();
  if (!ok.ok()) return OnMade(buffer, device, std::move(ok));
  OnMade(buffer, device, runtime_->FromHost(HostBytes{block->owner, block->bytes}, shape, device, memory_kind, layout));
}

void WorkerProcess::BufferFromBuffer(BufferKey buffer, BufferKey source, int device, const std::string& memory_kind) {
  HeldBuffer* const held = FindBuffer(source, "a buffer is copied from");
  if (held != nullptr) OnMade(buffer, device, runtime_->CopyTo(*held->buffer, device, memory_kind));
}

void WorkerProcess::OnMade(BufferKey key, int device, absl::StatusOr<std::shared_ptr<DeviceBuffer>> buffer) {
  Later(options_.callback_delay, [this, key, device, buffer = std::move(buffer)] {
    if (!buffer.ok()) return Enter(BufferMade{key, buffer.status()});
    const std::shared_ptr<DeviceBuffer> made = *buffer;
    Hold(key, made, device);
    Enter(BufferMade{key, made->size_bytes()});
    made->OnReady([weak = weak_from_this(), key](const absl::Status& status) {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->Later(self->options_.callback_delay, [self = self.get(), key, status] {
        if (!status.ok()) self->MarkFailed({key});
        self->Enter(BufferReady{key, status});
      });
    });
  });
}

void WorkerProcess::DropBuffer(BufferKey buffer) {
  const HeldBuffer* const held = FindBuffer(buffer, "the core drops");
  if (held == nullptr) return;
  // One that has failed may go at any time: who was given it will learn of the error by itself.
  if (held->launches > 0 && !held->failed) Fail("a buffer is dropped while a launch starts with it");
  device_bytes_[held->device] -= held->buffer->size_bytes();
  buffers_.erase(buffer);
}

void WorkerProcess::AdoptHost(HostKey host, std::string data) {
  const auto bytes = static_cast<int64_t>(data.size());
  if (!hosts_.emplace(host, HeldHost{HostBlock::Adopt(std::move(data)), bytes}).second) Fail("a host key comes twice");
  host_bytes_ += bytes;
}

void WorkerProcess::AllocateHost(HostKey host, int64_t bytes) {
  if (!hosts_.emplace(host, HeldHost{HostBlock::Allocate(bytes), bytes}).second) Fail("a host key comes twice");
  host_bytes_ += bytes;
}

void WorkerProcess::DropHost(HostKey host) {
  const auto found = hosts_.find(host);
  if (found == hosts_.end()) return Fail("host memory is dropped that is not there");
  for (const auto& [key, stream] : streams_) {
    if (stream.host == host) Fail("host memory is dropped while a stream uses it");
  }
  host_bytes_ -= found->second.bytes;
  hosts_.erase(found);
}

void WorkerProcess::View(HostKey host, BufferKey buffer) {
  HeldBuffer* const held = FindBuffer(buffer, "the core looks at");
  if (held == nullptr) return;
  Viewed event{host, held->buffer->dtype(), held->buffer->dims(), false};
  HeldHost& name = hosts_[host];
  if (absl::StatusOr<HostBytes> bytes = runtime_->HostView(held->buffer); bytes.ok()) {
    name.block = HostBlock::View(*std::move(bytes));
    event.there = true;
  }
  ++held->reads;
  Later(options_.callback_delay, [this, buffer, event = std::move(event)] {
    EndRead(buffer);
    Enter(event);
  });
}

void WorkerProcess::EndRead(BufferKey key) {
  const auto held = buffers_.find(key);
  if (held != buffers_.end()) --held->second.reads;
}

void WorkerProcess::ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) {
  HeldBuffer* const held = FindBuffer(buffer, "the core reads");
  const std::shared_ptr<HostBlock> block = FindHost(host, "a buffer is read back to");
  if (held == nullptr || block == nullptr) return;
  ++held->reads;
  const absl::Span<char> target(block->writable, block->bytes.size());
  runtime_->ToHost(held->buffer, byte_strides, target,
                   [weak = weak_from_this(), host, block, buffer](const absl::Status& status) {
                     const auto self = weak.lock();
                     if (self == nullptr) return;
                     self->Later(self->options_.callback_delay, [self = self.get(), host, buffer, status] {
                       self->EndRead(buffer);
                       self->Enter(HostFilled{host, status});
                     });
                   });
}

void WorkerProcess::CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target,
                              const ByteRuns& to) {
  const std::shared_ptr<HostBlock> source_block = FindHost(source, "a piece is copied from");
  const std::shared_ptr<HostBlock> target_block = FindHost(target, "a piece is copied to");
  if (source_block == nullptr || target_block == nullptr) return;
  Later(options_.callback_delay, [this, piece, source_block, from, target_block, to] {
    absl::Status ok = source_block->Check(from.memory_bytes());
    ok.Update(target_block->Check(to.memory_bytes()));
    if (ok.ok()) CopyRuns(from, source_block->bytes.data(), to, target_block->writable);
    Enter(PieceCopied{piece, std::move(ok)});
  });
}

// ---------------------------------------------------------------- streams

StreamDone WorkerProcess::EndOf(StreamKey stream) {
  return [weak = weak_from_this(), stream](absl::Status status) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->Later(self->options_.callback_delay, [self = self.get(), stream, status = std::move(status)] {
      self->streams_.erase(stream);
      self->Enter(StreamEnded{stream, status});
    });
  };
}

void WorkerProcess::Receive(StreamKey stream, PeerId peer, StreamId id, HostKey target, const ByteRuns& place) {
  const std::shared_ptr<HostBlock> block = FindHost(target, "a stream is received into");
  if (block == nullptr) return;
  if (absl::Status ok = block->Check(place.memory_bytes()); !ok.ok()) return Fail("a stream does not fit its memory");
  streams_[stream] = HeldStream{peer, id, target};
  plane_->Receive(peer, id, place.total_bytes(), place.total_bytes(), MakeHostSink(block, place, EndOf(stream)));
}

void WorkerProcess::SendStream(StreamKey stream, PeerId peer, StreamId id, HostKey source, const ByteRuns& place) {
  const std::shared_ptr<HostBlock> block = FindHost(source, "a stream is sent from");
  if (block == nullptr) return;
  if (absl::Status ok = block->Check(place.memory_bytes()); !ok.ok()) return Fail("a stream is larger than its memory");
  streams_[stream] = HeldStream{peer, id, source};
  plane_->Send(peer, id, place.total_bytes(), MakeHostSource(block, place, EndOf(stream)));
}

void WorkerProcess::CancelStream(StreamKey stream, const absl::Status& status) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  const HeldStream name = found->second;
  streams_.erase(found);
  plane_->Cancel(name.peer, name.id, status);
}

void WorkerProcess::RefuseToSend(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) {
  plane_->Send(peer, id, bytes, std::make_shared<NoBytes>());
  plane_->Cancel(peer, id, status);
}

void WorkerProcess::RefuseToReceive(PeerId peer, StreamId id, int64_t bytes, const absl::Status& status) {
  plane_->Receive(peer, id, bytes, /*window_bytes=*/0, std::make_shared<NoBytes>());
  plane_->Cancel(peer, id, status);
}

}  // namespace causeway::sim
