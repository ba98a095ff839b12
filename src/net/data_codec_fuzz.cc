// The hello and the headers of a data connection: what parses is what the codec itself would have written.
#include <cstring>
#include <string>

#include "base/limits.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "net/data_codec.h"

namespace causeway {
namespace {

void FeedHello(std::string bytes) {
  bytes.resize(kDataHelloBytes);
  const absl::StatusOr<DataHello> hello = ParseDataHello(bytes.data());
  if (!hello.ok()) return;
  char written[kDataHelloBytes];
  WriteDataHello(*hello, written);
  FUZZ_CHECK(std::memcmp(written, bytes.data(), kDataHelloBytes) == 0);
}

void FeedHeader(std::string bytes) {
  bytes.resize(kDataHeaderBytes);
  const absl::StatusOr<DataHeader> header = ParseDataHeader(bytes.data());
  if (!header.ok()) return;
  char written[kDataHeaderBytes];
  WriteDataHeader(*header, written);
  FUZZ_CHECK(std::memcmp(written, bytes.data(), kDataHeaderBytes) == 0);
  switch (header->type) {
    case DataType::kGrant:
      FUZZ_CHECK(header->total >= 1 && header->value >= 1 && header->value <= header->total);
      break;
    case DataType::kData:
      FUZZ_CHECK(header->length >= 1 && header->length <= kChunkBytes && header->value >= 0);
      FUZZ_CHECK(header->total - header->value >= header->length);
      break;
    case DataType::kAbort:
    case DataType::kRefuse:
      FUZZ_CHECK(header->length <= kMaxReasonBytes && header->detail != 0 && header->value >= 0);
      break;
    case DataType::kFinished:
      FUZZ_CHECK(header->length == 0);
      break;
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::FuzzInput in(data, size);
  if (in.Flag()) {
    // The magic is six bytes that need not be guessed each time.
    causeway::FeedHello(in.Flag() ? "CWDATA" + in.Rest() : in.Rest());
  } else {
    causeway::FeedHeader(in.Rest());
  }
  return 0;
}
