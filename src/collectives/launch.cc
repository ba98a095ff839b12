#include "collectives/launch.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace causeway::collectives {

void Launch::Arrive(Arrival arrival) {
  std::shared_ptr<Instance> complete;
  if (const absl::Status status = Meet(arrival, complete); !status.ok()) {
    // Others wait for this device, and in vain.
    Fail(status);
    return arrival.done(status);
  }
  if (complete != nullptr) complete->Start();
}

absl::Status Launch::Meet(Arrival& arrival, std::shared_ptr<Instance>& complete) {
  if (arrival.table == nullptr) return absl::InvalidArgumentError("an arrival without a table of collectives");
  std::shared_ptr<const TableLayouts> layouts = LayoutsOf(arrival.table);
  ASSIGN_OR_RETURN(const Place place, layouts->Find(arrival.collective, arrival.device));
  const InstanceId id{.collective = static_cast<uint32_t>(arrival.collective),
                      .occurrence = arrival.occurrence,
                      .group = place.group->index};
  MutexLock lock(&mu_);
  RETURN_IF_ERROR(status_);
  Meeting& meeting = meetings_[id];
  if (meeting.started) {
    return absl::InvalidArgumentError(absl::StrCat("device ", arrival.device, " has come twice to ",
                                                   arrival.table->collectives(arrival.collective).name()));
  }
  if (meeting.instance == nullptr) {
    const proto::Collective::Kind kind = arrival.table->collectives(arrival.collective).kind();
    meeting.instance = MakeInstance(
        kind,
        {.id = id, .parts = shared_from_this(), .host = this, .layouts = std::move(layouts), .group = place.group});
  }
  RETURN_IF_ERROR(meeting.instance->Add(place.slot, arrival));
  if (meeting.instance->complete()) {
    meeting.started = true;
    complete = meeting.instance;
  }
  return absl::OkStatus();
}

std::shared_ptr<const TableLayouts> Launch::LayoutsOf(const std::shared_ptr<const proto::Collectives>& table) {
  {
    MutexLock lock(&mu_);
    if (layouts_ != nullptr && &layouts_->table() == table.get()) return layouts_;
  }
  std::shared_ptr<const TableLayouts> layouts = shared().layouts.Find(gang_info(), table);
  MutexLock lock(&mu_);
  layouts_ = layouts;
  return layouts;
}

void Launch::Fail(const absl::Status& why) {
  if (!FailOnce(why)) return;
  const absl::string_view text = why.message().substr(0, kMaxAbortText);
  char header[kHeaderBytes];
  WriteHeader({.type = MessageType::kAbort,
               .launch = launch(),
               .length = text.size(),
               .value = static_cast<uint64_t>(why.code())},
              header);
  const absl::Span<const char> parts[] = {{header, kHeaderBytes}, {text.data(), text.size()}};
  for (const WorkerId worker : gang().others()) shared().plane.SendMessage(PeerOf(worker), parts);
}

bool Launch::FailOnce(const absl::Status& why) {
  std::vector<std::shared_ptr<Instance>> waiting;
  {
    MutexLock lock(&mu_);
    if (!status_.ok()) return false;
    status_ = why;
    for (const auto& [id, meeting] : meetings_) {
      if (!meeting.started) waiting.push_back(meeting.instance);
    }
  }
  Close(why);
  for (const std::shared_ptr<Instance>& instance : waiting) instance->GiveUp(why);
  return true;
}

void Launch::Forget(const InstanceId& id) {
  Meeting meeting;
  MutexLock lock(&mu_);
  const auto it = meetings_.find(id);
  if (it == meetings_.end()) return;
  meeting = std::move(it->second);
  meetings_.erase(it);
}

std::string Launch::NameOf(uint32_t collective) {
  MutexLock lock(&mu_);
  if (layouts_ == nullptr || collective >= static_cast<uint32_t>(layouts_->table().collectives_size())) {
    return absl::StrCat("collective ", collective);
  }
  return layouts_->table().collectives(static_cast<int>(collective)).name();
}

}  // namespace causeway::collectives
