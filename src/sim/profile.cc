#include "sim/profile.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway::sim {
namespace {

// Of something that usually takes `usual`: as much, a tenth, or ten times.
absl::Duration Around(Random& random, absl::Duration usual) {
  switch (random.Pick(4)) {
    case 0:
      return usual / 10;
    case 1:
      return usual * 10;
    default:
      return usual;
  }
}

// Nothing half of the time, else up to `most` percent.
double Sometimes(Random& random, int most) {
  return random.Chance(50) ? 0 : static_cast<double>(random.Between(1, most * 10)) / 10;
}

}  // namespace

Profile Profile::Draw(Random& random) {
  Profile profile;
  const auto workers = static_cast<int>(random.Between(1, 4));
  WorkerProcessOptions worker;
  worker.launch_time = Around(random, absl::Microseconds(50));
  worker.compile_time = Around(random, absl::Milliseconds(1));
  worker.callback_delay = Around(random, absl::Microseconds(5));
  worker.core.staging_bytes = random.Chance(50) ? 256 << 10 : int64_t{1} << 30;
  for (int i = 0; i < workers; ++i) {
    worker.name = absl::StrCat("worker", i);
    worker.island = absl::StrCat("island", i / 2);
    worker.devices = static_cast<int>(random.Between(1, 4));
    worker.host_view = random.Chance(50);
    profile.workers.push_back(worker);
  }
  profile.data.delay = Around(random, absl::Microseconds(50));
  profile.data.thread_delay = Around(random, absl::Microseconds(5));
  profile.data.most_in_flight_bytes = random.Chance(50) ? 16 << 10 : 256 << 10;
  profile.data.connections = random.Chance(50) ? 1 : static_cast<int>(random.Between(2, 4));
  profile.link_delay = Around(random, absl::Microseconds(50));
  profile.think_time = Around(random, absl::Microseconds(500));
  profile.max_sessions = static_cast<int>(random.Between(1, 4));
  profile.max_arrays = static_cast<int>(random.Between(5, 60));
  profile.obedient = random.Chance(80);
  if (random.Chance(50)) {
    profile.limits.launches_per_device = random.Between(1, 10);
    profile.limits.items = random.Between(1, 30);
    profile.limits.bytes = random.Between(100, 10'000);
    profile.limits.host_bytes = random.Between(1000, 500'000);
    profile.full_frames = static_cast<int>(random.Between(2, 30));
  }

  profile.scheduling.policy = random.Chance(70) ? Scheduler::Policy::kFair : Scheduler::Policy::kFirstCome;
  profile.scheduling.credits = static_cast<int>(random.Between(1, 5));
  profile.scheduling.ahead = random.Chance(50) ? absl::ZeroDuration() : absl::Milliseconds(1);
  profile.scheduling.sequential = random.Chance(15);

  if (random.Chance(40)) {
    profile.device_memory_bytes = random.Between(100, 200) << random.Between(0, 10);
    profile.memory_wait = absl::Milliseconds(random.Between(10, 5000));
    for (WorkerProcessOptions& options : profile.workers) {
      if (random.Chance(90)) options.device_memory_bytes = profile.device_memory_bytes;
    }
  }

  // put, compile, launch, copy, reshard, alias, errors, delete, destruct, wait, fetch, query, drop program
  profile.weights = {20, 8, 40, 10, 10, 8, 1, 8, 8, 15, 20, 2, 2};
  for (int& weight : profile.weights) {
    if (random.Chance(15)) weight = 0;
    if (random.Chance(15)) weight *= 5;
  }
  // Without these there is nothing to do.
  profile.weights[static_cast<int>(Act::kPut)] += 5;
  profile.weights[static_cast<int>(Act::kDestruct)] += 3;

  profile.mistakes = Sometimes(random, 10);
  profile.bad_data = Sometimes(random, 15);
  profile.bad_programs = Sometimes(random, 30);
  profile.large = Sometimes(random, 20);
  profile.opens = static_cast<double>(random.Between(1, 5));
  profile.closes = Sometimes(random, 3);
  profile.pauses = Sometimes(random, 3);
  if (random.Chance(60)) {
    profile.crashes = Sometimes(random, 3);
    profile.breaks = Sometimes(random, 3);
    profile.stalls = Sometimes(random, 1);
    profile.cuts = Sometimes(random, 4);
    profile.restarts = random.Chance(20) ? 0.5 : 0;
  }
  profile.caps = random.Chance(30);
  return profile;
}

std::string Profile::Describe() const {
  std::vector<int> devices;
  for (const WorkerProcessOptions& worker : workers) devices.push_back(worker.devices);
  return absl::StrCat("workers with [", absl::StrJoin(devices, " "), "] devices",
                      device_memory_bytes > 0 ? absl::StrCat(" of ", device_memory_bytes, " bytes") : "", ", up to ",
                      max_sessions, " sessions of ", max_arrays, " arrays; percent of requests: ", mistakes,
                      " mistakes, ", bad_data, " bad data, ", bad_programs, " bad programs, ", large, " large, ",
                      crashes, " crashes, ", breaks, " broken links, ", stalls, " stalls, ", cuts,
                      " cut data connections, ", restarts, " controller restarts", caps ? "; with caps" : "");
}

}  // namespace causeway::sim
