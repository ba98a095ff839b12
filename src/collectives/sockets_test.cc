// Two engines over real sockets: everything else is tested over planes that are made up.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "collectives/test_world.h"
#include "net/socket_data_plane.h"

namespace causeway::collectives {
namespace {

TEST(CollectivesOverSockets, SmallAndLargeAllReduces) {
  constexpr uint64_t kKey = 77;
  std::vector<std::unique_ptr<SocketDataPlane>> planes;
  for (int i = 0; i < 2; ++i) planes.push_back(*SocketDataPlane::Start({.self = PeerId{i}}));
  for (int i = 0; i < 2; ++i) planes[i]->SetPeer(PeerId{1 - i}, planes[1 - i]->listen_address(), kKey);
  std::vector<std::unique_ptr<Engine>> engines;
  for (int i = 0; i < 2; ++i) engines.push_back(std::make_unique<Engine>(*planes[i]));

  const auto table =
      World::TableOf({MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1, 2, 3}}, proto::Collective::SUM)});
  uint64_t launch = 0;
  for (const int64_t elements : {1, 1000, 100'000, 3'000'000, 4}) {
    ++launch;
    for (int w = 0; w < 2; ++w) {
      auto gang = std::make_shared<Gang>();
      gang->self = WorkerId{w};
      gang->workers = {WorkerId{0}, WorkerId{0}, WorkerId{1}, WorkerId{1}};
      gang->islands = {0, 0, 0, 0};
      engines[w]->Announce(launch, std::move(gang));
    }
    for (uint32_t occurrence = 0; occurrence < 5; ++occurrence) {
      std::vector<Array> operands(4), results(4);
      Ends ends(4);
      for (int d = 0; d < 4; ++d) {
        operands[d] = Floats(std::vector<float>(elements, static_cast<float>(d + 1)));
        results[d] = Zeros(DType::kF32, {elements});
        engines[d / 2]->Arrive({.launch = launch,
                                .device = d,
                                .table = table,
                                .occurrence = occurrence,
                                .operands = {BufferOf(operands[d])},
                                .results = {BufferOf(results[d])},
                                .done = ends.Of(d)});
      }
      ASSERT_TRUE(ends.Wait(4)) << elements;
      ASSERT_TRUE(ends.All().ok()) << ends.All();
      for (int d = 0; d < 4; ++d) {
        ASSERT_EQ(Values<float>(results[d]), std::vector<float>(elements, 10.0f)) << elements;
      }
    }
    EXPECT_EQ(engines[0]->End(launch).worker_bytes + engines[1]->End(launch).worker_bytes, 5 * 2 * elements * 4);
  }

  // A peer that goes takes the launch with it.
  for (int w = 0; w < 2; ++w) {
    auto gang = std::make_shared<Gang>();
    gang->self = WorkerId{w};
    gang->workers = {WorkerId{0}, WorkerId{1}};
    gang->islands = {0, 0};
    engines[w]->Announce(launch + 1, std::move(gang));
  }
  const auto two = World::TableOf({MakeCollective(proto::Collective::ALL_REDUCE, {{0, 1}}, proto::Collective::SUM)});
  Array operand = Floats({1}), result = Floats({0});
  Ends ends(1);
  engines[0]->Arrive({.launch = launch + 1,
                      .device = 0,
                      .table = two,
                      .operands = {BufferOf(operand)},
                      .results = {BufferOf(result)},
                      .done = ends.Of(0)});
  engines[1] = nullptr;
  planes[1] = nullptr;
  ASSERT_TRUE(ends.Wait(1));
  EXPECT_EQ(ends.All().code(), absl::StatusCode::kDataLoss) << ends.All();
}

}  // namespace
}  // namespace causeway::collectives
