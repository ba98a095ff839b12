#include "cli/recording.h"

#include <algorithm>
#include <tuple>

#include "base/saturate.h"

namespace causeway {
namespace {

using Span = Recording::Span;

}  // namespace

void Recorder::Add(const proto::TraceReport& report) {
  if (report.has_begin()) begin_ = report.begin();
  for (const auto& worker : report.workers()) recording_.workers[worker.worker()] = worker;
  for (const auto& program : report.programs()) {
    recording_.programs[program.program()] = {program.name(), program.session()};
    recording_.sessions[program.session()] = program.session_name();
  }
  for (const auto& accepted : report.accepted()) {
    recording_.requests.push_back({.at = accepted.at_ns(),
                                   .mark = accepted.mark(),
                                   .program = accepted.program(),
                                   .producers = {accepted.producers().begin(), accepted.producers().end()}});
  }
  for (const auto& sent : report.handed_over()) handed_over_[sent.mark()] = {sent.number(), sent.at_ns()};
  for (const auto& handled : report.handled()) {
    const int64_t end = SaturatingAdd(handled.start_ns(), std::max<int64_t>(0, handled.total_ns()));
    recording_.handled.push_back({{handled.start_ns(), end}, handled.kind(), handled.count()});
  }
  const int32_t worker = report.worker();
  for (const auto& launch : report.events().launches()) {
    recording_.launches.push_back({{launch.start_ns(), launch.end_ns()},
                                   worker,
                                   launch.device(),
                                   launch.number(),
                                   launch.program(),
                                   launch.worker_bytes(),
                                   launch.failed()});
  }
  for (const auto& transfer : report.events().transfers()) {
    const bool received = transfer.received();
    recording_.transfers.push_back({{transfer.start_ns(), transfer.end_ns()},
                                    received ? transfer.peer() : worker,
                                    received ? worker : transfer.peer(),
                                    transfer.bytes(),
                                    transfer.session(),
                                    transfer.failed(),
                                    worker});
  }
  events_ += report.accepted_size() + report.handed_over_size() + report.handled_size() +
             report.events().launches_size() + report.events().transfers_size();
  if (!report.has_end()) return;
  recording_.complete = true;
  recording_.end = report.end();
}

Recording Recorder::Finish() {
  Recording out = std::move(recording_);
  // To the controller's clock.
  std::map<int32_t, int64_t> offsets;
  for (const auto& clock : out.end.clocks()) offsets[clock.worker()] = clock.offset_ns();
  const auto common = [&offsets](int32_t worker, Span& span) {
    const auto offset = offsets.find(worker);
    if (offset == offsets.end()) return;
    span = {SaturatingSubtract(span.start, offset->second), SaturatingSubtract(span.end, offset->second)};
  };
  for (Recording::Launch& launch : out.launches) common(launch.worker, launch.span);
  for (Recording::Transfer& transfer : out.transfers) common(transfer.said_by, transfer.span);

  // To the first time of all.
  int64_t base = begin_.start_ns();
  for (const auto& launch : out.launches) base = std::min(base, launch.span.start);
  for (const auto& transfer : out.transfers) base = std::min(base, transfer.span.start);
  for (const auto& request : out.requests) base = std::min(base, request.at);
  for (const auto& handled : out.handled) base = std::min(base, handled.span.start);
  out.start_ns = base;
  const auto move = [base](Span& span) {
    span.start = SaturatingSubtract(span.start, base);
    span.end = std::max(span.start, SaturatingSubtract(span.end, base));
  };
  for (auto& launch : out.launches) move(launch.span);
  for (auto& transfer : out.transfers) move(transfer.span);
  for (auto& handled : out.handled) move(handled.span);
  for (auto& request : out.requests) {
    request.at = SaturatingSubtract(request.at, base);
    const auto sent = handed_over_.find(request.mark);
    if (sent == handed_over_.end()) continue;
    request.handed_over = true;
    request.number = sent->second.first;
    request.handed_over_at = std::max(request.at, SaturatingSubtract(sent->second.second, base));
  }

  std::stable_sort(out.launches.begin(), out.launches.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.worker, a.device, a.span.start, a.span.end) <
           std::tuple(b.worker, b.device, b.span.start, b.span.end);
  });
  const auto by_start = [](const auto& a, const auto& b) { return a.span.start < b.span.start; };
  std::stable_sort(out.transfers.begin(), out.transfers.end(), by_start);
  std::stable_sort(out.handled.begin(), out.handled.end(), by_start);
  std::stable_sort(out.requests.begin(), out.requests.end(), [](const auto& a, const auto& b) { return a.at < b.at; });

  // One after the other.
  const auto after = [](Span& span, const Span& before) {
    span.start = std::max(span.start, before.end);
    span.end = std::max(span.start, span.end);
  };
  for (size_t i = 1; i < out.launches.size(); ++i) {
    Recording::Launch& launch = out.launches[i];
    const Recording::Launch& before = out.launches[i - 1];
    if (launch.worker == before.worker && launch.device == before.device) after(launch.span, before.span);
  }
  for (size_t i = 1; i < out.handled.size(); ++i) {
    // What was added up keeps its length.
    const int64_t length = out.handled[i].span.end - out.handled[i].span.start;
    Span& span = out.handled[i].span;
    after(span, out.handled[i - 1].span);
    span.end = SaturatingAdd(span.start, length);
  }
  return out;
}

}  // namespace causeway
