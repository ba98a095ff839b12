// The small codecs of the door: element types, shapes, strides, layouts, handles, versions, statuses, and the
// description of the cluster.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "hlo/fuzz_sharding.h"
#include "ifrt/devices.h"
#include "ifrt/fuzz_messages.h"
#include "ifrt/handles.h"
#include "ifrt/statuses.h"
#include "ifrt/types.h"
#include "ifrt/versions.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"
#include "xla/xla_data.pb.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;

// What we send must be taken: protobuf refuses a whole message for one text that is not UTF-8.
template <typename Proto>
void CheckParses(const Proto& message) {
  Proto again;
  FUZZ_CHECK(again.ParseFromString(message.SerializeAsString()));
}

void FeedArrayType(FuzzInput& in) {
  xla::ifrt::DTypeProto dtype;
  dtype.set_kind(static_cast<xla::ifrt::DTypeProto::Kind>(in.Number()));
  const absl::StatusOr<DType> type = ParseDType(dtype);
  if (type.ok()) FUZZ_CHECK(*ParseDType(DTypeToWire(*type)) == *type);

  xla::ifrt::ShapeProto shape;
  for (int n = in.Below(kMaxArrayRank + 2); n > 0 && !in.empty(); --n) shape.add_dims(in.Number());
  const absl::StatusOr<std::vector<int64_t>> dims = ParseDims(shape);
  if (!dims.ok()) return;
  FUZZ_CHECK(DimsToWire(*dims).SerializeAsString() == shape.SerializeAsString());

  xla::ifrt::proto::ByteStrides bytes;
  const bool fitting = in.Byte() < 240;
  for (size_t n = fitting ? dims->size() : in.Below(8); n > 0; --n) bytes.add_strides(in.Number());
  const absl::StatusOr<std::vector<int64_t>> strides = ParseStrides(bytes, *dims);
  if (!strides.ok()) return;
  const DType width_of = type.ok() ? *type : DType::kC128;
  const absl::StatusOr<int64_t> dense = HostSpanBytes(width_of, *dims, {});
  FUZZ_CHECK(dense.ok() && *dense >= 0);
  const absl::StatusOr<int64_t> span = HostSpanBytes(width_of, *dims, *strides);
  if (span.ok()) FUZZ_CHECK(*span >= 0 && (*span == 0) == (*dense == 0));
}

void FeedLayout(FuzzInput& in) {
  xla::LayoutProto parsed;
  const auto check = [&](const absl::StatusOr<std::string>& layout) {
    if (layout.ok()) FUZZ_CHECK(parsed.ParseFromString(*layout));
  };
  constexpr const char* kTypes[] = {"xla::ifrt::PjRtLayout", "xla::ifrt::CompactLayout", "", "xla::ifrt::Other"};
  xla::ifrt::LayoutProto layout;
  layout.mutable_serialized_layout()->set_type_name(kTypes[in.Below(4)]);
  layout.mutable_serialized_layout()->set_data(in.Rest());
  check(ParseLayout(layout));
  check(ParseLayoutBytes(layout.serialized_layout().data()));
}

void FeedHandles(FuzzInput& in) {
  const SessionId session{1 + static_cast<uint32_t>(in.Number()) % kMaxSession};
  const uint64_t handle = FuzzHandle(in);
  const absl::StatusOr<uint64_t> number = NumberOfHandle(handle);
  const absl::StatusOr<ArrayId> array = ArrayOfHandle(session, handle);
  const absl::StatusOr<ProgramId> program = ProgramOfHandle(session, handle);
  FUZZ_CHECK(array.ok() == number.ok() && program.ok() == number.ok());
  KindOfHandle(handle);
  if (!number.ok()) return;
  FUZZ_CHECK(*number >= 1 && *number <= kMaxPerSession);
  FUZZ_CHECK(SessionOf(*array) == session && SessionOf(*program) == session);
  // Another handle is another name.
  const uint64_t other = FuzzHandle(in);
  if (const absl::StatusOr<ArrayId> id = ArrayOfHandle(session, other); id.ok()) {
    FUZZ_CHECK((*id == *array) == (other == handle));
  }
}

void FeedVersion(FuzzInput& in) {
  wire::GrpcGetVersionRequest request;
  ProtoFiller().Fill(in, request);
  const auto chosen = ChooseVersion(request);
  if (chosen.ok()) {
    FUZZ_CHECK(CheckVersion(*chosen).ok());
    FUZZ_CHECK(chosen->protocol_version() >= request.min_version().protocol_version() &&
               chosen->protocol_version() <= request.max_version().protocol_version());
  } else {
    FUZZ_CHECK(absl::IsFailedPrecondition(chosen.status()));
  }
  CheckVersion(request.min_version()).IgnoreError();
}

void FeedStatus(FuzzInput& in) {
  tensorflow::StatusProto status;
  status.set_code(static_cast<tensorflow::error::Code>(in.Number()));
  const int repeats = in.Byte() < 224 ? 1 : 1024;
  const std::string text = in.Rest();
  for (int i = 0; i < repeats; ++i) status.mutable_message()->append(text);
  // What a peer can send: the parser sees to it that a text is one.
  if (!status.ParseFromString(status.SerializeAsString())) status.clear_message();
  const absl::Status parsed = StatusFromWire(status);
  CheckParses(StatusToWire(parsed));
  StatusToGrpc(parsed);
  // What a plugin or a peer of the data plane says may be any bytes.
  const absl::Status raw(static_cast<absl::StatusCode>(status.code()), text);
  CheckParses(StatusToWire(raw));
  StatusToGrpc(raw);
}

// What a worker says of itself reaches clients through InitResponse.
void FeedCluster(FuzzInput& in) {
  ClusterView cluster;
  cluster.platform = ProtoFiller::Text(in);
  for (int n = in.Below(4); n > 0; --n) {
    DeviceView view;
    view.id = DeviceId{in.Below(8)};
    view.alive = in.Byte() < 224;
    view.platform = cluster.platform;
    ProtoFiller().Fill(in, view.device);
    cluster.devices.push_back(std::move(view));
  }
  while (!in.empty()) cluster.stablehlo_version.push_back(in.Number());
  CheckParses(InitResponseFor(cluster, 1, in.Flag()));
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  switch (in.Below(6)) {
    case 0:
      causeway::FeedArrayType(in);
      break;
    case 1:
      causeway::FeedLayout(in);
      break;
    case 2:
      causeway::FeedHandles(in);
      break;
    case 3:
      causeway::FeedVersion(in);
      break;
    case 4:
      causeway::FeedStatus(in);
      break;
    default:
      causeway::FeedCluster(in);
  }
  return 0;
}
