// What clients say on the streams of host data, byte by byte: headers, lookups and chunks. A chunk comes out as
// protobuf would have read it, however gRPC cut it into slices.
#include "ifrt/host_buffer_streams.h"

#include <grpcpp/support/slice.h>

#include <string>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ifrt/introduction.h"

namespace causeway {
namespace {

namespace wire = ::xla::ifrt::proxy;

grpc::ByteBuffer Sliced(FuzzInput& in, const std::string& bytes, size_t piece) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += piece) slices.emplace_back(bytes.substr(at, piece));
  if (in.OneIn(8)) slices.emplace_back();
  return grpc::ByteBuffer(slices.data(), slices.size());
}

void FeedChunk(FuzzInput& in) {
  // Slices of at least 256 bytes are shared, smaller ones copied.
  const size_t piece = in.Flag() ? 1 + in.Byte() : 1024;
  const size_t padding = in.Flag() ? in.Byte() * 4 : 0;
  const int spelling = in.Below(4);
  std::string data = in.Bytes(255) + std::string(padding, 'd');
  std::string message;
  if (spelling == 0) {
    message = in.Rest() + std::string(padding, 'd');
  } else {
    wire::GrpcHostBufferStoreRequest request;
    request.set_data(data);
    message = request.SerializeAsString();
    // Fields that we do not know, or the same one twice.
    if (spelling == 2) message += in.Rest();
    if (spelling == 3) message.insert(0, in.Rest());
  }
  grpc::ByteBuffer buffer = Sliced(in, message, piece);
  const absl::StatusOr<absl::Cord> chunk = StoreChunk(buffer);
  wire::GrpcHostBufferStoreRequest parsed;
  if (parsed.ParseFromString(message)) {
    FUZZ_CHECK(chunk.ok() && std::string(*chunk) == parsed.data());
  } else {
    FUZZ_CHECK(absl::IsInvalidArgument(chunk.status()));
  }
}

void CheckError(const absl::Status& status) {
  FUZZ_CHECK(status.ok() || absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status));
}

void Feed(FuzzInput in) {
  switch (in.Below(4)) {
    case 0: {
      const std::string header = in.Rest();
      CheckError(ParseStoreHeader(header).status());
      break;
    }
    case 1: {
      const size_t piece = 1 + in.Byte();
      const std::string message = in.Rest();
      CheckError(ParseLookup(Sliced(in, message, piece)).status());
      break;
    }
    case 2: {
      std::string header;
      if (in.Flag()) {
        wire::GrpcIfrtSessionMetadata metadata;
        metadata.mutable_version()->set_protocol_version(16 + in.Below(9));
        metadata.mutable_version()->set_ifrt_serdes_version_number(in.Below(5));
        auto& attributes = *metadata.mutable_initialization_data()->mutable_attributes();
        const int repeats = 1 + in.Below(80);
        const std::string name = in.Rest();
        for (int i = 0; i < repeats; ++i) attributes["causeway_session_name"].mutable_string_value()->append(name);
        header = metadata.SerializeAsString();
      } else {
        header = in.Rest();
      }
      CheckError(ParseIntroduction(header).status());
      break;
    }
    default:
      FeedChunk(in);
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
