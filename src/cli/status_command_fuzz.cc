// What a controller (or whatever listens there) answers to `causeway status`: as a table and as JSON.
#include "cli/status_command.h"

#include <nlohmann/json.hpp>
#include <string>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"

namespace causeway {
namespace {

void Feed(FuzzInput in) {
  proto::ClusterStatus status;
  if (in.Flag()) {
    if (!status.ParseFromString(in.Rest())) return;
  } else {
    while (!in.empty()) ProtoFiller().Fill(in, status);
  }
  const std::string table = StatusTable(status);
  for (char c : table) FUZZ_CHECK(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
  const nlohmann::json json = nlohmann::json::parse(StatusJson(status));
  FUZZ_CHECK(json["islands"].size() == static_cast<size_t>(status.islands_size()));
  FUZZ_CHECK(json["sessions"].size() == static_cast<size_t>(status.sessions_size()));
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Feed(causeway::FuzzInput(data, size));
  return 0;
}
