// The launches of a worker: one first-come-first-served queue a device, in the controller's order.
//
// A launch starts when it is at the head of the queues of all its devices, its program is compiled and all its
// arguments are placed (the plugin itself waits for those that are not computed). It leaves the queues when the plugin
// has taken it, so that the next one is handed over while it still runs. Where an argument has failed it does not run:
// its outputs hold that error.
//
// A launch that is stuck, since an argument has no place yet or its program is still being compiled, lets those of
// other sessions pass: what it waits for may be a client that stands still. Within a session nothing passes anything.
//
// A gang's launch is this worker's part of one that has devices on other workers too. Its devices wait for one another
// inside the plugin, each on its own thread, so all workers must start gangs in the same order: that of the controller,
// which no stuck launch makes them leave. A few are handed over before the first has returned, each device's thread
// taking one after the other: the outputs of one may be arguments of the next before this core has heard of them, so
// that no thread waits for the core between two steps of a loop. How a launch ends is told to the collectives engine,
// which ends it on the others.
//
// A gang whose program the plugins of its workers run together keeps its place among the gangs, and is otherwise handed
// over like a launch that is all here: by one call for all of its devices.
//
// One launch at a time may run of those that meet in the plugin's own collectives: these block the plugin's threads,
// and a second one could hold the threads that the first still needs.
//
// Threading: none of its own, as all of the core.
// Cost: O(devices * (arguments + outputs)) a launch.
#ifndef CAUSEWAY_WORKER_LAUNCH_QUEUE_H_
#define CAUSEWAY_WORKER_LAUNCH_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/programs.h"

namespace causeway::worker {

class LaunchQueue {
 public:
  // At most `gangs_ahead` gangs' launches are given to a device's thread before the first of them has returned.
  LaunchQueue(Context& context, Programs& programs, int gangs_ahead)
      : context_(context),
        programs_(programs),
        gangs_ahead_(gangs_ahead),
        queues_(context.devices),
        queued_(context.devices),
        executing_(context.devices, false),
        gangs_executing_(context.devices, 0),
        last_end_(context.devices, absl::InfinitePast()) {}

  // The outputs exist from now on; the arguments are those that have their names now.
  void Launch(const proto::Launch& message);

  void OnCompiled(const Program& program);
  void OnReturned(ExecuteReturned event);
  void OnFinished(const LaunchFinished& event);

  // Launches that have not started end with `why`; the others run on.
  void DropSession(SessionId session, const absl::Status& why);
  void DropAll(const absl::Status& why);

  // Starts what may start. True if anything did, or failed.
  bool Settle();

  // Reports all that is done, in one message.
  void Flush();

  // Launches that have not finished.
  int64_t size() const { return static_cast<int64_t>(launches_.size()); }

 private:
  struct Entry {
    enum class State { kQueued, kExecuting, kRunning };

    LaunchKey key;
    uint64_t number;
    uint64_t origin;
    Life life;
    ProgramRef program;
    ExecuteOptions options;
    State state = State::kQueued;
    int parameters = 0;
    std::vector<BufferRef> arguments;          // by device, then parameter; released once the plugin has them
    std::vector<BufferRef> outputs;            // by device, then output
    std::vector<ArrayId> names;                // of the arguments, by parameter
    std::vector<ArrayId> donated_names;        // of `donated`
    std::vector<BufferRef> donated;            // of the arguments; known once the program is compiled
    absl::InlinedVector<uint64_t, 2> awaited;  // origins of the arguments that were not computed when it started
    bool claimed = false;                      // `donated` is known
    int waiting_for = 0;                       // arguments not placed, or to be taken and still being read
    bool poisoned = false;                     // an argument has failed
    absl::Status refused;                      // the message itself was wrong
    absl::Time started;
    absl::Time inputs_there = absl::InfinitePast();  // when the last argument was computed that was not when it started
    int64_t output_bytes = 0;
    std::vector<int64_t> output_sizes;     // on one device, where they are not what their types say
    std::optional<absl::Status> finished;  // before the plugin returned

    SessionId session() const { return SessionOf(program->id); }
    bool is_gang() const { return program->gang != nullptr; }

    // Each device begins and ends it by itself, on its own thread: a gang's, unless the plugins run it together.
    bool by_device() const { return is_gang() && program->plugin_devices.empty(); }

    // It waits for something, not only for its turn.
    bool waits() const {
      return state == State::kQueued && refused.ok() && !poisoned &&
             (waiting_for > 0 || program->state == Program::State::kCompiling);
    }
  };

  // The launches of a device that may be next: the first one, and as long as all ahead are stuck, those that may pass
  // them.
  absl::InlinedVector<Entry*, 4> Candidates(int device) const;

  // `launch` may not pass `ahead`, which stands before it on some device: both are of one session, or gangs. (Gangs
  // that pass one another here may not do so on another worker, and there each would wait for the other.)
  static bool KeepsBack(const Entry& ahead, const Entry& launch);

  // It waits, or one that it may not pass does, ahead of it on any of its devices.
  bool IsStuck(const Entry& launch) const;

  void Capture(Entry& launch, const proto::Launch& message);
  void Claim(Entry& launch);
  bool TryStart(Entry& launch);

  // It may be given to the threads of all its devices now, as far as other launches are concerned.
  bool IsNext(const Entry& launch) const;

  // How many of its arguments are promised only, but will be there when its turn comes.
  static int HandedOver(const Entry& launch);
  absl::Status ErrorOf(const Entry& launch) const;
  void Start(Entry& launch);
  void Wait(Entry& launch, void (Store::*when)(const BufferRef&, Continuation), const BufferRef& buffer);
  void OnWaited(LaunchKey key, bool ok);
  absl::Duration BusyTime(const Entry& launch);
  void Leave(Entry& launch);
  void End(Entry& launch, const absl::Status& end);
  absl::Status WithFirstOrigin(const Entry& launch, const absl::Status& error);
  void DropIf(const std::function<bool(const Entry&)>& condition, const absl::Status& why);
  void ReportDone(uint64_t number, Life life, const absl::Status& status, absl::Duration run, int64_t output_bytes,
                  const collectives::Traffic& traffic, absl::Span<const int64_t> output_sizes);

  Context& context_;
  Programs& programs_;
  const int gangs_ahead_;
  uint64_t last_key_ = 0;
  absl::flat_hash_map<LaunchKey, std::unique_ptr<Entry>> launches_;
  std::vector<std::deque<Entry*>> queues_;                   // by device: launches that the plugin has not taken
  std::vector<absl::flat_hash_map<SessionId, int>> queued_;  // by device: how many of those each session has
  std::vector<bool> executing_;       // by device: the plugin is being given a launch, that is no gang's
  std::vector<int> gangs_executing_;  // by device: gangs' launches that its thread was given and that have not returned
  std::vector<absl::Time> last_end_;  // by device: of a launch
  std::deque<int> dirty_;             // devices where a launch may be able to start
  bool collective_running_ = false;
  std::vector<int> held_back_;  // devices whose head waits for that
  // What the latest launches failed of, the first origin by their own: the plugin gives the error of an argument to the
  // launches that it has taken, without saying whose it is.
  absl::flat_hash_map<uint64_t, uint64_t> failures_;
  std::deque<uint64_t> failed_;  // oldest first
  proto::ToController done_;     // of done_life_, to be sent
  Life done_life_{0};
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_LAUNCH_QUEUE_H_
