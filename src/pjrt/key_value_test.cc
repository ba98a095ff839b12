// How plugins of several processes meet, with one that does (testing/meeting_plugin.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "pjrt/pjrt_client.h"

namespace causeway {
namespace {

using testing::HasSubstr;

class InMemory final : public KeyValueStore {
 public:
  absl::Status Put(const std::string& key, const std::string& value) override {
    MutexLock lock(&mu_);
    if (!values_.emplace(key, value).second) return absl::AlreadyExistsError("it is there");
    changed_.SignalAll();
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration patience) override {
    const absl::Time until = absl::Now() + patience;
    MutexLock lock(&mu_);
    while (true) {
      if (const auto found = values_.find(key); found != values_.end()) return found->second;
      if (patience == absl::ZeroDuration()) return absl::NotFoundError("nobody has put it");
      if (absl::Now() >= until) return absl::DeadlineExceededError("nobody has put " + key);
      changed_.WaitWithTimeout(&mu_, until - absl::Now());
    }
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mu_);
};

// What became of the client of one node. The plugin says what it has learnt as an error OUT_OF_RANGE.
absl::Status Meet(KeyValueStore* store, int64_t node, int64_t nodes) {
  return PjrtClient::Create(*PjrtApi::Load(MEETING_PLUGIN), {{"node_id", node}, {"num_nodes", nodes}}, store).status();
}

TEST(KeyValueTest, NodesLearnOfOneAnother) {
  InMemory store;
  absl::Status first;
  std::thread other([&] { first = Meet(&store, 0, 2); });
  const absl::Status second = Meet(&store, 1, 2);
  other.join();
  for (const absl::Status& status : {first, second}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_THAT(status.message(), HasSubstr("learnt 0;1;"));
  }
}

TEST(KeyValueTest, ANodeThatDoesNotComeIsAnErrorThatNamesIt) {
  InMemory store;
  const absl::Status status = Meet(&store, 1, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(status.message(), HasSubstr("node/0"));
}

TEST(KeyValueTest, WithoutAStoreThePluginSaysWhatItNeeds) {
  EXPECT_EQ(Meet(nullptr, 0, 2).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace causeway
