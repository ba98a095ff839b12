#include "cli/perfetto.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/ids.h"
#include "cli/units.h"

namespace causeway {
namespace {

using Launch = Recording::Launch;
using Request = Recording::Request;
using Span = Recording::Span;
using Transfer = Recording::Transfer;

// Processes of the trace. Those of workers follow by their numbers.
constexpr int64_t kController = 1;
constexpr int64_t kLinks = 2;
constexpr int64_t kFirstWorker = 10;

// Tracks of the controller; those of sessions follow by their numbers.
constexpr int64_t kHandling = 1;
constexpr int64_t kFirstSession = 10;

// Transfers that one link shows beside one another.
constexpr size_t kMaxLanes = 64;

// How long a request is shown: it takes no time, but an arrow needs something to begin at.
constexpr int64_t kRequestNs = 1000;

// Colours that chrome://tracing knows. ui.perfetto.dev knows none: there equal names have equal colours, and digits do
// not count. So a launch is named after its session, with its program as a slice within.
constexpr std::array<const char*, 8> kColours = {
    "thread_state_running", "rail_response", "rail_animation", "cq_build_passed",
    "thread_state_iowait",  "rail_load",     "good",           "startup"};
constexpr char kFailedColour[] = "terrible";

struct Track {
  int64_t process = 0;
  int64_t thread = 0;
  bool operator<(const Track& other) const { return std::tie(process, thread) < std::tie(other.process, other.thread); }
};

// What ui.perfetto.dev makes a colour from.
std::string WithoutDigits(absl::string_view name) {
  std::string rest;
  for (char c : name) {
    if (c < '0' || c > '9') rest += c;
  }
  return rest;
}

// a, b, ..., z, aa, ab, ...
std::string Letters(int n) {
  std::string letters;
  for (; n >= 0; n = n / 26 - 1) letters.insert(letters.begin(), static_cast<char>('a' + n % 26));
  return letters;
}

std::string Quote(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

// Microseconds, to the nanosecond.
std::string Time(int64_t ns) { return absl::StrFormat("%d.%03d", ns / 1000, ns % 1000); }

// Writes events; the first error ends it.
class Writer {
 public:
  explicit Writer(absl::FunctionRef<absl::Status(absl::string_view)> sink) : sink_(sink) {}

  void Raw(absl::string_view text) {
    if (status_.ok()) status_ = sink_(text);
  }

  // `members`: JSON, after those that all events have.
  void Event(char phase, const Track& track, absl::string_view members) {
    Raw(absl::StrCat(first_ ? "\n" : ",\n", "{\"ph\":\"", std::string(1, phase), "\",\"pid\":", track.process,
                     ",\"tid\":", track.thread, ",", members, "}"));
    first_ = false;
  }

  void Name(absl::string_view what, const Track& track, const std::string& name) {
    Event('M', track, absl::StrCat("\"name\":\"", what, "\",\"args\":{\"name\":", Quote(name), "}"));
  }
  void Order(absl::string_view what, const Track& track, int64_t order) {
    Event('M', track, absl::StrCat("\"name\":\"", what, "\",\"args\":{\"sort_index\":", order, "}"));
  }

  void Slice(const Track& track, const Span& span, const std::string& name, const std::string& category,
             absl::string_view colour, absl::string_view arguments) {
    std::string members = absl::StrCat("\"ts\":", Time(span.start), ",\"dur\":", Time(span.end - span.start),
                                       ",\"name\":", Quote(name), ",\"cat\":", Quote(category));
    if (!colour.empty()) absl::StrAppend(&members, ",\"cname\":\"", colour, "\"");
    absl::StrAppend(&members, ",\"args\":{", arguments, "}");
    Event('X', track, members);
  }

  // An arrow from the end of one slice to the beginning of another one; or from as late in the first as can be. Where
  // the clocks are so wrong that it would lead back in time there is none.
  void Arrow(absl::string_view category, const Track& from, const Span& first, const Track& to, const Span& second) {
    const int64_t begin = std::clamp(second.start, first.start, std::max(first.start, first.end - 1));
    const int64_t end = std::max(begin, second.start);
    if (end > second.end) return;
    ++arrows_;
    const std::string members =
        absl::StrCat("\"name\":\"", category, "\",\"cat\":\"", category, "\",\"id\":", arrows_, ",\"ts\":");
    Event('s', from, absl::StrCat(members, Time(begin)));
    Event('f', to, absl::StrCat(members, Time(end), ",\"bp\":\"e\""));
  }

  absl::Status status() const { return status_; }

 private:
  absl::FunctionRef<absl::Status(absl::string_view)> sink_;
  absl::Status status_;
  bool first_ = true;
  int64_t arrows_ = 0;
};

class Page {
 public:
  Page(const Recording& recording, absl::FunctionRef<absl::Status(absl::string_view)> sink)
      : recording_(recording), out_(sink) {
    std::map<std::string, int> alike;
    for (const auto& [session, name] : recording.sessions) {
      const int before = alike[WithoutDigits(name)]++;
      labels_[session] = absl::StrCat(name, " (session ", session, before == 0 ? "" : Letters(before - 1), ")");
    }
  }

  absl::Status Write() {
    out_.Raw("{\"displayTimeUnit\":\"ms\",\"otherData\":");
    out_.Raw(About().dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace));
    out_.Raw(",\"traceEvents\":[");
    NameWorkers();
    WriteHandled();
    WriteRequests();
    WriteLaunches();
    WriteTransfers();
    WriteArrows();
    out_.Raw("\n]}\n");
    return out_.status();
  }

 private:
  static Track TrackOf(const Launch& launch) { return {kFirstWorker + launch.worker, int64_t{1} + launch.device}; }
  static Track TrackOf(const Request& request) {
    return {kController, kFirstSession + int64_t{Raw(SessionOf(ProgramId{request.program}))}};
  }
  static absl::string_view Colour(uint32_t session, bool failed) {
    return failed ? kFailedColour : kColours[session % kColours.size()];
  }

  std::string SessionName(uint32_t session) const {
    const auto found = labels_.find(session);
    if (session == 0) return "nobody's";
    return found == labels_.end() ? absl::StrCat("session ", session) : found->second;
  }
  std::string ProgramName(uint64_t program) const {
    const auto found = recording_.programs.find(program);
    return found == recording_.programs.end() ? absl::StrCat("program ", program & kMaxPerSession) : found->second.name;
  }
  std::string WorkerName(int32_t worker) const {
    if (worker < 0) return "controller";
    const auto found = recording_.workers.find(worker);
    return found == recording_.workers.end() ? absl::StrCat("worker ", worker) : found->second.name();
  }

  // What is to be known of the trace as a whole.
  nlohmann::json About() const {
    const proto::TraceReport::End& end = recording_.end;
    nlohmann::json about = {{"causeway", CAUSEWAY_VERSION},
                            {"complete", recording_.complete},
                            {"events_dropped_by_controller", end.dropped()},
                            {"ended", end.why()},
                            {"workers", nlohmann::json::array()}};
    for (const auto& clock : end.clocks()) {
      about["workers"].push_back({{"name", WorkerName(clock.worker())},
                                  {"clock_offset_us", static_cast<double>(clock.offset_ns()) / 1e3},
                                  {"clock_error_us", static_cast<double>(clock.error_ns()) / 1e3},
                                  {"events_dropped", clock.dropped()},
                                  {"missing", clock.missing()}});
    }
    return about;
  }

  void NameWorkers() {
    out_.Name("process_name", {kController, 0}, "controller");
    out_.Name("process_name", {kLinks, 0}, "links");
    // Devices first: that is what people look at.
    out_.Order("process_sort_index", {kController, 0}, -1);
    out_.Order("process_sort_index", {kLinks, 0}, int64_t{1} << 40);
    for (const auto& [id, worker] : recording_.workers) {
      const int64_t process = kFirstWorker + id;
      out_.Name("process_name", {process, 0}, absl::StrCat("worker ", worker.name(), " of ", worker.island()));
      out_.Order("process_sort_index", {process, 0}, id);
      for (int i = 0; i < worker.devices_size(); ++i) {
        const Track track{process, int64_t{1} + i};
        const int32_t number = worker.devices(i).device();
        out_.Name("thread_name", track,
                  number < 0 ? absl::StrCat("local device ", i, ", ", worker.devices(i).kind())
                             : absl::StrCat("device ", number, ", ", worker.devices(i).kind()));
        out_.Order("thread_sort_index", track, i);
      }
    }
    for (const auto& clock : recording_.end.clocks()) {
      out_.Event(
          'M', {kFirstWorker + clock.worker(), 0},
          absl::StrCat("\"name\":\"process_labels\",\"args\":{\"labels\":",
                       Quote(absl::StrCat("clock within ", Time(std::max<int64_t>(0, clock.error_ns())), " us")), "}"));
    }
  }

  void WriteHandled() {
    const Track track{kController, kHandling};
    out_.Name("thread_name", track, "handling events");
    for (const Recording::Handled& handled : recording_.handled) {
      out_.Slice(track, handled.span, handled.kind, "controller", "", absl::StrCat("\"count\":", handled.count));
    }
  }

  void WriteRequests() {
    std::map<Track, int64_t> last_start;
    spans_.resize(recording_.requests.size());
    // From the last to the first, to know how much room each has.
    for (size_t i = recording_.requests.size(); i-- > 0;) {
      const Request& request = recording_.requests[i];
      const auto [next, only] = last_start.try_emplace(TrackOf(request), request.at);
      const int64_t room = only ? kRequestNs : std::min(kRequestNs, next->second - request.at);
      next->second = request.at;
      spans_[i] = {request.at, request.at + std::min(room, INT64_MAX - request.at)};
      by_mark_[request.mark] = &request;
      if (request.handed_over) by_number_[request.number] = i;
    }
    for (const auto& [track, start] : last_start) {
      out_.Name("thread_name", track,
                absl::StrCat("requests of ", SessionName(static_cast<uint32_t>(track.thread - kFirstSession))));
    }
    for (size_t i = 0; i < recording_.requests.size(); ++i) {
      const Request& request = recording_.requests[i];
      const uint32_t session = Raw(SessionOf(ProgramId{request.program}));
      std::string arguments;
      if (request.handed_over) {
        arguments = absl::StrCat("\"launch\":", request.number,
                                 ",\"handed_over_after_us\":", Time(request.handed_over_at - request.at));
      }
      out_.Slice(TrackOf(request), spans_[i], ProgramName(request.program), "request", Colour(session, false),
                 arguments);
    }
  }

  void WriteLaunches() {
    for (const Launch& launch : recording_.launches) {
      parts_[launch.number].push_back(&launch);
      const uint32_t session = Raw(SessionOf(ProgramId{launch.program}));
      const std::string program = ProgramName(launch.program);
      out_.Slice(TrackOf(launch), launch.span, absl::StrCat(launch.failed ? "FAILED " : "", SessionName(session)),
                 "launch", Colour(session, launch.failed),
                 absl::StrCat("\"program\":", Quote(program), ",\"session\":", session, ",\"launch\":", launch.number,
                              ",\"collectives_sent_bytes\":", launch.worker_bytes,
                              ",\"failed\":", launch.failed ? "true" : "false"));
      out_.Slice(TrackOf(launch), launch.span, program, "program", Colour(session, launch.failed), "");
    }
  }

  // Transfers of one link that overlap get tracks beside one another.
  void WriteTransfers() {
    struct Lanes {
      int64_t first = 0;  // track
      std::vector<int64_t> ends;
    };
    std::map<std::pair<int32_t, int32_t>, Lanes> links;
    for (const Transfer& transfer : recording_.transfers) {
      const auto [link, fresh] = links.try_emplace({transfer.from, transfer.to});
      if (fresh) link->second.first = static_cast<int64_t>(links.size()) * static_cast<int64_t>(kMaxLanes);
      Lanes& lanes = link->second;
      size_t lane = 0;
      while (lane < lanes.ends.size() && lanes.ends[lane] > transfer.span.start) ++lane;
      Span span = transfer.span;
      if (lane == kMaxLanes) {
        lane = std::min_element(lanes.ends.begin(), lanes.ends.end()) - lanes.ends.begin();
        span.start = lanes.ends[lane];
        span.end = std::max(span.start, span.end);
      }
      const Track track{kLinks, lanes.first + static_cast<int64_t>(lane)};
      if (lane == lanes.ends.size()) {
        lanes.ends.push_back(0);
        out_.Name("thread_name", track, absl::StrCat(WorkerName(transfer.from), " to ", WorkerName(transfer.to)));
        out_.Order("thread_sort_index", track, track.thread);
      }
      lanes.ends[lane] = span.end;
      out_.Slice(track, span, absl::StrCat(Bytes(transfer.bytes), " | ", SessionName(transfer.session)), "transfer",
                 Colour(transfer.session, transfer.failed),
                 absl::StrCat("\"bytes\":", transfer.bytes, ",\"session\":", transfer.session,
                              ",\"failed\":", transfer.failed ? "true" : "false"));
    }
  }

  void WriteArrows() {
    for (const auto& [number, parts] : parts_) {
      const auto asked = by_number_.find(number);
      if (asked == by_number_.end()) continue;
      const Request& request = recording_.requests[asked->second];
      for (const Launch* part : parts) {
        out_.Arrow("request", TrackOf(request), spans_[asked->second], TrackOf(*part), part->span);
      }
      for (uint64_t mark : request.producers) {
        const auto producer = by_mark_.find(mark);
        if (producer == by_mark_.end() || !producer->second->handed_over) continue;
        const auto made = parts_.find(producer->second->number);
        if (made == parts_.end()) continue;
        for (const Launch* part : parts) {
          // From the same device where it was made there too. (They are in the order of devices.)
          const auto place = [](const Launch* launch) { return std::pair(launch->worker, launch->device); };
          const auto same = std::lower_bound(made->second.begin(), made->second.end(), part,
                                             [place](const Launch* a, const Launch* b) { return place(a) < place(b); });
          const bool found = same != made->second.end() && place(*same) == place(part);
          const Launch& from = found ? **same : *made->second.front();
          out_.Arrow("data", TrackOf(from), from.span, TrackOf(*part), part->span);
        }
      }
    }
  }

  const Recording& recording_;
  Writer out_;
  std::map<uint32_t, std::string> labels_;  // of sessions
  std::vector<Span> spans_;                 // of requests
  std::unordered_map<uint64_t, const Request*> by_mark_;
  std::unordered_map<uint64_t, size_t> by_number_;
  std::map<uint64_t, std::vector<const Launch*>> parts_;  // by number
};

}  // namespace

absl::Status WritePerfetto(const Recording& recording, absl::FunctionRef<absl::Status(absl::string_view)> sink) {
  return Page(recording, sink).Write();
}

}  // namespace causeway
