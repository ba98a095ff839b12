#include "cli/top_page.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/saturate.h"
#include "base/utf8.h"
#include "cli/units.h"

namespace causeway {
namespace {

using Status = proto::ClusterStatus;
using Share = std::optional<double>;  // of 1; nothing: it cannot be said

struct SessionUse {
  const Status::Session* session = nullptr;
  Share now;
  Share ever;
  std::optional<double> launches_per_s;
};

struct Holder {
  uint32_t session = 0;
  std::string name;
  int64_t bytes = 0;
  Share busy;
};

struct DeviceUse {
  const Status::DeviceStatus* device = nullptr;
  const Status::Worker* worker = nullptr;
  std::string island;
  Share busy;
  std::vector<Holder> holders;  // the one that used it most first
};

struct Use {
  double seconds = 0;
  int workers = 0;
  int alive = 0;
  std::vector<SessionUse> sessions;
  std::vector<DeviceUse> devices;
};

// What was counted between; counters that went back began anew.
double Grown(int64_t before, int64_t now) {
  if (now < before || before < 0) before = 0;
  return static_cast<double>(std::max<int64_t>(0, now)) - static_cast<double>(before);
}

Share Ratio(double part, double whole) {
  if (!(whole > 0)) return std::nullopt;
  return std::max(0.0, part) / whole;
}

struct Counters {
  std::map<uint32_t, const Status::Session*> sessions;
  std::map<int32_t, const Status::DeviceStatus*> devices;
};

Counters Index(const Status& status) {
  Counters counters;
  for (const auto& session : status.sessions()) counters.sessions[session.session()] = &session;
  for (const auto& island : status.islands()) {
    for (const auto& worker : island.workers()) {
      for (const auto& device : worker.devices()) counters.devices[device.device()] = &device;
    }
  }
  return counters;
}

template <typename Key, typename Value>
const Value& Of(const std::map<Key, const Value*>& map, Key key) {
  const auto found = map.find(key);
  return found == map.end() ? Value::default_instance() : *found->second;
}

// Of a controller that has limits of device memory and says them.
template <typename Device>
int64_t LimitOf(const Device& device) {
  if constexpr (requires { device.limit_bytes(); }) return device.limit_bytes();
  return 0;
}

int64_t BusyOf(const Status::DeviceStatus& device, uint32_t session) {
  for (const auto& share : device.shares()) {
    if (share.session() == session) return share.busy_us();
  }
  return 0;
}

Use Compare(const Status& earlier, const Status& now) {
  // A controller that was started meanwhile counts from the beginning.
  const bool same = earlier.uptime_ms() <= now.uptime_ms();
  const Status& before = same ? earlier : Status::default_instance();
  Use use;
  use.seconds = Grown(before.uptime_ms(), now.uptime_ms()) / 1e3;
  const Counters then = Index(before);
  const Counters names = Index(now);

  double used_now = 0;
  double used_ever = 0;
  for (const auto& session : now.sessions()) {
    used_now += Grown(Of(then.sessions, session.session()).device_us(), session.device_us());
    used_ever += Grown(0, session.device_us());
  }
  for (const auto& session : now.sessions()) {
    const Status::Session& old = Of(then.sessions, session.session());
    SessionUse& row = use.sessions.emplace_back();
    row.session = &session;
    row.now = Ratio(Grown(old.device_us(), session.device_us()), used_now);
    row.ever = Ratio(Grown(0, session.device_us()), used_ever);
    row.launches_per_s = Ratio(Grown(old.launches(), session.launches()), use.seconds);
  }
  for (const auto& island : now.islands()) {
    for (const auto& worker : island.workers()) {
      ++use.workers;
      use.alive += worker.alive() ? 1 : 0;
      for (const auto& device : worker.devices()) {
        const Status::DeviceStatus& old = Of(then.devices, device.device());
        DeviceUse& row = use.devices.emplace_back();
        row.device = &device;
        row.worker = &worker;
        row.island = island.name();
        const double us = use.seconds * 1e6;
        row.busy = Ratio(Grown(old.busy_us(), device.busy_us()), us);
        for (const auto& share : device.shares()) {
          row.holders.push_back({share.session(), Of(names.sessions, share.session()).name(), share.bytes(),
                                 Ratio(Grown(BusyOf(old, share.session()), share.busy_us()), us)});
        }
        std::stable_sort(row.holders.begin(), row.holders.end(),
                         [](const Holder& a, const Holder& b) { return a.busy.value_or(0) > b.busy.value_or(0); });
      }
    }
  }
  return use;
}

std::string Percent(const Share& share) { return share ? absl::StrFormat("%.1f %%", *share * 100) : "-"; }

// Launches are counted when they end, so one that is longer than the interval counts more than there was.
std::string BusyText(const Share& busy) { return Percent(busy ? std::min(*busy, 1.0) : busy); }

std::string MemoryText(const Status::DeviceStatus& device) {
  const int64_t limit = LimitOf(device);
  return limit > 0 ? absl::StrCat(Bytes(device.bytes()), " of ", Bytes(limit)) : Bytes(device.bytes());
}

std::string HolderText(const Holder& holder) {
  std::string text = absl::StrCat(PrintableUtf8(holder.name), " (", holder.session, ") ", Bytes(holder.bytes));
  if (holder.busy.value_or(0) > 0) absl::StrAppend(&text, " ", BusyText(holder.busy));
  return text;
}

// The line as far as `columns` go, whole characters only.
std::string_view Cut(std::string_view line, int columns) {
  int seen = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(line[i]) & 0xc0) != 0x80;
    if (begins && ++seen > columns) return line.substr(0, i);
  }
  return line;
}

std::string Fit(const std::string& page, int columns, int rows) {
  std::vector<std::string> lines = absl::StrSplit(page, '\n');
  lines.pop_back();  // after the last newline
  if (rows > 1 && static_cast<int>(lines.size()) > rows) {
    const size_t more = lines.size() - static_cast<size_t>(rows) + 1;
    lines.resize(static_cast<size_t>(rows) - 1);
    lines.push_back(absl::StrCat("... ", more, " more lines"));
  }
  std::string out;
  for (const std::string& line : lines) {
    out += columns > 0 ? Cut(line, columns) : std::string_view(line);
    out += '\n';
  }
  return out;
}

nlohmann::json Json(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json();
}

}  // namespace

std::string TopPage(const Status& before, const Status& now, int columns, int rows) {
  const Use use = Compare(before, now);
  std::string out = absl::StrFormat("%d devices, %d of %d workers up, %d sessions; clients at %s; the last %.1f s\n",
                                    use.devices.size(), use.alive, std::max(use.workers, now.expected_workers()),
                                    use.sessions.size(), PrintableUtf8(now.client_address()), use.seconds);
  if (!use.sessions.empty()) {
    absl::StrAppendFormat(&out, "\n%7s %-20s %6s %8s %8s %10s %8s %9s %6s %9s %10s\n", "session", "name", "weight",
                          "share", "in all", "launches/s", "queued", "in flight", "place", "waits", "memory");
  }
  for (const SessionUse& row : use.sessions) {
    const Status::Session& session = *row.session;
    const bool queued = session.queued() > 0;
    absl::StrAppendFormat(&out, "%7d %-20s %6s %8s %8s %10s %8d %9d %6s %9s %10s\n", session.session(),
                          Cut(PrintableUtf8(session.name()), 20),
                          session.weight() > 0 ? absl::StrFormat("%.4g", session.weight()) : "-", Percent(row.now),
                          Percent(row.ever), row.launches_per_s ? absl::StrFormat("%.1f", *row.launches_per_s) : "-",
                          session.queued(), session.in_flight(),
                          !queued ? "-" : (session.place() <= 0 ? "next" : absl::StrCat(session.place())),
                          queued ? Microseconds(session.expected_wait_us()) : "-", Bytes(session.array_bytes()));
  }
  size_t memory_width = 10;
  for (const DeviceUse& row : use.devices) memory_width = std::max(memory_width, MemoryText(*row.device).size());
  if (!use.devices.empty()) {
    absl::StrAppendFormat(&out, "\n%7s %-20s %-10s %8s %8s %9s %*s  %s\n", "device", "worker", "kind", "busy",
                          "credits", "in flight", static_cast<int>(memory_width), "memory", "held by");
  }
  for (const DeviceUse& row : use.devices) {
    const Status::DeviceStatus& device = *row.device;
    std::vector<std::string> holders;
    for (const Holder& holder : row.holders) holders.push_back(HolderText(holder));
    absl::StrAppendFormat(
        &out, "%7d %-20s %-10s %8s %8s %9d %*s  %s\n", device.device(), Cut(PrintableUtf8(row.worker->name()), 20),
        Cut(PrintableUtf8(device.kind()), 10), row.worker->alive() ? BusyText(row.busy) : "LOST",
        device.credits() > 0 ? absl::StrCat(device.credits_in_flight(), "/", device.credits()) : "-",
        device.launches_in_flight(), static_cast<int>(memory_width), MemoryText(device), absl::StrJoin(holders, ", "));
  }
  return Fit(out, columns, rows);
}

std::string TopJson(const Status& before, const Status& now) {
  const Use use = Compare(before, now);
  nlohmann::json out = {{"interval_s", use.seconds},
                        {"workers", use.workers},
                        {"workers_alive", use.alive},
                        {"sessions", nlohmann::json::array()},
                        {"devices", nlohmann::json::array()}};
  for (const SessionUse& row : use.sessions) {
    const Status::Session& session = *row.session;
    out["sessions"].push_back({{"session", session.session()},
                               {"name", session.name()},
                               {"weight", Json(session.weight())},
                               {"share", Json(row.now)},
                               {"share_in_all", Json(row.ever)},
                               {"device_us", session.device_us()},
                               {"launches", session.launches()},
                               {"launches_per_s", Json(row.launches_per_s)},
                               {"queued", session.queued()},
                               {"in_flight", session.in_flight()},
                               {"place", session.place()},
                               {"expected_wait_us", Json(session.expected_wait_us())},
                               {"memory_bytes", session.array_bytes()}});
  }
  for (const DeviceUse& row : use.devices) {
    const Status::DeviceStatus& device = *row.device;
    nlohmann::json holders = nlohmann::json::array();
    for (const Holder& holder : row.holders) {
      holders.push_back({{"session", holder.session},
                         {"name", holder.name},
                         {"memory_bytes", holder.bytes},
                         {"busy", Json(holder.busy)}});
    }
    out["devices"].push_back({{"device", device.device()},
                              {"worker", row.worker->name()},
                              {"island", row.island},
                              {"alive", row.worker->alive()},
                              {"kind", device.kind()},
                              {"busy", Json(row.busy)},
                              {"credits_in_flight", device.credits_in_flight()},
                              {"credits", device.credits()},
                              {"launches_in_flight", device.launches_in_flight()},
                              {"memory_bytes", device.bytes()},
                              {"memory_limit_bytes", LimitOf(device)},
                              {"held_by", std::move(holders)}});
  }
  return out.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace causeway
