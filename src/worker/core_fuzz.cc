// The control stream as a worker gets it: frames of a controller that makes some sense or none, into the real worker
// core, over devices that finish what they began whenever they like.
//
// Held true besides what FuzzDevices does: nothing is answered that was not asked, the accounts are exact, and all
// memory comes back when the link is lost.
#include "worker/core.h"

#include <string>
#include <vector>

#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "hlo/fuzz_sharding.h"
#include "worker/fuzz_devices.h"

namespace causeway::worker {
namespace {

constexpr int kDevices = 2;
constexpr int64_t kStagingBytes = 64 << 10;

uint64_t FuzzArray(FuzzInput& in) {
  const int byte = in.Byte();
  return byte < 248 ? Raw(MakeArrayId(SessionId{1u + byte % 2}, byte / 2 % 12)) : static_cast<uint64_t>(in.Number());
}

uint64_t FuzzProgram(FuzzInput& in) {
  const int byte = in.Byte();
  return byte < 248 ? Raw(MakeProgramId(SessionId{1u + byte % 2}, byte / 2 % 3)) : static_cast<uint64_t>(in.Number());
}

DType FuzzType(FuzzInput& in) {
  constexpr DType kTypes[] = {DType::kF32, DType::kS8, DType::kC128, DType::kS4, DType::kToken, DType::kF64};
  const int byte = in.Byte();
  return byte < 240 ? kTypes[byte % 6] : static_cast<DType>(in.Number());
}

// Names and places that meet; everything else as any number.
ProtoFiller FrameFiller() {
  ProtoFiller filler;
  filler.hook = [](FuzzInput& in, google::protobuf::Message& message, const ProtoFiller::Field& field) {
    const auto& fields = *message.GetReflection();
    const std::string& name = field.name();
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (field.cpp_type() == ProtoFiller::Field::CPPTYPE_UINT64) {
      uint64_t value = 0;
      if (has("array") || has("arguments") || has("outputs")) {
        value = FuzzArray(in);
      } else if (has("program") || has("cost_analysis")) {
        value = FuzzProgram(in);
      } else {
        value = static_cast<uint64_t>(in.Number());
      }
      field.is_repeated() ? fields.AddUInt64(&message, &field, value) : fields.SetUInt64(&message, &field, value);
      return true;
    }
    if (field.cpp_type() == ProtoFiller::Field::CPPTYPE_INT32 && name == "dtype") {
      fields.SetInt32(&message, &field, static_cast<int32_t>(FuzzType(in)));
      return true;
    }
    if (field.type() == ProtoFiller::Field::TYPE_BYTES && name == "code") {
      proto::ProgramInfo info;
      ProtoFiller().Fill(in, info, /*depth=*/2);
      fields.SetString(&message, &field, info.SerializeAsString());
      return true;
    }
    return false;
  };
  return filler;
}

void FuzzShardType(FuzzInput& in, proto::ShardType& type) {
  type.set_dtype(static_cast<int32_t>(FuzzType(in)));
  for (int64_t d : FuzzDims(in, 3)) type.add_dims(d);
}

void FuzzShard(FuzzInput& in, int index, proto::Shard& shard) {
  shard.set_index(index);
  shard.set_device(in.Byte() < 248 ? in.Below(kDevices) : static_cast<int32_t>(in.Number()));
}

int64_t BytesOf(const proto::ShardType& type) {
  const absl::StatusOr<HostShape> shape = ShapeFrom(type.dtype(), type.dims(), {});
  return shape.ok() ? DenseBytes(shape->dtype, shape->dims) : 0;
}

// Frames that a controller could send.
proto::ToWorker Plausible(FuzzInput& in) {
  proto::ToWorker message;
  switch (in.Below(12)) {
    case 0: {
      proto::Put& put = *message.mutable_put();
      put.set_array(FuzzArray(in));
      for (int i = in.Below(3); i >= 0; --i) FuzzShard(in, i, *put.add_shards());
      FuzzShardType(in, *put.mutable_type());
      put.set_data(std::string(std::min<int64_t>(BytesOf(put.type()), 4096), 'p'));
      break;
    }
    case 1: {
      proto::ReceiveHost& receive = *message.mutable_receive_host();
      receive.mutable_put()->set_array(FuzzArray(in));
      FuzzShard(in, 0, *receive.mutable_put()->add_shards());
      FuzzShardType(in, *receive.mutable_put()->mutable_type());
      receive.set_stream(in.Below(8));
      receive.set_total_bytes(BytesOf(receive.put().type()));
      break;
    }
    case 2: {
      proto::HostData& data = *message.mutable_host_data();
      data.set_stream(in.Below(8));
      data.set_data(std::string(in.Byte(), 'h'));
      if (in.OneIn(4)) data.mutable_status()->set_code(in.Below(17));
      break;
    }
    case 3: {
      proto::Compile& compile = *message.mutable_compile();
      compile.set_program(FuzzProgram(in));
      for (int i = in.Below(kDevices); i >= 0; --i) compile.add_devices(i);
      proto::ProgramInfo info;
      for (int i = in.Below(3); i > 0; --i) info.add_parameters();
      for (int i = in.Below(3); i > 0; --i) FuzzShardType(in, *info.add_outputs()->mutable_type());
      for (int i = in.Below(3); i > 0; --i) info.add_donated_parameters(in.Below(3));
      info.set_has_collectives(in.OneIn(3));
      compile.set_code(info.SerializeAsString());
      break;
    }
    case 4:
    case 5: {
      proto::Launch& launch = *message.mutable_launch();
      launch.set_number(in.Byte());
      launch.set_program(FuzzProgram(in));
      for (int i = in.Below(3); i > 0; --i) launch.add_arguments(FuzzArray(in));
      for (int i = in.Below(3); i > 0; --i) launch.add_outputs(FuzzArray(in));
      if (in.OneIn(4)) launch.add_non_donatable(in.Below(3));
      break;
    }
    case 6: {
      proto::Fetch& fetch = *message.mutable_fetch();
      fetch.set_fetch(in.Byte());
      fetch.set_array(FuzzArray(in));
      fetch.set_shard(in.Below(3));
      if (in.OneIn(4)) fetch.add_byte_strides(in.Number());
      break;
    }
    case 7: {
      // One shard of pieces that make it up.
      proto::Copy& copy = *message.mutable_copy();
      copy.set_array(FuzzArray(in));
      copy.mutable_type()->set_dtype(static_cast<int32_t>(FuzzType(in)));
      const int width = HostByteWidth(static_cast<DType>(copy.type().dtype()));
      const uint64_t source = FuzzArray(in);
      const int parts = in.Below(4);
      const int64_t rows = in.Below(6);
      proto::Copy::Made& made = *copy.add_made();
      FuzzShard(in, 0, *made.mutable_shard());
      made.add_dims(rows * std::max(parts, 1));
      made.set_part_count(parts);
      for (int i = 0; i < parts; ++i) {
        proto::Copy::Part& part = *copy.add_parts();
        part.set_source_array(source);
        part.set_source_shard(in.Below(2));
        part.set_source_worker(in.Below(2));
        part.set_target_worker(in.OneIn(8) ? 1 : 0);
        part.set_stream(in.Below(8));
        part.set_bytes(rows * width);
        if (parts == 1) continue;
        part.mutable_target_box()->add_start(i * rows);
        part.mutable_target_box()->add_size(rows);
        if (in.Flag()) continue;
        part.mutable_source_box()->add_start(in.Below(3));
        part.mutable_source_box()->add_size(rows);
      }
      break;
    }
    case 8: {
      proto::Alias::Entry& entry = *message.mutable_alias()->add_entries();
      entry.set_array(FuzzArray(in));
      entry.set_shard(in.Below(3));
      entry.set_source_array(FuzzArray(in));
      entry.set_source_shard(in.Below(3));
      break;
    }
    case 9:
      for (int i = in.Below(4); i >= 0; --i) message.mutable_delete_()->add_arrays(FuzzArray(in));
      break;
    case 10:
      message.mutable_fail()->set_array(FuzzArray(in));
      message.mutable_fail()->mutable_status()->set_code(in.Below(17));
      break;
    default:
      if (in.Flag()) {
        message.mutable_drop_programs()->add_programs(FuzzProgram(in));
      } else {
        message.mutable_drop_session()->set_session(1 + in.Below(2));
      }
  }
  return message;
}

class Driver {
 public:
  Driver() : core_(CoreOptions{kStagingBytes}, Hello()) { Link(); }

  void Step(FuzzInput& in) {
    const int what = in.Below(16);
    if (what < 6) {
      proto::ToWorker message = Plausible(in);
      if (in.OneIn(8)) FrameFiller().Fill(in, message);
      Frame(message);
    } else if (what < 8) {
      proto::ToWorker message;
      const auto* kinds = proto::ToWorker::descriptor();
      FrameFiller().FillField(in, message, *kinds->field(in.Byte() % kinds->field_count()));
      Frame(message);
    } else if (what == 8) {
      proto::ToWorker message;
      if (message.ParseFromString(in.Bytes(64))) Frame(message);
    } else if (what == 9 && in.OneIn(8)) {
      Do(LinkLost{});
      Link();
    } else if (devices_.pending() > 0) {
      Do(devices_.Finish(in));
    }
  }

  // All that was begun comes to its end.
  void End() {
    FuzzInput none(nullptr, 0);
    while (devices_.pending() > 0) Do(devices_.Finish(none));
    proto::ToWorker ping;
    ping.mutable_ping();
    Frame(ping);
    const proto::Pong& pong = devices_.sent.back().pong();
    FUZZ_CHECK(std::vector<int64_t>(pong.device_bytes().begin(), pong.device_bytes().end()) == devices_.DeviceBytes());
    FUZZ_CHECK(pong.host_bytes() >= 0 && pong.queued_launches() >= 0);
    CheckAnswers();
    Do(LinkLost{});
    while (devices_.pending() > 0) Do(devices_.Finish(none));
    devices_.CheckEmpty();
  }

 private:
  static proto::Hello Hello() {
    proto::Hello hello;
    for (int i = 0; i < kDevices; ++i) hello.add_devices();
    return hello;
  }

  void Do(Event event) {
    now_ += absl::Milliseconds(1);
    core_.Handle(std::move(event), now_, devices_);
  }

  void Frame(proto::ToWorker message) {
    switch (message.message_case()) {
      case proto::ToWorker::kCompile:
        ++compiles_;
        break;
      case proto::ToWorker::kLaunch:
        ++launches_;
        break;
      case proto::ToWorker::kPut:
      case proto::ToWorker::kReceiveHost:
        ++makes_;
        break;
      case proto::ToWorker::kCopy:
        makes_ += message.copy().made_size() > 0 ? 1 : 0;
        break;
      case proto::ToWorker::kFetch:
        ++fetches_;
        break;
      case proto::ToWorker::kQuery:
        ++queries_;
        break;
      default:
        break;
    }
    Do(FrameIn{std::move(message)});
  }

  void Link() {
    CheckAnswers();
    devices_.sent.clear();
    compiles_ = launches_ = makes_ = fetches_ = queries_ = 0;
    Do(LinkUp{});
    proto::ToWorker welcome;
    welcome.mutable_welcome()->set_worker(0);
    Frame(welcome);
  }

  // Since the link has been there, no more was answered than was asked.
  void CheckAnswers() {
    int compiled = 0, launched = 0, made = 0, fetched = 0, queried = 0;
    for (const proto::ToController& message : devices_.sent) {
      compiled += message.has_compiled();
      launched += message.launches_done().done_size();
      made += message.has_array_done();
      fetched += message.has_fetch_done();
      queried += message.has_query_done();
    }
    FUZZ_CHECK(compiled <= compiles_ && launched <= launches_ && made <= makes_ && fetched <= fetches_ &&
               queried <= queries_);
    // A compiler always comes to an end.
    if (devices_.pending() == 0) FUZZ_CHECK(compiled == compiles_);
  }

  absl::Time now_ = absl::UnixEpoch();
  FuzzDevices devices_{kDevices};
  WorkerCore core_;
  int compiles_ = 0;
  int launches_ = 0;
  int makes_ = 0;
  int fetches_ = 0;
  int queries_ = 0;
};

}  // namespace
}  // namespace causeway::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  causeway::worker::Driver driver;
  while (!in.empty()) driver.Step(in);
  driver.End();
  return 0;
}
