#include "ifrt/statuses.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/utf8.h"

namespace causeway {
namespace {

// Longer texts (a plugin may put whole programs into them) say nothing more, and gRPC refuses long ones in trailers.
constexpr size_t kMaxMessageBytes = 64 << 10;
constexpr size_t kMaxTrailerBytes = 4 << 10;

constexpr char kUserContextPayload[] = "type.googleapis.com/ifrt.UserContext";

std::string Shortened(absl::string_view message, size_t limit) {
  if (message.size() <= limit) return ValidUtf8(message);
  const std::string head = ValidUtf8(message, limit);
  return absl::StrCat(head, "... (", message.size() - head.size(), " more bytes)");
}

}  // namespace

tensorflow::StatusProto StatusToWire(const absl::Status& status) {
  tensorflow::StatusProto wire;
  wire.set_code(static_cast<tensorflow::error::Code>(status.code()));
  wire.set_message(Shortened(status.message(), kMaxMessageBytes));
  return wire;
}

void AttachUserContext(uint64_t id, tensorflow::StatusProto& status) {
  (*status.mutable_payload())[kUserContextPayload] = absl::StrCat(id);
}

absl::Status StatusFromWire(const tensorflow::StatusProto& status) {
  const int code = static_cast<int>(status.code());
  if (code == 0) return absl::OkStatus();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      Shortened(status.message(), kMaxMessageBytes));
}

grpc::Status StatusToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Shortened(status.message(), kMaxTrailerBytes));
}

}  // namespace causeway
