#include "ifrt/introduction.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "ifrt/versions.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {
namespace {

using Attributes = xla::ifrt::AttributeMapProto;
using Value = Attributes::Value;

constexpr absl::string_view kPrefix = "causeway_session_";
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxNumberBytes = 32;
constexpr size_t kMaxShownBytes = 64;  // of what a stranger wrote, in our errors

absl::Status WrongType(const std::string& name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, " is to be ", what));
}

absl::StatusOr<std::string> Text(const std::string& name, const Value& value) {
  if (value.value_case() != Value::kStringValue) return WrongType(name, "bytes");
  return value.string_value();
}

absl::StatusOr<bool> Flag(const std::string& name, const Value& value) {
  if (value.value_case() != Value::kBoolValue) return WrongType(name, "a flag (true or false)");
  return value.bool_value();
}

// The client's numbers have no fractions, so these come as text.
absl::StatusOr<double> Fraction(const std::string& name, const Value& value) {
  double number = 0;
  if (value.value_case() == Value::kInt64Value) return static_cast<double>(value.int64_value());
  if (value.value_case() == Value::kStringValue && value.string_value().size() <= kMaxNumberBytes &&
      absl::SimpleAtod(value.string_value(), &number)) {
    return number;
  }
  return WrongType(name, "a decimal number, as bytes such as 0.5");
}

// `high` and more become `high`, and likewise below 0: both are outside of every range.
absl::StatusOr<int64_t> Whole(const std::string& name, const Value& value, int64_t high) {
  if (value.value_case() != Value::kInt64Value) return WrongType(name, "a whole number");
  return std::clamp<int64_t>(value.int64_value(), -1, high);
}

absl::Status Take(const std::string& name, const Value& value, Introduction& client) {
  const absl::string_view what = absl::string_view(name).substr(kPrefix.size());
  SessionWishes& wishes = client.wishes;
  if (what == "name") {
    ASSIGN_OR_RETURN(client.name, Text(name, value));
    client.name = PrintableUtf8(client.name, kMaxNameBytes);
  } else if (what == "weight") {
    ASSIGN_OR_RETURN(wishes.weight, Fraction(name, value));
  } else if (what == "devices") {
    ASSIGN_OR_RETURN(const int64_t devices, Whole(name, value, std::numeric_limits<int>::max()));
    wishes.devices = static_cast<int>(devices);
  } else if (what == "one_island") {
    ASSIGN_OR_RETURN(wishes.one_island, Flag(name, value));
  } else if (what == "platform") {
    ASSIGN_OR_RETURN(wishes.platform, Text(name, value));
  } else if (what == "memory") {
    ASSIGN_OR_RETURN(wishes.memory_bytes, Whole(name, value, std::numeric_limits<int64_t>::max()));
  } else if (what == "cap") {
    ASSIGN_OR_RETURN(wishes.cap, Fraction(name, value));
  } else if (what == "exclusive") {
    ASSIGN_OR_RETURN(wishes.exclusive, Flag(name, value));
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "this controller knows nothing of ", PrintableUtf8(name, kMaxShownBytes),
        "; it knows name, weight, devices, one_island, platform, memory, cap and exclusive after ", kPrefix));
  }
  return absl::OkStatus();
}

}  // namespace

Introduction ParseIntroduction(const Attributes& data) {
  // In an order that is always the same, so that of two mistakes the same one is told.
  const std::map<std::string, const Value*> attributes = [&data] {
    std::map<std::string, const Value*> sorted;
    for (const auto& [name, value] : data.attributes()) {
      if (absl::StartsWith(name, kPrefix)) sorted[name] = &value;
    }
    return sorted;
  }();
  Introduction client;
  for (const auto& [name, value] : attributes) client.mistake.Update(Take(name, *value, client));
  client.mistake.Update(CheckWishes(client.wishes));
  return client;
}

absl::StatusOr<Introduction> ParseIntroduction(absl::string_view header) {
  xla::ifrt::proxy::GrpcIfrtSessionMetadata metadata;
  if (!metadata.ParseFromArray(header.data(), static_cast<int>(header.size()))) {
    return absl::InvalidArgumentError(absl::StrCat("the header ", kSessionHeader, " cannot be parsed"));
  }
  RETURN_IF_ERROR(CheckVersion(metadata.version()));
  return ParseIntroduction(metadata.initialization_data());
}

}  // namespace causeway
