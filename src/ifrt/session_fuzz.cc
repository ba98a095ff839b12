// Everything that a client can say in a session, in front of the real controller core and real worker cores: requests
// in sequence, host data on their side channel, and a cluster in which things finish, fail and get lost in any order.
//
// Held true: no request is answered twice, every answer and every frame parses, workers never lose an honest
// controller nor it them, and when the session is closed nobody holds anything of it.
//
// Input: steps, a byte each and what they need. FuzzClient says which requests there are.
#include "ifrt/session.h"

#include <grpcpp/support/slice.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ifrt/fuzz_client.h"
#include "ifrt/fuzz_cluster.h"

namespace causeway {
namespace {

class Stream final : public SessionPeer {
 public:
  explicit Stream(FuzzClient& client) : client_(client) {}

  void Send(grpc::ByteBuffer response, bool) override {
    grpc::Slice slice;
    FUZZ_CHECK(response.DumpToSingleSlice(&slice).ok());
    FuzzClient::Response parsed;
    FUZZ_CHECK(parsed.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
    FUZZ_CHECK(answered_.insert(parsed.response_metadata().op_id()).second);
    client_.Heard(parsed);
  }
  void End(const absl::Status&) override {}  // only a door that stops dismisses sessions
  bool Hold(HoldReason reason, bool hold) override {
    const auto bit = static_cast<uint32_t>(reason);
    held_ = hold ? held_ | bit : held_ & ~bit;
    return !hold && held_ == 0;
  }
  bool IsHeld() const override { return held_ != 0; }
  void GoOn() override {}

 private:
  FuzzClient& client_;
  std::set<uint64_t> answered_;
  uint32_t held_ = 0;
};

class Flow final : public UploadFlow {
 public:
  void Resume() override {}
  void Fail(const absl::Status&) override {}
};

class Driver {
 public:
  Driver() {
    IfrtSession::Parts parts;
    parts.gate = &cluster_;
    parts.after = &FuzzCluster::after();
    parts.plane = &cluster_.plane();
    parts.memory = memory_;
    session_ = std::make_shared<IfrtSession>(SessionId{1}, /*key=*/7, Introduction{"fuzz", {}}, "fuzz", parts,
                                             std::make_shared<Stream>(client_));
    cluster_.Attach(session_.get());
    FuzzClient::Request init;
    init.mutable_request_metadata()->set_op_id(1u << 31);
    init.mutable_init_request();
    session_->OnRequest(init);
  }

  void Step(FuzzInput& in) {
    const int what = in.Below(16);
    if (what < 9) {
      session_->OnRequest(client_.Next(in, [this](uint64_t handle, int64_t bytes) { Store(handle, bytes, bytes); }));
      client_.AfterRequest();
    } else if (what < 14) {
      cluster_.Step(in);
    } else if (what == 14) {
      // A store by itself, whole or not.
      const uint64_t handle = in.Byte();
      const int64_t announced = in.Number();
      Store(handle, announced, in.Byte());
    } else {
      const HostBufferId buffer{in.Byte()};
      if (in.Flag()) {
        session_->DeleteHostBuffer(buffer);
      } else {
        // As a lookup of which the client thinks better when it is to come by stream.
        session_->downloads().Take(buffer, [&plane = cluster_.plane()](absl::StatusOr<Fetched> fetched) {
          if (!fetched.ok()) return;
          if (Raw(fetched->worker) < 0) {
            FUZZ_CHECK(static_cast<int64_t>(fetched->data.size()) == fetched->total_bytes);
          } else {
            HostDownloads::Cancel(plane, *fetched);
          }
        });
      }
    }
  }

  void End(bool settle) {
    if (settle) cluster_.Settle();
    session_->Close();
    cluster_.CheckEmpty();
    FUZZ_CHECK(session_->uploads().buffer_count() == 0);
    for (int pool = 0; pool < kHostPools; ++pool) {
      FUZZ_CHECK(memory_->used_bytes(static_cast<HostPool>(pool)) == 0);
    }
    cluster_.Attach(nullptr);
  }

 private:
  void Store(uint64_t handle, int64_t announced, int64_t bytes) {
    auto upload = session_->uploads().Begin(HostBufferId{handle}, announced, std::make_shared<Flow>());
    if (!upload.ok()) return;
    (*upload)->Start();
    if (bytes > 0) (*upload)->Append(absl::Cord(std::string(bytes, 'x'))).IgnoreError();
    (*upload)->End().IgnoreError();
  }

  const std::shared_ptr<HostMemory> memory_ = std::make_shared<HostMemory>(HostMemoryLimits{.bytes = 1 << 20});
  FuzzClient client_;
  FuzzCluster cluster_;
  std::shared_ptr<IfrtSession> session_;
};

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  const bool settle = in.Flag();
  causeway::Driver driver;
  while (!in.empty()) driver.Step(in);
  driver.End(settle);
  return 0;
}
