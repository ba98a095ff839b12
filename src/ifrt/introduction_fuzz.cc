// What a client says of itself in its first header: names, weights and counts of any type and size, or bytes that are
// no header.
//
// Held true: what is taken is in its range, its name can be shown and sent on, and the core opens a session with it or
// says why not; what is refused is refused as the client's mistake.
#include "ifrt/introduction.h"

#include <string>

#include "controller/slices.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ifrt/versions.h"
#include "proto/control.pb.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

constexpr const char* kNames[] = {"name",   "weight", "devices",   "one_island", "platform",
                                  "memory", "cap",    "exclusive", "priority",   ""};
constexpr const char* kNumbers[] = {"1", "0.5", "1000", "0", "-1", "1e-3", "nan", "inf", "1e400", "0x10", " 2 "};

std::string Header(FuzzInput& in) {
  if (in.OneIn(8)) return in.Rest();
  xla::ifrt::proxy::GrpcIfrtSessionMetadata metadata;
  metadata.mutable_version()->set_protocol_version(in.OneIn(8) ? in.Byte() : kMaxProtocolVersion);
  metadata.mutable_version()->set_ifrt_serdes_version_number(in.OneIn(8) ? in.Byte() : kMaxSerdesVersion);
  auto& attributes = *metadata.mutable_initialization_data()->mutable_attributes();
  while (!in.empty()) {
    const std::string prefix = in.OneIn(16) ? in.Bytes(4) : "causeway_session_";
    auto& value = attributes[prefix + kNames[in.Below(static_cast<int>(std::size(kNames)))]];
    switch (in.Below(6)) {
      case 0:
        value.set_string_value(in.Bytes(255));
        break;
      case 1:
        value.set_string_value(kNumbers[in.Below(static_cast<int>(std::size(kNumbers)))]);
        break;
      case 2:
        value.set_int64_value(in.Number());
        break;
      case 3:
        value.set_bool_value(in.Flag());
        break;
      case 4:
        value.mutable_int64_list_value()->add_elements(in.Number());
        break;
      default:
        value.set_float_value(in.Byte());
    }
  }
  return metadata.SerializeAsString();
}

void Feed(FuzzInput in) {
  const absl::StatusOr<Introduction> client = ParseIntroduction(Header(in));
  if (!client.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(client.status()) || absl::IsFailedPrecondition(client.status()));
    FUZZ_CHECK(client.status().message().size() < 512);
    return;
  }
  if (!client->mistake.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(client->mistake));
    FUZZ_CHECK(client->mistake.message().size() < 512);
    return;
  }
  const SessionWishes& wishes = client->wishes;
  FUZZ_CHECK(client->name.size() <= 256);
  for (char c : client->name) FUZZ_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  FUZZ_CHECK(wishes.weight >= kMinWeight && wishes.weight <= kMaxWeight);
  FUZZ_CHECK(wishes.cap >= kMinCap && wishes.cap <= 1);
  FUZZ_CHECK(wishes.devices >= 0 && wishes.devices <= kMaxWishedDevices);
  FUZZ_CHECK(wishes.memory_bytes >= 0 && wishes.memory_bytes <= kMaxWishedMemoryBytes);
  proto::ClusterStatus::Session shown;
  shown.set_name(client->name);
  FUZZ_CHECK(shown.ParseFromString(shown.SerializeAsString()));

  const DeviceId devices[] = {DeviceId{0}, DeviceId{1}, DeviceId{2}, DeviceId{3}};
  const SliceWorker workers[] = {{"i0", "cpu", true, absl::MakeSpan(devices).first(2)},
                                 {"i1", "tpu", true, absl::MakeSpan(devices).subspan(2)}};
  Slices slices;
  const auto slice = slices.Take(SessionId{1}, client->name, wishes, workers);
  if (slice.ok()) {
    FUZZ_CHECK(!slice->empty() && (wishes.devices == 0 || slice->size() == static_cast<size_t>(wishes.devices)));
  } else {
    FUZZ_CHECK(absl::IsResourceExhausted(slice.status()));
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
