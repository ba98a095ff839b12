#include "controller/event_kind.h"

#include <array>
#include <variant>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// In the order of Event.
constexpr std::array<const char*, 22> kNames = {
    "OpenSession",        "CloseSession",  "PutArray",       "HostDataArrived", "CompileProgram",
    "DropProgram",        "LaunchProgram", "CopyArrays",     "ReshardArrays",   "AliasShards",
    "MakeErrorArrays",    "DeleteArrays",  "DestructArrays", "WaitReady",       "FetchShard",
    "QueryDefaultLayout", "QueryProgram",  "WorkerFrame",    "LinkClosed",      "ProgramLookedUp",
    "LinkFull",           "Tick"};
static_assert(kNames.size() == std::variant_size_v<Event>, "name the new event too");

constexpr int kKinds = static_cast<int>(kNames.size());

}  // namespace

int EventKindOf(const Event& event) {
  const int kind = static_cast<int>(event.index());
  const auto* frame = std::get_if<WorkerFrame>(&event);
  return frame == nullptr ? kind : kind + kKinds * static_cast<int>(frame->message.message_case());
}

std::string EventKindName(int kind) {
  const char* name = kNames[kind % kKinds];
  const auto* field = proto::ToController::descriptor()->FindFieldByNumber(kind / kKinds);
  return field == nullptr ? name : absl::StrCat(name, " ", field->name());
}

}  // namespace causeway
