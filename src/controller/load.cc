#include "controller/load.h"

#include <algorithm>

namespace causeway {
namespace {

// Whether it is over `limit` now, where it was `over` before.
bool IsOver(int64_t value, int64_t limit, bool over) { return over ? value > limit / 2 : value >= limit; }

// Clients choose sizes: so many bytes of an item pass any limit, and no sum of what can be under way overflows.
int64_t Counted(int64_t bytes) { return std::min(bytes, int64_t{1} << 40); }

}  // namespace

void Load::Add(const Item& item) {
  items_over_ = IsOver(++items_, limits_.items, items_over_);
  bytes_over_ = IsOver(bytes_ += Counted(item.bytes), limits_.bytes, bytes_over_);
  host_bytes_over_ = IsOver(host_bytes_ += Counted(item.host_bytes), limits_.host_bytes, host_bytes_over_);
  if (!item.device) return;
  Device& device = devices_[*item.device];
  ++device.launches;
  if (!device.over && IsOver(device.launches, limits_.launches_per_device, false)) {
    device.over = true;
    ++devices_over_;
  }
}

void Load::Remove(const Item& item) {
  items_over_ = IsOver(--items_, limits_.items, items_over_);
  bytes_over_ = IsOver(bytes_ -= Counted(item.bytes), limits_.bytes, bytes_over_);
  host_bytes_over_ = IsOver(host_bytes_ -= Counted(item.host_bytes), limits_.host_bytes, host_bytes_over_);
  if (!item.device) return;
  Device& device = devices_[*item.device];
  --device.launches;
  if (device.over && !IsOver(device.launches, limits_.launches_per_device, true)) {
    device.over = false;
    --devices_over_;
  }
}

}  // namespace causeway
