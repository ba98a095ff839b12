#include "ifrt/door.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "ifrt/host_buffer_streams.h"
#include "ifrt/session_stream.h"
#include "ifrt/spill.h"
#include "ifrt/statuses.h"
#include "ifrt/versions.h"
#include "net/address.h"
#include "net/unix_socket.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.grpc.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;
using wire::GrpcIfrtService;

// What gRPC takes of a stream that is not read. By itself it lets that grow with the bandwidth, to 8 MiB and more for
// each of some hundred stores of a client. It always takes the rest of the message that is being read.
constexpr int kUnreadStreamBytes = 16 << 10;

// gRPC hands out views of the buffers into which it reads, which it lets grow to 4 MiB. With small ones, and frames as
// large as these, what is kept of one stream does not keep much of the others.
constexpr int kReadBytes = 64 << 10;
constexpr int kFrameBytes = 64 << 10;

// RPCs of one connection at a time; others wait in the client. The stock client has some hundred stores, and lookups.
constexpr int kMaxStreams = 1024;

// What gRPC itself may take of connections that do nothing.
constexpr absl::Duration kStopPatience = absl::Seconds(2);

using ServiceBase = GrpcIfrtService::WithCallbackMethod_GetVersion<
    GrpcIfrtService::WithRawCallbackMethod_IfrtSession<GrpcIfrtService::WithRawCallbackMethod_HostBufferStore<
        GrpcIfrtService::WithRawCallbackMethod_HostBufferLookup<GrpcIfrtService::WithCallbackMethod_HostBufferDelete<
            GrpcIfrtService::WithCallbackMethod_HostBufferReadFromDisk<GrpcIfrtService::Service>>>>>>;

// gRPC wants "unix:PATH" as it is, and takes "HOST:PORT" likewise.
std::string Bound(const std::string& address, int port) {
  if (absl::StartsWith(address, "unix:")) return address;
  const absl::string_view host = absl::string_view(address).substr(0, address.rfind(':'));
  return absl::StrCat(host, ":", port);
}

absl::Status Stopped() {
  return absl::UnavailableError(
      "the controller was stopped. What the session had is gone; jax.extend.backend.clear_backends() lets this process "
      "connect anew");
}

// gRPC replaces the file of a unix socket without asking, also one on which somebody listens, whose clients would then
// come here.
absl::Status CheckNotTaken(const std::string& text) {
  ASSIGN_OR_RETURN(const Address address, ParseAddress(text));
  if (address.kind != Address::Kind::kUnix || LookAtSocketFile(address.path) != SocketFile::kInUse) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("cannot listen on ", text, ": another process listens there"));
}

}  // namespace

class IfrtDoor::Service final : public ServiceBase {
 public:
  explicit Service(IfrtDoor& door) : door_(door) {}

  grpc::ServerUnaryReactor* GetVersion(grpc::CallbackServerContext* context, const wire::GrpcGetVersionRequest* request,
                                       wire::GrpcGetVersionResponse* response) override {
    const auto version = ChooseVersion(*request);
    const std::string client = absl::StrCat("client ", std::string(context->peer()));
    if (!version.ok()) {
      Log(LogLevel::kWarning, absl::StrCat(client, " refused: ", version.status().message()));
      return Reply(context, version.status());
    }
    // The stock client takes an error here as a reason to ask again, once a second, until its own time-out.
    absl::Status ready;
    door_.gate_.Read([&ready](const ControllerCore& core) { ready = core.Ready(); });
    if (!ready.ok()) return Reply(context, ready);
    *response->mutable_version() = *version;
    Log(LogLevel::kInfo, absl::StrCat(client, " offers ", DescribeOffer(*request), "; agreed on ",
                                      version->protocol_version(), " and ", version->ifrt_serdes_version_number()));
    return Reply(context, absl::OkStatus());
  }

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* IfrtSession(
      grpc::CallbackServerContext* context) override {
    return new SessionStream(door_, context);
  }

  grpc::ServerReadReactor<grpc::ByteBuffer>* HostBufferStore(grpc::CallbackServerContext* context,
                                                             grpc::ByteBuffer* response) override {
    return NewStoreStream(door_, context, response);
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* HostBufferLookup(grpc::CallbackServerContext*,
                                                               const grpc::ByteBuffer* request) override {
    return NewLookupStream(door_, *request);
  }

  grpc::ServerUnaryReactor* HostBufferDelete(grpc::CallbackServerContext* context,
                                             const wire::GrpcHostBufferDeleteRequest* request,
                                             wire::GrpcHostBufferDeleteResponse*) override {
    const auto session = door_.FindSession(request->session_id());
    if (session.ok()) (*session)->DeleteHostBuffer(HostBufferId{request->handle()});
    return Reply(context, session.status());
  }

  grpc::ServerUnaryReactor* HostBufferReadFromDisk(grpc::CallbackServerContext* context,
                                                   const wire::GrpcHostBufferReadFromDiskRequest* request,
                                                   wire::GrpcHostBufferReadFromDiskResponse*) override {
    return Reply(context, ReadFromDisk(request->metadata()));
  }

 private:
  // A file's store needs no pauses: its bytes are on disk, whoever takes them when.
  class NoFlow final : public UploadFlow {
   public:
    void Resume() override {}
    void Fail(const absl::Status&) override {}
  };

  static grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(StatusToGrpc(status));
    return reactor;
  }

  absl::Status ReadFromDisk(const wire::GrpcHostBufferStoreMetadata& metadata) {
    const std::string& directory = door_.options().large_transfer_directory;
    if (directory.empty()) {
      return absl::UnimplementedError(
          "this controller reads no host data from files: unset IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY "
          "in the "
          "client, or start the controller with the same directory");
    }
    ASSIGN_OR_RETURN(const auto session, door_.FindSession(metadata.session_id()));
    // The client's name for it: its handle, as a 32-bit number.
    ASSIGN_OR_RETURN(absl::Cord data, TakeFile(directory, absl::StrCat("lt_", static_cast<int32_t>(metadata.handle())),
                                               metadata.buffer_size()));
    ASSIGN_OR_RETURN(const auto upload, session->uploads().Begin(HostBufferId{metadata.handle()},
                                                                 metadata.buffer_size(), std::make_shared<NoFlow>()));
    RETURN_IF_ERROR(upload->AppendFile(std::move(data)));
    return upload->End();
  }

  IfrtDoor& door_;
};

IfrtDoor::IfrtDoor(CoreGate& gate, DataPlane& plane, IfrtDoorOptions options)
    : gate_(gate),
      plane_(plane),
      options_(std::move(options)),
      memory_(std::make_shared<HostMemory>(options_.host_memory)),
      after_(std::make_unique<AfterCore>([this] { EverySecond(); })) {}

IfrtDoor::~IfrtDoor() { Stop(); }

absl::StatusOr<std::vector<std::string>> IfrtDoor::Start(const std::vector<std::string>& addresses) {
  for (const std::string& address : addresses) RETURN_IF_ERROR(CheckNotTaken(address));
  service_ = std::make_unique<Service>(*this);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxControlFrameBytes));
  builder.SetMaxSendMessageSize(static_cast<int>(kMaxControlFrameBytes));
  // Two servers on one port would share its clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // After a quarter of the time the client is asked whether it is there, and has the rest of it to say so.
  const auto timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(options_.client_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, std::max(1, timeout_ms / 4));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, std::max(1, timeout_ms - timeout_ms / 4));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kUnreadStreamBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytes);
  std::vector<int> ports(addresses.size(), 0);
  for (size_t i = 0; i < addresses.size(); ++i) {
    builder.AddListeningPort(addresses[i], grpc::InsecureServerCredentials(), &ports[i]);
  }
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  std::vector<std::string> bound;
  for (size_t i = 0; i < addresses.size(); ++i) {
    // The first that failed is to blame, not those before it, though there is no server then.
    if (ports[i] == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", addresses[i], ": the address is in use, or not of this machine"));
    }
    bound.push_back(Bound(addresses[i], ports[i]));
  }
  if (server_ == nullptr) return absl::UnavailableError("the server for clients cannot be started; see above");
  return bound;
}

void IfrtDoor::Stop() {
  if (after_ == nullptr) return;
  if (server_ != nullptr) {
    for (const auto& session : Sessions()) session->Dismiss(Stopped());
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kStopPatience));
    server_->Wait();
    server_.reset();
  }
  for (const auto& session : Sessions()) CloseSession(session);
  after_.reset();
}

int IfrtDoor::session_count() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

absl::StatusOr<std::shared_ptr<IfrtSession>> IfrtDoor::OpenSession(Introduction client, std::string peer,
                                                                   std::shared_ptr<SessionPeer> stream) {
  std::random_device random;
  MutexLock lock(&mutex_);
  if (static_cast<int>(sessions_.size()) >= options_.max_sessions || last_session_ >= kMaxSession) {
    return absl::ResourceExhaustedError(absl::StrCat("this controller serves ", sessions_.size(),
                                                     " clients, as many as it may; try again when one has left"));
  }
  uint64_t key = 0;
  while (key == 0 || by_key_.contains(key)) key = (uint64_t{random()} << 32) | random();
  IfrtSession::Parts parts{&gate_, after_.get(), &plane_, memory_, options_.uploads, options_.slices};
  const SessionId id{++last_session_};
  auto session = std::make_shared<IfrtSession>(id, key, std::move(client), std::move(peer), parts, std::move(stream));
  sessions_[id] = session;
  by_key_[key] = session;
  Log(LogLevel::kInfo, absl::StrCat(session->Describe(), " has begun"));
  return session;
}

void IfrtDoor::CloseSession(const std::shared_ptr<IfrtSession>& session) {
  {
    MutexLock lock(&mutex_);
    if (sessions_.erase(session->id()) == 0) return;
    by_key_.erase(session->key());
  }
  Log(LogLevel::kInfo, absl::StrCat(session->Describe(), " has ended"));
  // Elsewhere, since this may stand in gRPC's locks.
  after_->DoElsewhere([session] { session->Close(); });
}

absl::StatusOr<std::shared_ptr<IfrtSession>> IfrtDoor::FindSession(uint64_t key) const {
  MutexLock lock(&mutex_);
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return absl::NotFoundError("no session has this id; it may have ended");
  return it->second;
}

std::shared_ptr<IfrtSession> IfrtDoor::Find(SessionId id) const {
  MutexLock lock(&mutex_);
  const auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : it->second;
}

void IfrtDoor::EverySecond() {
  memory_->ReopenDisk();
  for (const auto& session : Sessions()) session->Tick(SteadyNow());
}

std::vector<std::shared_ptr<IfrtSession>> IfrtDoor::Sessions() const {
  std::vector<std::shared_ptr<IfrtSession>> sessions;
  MutexLock lock(&mutex_);
  for (const auto& [id, session] : sessions_) sessions.push_back(session);
  return sessions;
}

void IfrtDoor::ReplyDone(RequestHeader request, const absl::Status& status) {
  if (const auto session = Find(request.session)) session->Done(request.ticket, status);
}

void IfrtDoor::ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) {
  if (const auto session = Find(request.session)) session->Compiled(request.ticket, std::move(program));
}

void IfrtDoor::ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) {
  if (const auto session = Find(request.session)) session->FetchDone(request.ticket, std::move(fetched));
}

void IfrtDoor::ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) {
  if (const auto session = Find(request.session)) session->Queried(request.ticket, std::move(answer));
}

void IfrtDoor::WantHostData(SessionId id, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                            bool in_frame, bool last) {
  if (const auto session = Find(id)) session->WantHostData(buffer, worker, stream, total_bytes, in_frame, last);
}

void IfrtDoor::Throttle(SessionId id, bool hold) {
  if (const auto session = Find(id)) session->Throttle(hold);
}

void IfrtDoor::OriginOpened(SessionId id, uint64_t origin) {
  if (const auto session = Find(id)) session->OriginOpened(origin);
}

void IfrtDoor::OriginClosed(SessionId id, uint64_t origin, bool failed) {
  if (const auto session = Find(id)) session->OriginClosed(origin, failed);
}

void IfrtDoor::WorkerDown(WorkerId worker, const absl::Status& why) {
  MutexLock lock(&mutex_);
  for (const auto& [id, session] : sessions_) session->downloads().Lose(worker, why);
}

}  // namespace causeway
