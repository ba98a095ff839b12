#include "cli/status_command.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "cli/ask.h"
#include "cli/units.h"
#include "proto/control_version.h"
#include "proto/status.h"
#include "timed/timed_runtime.h"

namespace causeway {
namespace {

std::string Age(int64_t ms) { return absl::FormatDuration(absl::Seconds(ms / 1000)); }

// Protobuf's own JSON prints 64-bit numbers as strings, which is a nuisance in scripts.
nlohmann::json ToJson(const google::protobuf::Message& message) {
  using google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& fields = *message.GetReflection();
  nlohmann::json object = nlohmann::json::object();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    nlohmann::json& value = object[field->name()];
    if (field->is_repeated()) {
      value = nlohmann::json::array();
      for (int n = 0; n < fields.FieldSize(message, field); ++n) {
        value.push_back(ToJson(fields.GetRepeatedMessage(message, field, n)));
      }
      continue;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        value = fields.GetString(message, field);
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        value = ToJson(fields.GetMessage(message, field));
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        value = fields.GetBool(message, field);
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        value = fields.GetInt32(message, field);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        value = fields.GetUInt32(message, field);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        value = fields.GetDouble(message, field);
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        value = fields.GetUInt64(message, field);
        break;
      default:
        value = fields.GetInt64(message, field);
    }
  }
  return object;
}

std::string DeviceRange(const proto::ClusterStatus::Worker& worker) {
  if (worker.devices().empty()) return "none";
  const int first = worker.devices(0).device();
  const int last = worker.devices(worker.devices_size() - 1).device();
  return first == last ? absl::StrCat(first) : absl::StrCat(first, "-", last);
}

// "0-3, exclusive, cap 0.5, at most 4.0 GiB each"
std::string Slice(const proto::ClusterStatus::Session& session) {
  std::string text = PrintableUtf8(session.devices());
  if (session.exclusive()) absl::StrAppend(&text, ", exclusive");
  if (session.cap() > 0 && session.cap() < 1) absl::StrAppendFormat(&text, ", cap %g", session.cap());
  if (session.memory_cap_bytes() > 0) {
    absl::StrAppend(&text, ", at most ", Bytes(session.memory_cap_bytes()), " each");
  }
  return text;
}

}  // namespace

absl::StatusOr<proto::ClusterStatus> QueryStatus(const std::string& control_address, const std::string& token,
                                                 absl::Duration timeout) {
  proto::ToController question;
  question.mutable_status_request()->set_version(kControlVersion);
  question.mutable_status_request()->set_token(token);
  ASSIGN_OR_RETURN(proto::ToWorker answer, Ask(control_address, question, timeout));
  if (answer.has_goodbye()) return FromProto(answer.goodbye().status());
  if (!answer.has_cluster_status()) {
    return absl::InternalError(absl::StrCat(control_address, " answers, but not as a Causeway controller"));
  }
  return std::move(*answer.mutable_cluster_status());
}

std::string StatusTable(const proto::ClusterStatus& status) {
  int workers = 0;
  int alive = 0;
  int devices = 0;
  for (const auto& island : status.islands()) {
    for (const auto& worker : island.workers()) {
      ++workers;
      alive += worker.alive() ? 1 : 0;
      devices += worker.devices_size();
    }
  }
  workers = std::max(workers, status.expected_workers());
  std::string out =
      absl::StrFormat("cluster: %d islands, %d of %d workers up, %d devices, %d sessions; clients at %s; up %s\n",
                      status.islands_size(), alive, workers, devices, status.sessions_size(),
                      PrintableUtf8(status.client_address()), Age(status.uptime_ms()));
  for (const auto& island : status.islands()) {
    absl::StrAppend(&out, "\nisland ", PrintableUtf8(island.name()), "\n");
    absl::StrAppendFormat(&out, "  %-20s %-6s %-10s %-14s %10s %10s %10s %9s %8s\n", "worker", "state", "devices",
                          "kind", "memory", "named", "limit", "buffers", "pid");
    for (const auto& worker : island.workers()) {
      int64_t bytes = 0;
      int64_t named = 0;
      int64_t limit = 0;
      int64_t buffers = 0;
      for (const auto& device : worker.devices()) {
        bytes = SaturatingAdd(bytes, device.bytes());
        named = SaturatingAdd(named, device.named_bytes());
        limit = SaturatingAdd(limit, device.limit_bytes());
        buffers = SaturatingAdd(buffers, device.buffers());
      }
      absl::StrAppendFormat(&out, "  %-20s %-6s %-10s %-14s %10s %10s %10s %9d %8d\n", PrintableUtf8(worker.name()),
                            worker.alive() ? "up" : "LOST", DeviceRange(worker),
                            worker.devices().empty() ? "" : PrintableUtf8(worker.devices(0).kind()), Bytes(bytes),
                            Bytes(named), limit == 0 ? "none" : Bytes(limit), buffers, worker.pid());
      if (absl::EndsWith(worker.plugin(), kTimedMark)) {
        absl::StrAppend(&out, "    timed: nothing is computed, results are zeros\n");
      }
      if (!worker.alive()) absl::StrAppend(&out, "    lost because: ", PrintableUtf8(worker.lost_because()), "\n");
    }
  }
  if (status.sessions().empty()) return out;
  absl::StrAppendFormat(&out, "\n%-8s %-20s %-24s %10s %8s %10s %9s %9s %7s  %s\n", "session", "name", "peer", "age",
                        "arrays", "memory", "programs", "launches", "weight", "devices");
  for (const auto& session : status.sessions()) {
    int64_t bytes = 0;
    for (const auto& device : session.device_bytes()) bytes = SaturatingAdd(bytes, device.bytes());
    absl::StrAppendFormat(&out, "%-8d %-20s %-24s %10s %8d %10s %9d %9d %7g  %s\n", session.session(),
                          PrintableUtf8(session.name()), PrintableUtf8(session.peer()), Age(session.age_ms()),
                          session.arrays(), Bytes(bytes), session.programs(), session.launches(), session.weight(),
                          Slice(session));
    if (!session.memory_wait().empty()) {
      absl::StrAppend(&out, "    waits for memory: ", PrintableUtf8(session.memory_wait()), "\n");
    }
  }
  return out;
}

std::string ProgramTable(const proto::ClusterStatus& status) {
  std::string out = absl::StrFormat("\n%-8s %-28s %8s %8s %8s %10s %10s %14s %14s\n", "session", "program", "devices",
                                    "workers", "islands", "compiled", "launches", "between workers", "islands");
  for (const auto& program : status.programs()) {
    absl::StrAppendFormat(&out, "%-8d %-28s %8d %8d %8d %8d ms %10d %14s %14s\n", program.session(),
                          PrintableUtf8(program.name()), program.devices(), program.workers(), program.islands(),
                          program.compile_us() / 1000, program.launches(), Bytes(program.worker_bytes()),
                          Bytes(program.island_bytes()));
  }
  return out;
}

std::string StatusJson(const proto::ClusterStatus& status) { return ToJson(status).dump(2); }

absl::Status RunStatus(const StatusFlags& flags) {
  ASSIGN_OR_RETURN(const std::string token, ReadToken(flags.token_file));
  ASSIGN_OR_RETURN(const proto::ClusterStatus status,
                   QueryStatus(flags.control_address, token, absl::Seconds(flags.timeout_s)));
  std::string text = flags.json ? StatusJson(status) + "\n" : StatusTable(status);
  if (flags.programs && !flags.json) text += ProgramTable(status);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace causeway
