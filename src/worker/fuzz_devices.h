// Everything outside the worker core, for fuzz targets: carries out what the core wants, late and in any order, as the
// fuzzing input says, and holds the core to its word.
//
//   FuzzDevices devices(/*count=*/2);
//   core.Handle(FrameIn{message}, now, devices);
//   while (devices.pending() > 0) core.Handle(devices.Finish(in), now, devices);
//   devices.sent                                            // what the core told the controller
//
// Held true: a key is used between its birth and its end only, and ends once; memory is touched within its bounds;
// what is sent parses; nothing is left when the link is lost and all has been finished (CheckEmpty).
//
// Programs are their own description, as in src/sim: code is a serialised proto::ProgramInfo.
//
// Threading: none.
#ifndef CAUSEWAY_WORKER_FUZZ_DEVICES_H_
#define CAUSEWAY_WORKER_FUZZ_DEVICES_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "proto/status.h"
#include "worker/events.h"
#include "worker/host_block.h"
#include "worker/host_streams.h"
#include "worker/shapes.h"

namespace causeway::worker {

class FuzzDevices final : public WorkerActions {
 public:
  explicit FuzzDevices(int count) : count_(count) {}

  // Things that were started and have not been finished.
  size_t pending() const { return pending_.size(); }

  // Ends one of them, well or badly, and gives the event that says so. There must be one.
  Event Finish(FuzzInput& in) {
    const size_t index = in.Byte() % pending_.size();
    Pending next = std::move(pending_[index]);
    pending_.erase(pending_.begin() + index);
    return next(in);
  }

  // After LinkLost, with nothing pending.
  void CheckEmpty() const {
    FUZZ_CHECK(pending_.empty());
    FUZZ_CHECK(buffers_.empty());
    FUZZ_CHECK(hosts_.empty());
    FUZZ_CHECK(programs_.empty());
  }

  // Bytes of the buffers that there are, by device. With nothing pending, the core's accounts say the same.
  std::vector<int64_t> DeviceBytes() const {
    std::vector<int64_t> bytes(count_);
    for (const auto& [key, buffer] : buffers_) bytes[buffer.device] += buffer.size_bytes;
    return bytes;
  }

  std::vector<proto::ToController> sent;

  // ---- WorkerActions

  void Send(const proto::ToController& message) override {
    // A frame that does not parse would end the link.
    proto::ToController parsed;
    FUZZ_CHECK(parsed.ParseFromString(message.SerializeAsString()));
    sent.push_back(std::move(parsed));
  }
  void SendFetched(proto::FetchDone done, HostKey data) override {
    const HostBlock& block = *hosts_.at(data);
    FUZZ_CHECK(done.total_bytes() == static_cast<int64_t>(block.bytes.size()));
    proto::ToController message;
    *message.mutable_fetch_done() = std::move(done);
    message.mutable_fetch_done()->set_data(block.bytes.data(), block.bytes.size());
    Send(message);
  }
  void SetSelf(WorkerId) override {}
  void SetPeer(PeerId, const std::string&, uint64_t) override {}
  void DropPeer(PeerId) override {}

  void Compile(ProgramKey program, CompileRequest request) override {
    FUZZ_CHECK(programs_.emplace(program, Program{}).second);
    for (int device : request.devices) CheckDevice(device);
    pending_.push_back([this, program, request = std::move(request)](FuzzInput& in) -> Event {
      proto::ProgramInfo info;
      CompileDone done{program, absl::CancelledError(), absl::Microseconds(1)};
      if (Fails(in) || !info.ParseFromString(request.code)) {
        done.info = Error(in);
      } else {
        // The core may have dropped it, and is told all the same.
        if (const auto found = programs_.find(program); found != programs_.end()) {
          found->second = Program{info, request.devices, true};
        }
        done.info = std::move(info);
      }
      return done;
    });
  }
  void CompileGang(ProgramKey program, GangProgram request) override {
    FUZZ_CHECK(request.local.size() == request.logical.size() && !request.local.empty());
    FUZZ_CHECK(request.devices >= static_cast<int>(request.local.size()));
    CompileRequest compile = std::move(request.compile);
    if (request.portable != nullptr) compile.code = request.portable->executable();
    compile.devices = request.local;
    Compile(program, std::move(compile));
  }
  // Numbers may be used again where a controller is confused.
  void AnnounceGang(uint64_t, std::shared_ptr<const collectives::Gang> gang) override { FUZZ_CHECK(gang != nullptr); }
  void AbortGang(uint64_t, const absl::Status& why) override { FUZZ_CHECK(!why.ok()); }
  collectives::Traffic EndGang(uint64_t) override { return {}; }
  void DropProgram(ProgramKey program) override {
    // One that the core has refused itself was never here.
    programs_.erase(program);
  }

  void Execute(ExecuteRequest request) override {
    const Program& program = programs_.at(request.program);
    FUZZ_CHECK(program.compiled);
    CheckDevice(request.thread_device);
    for (BufferKey argument : request.arguments) FUZZ_CHECK(buffers_.contains(argument));
    for (BufferKey output : request.outputs) FUZZ_CHECK(!buffers_.contains(output));
    const size_t devices = program.devices.size();
    const bool fits = request.outputs.size() == program.info.outputs_size() * devices &&
                      request.arguments.size() == program.info.parameters_size() * devices;
    std::vector<DeviceMemory> made;  // by device, then output
    for (int device : program.devices) {
      for (const proto::OutputInfo& output : program.info.outputs()) {
        const proto::ShardType& type = output.type();
        made.push_back(Memory({static_cast<DType>(type.dtype()), {type.dims().begin(), type.dims().end()}}, device));
      }
    }
    const LaunchKey launch = request.launch;
    if (fits && in_advance_++ % 4 == 3) {
      // The devices are through before the plugin's call has returned.
      pending_.push_back([this, launch, request = std::move(request), made](FuzzInput& in) -> Event {
        pending_.push_back([this, launch, request, made](FuzzInput&) { return Returned(launch, request, made); });
        return LaunchFinished{launch, Outcome(in)};
      });
      return;
    }
    pending_.push_back([this, launch, request = std::move(request), made, fits](FuzzInput& in) -> Event {
      if (!fits || Fails(in)) return ExecuteReturned{launch, Error(in), std::nullopt};
      ExecuteReturned returned = Returned(launch, request, made);
      if (in.Flag()) {
        returned.finished = Outcome(in);
      } else {
        pending_.push_back([launch](FuzzInput& in) { return LaunchFinished{launch, Outcome(in)}; });
      }
      return returned;
    });
  }

  void Ask(Life life, const proto::Query& query, std::optional<ProgramKey> program) override {
    if (program) FUZZ_CHECK(programs_.at(*program).compiled);
    pending_.push_back([life, query](FuzzInput& in) -> Event {
      Answered answered{life, {}};
      answered.answer.set_query(query.query());
      const absl::Status status = Outcome(in);
      *answered.answer.mutable_status() = ToProto(status);
      if (status.ok()) answered.answer.set_layout(in.Bytes(8));
      return answered;
    });
  }

  void BufferFromHost(BufferKey buffer, HostKey host, const HostShape& shape, int device, const std::string&,
                      const std::string&) override {
    CheckDevice(device);
    const HostBlock& block = *hosts_.at(host);
    const absl::StatusOr<int64_t> needed = SpanBytes(shape);
    const bool there = needed.ok() && block.Check(*needed).ok() && HostByteWidth(shape.dtype) > 0;
    MakeBuffer(buffer, Shape{shape.dtype, shape.dims}, device, there);
  }
  void BufferFromBuffer(BufferKey buffer, BufferKey source, int device, const std::string&) override {
    CheckDevice(device);
    MakeBuffer(buffer, buffers_.at(source).shape, device, /*there=*/true);
  }
  void DropBuffer(BufferKey buffer) override { FUZZ_CHECK(buffers_.erase(buffer) == 1); }

  void AdoptHost(HostKey host, std::string data) override {
    FUZZ_CHECK(hosts_.emplace(host, HostBlock::Adopt(std::move(data))).second);
  }
  void AllocateHost(HostKey host, int64_t bytes) override {
    FUZZ_CHECK(bytes >= 0);
    // A machine may have no more.
    auto block = bytes <= kMostHostBytes ? HostBlock::Allocate(bytes) : std::make_shared<HostBlock>();
    if (block->writable != nullptr) std::fill_n(block->writable, bytes, 'h');
    FUZZ_CHECK(hosts_.emplace(host, std::move(block)).second);
  }
  void DropHost(HostKey host) override {
    // A name that nothing was put under is dropped too.
    hosts_.erase(host);
  }

  void View(HostKey host, BufferKey buffer) override {
    const DeviceMemory& memory = buffers_.at(buffer);
    Viewed viewed{host, memory.shape.dtype, memory.shape.dims, false};
    if (views_++ % 2 == 0 && memory.bytes != nullptr) {
      FUZZ_CHECK(hosts_.emplace(host, HostBlock::View(HostBytes{memory.bytes, *memory.bytes})).second);
      viewed.there = true;
    }
    pending_.push_back([viewed](FuzzInput&) { return viewed; });
  }
  void ReadBack(HostKey host, BufferKey buffer, const std::vector<int64_t>& byte_strides) override {
    const std::shared_ptr<HostBlock> block = hosts_.at(host);
    const Shape& shape = buffers_.at(buffer).shape;
    const absl::StatusOr<int64_t> span = SpanBytes(HostShape{shape.dtype, shape.dims, byte_strides});
    // The runtime refuses a target of another size, the core must not give one.
    FUZZ_CHECK(span.ok() && (block->owner == nullptr || *span == static_cast<int64_t>(block->bytes.size())));
    pending_.push_back([host, block](FuzzInput& in) -> Event {
      absl::Status status = block->Check(0);
      if (status.ok()) std::fill_n(block->writable, block->bytes.size(), 'r');
      status.Update(Outcome(in));
      return HostFilled{host, status};
    });
  }
  void CopyPiece(PieceKey piece, HostKey source, const ByteRuns& from, HostKey target, const ByteRuns& to) override {
    FUZZ_CHECK(from.total_bytes() == to.total_bytes());
    pending_.push_back([piece, source = hosts_.at(source), from, target = hosts_.at(target), to](FuzzInput&) -> Event {
      absl::Status ok = source->Check(from.memory_bytes());
      ok.Update(target->Check(to.memory_bytes()));
      if (ok.ok()) CopyRuns(from, source->bytes.data(), to, target->writable);
      return PieceCopied{piece, std::move(ok)};
    });
  }

  void Receive(StreamKey stream, PeerId, StreamId, HostKey target, const ByteRuns& place) override {
    FUZZ_CHECK(streams_.insert(stream).second);
    const std::shared_ptr<HostBlock> block = hosts_.at(target);
    pending_.push_back([stream, block, place](FuzzInput& in) -> Event {
      absl::Status status = block->Check(place.memory_bytes());
      if (status.ok()) status = Outcome(in);
      const auto sink = MakeHostSink(block, place, [](absl::Status) {});
      for (int64_t at = 0; status.ok() && at < place.total_bytes();) {
        const auto room = sink->Buffer(at, place.total_bytes() - at);
        FUZZ_CHECK(!room.empty());
        std::fill(room.begin(), room.end(), 's');
        sink->OnData(at, static_cast<int64_t>(room.size()));
        at += static_cast<int64_t>(room.size());
      }
      sink->OnDone(status);
      return StreamEnded{stream, status};
    });
  }
  void SendStream(StreamKey stream, PeerId, StreamId, HostKey source, const ByteRuns& place) override {
    FUZZ_CHECK(streams_.insert(stream).second);
    const std::shared_ptr<HostBlock> block = hosts_.at(source);
    pending_.push_back([stream, block, place](FuzzInput& in) -> Event {
      absl::Status status = block->Check(place.memory_bytes());
      if (status.ok()) status = Outcome(in);
      const auto from = MakeHostSource(block, place, [](absl::Status) {});
      for (int64_t at = 0; status.ok() && at < place.total_bytes();) {
        const auto data = from->Read(at, place.total_bytes() - at);
        FUZZ_CHECK(!data.empty());
        at += static_cast<int64_t>(data.size());
      }
      from->OnDone(status);
      return StreamEnded{stream, status};
    });
  }
  void CancelStream(StreamKey stream, const absl::Status&) override { FUZZ_CHECK(streams_.contains(stream)); }
  void RefuseToSend(PeerId, StreamId, int64_t, const absl::Status&) override {}
  void RefuseToReceive(PeerId, StreamId, int64_t, const absl::Status&) override {}

 private:
  using Pending = std::function<Event(FuzzInput&)>;

  // Larger shards exist without their bytes.
  static constexpr int64_t kMostHostBytes = 128 << 10;

  struct Shape {
    DType dtype;
    std::vector<int64_t> dims;
  };
  struct DeviceMemory {
    Shape shape;
    int device;
    int64_t size_bytes;
    std::shared_ptr<const std::string> bytes;  // null where they are too many
  };
  struct Program {
    proto::ProgramInfo info;
    std::vector<int> devices;
    bool compiled = false;
  };

  static bool Fails(FuzzInput& in) { return in.OneIn(12); }
  static absl::Status Error(FuzzInput& in) {
    // A plugin may say anything, in any encoding.
    return absl::Status(static_cast<absl::StatusCode>(1 + in.Below(20)), in.Flag() ? in.Bytes(8) : "it failed");
  }
  static absl::Status Outcome(FuzzInput& in) { return Fails(in) ? Error(in) : absl::OkStatus(); }

  void CheckDevice(int device) const { FUZZ_CHECK(device >= 0 && device < count_); }

  static DeviceMemory Memory(const Shape& shape, int device) {
    DeviceMemory memory{shape, device, 0, nullptr};
    if (!CheckShape(shape.dtype, shape.dims).ok()) return memory;
    memory.size_bytes = DenseBytes(shape.dtype, shape.dims);
    if (memory.size_bytes <= kMostHostBytes) {
      memory.bytes = std::make_shared<const std::string>(static_cast<size_t>(memory.size_bytes), 'd');
    }
    return memory;
  }

  void MakeBuffer(BufferKey key, const Shape& shape, int device, bool there) {
    const DeviceMemory memory = Memory(shape, device);
    // It is there from now on, whatever the core hears of it and when.
    if (there && makes_++ % 8 != 7) {
      FUZZ_CHECK(buffers_.emplace(key, memory).second);
      pending_.push_back([this, key, bytes = memory.size_bytes](FuzzInput&) -> Event {
        pending_.push_back([key](FuzzInput& in) { return BufferReady{key, Outcome(in)}; });
        return BufferMade{key, bytes};
      });
    } else {
      pending_.push_back([key](FuzzInput& in) -> Event { return BufferMade{key, Error(in)}; });
    }
  }

  ExecuteReturned Returned(LaunchKey launch, const ExecuteRequest& request, const std::vector<DeviceMemory>& made) {
    std::vector<int64_t> bytes;
    for (size_t i = 0; i < made.size(); ++i) {
      FUZZ_CHECK(buffers_.emplace(request.outputs[i], made[i]).second);
      bytes.push_back(made[i].size_bytes);
    }
    return ExecuteReturned{launch, std::move(bytes), std::nullopt};
  }

  const int count_;
  std::vector<Pending> pending_;
  std::map<BufferKey, DeviceMemory> buffers_;
  std::map<HostKey, std::shared_ptr<HostBlock>> hosts_;
  std::map<ProgramKey, Program> programs_;
  std::set<StreamKey> streams_;  // all there ever were
  unsigned views_ = 0;
  unsigned makes_ = 0;
  unsigned in_advance_ = 0;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_FUZZ_DEVICES_H_
