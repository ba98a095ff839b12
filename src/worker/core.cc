#include "worker/core.h"

#include <list>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "worker/context.h"
#include "worker/copies.h"
#include "worker/fetches.h"
#include "worker/launch_queue.h"
#include "worker/makes.h"
#include "worker/programs.h"
#include "worker/puts.h"
#include "worker/reads.h"
#include "worker/stream_table.h"

namespace causeway::worker {

class WorkerCore::Impl {
 public:
  Impl(const CoreOptions& options, proto::Hello hello)
      : context_(hello.devices_size(), options.staging_bytes),
        programs_(context_),
        launches_(context_, programs_, options.gangs_ahead),
        streams_(context_),
        reads_(context_),
        makes_(context_),
        puts_(context_, makes_, streams_),
        copies_(context_, makes_, reads_, streams_),
        fetches_(context_, reads_, streams_) {
    *hello_.mutable_hello() = std::move(hello);
  }

  void Handle(Event event, absl::Time now, WorkerActions& out) {
    context_.out = &out;
    context_.now = now;
    context_.hosts.Use(out);
    std::visit([this](auto& e) { On(e); }, event);
    Settle();
  }

  CoreCounts Counts() const {
    const absl::Span<const int64_t> bytes = context_.store.device_bytes();
    const absl::Span<const int64_t> buffers = context_.store.device_buffers();
    return {.arrays = context_.store.array_count(),
            .programs = programs_.size(),
            .compiling = programs_.compiling(),
            .questions = static_cast<int64_t>(questions_.size()),
            .launches = launches_.size(),
            .makes = makes_.size(),
            .reads = reads_.size(),
            .puts = puts_.size(),
            .copies = copies_.size(),
            .streams = streams_.size(),
            .waiting_for_room = context_.hosts.waiting(),
            .host_bytes = context_.hosts.used_bytes(),
            .pools = context_.hosts.pool_use(),
            .device_bytes = {bytes.begin(), bytes.end()},
            .device_buffers = {buffers.begin(), buffers.end()}};
  }

 private:
  void On(LinkUp&);
  void On(LinkLost&);
  void On(FrameIn& event);
  void On(CompileDone& event);
  void On(ExecuteReturned& event) { launches_.OnReturned(std::move(event)); }
  void On(LaunchFinished& event) { launches_.OnFinished(event); }
  void On(BufferMade& event) { makes_.OnMade(event); }
  void On(BufferReady& event) { makes_.OnReady(event); }
  void On(Viewed& event) { reads_.OnViewed(event); }
  void On(HostFilled& event) { reads_.OnFilled(event); }
  void On(PieceCopied& event) { copies_.OnPieceCopied(event); }
  void On(StreamEnded& event) { streams_.OnEnded(event); }
  void On(Answered& event);

  void On(const proto::Welcome& message);
  void On(const proto::Ping& message);
  void On(const proto::DropPrograms& message);
  void On(const proto::DropSession& message);
  void On(const proto::Alias& message);
  void On(const proto::Delete& message);
  void On(const proto::Fail& message);
  void On(const proto::Query& message);
  void On(const proto::Peers& message);
  void On(const proto::AbortLaunch& message);
  void On(const proto::TraceControl& message);

  void DropEverything(const absl::Status& why);
  void DropPeers();
  void Refuse(Life life, const proto::Query& query, const absl::Status& why);

  // Asks what no longer waits for the compiler.
  void AskAboutPrograms();
  void Settle();

  // About a program, which may still be in the compiler's hands.
  struct Question {
    Life life;
    proto::Query query;
    ProgramRef program;
  };
  struct Peer {
    std::string address;
    uint64_t key;
    uint64_t incarnation;
    bool operator==(const Peer&) const = default;
  };

  // The store and host memory stand first: what refers to them goes before they do.
  Context context_;
  proto::ToController hello_;
  Programs programs_;
  LaunchQueue launches_;
  StreamTable streams_;
  Reads reads_;
  Makes makes_;
  Puts puts_;
  Copies copies_;
  Fetches fetches_;
  std::list<Question> questions_;
  std::map<PeerId, Peer> peers_;  // other workers
};

// ---------------------------------------------------------------- the link

void WorkerCore::Impl::On(LinkUp&) {
  context_.life = Life{static_cast<uint64_t>(context_.life) + 1};
  context_.linked = true;
  context_.out->Send(hello_);
}

void WorkerCore::Impl::On(LinkLost&) {
  context_.linked = false;
  context_.trace.Drop();
  DropEverything(absl::UnavailableError("the worker has lost its controller"));
}

void WorkerCore::Impl::DropEverything(const absl::Status& why) {
  launches_.DropAll(why);
  reads_.DropAll();
  streams_.DropAll(why);
  puts_.DropAll(why);
  copies_.DropAll(why);
  questions_.clear();
  context_.store.DropAll();
  programs_.DropAll();
  DropPeers();
}

void WorkerCore::Impl::DropPeers() {
  for (const auto& [peer, known] : peers_) context_.out->DropPeer(peer);
  peers_.clear();
  context_.peer_lives.clear();
  context_.out->DropPeer(kControllerPeer);
}

void WorkerCore::Impl::On(const proto::Welcome& message) {
  context_.self = WorkerId{message.worker()};
  context_.out->SetSelf(context_.self);
  context_.out->SetPeer(kControllerPeer, message.data_address(), message.data_key());
}

void WorkerCore::Impl::On(const proto::Peers& message) {
  std::map<PeerId, Peer> now;
  for (const proto::Peers::Peer& peer : message.peers()) {
    if (peer.worker() < 0 || peer.worker() == Raw(context_.self)) continue;
    now[PeerOf(WorkerId{peer.worker()})] = Peer{peer.data_address(), peer.data_key(), peer.incarnation()};
  }
  // A peer that has come back is another one: what it had is lost, under whatever address.
  for (const auto& [id, known] : peers_) {
    const auto found = now.find(id);
    if (found == now.end() || found->second != known) context_.out->DropPeer(id);
  }
  for (const auto& [id, peer] : now) {
    const auto known = peers_.find(id);
    if (known == peers_.end() || known->second != peer) context_.out->SetPeer(id, peer.address, peer.key);
  }
  peers_ = std::move(now);
  context_.peer_lives.clear();
  for (const auto& [id, peer] : peers_) context_.peer_lives[id] = peer.incarnation;
}

// ---------------------------------------------------------------- frames

void WorkerCore::Impl::On(FrameIn& event) {
  proto::ToWorker& message = event.message;
  switch (message.message_case()) {
    case proto::ToWorker::kWelcome:
      return On(message.welcome());
    case proto::ToWorker::kPing:
      return On(message.ping());
    case proto::ToWorker::kCompile:
      return programs_.Compile(std::move(*message.mutable_compile()));
    case proto::ToWorker::kDropPrograms:
      return On(message.drop_programs());
    case proto::ToWorker::kDropSession:
      return On(message.drop_session());
    case proto::ToWorker::kLaunch:
      return launches_.Launch(message.launch());
    case proto::ToWorker::kPut:
      return puts_.Put(std::move(*message.mutable_put()));
    case proto::ToWorker::kReceiveHost:
      return puts_.Receive(message.receive_host());
    case proto::ToWorker::kFetch:
      return fetches_.Fetch(message.fetch());
    case proto::ToWorker::kCopy:
      return copies_.Copy(message.copy());
    case proto::ToWorker::kAlias:
      return On(message.alias());
    case proto::ToWorker::kDelete:
      return On(message.delete_());
    case proto::ToWorker::kFail:
      return On(message.fail());
    case proto::ToWorker::kQuery:
      return On(message.query());
    case proto::ToWorker::kPeers:
      return On(message.peers());
    case proto::ToWorker::kAbortLaunch:
      return On(message.abort_launch());
    case proto::ToWorker::kHostData:
      return puts_.OnHostData(std::move(*message.mutable_host_data()));
    case proto::ToWorker::kTraceControl:
      return On(message.trace_control());
    case proto::ToWorker::kTraceReport:     // answers tools
    case proto::ToWorker::kGoodbye:         // the link's keeper says it to people
    case proto::ToWorker::kClusterStatus:   // answers tools
    case proto::ToWorker::kKeyValueReply:   // answers another link (key_value_link.h)
    case proto::ToWorker::MESSAGE_NOT_SET:  // from a newer controller, which must do without an answer
      return;
  }
}

void WorkerCore::Impl::On(const proto::Ping& message) {
  proto::ToController answer;
  proto::Pong& pong = *answer.mutable_pong();
  pong.set_number(message.number());
  for (int64_t bytes : context_.store.device_bytes()) pong.add_device_bytes(bytes);
  for (int64_t buffers : context_.store.device_buffers()) pong.add_device_buffers(buffers);
  pong.set_queued_launches(launches_.size());
  pong.set_host_bytes(context_.hosts.used_bytes());
  pong.set_programs(programs_.count());
  context_.Report(context_.life, answer);
}

void WorkerCore::Impl::On(const proto::DropPrograms& message) {
  for (uint64_t program : message.programs()) programs_.Drop(ProgramId{program});
}

void WorkerCore::Impl::On(const proto::DropSession& message) {
  const SessionId session{message.session()};
  const absl::Status why = absl::CancelledError(absl::StrCat("session ", message.session(), " is closed"));
  launches_.DropSession(session, why);
  reads_.DropSession(session);
  streams_.DropSession(session, why);
  puts_.DropSession(session, why);
  copies_.DropSession(session, why);
  questions_.remove_if([session](const Question& question) { return SessionOf(question.program->id) == session; });
  context_.store.DropSession(session);
  programs_.DropSession(session);
}

void WorkerCore::Impl::On(const proto::Alias& message) {
  for (const proto::Alias::Entry& entry : message.entries()) {
    absl::StatusOr<BufferRef> source = context_.store.Find(ArrayId{entry.source_array()}, entry.source_shard());
    BufferRef buffer = source.ok() ? *std::move(source) : context_.store.Failed(source.status(), /*origin=*/0);
    // A name that is taken keeps what it has: an alias has no answer in which to say so.
    context_.store.SetAliased(buffer);
    context_.store.Bind(ArrayId{entry.array()}, entry.shard(), std::move(buffer)).IgnoreError();
  }
}

void WorkerCore::Impl::On(const proto::Delete& message) {
  for (uint64_t array : message.arrays()) context_.store.Drop(ArrayId{array});
}

void WorkerCore::Impl::On(const proto::Fail& message) {
  const ArrayId array{message.array()};
  const absl::Status why = FromProto(message.status());
  if (why.ok()) return;
  puts_.Fail(array, why);
  copies_.Fail(array, why);
  makes_.Fail(array, why);
}

void WorkerCore::Impl::On(const proto::AbortLaunch& message) {
  const absl::Status why = FromProto(message.status());
  if (!why.ok()) context_.out->AbortGang(message.number(), why);
}

void WorkerCore::Impl::On(const proto::TraceControl& message) {
  std::optional<proto::TraceEvents> events = context_.trace.OnControl(message, context_.now);
  if (!events) return;
  proto::ToController answer;
  *answer.mutable_trace_events() = *std::move(events);
  context_.Report(context_.life, answer);
}

void WorkerCore::Impl::On(const proto::Query& message) {
  absl::Status ok;
  if (message.what_case() == proto::Query::kProgramText || message.what_case() == proto::Query::kCostAnalysis) {
    const bool text = message.what_case() == proto::Query::kProgramText;
    absl::StatusOr<ProgramRef> program =
        programs_.Find(ProgramId{text ? message.program_text() : message.cost_analysis()});
    if (program.ok()) {
      questions_.push_back({context_.life, message, *std::move(program)});
      return AskAboutPrograms();
    }
    ok = program.status();
  } else if (message.what_case() == proto::Query::kDefaultLayout) {
    const int device = message.default_layout().device();
    if (device < 0 || device >= context_.devices) {
      ok = absl::InvalidArgumentError(absl::StrCat("device ", device, " is none of the ", context_.devices, " here"));
    }
  } else {
    ok = absl::UnimplementedError("this worker does not know what is asked; it is older than its controller");
  }
  if (ok.ok()) return context_.out->Ask(context_.life, message, std::nullopt);
  Refuse(context_.life, message, ok);
}

void WorkerCore::Impl::Refuse(Life life, const proto::Query& query, const absl::Status& why) {
  proto::ToController answer;
  answer.mutable_query_done()->set_query(query.query());
  *answer.mutable_query_done()->mutable_status() = ToProto(why);
  context_.Report(life, answer);
}

void WorkerCore::Impl::AskAboutPrograms() {
  for (auto question = questions_.begin(); question != questions_.end();) {
    const Program& program = *question->program;
    if (program.state == Program::State::kCompiling) {
      ++question;
      continue;
    }
    if (program.state == Program::State::kCompiled) {
      context_.out->Ask(question->life, question->query, program.key);
    } else {
      Refuse(question->life, question->query, program.error);
    }
    question = questions_.erase(question);
  }
}

// ---------------------------------------------------------------- completions

void WorkerCore::Impl::On(CompileDone& event) {
  const ProgramRef program = programs_.OnCompileDone(std::move(event));
  if (program == nullptr) return;
  launches_.OnCompiled(*program);
  AskAboutPrograms();
}

void WorkerCore::Impl::On(Answered& event) {
  proto::ToController message;
  *message.mutable_query_done() = std::move(event.answer);
  context_.Report(event.life, message);
}

void WorkerCore::Impl::Settle() {
  bool more = true;
  while (more) {
    more = context_.store.Settle();
    more |= launches_.Settle();
    more |= context_.hosts.Settle();
  }
  launches_.Flush();
  programs_.Sweep();
  context_.store.Sweep(*context_.out);
  context_.hosts.Sweep();
}

// ---------------------------------------------------------------- the door

WorkerCore::WorkerCore(const CoreOptions& options, proto::Hello hello)
    : impl_(std::make_unique<Impl>(options, std::move(hello))) {}

WorkerCore::~WorkerCore() = default;

void WorkerCore::Handle(Event event, absl::Time now, WorkerActions& out) { impl_->Handle(std::move(event), now, out); }

CoreCounts WorkerCore::Counts() const { return impl_->Counts(); }

}  // namespace causeway::worker
