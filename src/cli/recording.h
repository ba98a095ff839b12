// What a controller reports of a trace, put together: who did what when, by the controller's clock.
//
//   Recorder recorder;
//   recorder.Add(report);                            // each TraceReport, in order
//   const Recording recording = recorder.Finish();   // then once
//
// Whatever the reports say, no span ends before it begins, none begins before 0, and launches of one device do not
// overlap.
//
// Threading: none of its own.
#ifndef CAUSEWAY_CLI_RECORDING_H_
#define CAUSEWAY_CLI_RECORDING_H_

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proto/control.pb.h"

namespace causeway {

// Times are nanoseconds from the first one on.
struct Recording {
  struct Span {
    int64_t start = 0;
    int64_t end = 0;
  };
  // One device's part of one.
  struct Launch {
    Span span;
    int32_t worker = 0;
    int32_t device = 0;  // on its worker
    uint64_t number = 0;
    uint64_t program = 0;
    int64_t worker_bytes = 0;
    bool failed = false;
  };
  struct Transfer {
    Span span;
    int32_t from = -1;  // worker; -1: the controller
    int32_t to = -1;
    int64_t bytes = 0;
    uint32_t session = 0;
    bool failed = false;
    int32_t said_by = 0;
  };
  // What a client has asked for.
  struct Request {
    int64_t at = 0;
    uint64_t mark = 0;
    uint64_t program = 0;
    std::vector<uint64_t> producers;  // marks
    bool handed_over = false;
    uint64_t number = 0;  // then
    int64_t handed_over_at = 0;
  };
  // What the controller did in a slot of time with one kind of event: their time together, put to its beginning.
  struct Handled {
    Span span;
    std::string kind;
    int64_t count = 0;
  };
  struct Program {
    std::string name;
    uint32_t session = 0;
  };

  std::vector<Launch> launches;     // by worker, device and start
  std::vector<Transfer> transfers;  // by start
  std::vector<Request> requests;    // by time
  std::vector<Handled> handled;     // by start
  std::unordered_map<uint64_t, Program> programs;
  std::map<uint32_t, std::string> sessions;
  std::map<int32_t, proto::TraceReport::Worker> workers;
  proto::TraceReport::End end;
  int64_t start_ns = 0;  // 0 of all times, by the controller's clock
  bool complete = false;
};

class Recorder {
 public:
  void Add(const proto::TraceReport& report);

  // All of it has come.
  bool ended() const { return recording_.complete; }
  int64_t events() const { return events_; }

  Recording Finish();

 private:
  Recording recording_;  // times as they came, of whoever's clock
  proto::TraceReport::Begin begin_;
  std::unordered_map<uint64_t, std::pair<uint64_t, int64_t>> handed_over_;  // by mark: number, and when
  int64_t events_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CLI_RECORDING_H_
