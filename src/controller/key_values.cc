#include "controller/key_values.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/utf8.h"

namespace causeway {

KeyValues::Group* KeyValues::Join(LinkId link, const std::string& name) {
  if (groups_.size() >= limits_.groups && !groups_.contains(name)) return nullptr;
  Group& group = groups_[name];
  group.links.insert(link);
  return &group;
}

std::vector<KeyValues::Reply> KeyValues::Put(LinkId link, uint64_t number, const std::string& name,
                                             const std::string& key, const std::string& value) {
  Group* const group = Join(link, name);
  if (group == nullptr) {
    return {{link, number, absl::ResourceExhaustedError("too many groups of processes meet here"), ""}};
  }
  const auto bytes = static_cast<int64_t>(key.size() + value.size());
  if (bytes > limits_.group_bytes - group->bytes) {
    return {{link, number,
             absl::ResourceExhaustedError(absl::StrCat("group ", PrintableUtf8(name), " has put more than ",
                                                       limits_.group_bytes, " bytes here")),
             ""}};
  }
  if (!group->values.emplace(key, value).second) {
    return {{link, number,
             absl::AlreadyExistsError(absl::StrCat("key ", PrintableUtf8(key), " of group ", PrintableUtf8(name),
                                                   " has a value: is an earlier job of that name still running?")),
             ""}};
  }
  group->bytes += bytes;
  std::vector<Reply> replies{{link, number, absl::OkStatus(), ""}};
  const auto waits = group->waits.find(key);
  if (waits == group->waits.end()) return replies;
  for (const Wait& wait : waits->second) replies.push_back({wait.link, wait.number, absl::OkStatus(), value});
  waits_ -= waits->second.size();
  group->waits.erase(waits);
  return replies;
}

std::vector<KeyValues::Reply> KeyValues::Get(LinkId link, uint64_t number, const std::string& name,
                                             const std::string& key, absl::Duration patience, absl::Time now) {
  Group* const group = Join(link, name);
  if (group == nullptr || waits_ >= limits_.waits) {
    return {{link, number, absl::ResourceExhaustedError("too many processes wait for one another here"), ""}};
  }
  if (const auto found = group->values.find(key); found != group->values.end()) {
    return {{link, number, absl::OkStatus(), found->second}};
  }
  if (patience <= absl::ZeroDuration()) {
    return {{link, number, absl::NotFoundError(absl::StrCat("nobody has put ", PrintableUtf8(key))), ""}};
  }
  group->waits[key].push_back({link, number, now + patience});
  ++waits_;
  return {};
}

std::vector<KeyValues::Reply> KeyValues::Expire(absl::Time now) {
  std::vector<Reply> replies;
  if (waits_ == 0) return replies;
  for (auto& [name, group] : groups_) {
    for (auto waits = group.waits.begin(); waits != group.waits.end();) {
      std::vector<Wait>& list = waits->second;
      for (const Wait& wait : list) {
        if (wait.until > now) continue;
        replies.push_back(
            {wait.link, wait.number,
             absl::DeadlineExceededError(absl::StrCat("nobody has put ", PrintableUtf8(waits->first), " for group ",
                                                      PrintableUtf8(name), ": are all of its processes running?")),
             ""});
      }
      waits_ -= std::erase_if(list, [now](const Wait& wait) { return wait.until <= now; });
      waits = list.empty() ? group.waits.erase(waits) : std::next(waits);
    }
  }
  return replies;
}

void KeyValues::Close(LinkId link) {
  for (auto group = groups_.begin(); group != groups_.end();) {
    if (group->second.links.erase(link) == 0) {
      ++group;
      continue;
    }
    auto& waits = group->second.waits;
    for (auto it = waits.begin(); it != waits.end();) {
      waits_ -= std::erase_if(it->second, [link](const Wait& wait) { return wait.link == link; });
      it = it->second.empty() ? waits.erase(it) : std::next(it);
    }
    group = group->second.links.empty() ? groups_.erase(group) : std::next(group);
  }
}

}  // namespace causeway
