#include "ifrt/user_contexts.h"

namespace causeway {

void UserContexts::Opened(uint64_t id) { ++kept_[id].open; }

void UserContexts::Closed(uint64_t id, bool failed) {
  const auto kept = kept_.find(id);
  if (kept == kept_.end() || kept->second.open == 0) return;
  --kept->second.open;
  if (failed && !kept->second.failed) {
    kept->second.failed = true;
    failed_.push_back(id);
  }
  DropIfUnneeded(kept);
  if (failed_.size() <= kMaxFailed) return;
  const auto oldest = kept_.find(failed_.front());
  failed_.pop_front();
  oldest->second.failed = false;
  DropIfUnneeded(oldest);
}

void UserContexts::Answered(uint64_t id) {
  const auto kept = kept_.find(id);
  if (kept != kept_.end() && !kept->second.returned) {
    kept->second.returned = true;
  } else {
    forgettable_.push_back(id);
  }
}

void UserContexts::DropIfUnneeded(KeptById::iterator kept) {
  if (kept->second.open > 0 || kept->second.failed) return;
  if (kept->second.returned) forgettable_.push_back(kept->first);
  kept_.erase(kept);
}

void UserContexts::TakeForgettable(google::protobuf::RepeatedField<uint64_t>& to) {
  to.Add(forgettable_.begin(), forgettable_.end());
  forgettable_.clear();
}

}  // namespace causeway
