#include "net/socket_data_plane.h"

#include <unistd.h>

#include "net/data_plane_cts.h"

namespace causeway {
namespace {

struct SocketPair final : DataPlanePair {
  explicit SocketPair(const std::string& low_listens, const std::string& high_listens) {
    auto low_plane = SocketDataPlane::Start({.self = kLow, .listen_address = low_listens});
    auto high_plane = SocketDataPlane::Start({.self = kHigh, .listen_address = high_listens});
    low_address = (*low_plane)->listen_address();
    high_address = (*high_plane)->listen_address();
    low = *std::move(low_plane);
    high = *std::move(high_plane);
  }

  bool RunUntil(const std::function<bool()>& done) override {
    for (int i = 0; i < 20'000; ++i) {
      if (done()) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }
  void Settle() override { absl::SleepFor(absl::Milliseconds(100)); }
};

std::unique_ptr<DataPlanePair> OverTcp() { return std::make_unique<SocketPair>("127.0.0.1:0", "127.0.0.1:0"); }
std::unique_ptr<DataPlanePair> OverUnix() {
  const std::string path = absl::StrCat("unix:", ::testing::TempDir(), "/causeway-data-", getpid());
  return std::make_unique<SocketPair>(path + "-low", path + "-high");
}

INSTANTIATE_TEST_SUITE_P(Tcp, DataPlaneContract, ::testing::Values(&OverTcp));
INSTANTIATE_TEST_SUITE_P(Unix, DataPlaneContract, ::testing::Values(&OverUnix));

}  // namespace
}  // namespace causeway
