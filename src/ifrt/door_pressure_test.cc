// Back-pressure at the door: a client that sends more than it may have in flight is not read, and so has to wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "ifrt/door_test_harness.h"

namespace causeway {
namespace {

constexpr int kLaunchLimit = 16;
// More than gRPC takes on the way of a client that is not read.
constexpr int kFlood = 200'000;

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

class DoorPressureTest : public DoorTest {
 protected:
  DoorPressureTest() : DoorTest({}, {.launches_per_device = kLaunchLimit, .items = 64, .bytes = 1 << 20}) {}

  // Opens a session with array 1 and a program.
  void Open(Client& client) {
    cluster_.Join();
    key_ = client.Init().session_id();
    program_ = Compile(client);
    MakeSmall(client, key_, 1);
  }

  // One thread that sends `request(i)` without looking, one that reads the responses.
  void Flood(Client& client, int count, const std::function<wire::IfrtRequest(int)>& request) {
    writer_ = std::thread([this, &client, count, request] {
      for (int i = 0; i < count && client.Write(request(i)); ++i) ++written_;
      writer_ended_ = true;
    });
    reader_ = std::thread([this, &client] {
      wire::IfrtResponse response;
      while (client.Read(&response)) {
        ++answered_;
        if (response.has_response_metadata() && response.response_metadata().status().code() != 0) ++refused_;
      }
    });
  }

  // Lets the client go, and its threads end.
  void Leave(Client& client) {
    client.Cancel();
    writer_.join();
    reader_.join();
  }

  wire::IfrtRequest Launch(int i) const {
    wire::IfrtRequest execute;
    auto& r = *execute.mutable_loaded_executable_execute_request();
    r.set_loaded_executable_handle(program_);
    r.add_args_handles(1);
    r.mutable_execute_options()->add_non_donatable_input_indices(0);
    r.add_result_array_handle(1000 + i);
    return execute;
  }

  // Waits until the writer stands still, which it does only where it has to wait or has ended.
  void AwaitStandstill() {
    int last = -1;
    absl::Time since = absl::Now();
    ASSERT_TRUE(Eventually([&] {
      if (written_ != last) {
        last = written_;
        since = absl::Now();
      }
      return absl::Now() - since > absl::Milliseconds(600);
    }));
  }

  void FinishLaunches(int count) {
    for (int i = 0; i < count; ++i) {
      proto::ToController done;
      done.mutable_launches_done()->add_done()->set_number(cluster_.Hear(proto::ToWorker::kLaunch).launch().number());
      cluster_.Say(done);
    }
  }

  int64_t launched() { return cluster_.CountSent(proto::ToWorker::kLaunch); }

  uint64_t key_ = 0;
  uint64_t program_ = 0;
  std::atomic<int> written_ = 0;
  std::atomic<bool> writer_ended_ = false;
  std::atomic<int> answered_ = 0;
  std::atomic<int> refused_ = 0;
  std::thread writer_;
  std::thread reader_;
};

TEST_F(DoorPressureTest, AClientThatFloodsIsStoppedAndGoesOnAsItsWorkEnds) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  Flood(client, kFlood, [this](int i) { return Launch(i); });
  AwaitStandstill();
  EXPECT_EQ(launched(), kLaunchLimit);
  EXPECT_EQ(answered_, kLaunchLimit) << "every launch is answered when it is accepted";
  EXPECT_LT(written_, kFlood) << "the client itself has to wait";

  FinishLaunches(kLaunchLimit / 2);
  ASSERT_TRUE(Eventually([this] { return launched() == kLaunchLimit + kLaunchLimit / 2; }));
  FinishLaunches(1000);
  ASSERT_TRUE(Eventually([this] { return launched() >= 1000 + kLaunchLimit; }));
  EXPECT_LE(launched(), 1000 + kLaunchLimit + kLaunchLimit / 2);
  EXPECT_EQ(refused_, 0);
  Leave(client);
}

TEST_F(DoorPressureTest, AllOfAFloodIsCarriedOutInTheEnd) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  constexpr int kLaunches = 5000;
  Flood(client, kLaunches, [this](int i) { return Launch(i); });
  FinishLaunches(kLaunches);
  ASSERT_TRUE(Eventually([this] { return answered_ == kLaunches; }));
  EXPECT_TRUE(writer_ended_);
  EXPECT_EQ(refused_, 0);
  Leave(client);
}

TEST_F(DoorPressureTest, AHeldClientsDataStillComeAndGo) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  // A fetch whose data are here before the client is stopped.
  wire::IfrtRequest fetch;
  fetch.mutable_copy_to_host_buffer_request()->set_array_handle(1);
  fetch.mutable_copy_to_host_buffer_request()->set_host_buffer_handle(50);
  const uint64_t op = client.Send(fetch);
  proto::ToController fetched;
  fetched.mutable_fetch_done()->set_fetch(cluster_.Hear(proto::ToWorker::kFetch).fetch().fetch());
  fetched.mutable_fetch_done()->set_total_bytes(4);
  fetched.mutable_fetch_done()->set_data("data");
  cluster_.Say(fetched);
  EXPECT_TRUE(client.Receive(op).has_copy_to_host_buffer_response());
  // An array whose data have not come, and launches behind it that it holds up.
  EXPECT_TRUE(client.Call(MakeArray(2, {4})).has_make_array_from_host_buffer_response());
  Flood(client, kFlood, [this](int i) { return Launch(i); });
  AwaitStandstill();
  ASSERT_EQ(launched(), kLaunchLimit);

  EXPECT_TRUE(Store(key_, 2, std::string(16, 'x')).ok());
  EXPECT_EQ(cluster_.Hear(proto::ToWorker::kHostData).host_data().data(), std::string(16, 'x'));
  EXPECT_TRUE(Store(key_, 3, std::string(3 << 20, 'x')).ok()) << "no request has named it yet";
  EXPECT_EQ(Lookup(key_, 50).second, "data");
  Leave(client);
}

TEST_F(DoorPressureTest, AHeldClientThatLeavesIsClosed) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  Flood(client, kFlood, [this](int i) { return Launch(i); });
  AwaitStandstill();
  EXPECT_EQ(door_.session_count(), 1);
  Leave(client);
  WaitForSessions(0);
  EXPECT_TRUE(Eventually([this] { return cluster_.CountSent(proto::ToWorker::kDropSession) == 1; }));
}

TEST_F(DoorPressureTest, TheDoorStopsWithAHeldClient) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  Flood(client, kFlood, [this](int i) { return Launch(i); });
  AwaitStandstill();
  door_.Stop();
  EXPECT_TRUE(Eventually([this] { return writer_ended_.load(); }));
  Leave(client);
}

TEST_F(DoorPressureTest, TheLossOfTheWorkerReleasesAHeldClient) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  constexpr int kLaunches = 20'000;
  Flood(client, kLaunches, [this](int i) { return Launch(i); });
  ASSERT_TRUE(Eventually([this] { return launched() == kLaunchLimit; }));
  cluster_.Lose();
  // Nothing is launched any more, but every request is answered.
  ASSERT_TRUE(Eventually([this] { return answered_ == kLaunches; }));
  EXPECT_EQ(launched(), kLaunchLimit);
  Leave(client);
}

TEST_F(DoorPressureTest, AnotherClientIsServedMeanwhile) {
  Client flooder(*stub_, GoodMetadata());
  Open(flooder);
  Flood(flooder, kFlood, [this](int i) { return Launch(i); });
  AwaitStandstill();
  Client other(*stub_, GoodMetadata());
  const uint64_t session = other.Init().session_id();
  MakeSmall(other, session, 1);
  EXPECT_TRUE(other.Call(CheckReady(1)).has_check_value_ready_response());
  Leave(flooder);
}

TEST_F(DoorPressureTest, AClientThatOnlyAsksIsStoppedToo) {
  Client client(*stub_, GoodMetadata());
  Open(client);
  EXPECT_TRUE(client.Call(MakeArray(2, {4})).has_make_array_from_host_buffer_response());
  Flood(client, kFlood, [](int) { return CheckReady(2); });
  AwaitStandstill();
  EXPECT_LT(written_, kFlood);
  EXPECT_EQ(answered_, 0);
  const int asked = written_;
  EXPECT_TRUE(Store(key_, 2, std::string(16, 'x')).ok());
  proto::ToController made;
  made.mutable_array_done()->set_array(cluster_.Hear(proto::ToWorker::kReceiveHost).receive_host().put().array());
  cluster_.Say(made);
  ASSERT_TRUE(Eventually([&] { return answered_ > asked; })) << "those behind are asked, and answered at once";
  Leave(client);
}

}  // namespace
}  // namespace causeway
