#include "controller/device_memory.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/saturate.h"
#include "controller/cluster.h"

namespace causeway {
namespace {

// No device has more. What claims more (clients may name any shape) counts as this.
constexpr int64_t kMaxBytes = int64_t{1} << 50;

// Of devices that have none. Far above what can be claimed by mistake, far below what overflows.
constexpr int64_t kNoLimit = int64_t{1} << 60;

constexpr size_t kHoldersShown = 5;

int64_t OrNone(int64_t limit) { return limit > 0 ? limit : kNoLimit; }

std::string Bytes(int64_t bytes) {
  if (bytes < 1 << 20) return absl::StrCat(bytes, " bytes");
  const bool large = bytes >= 1 << 30;
  const double value = static_cast<double>(bytes) / (large ? 1 << 30 : 1 << 20);
  return absl::StrFormat("%.1f %s (%d bytes)", value, large ? "GiB" : "MiB", bytes);
}

}  // namespace

struct DeviceMemory::Block {
  absl::Span<const std::pair<int32_t, int32_t>> ranges() const {
    return placement != nullptr ? absl::MakeConstSpan(placement->ranges) : absl::MakeConstSpan(&device, 1);
  }
  bool is_leaf() const { return placement == nullptr || placement->devices.size() == 1; }

  DeviceMemory* owner = nullptr;
  Account* account = nullptr;                  // null: an alias, whose parts have theirs
  std::shared_ptr<const Placement> placement;  // null: of one device
  std::pair<int32_t, int32_t> device;
  int64_t bytes = 0;  // on each device; 0 once it is split
  int32_t claims = 0;
  int32_t watches = 0;
  Space space = Space::kDevice;
  bool planned = false;
  std::vector<Claim> parts;       // by shard, if it is split or an alias
  std::vector<Watch> past_parts;  // the same, of one that is only watched any more
};

// ---------------------------------------------------------------- names

DeviceMemory::Claim::Claim(Block* block) : block_(block) { ++block->claims; }

DeviceMemory::Claim::Claim(const Claim& other) : block_(other.block_) {
  if (block_ != nullptr) ++block_->claims;
}

DeviceMemory::Claim::~Claim() {
  if (block_ != nullptr && --block_->claims == 0) block_->owner->Unclaim(block_);
}

DeviceMemory::Watch::Watch(const Claim& claim) : block_(claim.block_) {
  if (block_ != nullptr) ++block_->watches;
}

DeviceMemory::Watch::Watch(const Watch& other) : block_(other.block_) {
  if (block_ != nullptr) ++block_->watches;
}

DeviceMemory::Watch::~Watch() {
  if (block_ != nullptr) Unwatch(block_);
}

bool DeviceMemory::Watch::is_named() const {
  if (block_ == nullptr) return false;
  const auto& parts = block_->past_parts;
  return block_->claims > 0 || std::any_of(parts.begin(), parts.end(), [](const Watch& w) { return w.is_named(); });
}

void DeviceMemory::Unwatch(Block* block) {
  if (--block->watches == 0 && block->claims == 0) delete block;
}

void DeviceMemory::Unclaim(Block* block) {
  freed_ = true;
  ++block->watches;  // stays while this looks at it
  if (!block->planned) Count(*block, -block->bytes);
  block->bytes = 0;
  if (block->watches > 1) block->past_parts.assign(block->parts.begin(), block->parts.end());
  block->parts.clear();
  Account* account = std::exchange(block->account, nullptr);
  Unwatch(block);
  if (account == nullptr || --account->blocks_ > 0 || !account->closed_) return;
  std::erase_if(closed_, [account](const auto& closed) { return closed.get() == account; });
}

// ---------------------------------------------------------------- sessions and devices

void DeviceMemory::SetLimits(absl::Span<const int64_t> limits) {
  const int size = static_cast<int>(limits.size());
  for (RangeAccounts* row : {&used_, &pressure_, &elsewhere_}) row->Resize(size);
  for (auto& [id, account] : accounts_) account->used_.Resize(size);
  for (auto& account : closed_) account->used_.Resize(size);
  for (int i = static_cast<int>(limits_.size()); i < size; ++i) {
    limits_.push_back(0);
    pressure_.Add(i, i + 1, -kNoLimit);
  }
  const bool was_limited = std::exchange(limited_, 0) > 0;
  for (int i = 0; i < size; ++i) {
    const int64_t limit = std::clamp<int64_t>(limits[i], 0, kMaxBytes);
    if (limit != limits_[i]) freed_ = true;
    if (limit != limits_[i]) pressure_.Add(i, i + 1, OrNone(limits_[i]) - OrNone(limit));
    limits_[i] = limit;
    if (limit > 0) ++limited_;
  }
  if ((limited_ > 0) == was_limited) return;
  for (int i = 0; i < size; ++i) pressure_.Add(i, i + 1, was_limited ? -used_.At(i) : used_.At(i));
}

DeviceMemory::Account& DeviceMemory::OpenSession(SessionId id, std::string name, int64_t cap) {
  auto account = std::make_unique<Account>();
  account->id_ = id;
  account->name_ = std::move(name);
  account->cap_ = cap;
  account->used_.Resize(used_.size());
  return *(accounts_[id] = std::move(account));
}

void DeviceMemory::CloseSession(SessionId id) {
  auto closed = accounts_.extract(id);
  if (closed.empty() || closed.mapped()->blocks_ == 0) return;
  closed.mapped()->closed_ = true;
  closed_.push_back(std::move(closed.mapped()));
}

// ---------------------------------------------------------------- blocks

void DeviceMemory::Count(const Block& block, int64_t amount) {
  if (amount == 0) return;
  for (const auto& [first, last] : block.ranges()) {
    if (block.space == Space::kElsewhere) {
      elsewhere_.Add(first, last, amount);
      continue;
    }
    used_.Add(first, last, amount);
    if (limited_ > 0) pressure_.Add(first, last, amount);
    block.account->used_.Add(first, last, amount);
  }
}

DeviceMemory::Block* DeviceMemory::NewBlock(Account* account, Space space) {
  auto* block = new Block;
  block->owner = this;
  block->account = account;
  block->space = space;
  if (account != nullptr) ++account->blocks_;
  return block;
}

DeviceMemory::Claim DeviceMemory::Plan(Account& account, std::shared_ptr<const Placement> placement, int64_t bytes,
                                       Space space) {
  Block* block = NewBlock(&account, space);
  block->placement = std::move(placement);
  block->bytes = std::clamp<int64_t>(bytes, 0, kMaxBytes);
  block->planned = true;
  return Claim(block);
}

void DeviceMemory::Commit(absl::Span<const Watch> blocks) {
  // In one step what lies on the same devices, as a launch's outputs do.
  const Block* first = nullptr;
  int64_t sum = 0;
  for (const Watch& watch : blocks) {
    Block* block = watch.block_;
    if (block == nullptr || !block->planned) continue;
    if (block->claims == 0 || !block->parts.empty()) {
      CommitParts(*block);
      continue;
    }
    block->planned = false;
    if (first != nullptr &&
        (first->placement != block->placement || first->account != block->account || first->space != block->space)) {
      Count(*first, sum);
      sum = 0;
    }
    first = block;
    sum += block->bytes;
  }
  if (first != nullptr) Count(*first, sum);
}

void DeviceMemory::CommitParts(Block& block) {
  block.planned = false;
  std::vector<Watch> parts = block.past_parts;
  parts.insert(parts.end(), block.parts.begin(), block.parts.end());
  for (const Watch& part : parts) {
    if (!std::exchange(part.block_->planned, false)) continue;
    if (part.block_->claims > 0) Count(*part.block_, part.block_->bytes);
  }
}

DeviceMemory::Claim DeviceMemory::Plan(Account& account, std::shared_ptr<const Placement> placement,
                                       absl::Span<const int64_t> bytes, Space space) {
  const bool even = std::all_of(bytes.begin(), bytes.end(), [&](int64_t b) { return b == bytes.front(); });
  Claim claim = Plan(account, std::move(placement), even ? bytes.front() : 0, space);
  if (!even) {
    Split(*claim.block_);
    for (size_t i = 0; i < bytes.size(); ++i) {
      claim.block_->parts[i].block_->bytes = std::clamp<int64_t>(bytes[i], 0, kMaxBytes);
    }
  }
  return claim;
}

DeviceMemory::Claim DeviceMemory::Add(Account& account, std::shared_ptr<const Placement> placement,
                                      absl::Span<const int64_t> bytes, Space space) {
  Claim claim = Plan(account, std::move(placement), bytes, space);
  Commit({claim});
  return claim;
}

void DeviceMemory::Split(Block& block) {
  if (block.is_leaf() || !block.parts.empty()) return;
  for (DeviceId device : block.placement->devices) {
    Block* part = block.owner->NewBlock(block.account, block.space);
    part->device = {Raw(device), Raw(device) + 1};
    part->bytes = block.bytes;
    part->planned = block.planned;
    block.parts.push_back(Claim(part));
  }
  block.bytes = 0;
}

DeviceMemory::Claim DeviceMemory::Alias(absl::Span<const Shard> shards) {
  Block* block = NewBlock(nullptr, Space::kDevice);
  Claim alias(block);
  for (const auto& [claim, shard] : shards) {
    Block* source = claim->block_;
    if (source == nullptr) {
      block->parts.emplace_back();
      continue;
    }
    Split(*source);
    block->parts.push_back(source->parts.empty() ? *claim : source->parts[shard]);
  }
  return alias;
}

void DeviceMemory::Evict(const Watch& block) {
  if (block.block_ != nullptr) Evict(*block.block_, 0, used_.size());
}

void DeviceMemory::Evict(const Watch& block, DeviceId first, DeviceId last) {
  if (block.block_ != nullptr) Evict(*block.block_, Raw(first), Raw(last));
}

void DeviceMemory::Evict(Block& block, int first, int last) {
  for (const Watch& part : block.past_parts) Evict(*part.block_, first, last);
  if (block.claims == 0) return;
  const auto ranges = block.ranges();
  const auto meets = [&](const auto& range) { return range.first < last && first < range.second; };
  const auto within = [&](const auto& range) { return first <= range.first && range.second <= last; };
  if (block.bytes > 0 && std::any_of(ranges.begin(), ranges.end(), meets)) {
    if (!std::all_of(ranges.begin(), ranges.end(), within)) {
      Split(block);
    } else {
      if (!block.planned) Count(block, -block.bytes);
      block.bytes = 0;
      freed_ = true;
    }
  }
  for (const Claim& part : block.parts) {
    if (!part.empty()) Evict(*part.block_, first, last);
  }
}

void DeviceMemory::Resize(const Watch& watch, int64_t bytes) {
  Block* block = watch.block_;
  if (block == nullptr) return;
  bytes = std::clamp<int64_t>(bytes, 0, kMaxBytes);
  for (const Watch& part : block->past_parts) Resize(part, bytes);
  for (const Claim& part : block->parts) Resize(part, bytes);
  if (block->claims == 0 || block->bytes == 0) return;  // gone, split or evicted
  if (!block->planned) Count(*block, bytes - block->bytes);
  freed_ = freed_ || bytes < block->bytes;
  block->bytes = bytes;
}

// ---------------------------------------------------------------- admission

bool DeviceMemory::Fits(const Account& account, const Placement& placement, const Need& need) const {
  if (!IsLimited(account)) return true;
  const int64_t bytes = SaturatingAdd(need.arrays, need.temp);
  return std::all_of(placement.ranges.begin(), placement.ranges.end(), [&](const auto& range) {
    const auto& [first, last] = range;
    if (limited_ > 0 && pressure_.Max(first, last) > -bytes) return false;
    return account.cap_ == 0 || SaturatingAdd(account.used_.Max(first, last), need.arrays) <= account.cap_;
  });
}

void DeviceMemory::Reserve(const Placement& placement, int64_t bytes) {
  if (bytes == 0) return;
  for (const auto& [first, last] : placement.ranges) pressure_.Add(first, last, bytes);
}

std::string DeviceMemory::Holders(DeviceId device) const {
  const Use use = Of(device);
  std::vector<std::string> shown;
  for (const auto& [account, bytes] : use.sessions) {
    if (shown.size() == kHoldersShown) {
      shown.push_back(absl::StrCat("others ", use.sessions.size() - kHoldersShown));
      break;
    }
    shown.push_back(absl::StrCat("session ", Raw(account->id_), " (", account->name_, ") ", Bytes(bytes)));
  }
  return shown.empty() ? "nobody holds any of it now" : absl::StrCat("held now: ", absl::StrJoin(shown, ", "));
}

absl::Status DeviceMemory::NeverFits(const Account& account, const Placement& placement, const Need& need, int64_t kept,
                                     absl::string_view what, Others others) const {
  if (!IsLimited(account)) return absl::OkStatus();
  const auto beside = [kept] { return kept > 0 ? absl::StrCat(" beside its arguments of ", Bytes(kept)) : ""; };
  const int64_t arrays = SaturatingAdd(need.arrays, kept);
  const int64_t bytes = SaturatingAdd(arrays, need.temp);
  for (DeviceId device : placement.devices) {
    const int64_t limit = OrNone(limits_[Raw(device)]);
    const int64_t of_others =
        others == Others::kMayFree ? 0 : std::max<int64_t>(0, used_.At(Raw(device)) - account.On(device));
    if (bytes > limit || of_others > limit - bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(what, " needs ", Bytes(need.arrays + need.temp), " on device ", Raw(device), beside(),
                       ", which has ", Bytes(limit), " in all; ", Holders(device),
                       ". Use more devices or smaller arrays, donate arguments, or let its worker give more "
                       "(--device-memory)"));
    }
    if (account.cap_ > 0 && arrays > account.cap_) {
      return absl::ResourceExhaustedError(
          absl::StrCat(what, " needs ", Bytes(need.arrays), " on device ", Raw(device), beside(),
                       ", and this session may have ", Bytes(account.cap_), " on each device; ", Holders(device),
                       ". Use more devices or smaller arrays, donate arguments, or connect with a larger memory cap"));
    }
  }
  return absl::OkStatus();
}

std::string DeviceMemory::WhyNot(const Account& account, const Placement& placement, const Need& need,
                                 absl::string_view what) const {
  const int64_t bytes = SaturatingAdd(need.arrays, need.temp);
  DeviceId device = placement.devices.front();
  for (DeviceId other : placement.devices) {
    const bool over = limited_ > 0 && pressure_.At(Raw(other)) > -bytes;
    if (!over && (account.cap_ == 0 || account.On(other) + need.arrays <= account.cap_)) continue;
    device = other;
    break;
  }
  const int64_t limit = limits_[Raw(device)];
  const int64_t temp = limit == 0 ? 0 : pressure_.At(Raw(device)) + limit - used_.At(Raw(device));
  return absl::StrCat(what, " needs ", Bytes(bytes), " on device ", Raw(device), ", which has ",
                      limit == 0 ? "no limit" : Bytes(limit), " in all",
                      account.cap_ == 0 ? "" : absl::StrCat(", of which this session may have ", Bytes(account.cap_)),
                      "; ", Holders(device), temp > 0 ? absl::StrCat("; launches under way keep ", Bytes(temp)) : "");
}

int64_t DeviceMemory::Kept(const Placement& placement, absl::Span<const Claim* const> claims) {
  absl::flat_hash_set<const Block*> seen;
  absl::flat_hash_map<int32_t, int64_t> by_device;
  int64_t everywhere = 0;
  const auto add = [&](const Block& block) {
    if (block.bytes == 0 || block.space != Space::kDevice || !seen.insert(&block).second) return;
    int64_t& sum = block.placement != nullptr && block.placement.get() == &placement
                       ? everywhere
                       : by_device[block.ranges().front().first];
    sum = SaturatingAdd(sum, block.bytes);
  };
  for (const Claim* claim : claims) {
    if (claim->empty()) continue;
    add(*claim->block_);
    for (const Claim& part : claim->block_->parts) {
      if (!part.empty()) add(*part.block_);
    }
  }
  int64_t least = std::numeric_limits<int64_t>::max();
  for (DeviceId device : placement.devices) {
    const auto found = by_device.find(Raw(device));
    least = std::min(least, found == by_device.end() ? 0 : found->second);
  }
  return SaturatingAdd(everywhere, least);
}

DeviceMemory::Use DeviceMemory::Of(DeviceId device) const {
  const int at = Raw(device);
  if (at < 0 || at >= used_.size()) return {};
  Use use{.bytes = used_.At(at),
          .peak = used_.Peak(at),
          .limit = limits_[at],
          .elsewhere = elsewhere_.At(at),
          .sessions = {}};
  const auto add = [&](const Account& account) {
    if (const int64_t bytes = account.On(device); bytes > 0) use.sessions.emplace_back(&account, bytes);
  };
  for (const auto& [id, account] : accounts_) add(*account);
  for (const auto& account : closed_) add(*account);
  std::stable_sort(use.sessions.begin(), use.sessions.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return use;
}

}  // namespace causeway
