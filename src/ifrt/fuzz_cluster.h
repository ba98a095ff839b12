// A cluster of one thread for fuzzing the door: the real controller core, two real worker cores, devices that finish
// when the input says, and a data plane that moves bytes when it says.
//
//   FuzzCluster cluster;
//   cluster.Attach(&session);                  // gets the core's replies
//   cluster.Step(in);                          // something that was under way goes on, or a worker is lost
//   cluster.Settle();                          // all of it comes to its end
//
// Threading: none; AfterCore's thread sleeps. Lifetime: outlives the session.
#ifndef CAUSEWAY_IFRT_FUZZ_CLUSTER_H_
#define CAUSEWAY_IFRT_FUZZ_CLUSTER_H_

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controller/cluster.h"
#include "controller/core.h"
#include "controller/gate.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ifrt/after_core.h"
#include "ifrt/fuzz_messages.h"
#include "ifrt/session.h"
#include "worker/core.h"
#include "worker/fuzz_devices.h"

namespace causeway {

// The controller's end of the data plane. What a source has is read when the input says; what would be received never
// comes.
class FuzzPlane final : public DataPlane {
 public:
  ~FuzzPlane() override { FUZZ_CHECK(sending_.empty() && receiving_.empty()); }

  void SetPeer(PeerId, std::string, uint64_t) override {}
  void DropPeer(PeerId) override {}
  void Receive(PeerId, StreamId id, int64_t, int64_t, std::shared_ptr<StreamSink> sink) override {
    FUZZ_CHECK(receiving_.emplace(id, std::move(sink)).second);
  }
  void Grant(PeerId, StreamId, int64_t) override {}
  void Send(PeerId, StreamId id, int64_t total, std::shared_ptr<StreamSource> source) override {
    FUZZ_CHECK(total >= 0 && sending_.emplace(id, Sending{std::move(source), total, 0}).second);
  }
  void SendMessage(PeerId /*peer*/, absl::Span<const absl::Span<const char>> /*parts*/) override {}
  void SetMessageHandler(MessageHandler* /*handler*/) override {}
  void Wake(PeerId, StreamId) override {}
  void Cancel(PeerId, StreamId id, absl::Status status) override {
    End(id, status);
    if (auto found = receiving_.extract(id)) found.mapped()->OnDone(status);
  }

  bool busy() const { return !sending_.empty(); }

  void Step(FuzzInput& in) {
    if (sending_.empty()) return;
    const auto chosen = std::next(sending_.begin(), in.Byte() % sending_.size());
    Sending& stream = chosen->second;
    if (in.OneIn(16)) return End(chosen->first, absl::UnavailableError("the worker is lost"));
    if (stream.read < stream.total) {
      stream.read += static_cast<int64_t>(stream.source->Read(stream.read, stream.total - stream.read).size());
    }
    if (stream.read == stream.total) End(chosen->first, absl::OkStatus());
  }

  void EndAll() {
    while (!sending_.empty()) End(sending_.begin()->first, absl::UnavailableError("the worker is lost"));
  }

 private:
  struct Sending {
    std::shared_ptr<StreamSource> source;
    int64_t total;
    int64_t read;
  };

  void End(StreamId id, const absl::Status& status) {
    if (auto found = sending_.extract(id)) found.mapped().source->OnDone(status);
  }

  std::map<StreamId, Sending> sending_;
  std::map<StreamId, std::shared_ptr<StreamSink>> receiving_;
};

class FuzzCluster final : public CoreGate, private ControllerActions {
 public:
  static constexpr int kWorkers = 2;
  static constexpr int kDevicesPerWorker = kFuzzDevices / kWorkers;

  FuzzCluster() : core_(ControllerOptions{.data_address = "unix:/c", .key_seed = 1}) {
    for (int i = 0; i < kWorkers; ++i) workers_.push_back(std::make_unique<Worker>(i));
    for (auto& worker : workers_) Join(*worker);
    while (DeliverOne()) {
    }
  }

  // Its thread does nothing here: all that is postponed is postponed inside an Enter.
  static AfterCore& after() {
    static AfterCore& after = *new AfterCore([] {});
    return after;
  }
  FuzzPlane& plane() { return plane_; }

  void Attach(IfrtSession* session) { session_ = session; }

  void Handle(Event event) override {
    now_ += absl::Milliseconds(1);
    core_.Handle(std::move(event), now_, *this);
  }
  void Read(absl::FunctionRef<void(const ControllerCore&)> look) override { look(core_); }

  void Step(FuzzInput& in) {
    Worker& worker = *workers_[in.Below(kWorkers)];
    switch (in.Below(8)) {
      case 0:
      case 1:
        ToWorkerOnce(worker);
        return;
      case 2:
        ToControllerOnce(worker);
        return;
      case 3:
      case 4:
        if (worker.devices.pending() > 0) worker.Do(worker.devices.Finish(in), now_);
        return;
      case 5:
        return plane_.Step(in);
      case 6:
        // A good part of all that is under way.
        for (int i = in.Byte(); i > 0 && DeliverOne(); --i) {
        }
        return;
      default:
        if (!worker.joined) return Join(worker);
        if (in.OneIn(8)) return Lose(worker, absl::UnavailableError("the connection broke"));
        if (in.OneIn(8)) CheckStatus();
        if (in.OneIn(8)) return after().Enter(*this, LinkFull{worker.link, in.Flag()});
        return after().Enter(*this, Tick{});
    }
  }

  // Everything that is under way comes to a good end.
  void Settle() {
    while (DeliverOne()) {
    }
  }

  // Nobody holds anything any more. The session is closed.
  void CheckEmpty() {
    plane_.EndAll();
    Settle();
    FUZZ_CHECK(core_.Status(now_).sessions().empty());
    for (auto& worker : workers_) {
      if (worker->joined) worker->CheckAccounts(now_);
      Lose(*worker, absl::OkStatus());
      FuzzInput none(nullptr, 0);
      while (worker->devices.pending() > 0) worker->Do(worker->devices.Finish(none), now_);
      worker->devices.CheckEmpty();
    }
  }

 private:
  struct Worker {
    explicit Worker(int index) : core({.staging_bytes = 256 << 10}, Hello(index)) {}

    static proto::Hello Hello(int index) {
      proto::Hello hello;
      hello.set_version(kControlVersion);
      hello.set_name(std::string("w") + static_cast<char>('0' + index));
      hello.set_island(index == 0 ? "a" : "b");
      hello.set_platform("cpu");
      for (int i = 0; i < kDevicesPerWorker; ++i) hello.add_devices()->add_memories()->set_kind("device");
      return hello;
    }

    void Do(worker::Event event, absl::Time now) { core.Handle(std::move(event), now, devices); }

    void CheckAccounts(absl::Time now) {
      devices.sent.clear();
      proto::ToWorker ping;
      ping.mutable_ping();
      Do(worker::FrameIn{ping}, now);
      const proto::Pong& pong = devices.sent.back().pong();
      // The session's arrays went with it.
      for (int64_t bytes : pong.device_bytes()) FUZZ_CHECK(bytes == 0);
      FUZZ_CHECK(pong.queued_launches() == 0 && pong.host_bytes() == 0);
      devices.sent.clear();
    }

    worker::FuzzDevices devices{kDevicesPerWorker};
    worker::WorkerCore core;
    LinkId link{0};
    bool joined = false;
    std::deque<proto::ToWorker> frames;  // on their way to it
  };

  void Join(Worker& worker) {
    worker.link = LinkId{++last_link_};
    worker.joined = true;
    worker.Do(worker::LinkUp{}, now_);
  }

  void Lose(Worker& worker, const absl::Status& why) {
    if (!worker.joined) return;
    worker.joined = false;
    worker.frames.clear();
    worker.devices.sent.clear();
    worker.Do(worker::LinkLost{}, now_);
    after().Enter(*this, LinkClosed{worker.link, why});
  }

  bool ToWorkerOnce(Worker& worker) {
    if (worker.frames.empty()) return false;
    proto::ToWorker message = std::move(worker.frames.front());
    worker.frames.pop_front();
    worker.Do(worker::FrameIn{std::move(message)}, now_);
    return true;
  }

  bool ToControllerOnce(Worker& worker) {
    if (worker.devices.sent.empty()) return false;
    proto::ToController message = std::move(worker.devices.sent.front());
    worker.devices.sent.erase(worker.devices.sent.begin());
    after().Enter(*this, WorkerFrame{worker.link, std::move(message), "fuzz"});
    return true;
  }

  // One step of anything, without a choice.
  bool DeliverOne() {
    FuzzInput none(nullptr, 0);
    for (auto& worker : workers_) {
      if (ToWorkerOnce(*worker) || ToControllerOnce(*worker)) return true;
      if (worker->devices.pending() > 0) {
        worker->Do(worker->devices.Finish(none), now_);
        return true;
      }
    }
    return false;
  }

  void CheckStatus() {
    const proto::ClusterStatus status = core_.Status(now_);
    proto::ClusterStatus parsed;
    FUZZ_CHECK(parsed.ParseFromString(status.SerializeAsString()));
    for (const auto& session : status.sessions()) FUZZ_CHECK(session.array_bytes() >= 0);
  }

  // ---- ControllerActions

  bool Mine(SessionId session) const { return session_ != nullptr && session == session_->id(); }

  void ReplyDone(RequestHeader request, const absl::Status& status) override {
    if (Mine(request.session)) session_->Done(request.ticket, status);
  }
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override {
    if (Mine(request.session)) session_->Compiled(request.ticket, std::move(program));
  }
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override {
    if (Mine(request.session)) session_->FetchDone(request.ticket, std::move(fetched));
  }
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override {
    if (Mine(request.session)) session_->Queried(request.ticket, std::move(answer));
  }
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override {
    if (Mine(session)) session_->WantHostData(buffer, worker, stream, total_bytes, in_frame, last);
  }
  void Throttle(SessionId session, bool hold) override {
    if (Mine(session)) session_->Throttle(hold);
  }
  void Send(LinkId link, const proto::ToWorker& message) override {
    proto::ToWorker parsed;
    FUZZ_CHECK(parsed.ParseFromString(message.SerializeAsString()));
    for (auto& worker : workers_) {
      if (worker->joined && worker->link == link) worker->frames.push_back(std::move(parsed));
    }
  }
  void CloseLink(LinkId link, const absl::Status& why) override {
    // Our workers are honest: the controller has no reason to throw one out, but for silence.
    FUZZ_CHECK(absl::IsDeadlineExceeded(why));
    for (auto& worker : workers_) {
      if (worker->link != link) continue;
      worker->joined = false;
      worker->frames.clear();
      worker->devices.sent.clear();
      worker->Do(worker::LinkLost{}, now_);
    }
  }
  void WorkerUp(LinkId, WorkerId, uint64_t, const std::string&) override {}
  void WorkerDown(WorkerId, const absl::Status&) override {}

  FuzzPlane plane_;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t last_link_ = 0;
  IfrtSession* session_ = nullptr;
  ControllerCore core_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_FUZZ_CLUSTER_H_
