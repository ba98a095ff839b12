// The control stream as the controller gets it: frames of workers and tools that make some sense or none, on several
// links, into the real controller core while a session asks things of it.
//
// Held true: every ticket is answered at most once, every frame that goes out parses, a link that was closed hears no
// more, and the cluster can be looked at at any time.
#include "controller/core.h"

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "controller/cluster.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "hlo/fuzz_sharding.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

constexpr SessionId kSession{1};
constexpr int kLinks = 3;
constexpr int kDevices = 4;

class Actions final : public ControllerActions {
 public:
  void ReplyDone(RequestHeader request, const absl::Status&) override { Answer(request); }
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override {
    Answer(request);
    if (!program.ok()) return;
    FUZZ_CHECK((*program)->outputs.size() == static_cast<size_t>((*program)->info.outputs_size()));
    for (const auto& output : (*program)->outputs) {
      // Whatever the worker said, an array of it can be laid out.
      FUZZ_CHECK(output->sharding->CheckRank(output->dims).ok());
      for (int i = 0; i < output->sharding->num_shards(); ++i) {
        FUZZ_CHECK(output->sharding->ShardBox(output->dims, i).NumElements() >= 0);
      }
    }
  }
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override {
    Answer(request);
    if (fetched.ok() && Raw(fetched->worker) < 0) {
      FUZZ_CHECK(static_cast<int64_t>(fetched->data.size()) == fetched->total_bytes);
    }
  }
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone>) override { Answer(request); }
  void WantHostData(SessionId, HostBufferId, WorkerId worker, StreamId stream, int64_t, bool, bool) override {
    wanted.emplace_back(worker, stream);
  }
  void Throttle(SessionId session, bool hold) override {
    FUZZ_CHECK(session == kSession && hold != held);
    held = hold;
  }
  void Send(LinkId link, const proto::ToWorker& message) override {
    FUZZ_CHECK(!closed.contains(link));
    proto::ToWorker parsed;
    FUZZ_CHECK(parsed.ParseFromString(message.SerializeAsString()));
  }
  void CloseLink(LinkId link, const absl::Status&) override { closed.insert(link); }
  void WorkerUp(LinkId link, WorkerId, uint64_t, const std::string&) override { FUZZ_CHECK(!closed.contains(link)); }
  void WorkerDown(WorkerId, const absl::Status& why) override { FUZZ_CHECK(!why.ok()); }

  std::set<LinkId> closed;
  std::vector<std::pair<WorkerId, StreamId>> wanted;
  bool held = false;

 private:
  void Answer(RequestHeader request) {
    FUZZ_CHECK(request.session == kSession && answered_.insert(request.ticket).second);
  }

  std::set<Ticket> answered_;
};

class Driver {
 public:
  // One input in three finds plenty of credits; one has launches wait for one another, one also for their inputs.
  explicit Driver(size_t input_bytes)
      : core_(ControllerOptions{.token = "secret",
                                .key_seed = 1,
                                .scheduling = {.credits = input_bytes % 3 == 0 ? 1000 : 1,
                                               .ahead = absl::ZeroDuration(),
                                               .sequential = input_bytes % 3 == 2}}) {
    for (LinkId& link : links_) link = LinkId{++last_link_};
  }

  void Step(FuzzInput& in) {
    const int what = in.Below(16);
    if (what < 4) return Ask(in);
    if (what == 4) return Look();
    const int index = in.Below(kLinks);
    LinkId& link = links_[index];
    if (what == 5) {
      Do(LinkClosed{link, absl::UnavailableError("the connection broke")});
      link = LinkId{++last_link_};
    } else if (what == 6) {
      if (in.OneIn(4)) return Do(LinkFull{link, in.Flag()});
      now_ += absl::Milliseconds(100) * in.Byte();
      Do(Tick{});
    } else if (what == 7) {
      if (actions_.wanted.empty()) return;
      const auto [worker, stream] = actions_.wanted.back();
      actions_.wanted.pop_back();
      Do(HostDataArrived{worker, stream, in.Flag() ? absl::StatusOr<std::string>(in.Bytes(8)) : Error(in)});
    } else {
      proto::ToController message;
      if (!Frame(in, index, message)) return;
      Do(WorkerFrame{link, std::move(message), "fuzz"});
    }
    for (LinkId& each : links_) {
      // The shell tells of the end of every link.
      if (!actions_.closed.contains(each)) continue;
      Do(LinkClosed{each, absl::OkStatus()});
      each = LinkId{++last_link_};
    }
  }

  void End() {
    Do(CloseSession{kSession});
    Look();
    FUZZ_CHECK(core_.Status(now_).sessions().empty());
    for (LinkId link : links_) Do(LinkClosed{link, absl::OkStatus()});
    const ControllerCounts counts = core_.Counts();
    FUZZ_CHECK(counts.held == 0 && counts.launches == 0 && counts.credits == 0 && counts.makes == 0);
  }

 private:
  void Do(Event event) { core_.Handle(std::move(event), now_, actions_); }

  static absl::Status Error(FuzzInput& in) {
    return absl::Status(static_cast<absl::StatusCode>(1 + in.Below(16)), in.Bytes(8));
  }

  void Look() {
    const proto::ClusterStatus status = core_.Status(now_);
    proto::ClusterStatus parsed;
    FUZZ_CHECK(parsed.ParseFromString(status.SerializeAsString()));
    core_.Platform();
    core_.PlatformVersion();
    core_.StablehloVersion();
    for (const DeviceView& device : core_.Devices()) FUZZ_CHECK(Raw(device.worker) >= 0);
  }

  // ---- what workers say

  static void Hello(FuzzInput& in, int link, proto::Hello& hello) {
    hello.set_version(kControlVersion);
    hello.set_token("secret");
    hello.set_name(in.OneIn(8) ? ProtoFiller::Text(in) : std::string(1, static_cast<char>('a' + link)));
    hello.set_island(in.Flag() ? "x" : "y");
    hello.set_platform(in.OneIn(16) ? "tpu" : "cpu");
    for (int i = in.OneIn(16) ? in.Below(4) : 2; i > 0; --i) hello.add_devices()->add_memories()->set_kind("device");
  }

  static ProtoFiller Filler() {
    ProtoFiller filler;
    filler.hook = [](FuzzInput& in, google::protobuf::Message& message, const ProtoFiller::Field& field) {
      const std::string& name = field.name();
      const auto& fields = *message.GetReflection();
      // So that some traces begin and get answers.
      if (message.GetDescriptor() == proto::TraceRequest::descriptor() && (name == "token" || name == "version")) {
        auto& request = static_cast<proto::TraceRequest&>(message);
        request.set_token("secret");
        request.set_version(kControlVersion);
        return true;
      }
      if (field.cpp_type() != ProtoFiller::Field::CPPTYPE_UINT64) return false;
      if (name == "trace") {
        fields.SetUInt64(&message, &field, in.Below(4));
        return true;
      }
      if (name == "array" && !field.is_repeated()) {
        fields.SetUInt64(&message, &field, Raw(Array(in)));
      } else if (name == "program" && !field.is_repeated()) {
        fields.SetUInt64(&message, &field, Raw(Program(in)));
      } else {
        return false;
      }
      return true;
    };
    return filler;
  }

  // False: these bytes are no message.
  static bool Frame(FuzzInput& in, int link, proto::ToController& message) {
    switch (in.Below(10)) {
      case 0:
        Hello(in, link, *message.mutable_hello());
        break;
      case 1:
      case 2: {
        proto::Compiled& compiled = *message.mutable_compiled();
        compiled.set_program(Raw(Program(in)));
        if (in.OneIn(8)) compiled.mutable_status()->set_code(static_cast<int>(in.Number()));
        for (int i = in.Below(3); i > 0; --i) compiled.mutable_info()->add_parameters();
        for (int i = in.Below(3); i > 0; --i) {
          proto::OutputInfo& output = *compiled.mutable_info()->add_outputs();
          output.mutable_type()->set_dtype(in.Byte() < 240 ? 11 : static_cast<int>(in.Number()));
          for (int d = in.Below(4); d > 0; --d) output.mutable_type()->add_dims(in.Number());
          if (in.Flag()) output.set_sharding(FuzzOpSharding(in, 1 + in.Below(kDevices)).SerializeAsString());
        }
        for (int i = in.Below(3); i > 0; --i) compiled.mutable_info()->add_donated_parameters(in.Below(4));
        break;
      }
      case 3:
        for (int i = in.Below(4); i > 0; --i) {
          proto::LaunchDone& done = *message.mutable_launches_done()->add_done();
          done.set_number(in.Below(8));
          if (in.OneIn(4)) done.mutable_status()->set_code(in.Below(18));
        }
        break;
      case 4:
        message.mutable_array_done()->set_array(Raw(Array(in)));
        if (in.OneIn(4)) message.mutable_array_done()->mutable_status()->set_code(in.Below(18));
        break;
      case 5: {
        proto::FetchDone& done = *message.mutable_fetch_done();
        done.set_fetch(in.Below(8));
        done.set_data(in.Bytes(16));
        done.set_total_bytes(in.Flag() ? static_cast<int64_t>(done.data().size()) : in.Number());
        break;
      }
      case 6:
        message.mutable_query_done()->set_query(in.Below(8));
        message.mutable_query_done()->set_layout(in.Bytes(8));
        break;
      case 7: {
        const auto* kinds = proto::ToController::descriptor();
        Filler().FillField(in, message, *kinds->field(in.Byte() % kinds->field_count()));
        return true;
      }
      case 8:
        return message.ParseFromString(in.Bytes(64));
      default:
        message.mutable_status_request()->set_version(in.Flag() ? kControlVersion : in.Byte());
        message.mutable_status_request()->set_token(in.Flag() ? "secret" : "guessed");
    }
    if (in.OneIn(8)) Filler().Fill(in, message);
    return true;
  }

  // ---- what a session asks

  static ArrayId Array(FuzzInput& in) { return MakeArrayId(kSession, in.Byte() % 8); }
  static ProgramId Program(FuzzInput& in) { return MakeProgramId(kSession, in.Byte() % 3); }
  static DeviceId Device(FuzzInput& in) { return DeviceId{in.Byte() % (kDevices + 1)}; }

  static std::vector<DeviceId> Devices(FuzzInput& in) {
    std::vector<DeviceId> devices;
    for (int i = in.Below(kDevices); i >= 0; --i) devices.push_back(Device(in));
    return devices;
  }
  static std::vector<ArrayId> Arrays(FuzzInput& in) {
    std::vector<ArrayId> arrays;
    for (int i = in.Below(3); i > 0; --i) arrays.push_back(Array(in));
    return arrays;
  }

  // As the door makes them: of the right rank.
  static std::shared_ptr<const Sharding> FuzzSharding(FuzzInput& in, const std::vector<int64_t>& dims) {
    const std::vector<DeviceId> devices = Devices(in);
    auto sharding = Sharding::FromOpSharding(devices, "", FuzzOpSharding(in, static_cast<int>(devices.size())));
    if (!sharding.ok() || !sharding->CheckRank(dims).ok()) sharding = Sharding::Replicated(devices, "");
    return std::make_shared<const Sharding>(*std::move(sharding));
  }
  static std::shared_ptr<const ArraySpec> Spec(FuzzInput& in) {
    auto spec = std::make_shared<ArraySpec>();
    spec->dtype = DType::kF32;
    spec->dims = FuzzDims(in, 3);
    spec->sharding = FuzzSharding(in, spec->dims);
    return spec;
  }

  RequestHeader Header() { return {kSession, Ticket{++last_ticket_}}; }

  void Ask(FuzzInput& in) {
    switch (in.Below(16)) {
      case 0:
        return Do(OpenSession{Header(), "fuzz", "fuzz"});
      case 1:
        if (!in.OneIn(8)) return;
        actions_.held = false;
        return Do(CloseSession{kSession});
      case 2:
      case 3: {
        PutArray put{Header(), Array(in), Spec(in), {}};
        for (int shard = put.spec->sharding->num_shards() - 1; shard >= 0; --shard) {
          const int64_t bytes = put.spec->sharding->ShardBox(put.spec->dims, shard).NumElements() * 4;
          HostPiece piece{HostBufferId{1}, {shard}, {}, bytes, std::nullopt};
          if (bytes <= 64 && in.Flag()) piece.data = std::string(bytes, 'x');
          put.pieces.push_back(std::move(piece));
        }
        return Do(std::move(put));
      }
      case 4:
      case 5:
        return Do(CompileProgram{Header(), Program(in), "mlir", "code", "", Devices(in)});
      case 6:
        return Do(DropProgram{Header(), Program(in)});
      case 7:
      case 8: {
        LaunchProgram launch{Header(), Program(in), Arrays(in), Arrays(in), {}, 0, std::nullopt};
        if (in.Flag()) launch.status = Array(in);
        return Do(std::move(launch));
      }
      case 9: {
        CopyArrays copy{Header(), Arrays(in), Arrays(in), {}, std::nullopt, in.OneIn(4)};
        if (in.Flag()) copy.devices = Devices(in);
        return Do(std::move(copy));
      }
      case 10: {
        ReshardArrays reshard{Header(), Arrays(in), {}, {}, in.OneIn(4)};
        for (size_t i = 0; i < reshard.sources.size(); ++i) {
          reshard.targets.push_back(Array(in));
          reshard.shardings.push_back(FuzzSharding(in, FuzzDims(in, 3)));
        }
        return Do(std::move(reshard));
      }
      case 11: {
        AliasShards alias{Header(), {}, {}};
        AliasShards::Target target{Array(in), Spec(in), {}};
        for (int i = target.spec->sharding->num_shards(); i > 0; --i)
          target.sources.push_back({Array(in), in.Below(3)});
        alias.targets.push_back(std::move(target));
        return Do(std::move(alias));
      }
      case 12:
        return Do(MakeErrorArrays{Header(), Arrays(in), in.Flag() ? Spec(in) : nullptr, Error(in)});
      case 13:
        if (in.Flag()) return Do(DeleteArrays{Header(), Arrays(in)});
        return Do(DestructArrays{Header(), Arrays(in)});
      case 14:
        if (in.Flag()) return Do(WaitReady{Header(), Arrays(in)});
        return Do(FetchShard{Header(), Array(in), in.Below(3), {}});
      default:
        if (in.Flag()) return Do(QueryDefaultLayout{Header(), DType::kF32, {1}, Device(in), ""});
        return Do(QueryProgram{Header(), Program(in), QueryProgram::What::kText});
    }
  }

  absl::Time now_ = absl::UnixEpoch();
  Actions actions_;
  ControllerCore core_;
  LinkId links_[kLinks];
  uint64_t last_link_ = 0;
  uint64_t last_ticket_ = 0;
};

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  causeway::Driver driver(size);
  while (!in.empty()) driver.Step(in);
  driver.End();
  return 0;
}
