#include "cli/trace_command.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "cli/perfetto.h"
#include "cli/recording.h"
#include "cli/shutdown.h"
#include "cli/tool_link.h"
#include "net/io_thread.h"
#include "proto/control_version.h"
#include "proto/status.h"

namespace causeway {
namespace {

// What this process keeps of one trace, some GiB of memory.
constexpr int64_t kMaxRecordedEvents = 16'000'000;

// How long after the recording's end all of it must be here: longer than the controller takes at most.
constexpr absl::Duration kEndPatience = absl::Seconds(30);

// The file to be: there, and of its name, only when it is whole. What is no ordinary file is written as it is.
class Output {
 public:
  explicit Output(std::string path) : path_(std::move(path)) {}
  ~Output() {
    if (file_ != nullptr && file_ != stdout) fclose(file_);
    if (!part_.empty()) unlink(part_.c_str());
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  absl::Status Open() {
    if (path_ == "-") {
      file_ = stdout;
      return absl::OkStatus();
    }
    struct stat info;
    const bool plain = stat(path_.c_str(), &info) != 0 || S_ISREG(info.st_mode);
    std::string name = path_;
    if (plain) absl::StrAppend(&name, ".part", getpid());
    file_ = fopen(name.c_str(), plain ? "wxe" : "we");
    if (file_ == nullptr) return Error("write");
    if (plain) part_ = name;
    return absl::OkStatus();
  }

  absl::Status Write(absl::string_view text) {
    if (fwrite(text.data(), 1, text.size(), file_) == text.size()) return absl::OkStatus();
    return Error("write");
  }

  absl::Status Close() {
    FILE* const file = std::exchange(file_, nullptr);
    if ((file == stdout ? fflush(file) : fclose(file)) != 0) return Error("write");
    if (part_.empty()) return absl::OkStatus();
    if (rename(part_.c_str(), path_.c_str()) != 0) return Error("write");
    part_.clear();
    return absl::OkStatus();
  }

 private:
  absl::Status Error(absl::string_view what) const {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " the trace to ", path_ == "-" ? "stdout" : path_,
                                                   " (-o names the file)"));
  }

  const std::string path_;
  std::string part_;
  FILE* file_ = nullptr;
};

// Asks a controller for a trace, and keeps what it reports.
class Tracer final : public ToolLink {
 public:
  using ToolLink::ToolLink;

  void OnFrame(std::string frame) override {
    proto::ToWorker message;
    if (!message.ParseFromString(frame) || !(message.has_goodbye() || message.has_trace_report())) {
      return Finish(absl::InternalError("what answers there is no Causeway controller of this release"));
    }
    if (message.has_goodbye()) return Finish(FromProto(message.goodbye().status()));
    bool ended = false;
    {
      MutexLock lock(&mu_);
      begun_ = true;
      recorder_.Add(message.trace_report());
      ended = recorder_.ended();
    }
    if (ended) Finish(absl::OkStatus());
  }
  void OnClosed(absl::Status why) override {
    Finish(absl::UnavailableError(
        absl::StrCat("the controller has gone away: ", why.ok() ? "the link was closed" : why.message())));
  }

  // Ends the recording early.
  void Stop() {
    proto::ToController message;
    message.mutable_trace_request()->set_stop(true);
    Send(message.SerializeAsString());
  }

  struct Progress {
    bool begun = false;
    int64_t events = 0;
    std::optional<absl::Status> result;  // it is over
  };
  Progress Look() {
    MutexLock lock(&mu_);
    return {begun_, recorder_.events(), result_};
  }

  // Once the link's thread has ended.
  Recording Take() {
    MutexLock lock(&mu_);
    return recorder_.Finish();
  }

 private:
  void Fail(const absl::Status& why) override { Finish(why); }
  void Finish(const absl::Status& result) {
    MutexLock lock(&mu_);
    if (!result_) result_ = result;
  }

  Mutex mu_;
  bool begun_ ABSL_GUARDED_BY(mu_) = false;
  Recorder recorder_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mu_);
};

// Says on stderr how far it is: on a terminal all the time, on one line.
class Reporter {
 public:
  void Say(const std::string& text) {
    if (!terminal_) return;
    fprintf(stderr, "\r\x1b[K%s", text.c_str());
    fflush(stderr);
  }
  // For programs that wait for it.
  void SayBegun(const std::string& text) {
    if (!terminal_) fprintf(stderr, "%s\n", text.c_str());
  }
  void SayLast(const std::string& text) { fprintf(stderr, terminal_ ? "\r\x1b[K%s\n" : "%s\n", text.c_str()); }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
};

// Waits for the end. Returns why there is not all of it; OK: there is.
absl::Status Watch(Tracer& tracer, const TraceFlags& flags, Shutdown& shutdown, Reporter& reporter) {
  const absl::Time asked = absl::Now();
  std::optional<absl::Time> begun;
  int stops = 0;
  while (true) {
    const std::string signal = shutdown.WaitFor(absl::Milliseconds(50), /*exit_with_stdin=*/false);
    const Tracer::Progress progress = tracer.Look();
    if (progress.result) return *progress.result;
    const absl::Time now = absl::Now();
    if (progress.begun && !begun) {
      begun = now;
      reporter.SayBegun(absl::StrFormat("recording for %g s", flags.seconds));
    }
    const bool full = progress.events > kMaxRecordedEvents;
    if (stops == 0 && full) reporter.SayLast(absl::StrCat(progress.events, " events: that is enough"));
    if (!signal.empty() || (full && stops == 0)) {
      if (++stops > 1 || !begun) return absl::CancelledError("broken off");
      tracer.Stop();
    }
    if (!begun) {
      if (now - asked > absl::Seconds(flags.timeout_s)) {
        return absl::DeadlineExceededError(
            absl::StrCat("no answer within ", absl::FormatDuration(absl::Seconds(flags.timeout_s))));
      }
      continue;
    }
    const absl::Duration time = absl::Seconds(flags.seconds);
    if (now - *begun > time + kEndPatience)
      return absl::DeadlineExceededError("the controller does not come to an end");
    if (stops > 0 || now - *begun > time) {
      reporter.Say(absl::StrCat("fetching what was recorded: ", progress.events, " events"));
    } else {
      reporter.Say(absl::StrFormat("recording: %.1f of %.1f s, %d events; Ctrl-C ends it and writes the file",
                                   absl::ToDoubleSeconds(now - *begun), flags.seconds, progress.events));
    }
  }
}

std::string Summary(const Recording& recording, const std::string& output) {
  std::string text = absl::StrCat(recording.launches.size(), " launches on devices, ", recording.transfers.size(),
                                  " transfers, ", recording.requests.size(), " requests in ",
                                  output == "-" ? "stdout" : output, ": open it at https://ui.perfetto.dev");
  int64_t dropped = recording.end.dropped();
  for (const auto& clock : recording.end.clocks()) {
    dropped += clock.dropped();
    if (!clock.missing().empty()) absl::StrAppend(&text, "\nworker ", clock.worker(), ": ", clock.missing());
  }
  if (dropped > 0) absl::StrAppend(&text, "\n", dropped, " events found no room and are missing");
  return text;
}

}  // namespace

absl::Status RunTrace(const TraceFlags& flags) {
  ASSIGN_OR_RETURN(const std::string token, ReadToken(flags.token_file));
  if (flags.output == "-" && isatty(STDOUT_FILENO) == 1) {
    return absl::InvalidArgumentError("a trace is nothing for a terminal: -o FILE, or redirect stdout");
  }
  Output output(flags.output);
  RETURN_IF_ERROR(output.Open());
  Shutdown shutdown;
  Reporter reporter;
  proto::ToController message;
  proto::TraceRequest& request = *message.mutable_trace_request();
  request.set_version(kControlVersion);
  request.set_token(token);
  request.set_duration_ms(std::max<int64_t>(1, static_cast<int64_t>(flags.seconds * 1000)));
  Tracer tracer(message.SerializeAsString());
  absl::Status watched;
  {
    IoThread io("trace");
    tracer.Dial(&io, flags.control_address, absl::Seconds(flags.timeout_s));
    watched = Watch(tracer, flags, shutdown, reporter);
    // The thread ends here, before the handler that it calls.
  }
  if (!tracer.Look().begun) {
    if (watched.code() != absl::StatusCode::kUnavailable && watched.code() != absl::StatusCode::kDeadlineExceeded) {
      return watched;
    }
    return absl::Status(watched.code(), absl::StrCat(watched.message(), " (is a controller running at ",
                                                     flags.control_address, "? --controller says where it is)"));
  }
  const Recording recording = tracer.Take();
  RETURN_IF_ERROR(WritePerfetto(recording, [&output](absl::string_view text) { return output.Write(text); }));
  RETURN_IF_ERROR(output.Close());
  reporter.SayLast(Summary(recording, flags.output));
  if (watched.ok()) return watched;
  return absl::Status(watched.code(), absl::StrCat(watched.message(), ": what came before that is written"));
}

}  // namespace causeway
