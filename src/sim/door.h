// The clients' side of a simulated controller: tickets that wait for their answers, host data on their way in and out.
//
//   RequestHeader request = door.Ask(session, "wait for 1/7", {.done = [](const absl::Status& status) { ... }});
//   controller.Handle(WaitReady{request, {array}});
//
//   HostBufferId buffer = door.Store(session, {.data = bytes, .aborted = absl::OkStatus()});
//   controller.Handle(PutArray{... HostPiece{buffer, ...} ...});        // the core asks for it by WantHostData
//
// It checks that every ticket is answered once, and by an answer of its kind, that origins are opened as often as
// closed, and that who is held is released. It behaves as src/ifrt does where that matters to the core: data come when
// the client sends them, or break off; what a fetch brought as a stream is received or refused; a closed session sends
// nothing any more.
//
// Threading: none; lives in the world. Outlives controllers: Restart forgets everything of the one before.
#ifndef CAUSEWAY_SIM_DOOR_H_
#define CAUSEWAY_SIM_DOOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/events.h"
#include "sim/controller_process.h"
#include "sim/world.h"

namespace causeway::sim {

// Who is told of the answer to a ticket. Errors go to `done`, whatever the kind.
struct Answers {
  std::function<void(const absl::Status&)> done;
  std::function<void(std::shared_ptr<const ProgramView>)> compiled;
  std::function<void(const std::string& bytes)> fetched;
  std::function<void(const proto::QueryDone&)> answered;
};

// Bytes that a client is going to send.
struct StoredData {
  std::string data;
  absl::Status aborted;  // an error: they break off, with it
  absl::Duration delay = absl::Microseconds(100);
};

class Door final : public ClientActions {
 public:
  explicit Door(World& world) : world_(world) {}

  // Works for this controller from now on; null: there is none.
  void Restart(ControllerProcess* controller);

  // A session's requests are accepted; from Close on it sends no data any more.
  void Open(SessionId session) { open_sessions_.insert(session); }

  RequestHeader Ask(SessionId session, std::string what, Answers answers);
  HostBufferId Store(SessionId session, StoredData data);

  // Everything of the session that is under way ends. Its tickets may still be answered, once.
  void Close(SessionId session);

  // Its client is to ask for nothing more for now.
  bool held(SessionId session) const { return held_.contains(session); }

  // Tickets, stores and fetches that have not come to an end; `what` of each in words.
  std::vector<std::string> Unfinished() const;
  int64_t answers() const { return answers_; }

  void ReplyDone(RequestHeader request, const absl::Status& status) override;
  void ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) override;
  void ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) override;
  void ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) override;
  void WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                    bool in_frame, bool last) override;
  void Throttle(SessionId session, bool hold) override;
  void WorkerDown(WorkerId, const absl::Status&) override {}  // clients look up what they fetch at once: nothing waits
  void OriginOpened(SessionId session, uint64_t origin) override;
  void OriginClosed(SessionId session, uint64_t origin, bool failed) override;

 private:
  class Source;
  class Sink;

  using Key = std::pair<SessionId, Ticket>;
  struct Waiting {
    std::string what;
    Answers answers;
  };
  // One end of a stream between the controller and a worker.
  struct Stream {
    SessionId session;
    WorkerId worker;
    StreamId id;
    bool operator<(const Stream& other) const {
      return std::tie(session, worker, id) < std::tie(other.session, other.worker, other.id);
    }
  };

  // The ticket's entry, which is gone then. Reports a ticket that does not wait; null for those of closed sessions too.
  std::unique_ptr<Waiting> Take(RequestHeader request);
  void Later(std::function<void()> call);
  // The core hears that these host data are here, or that they will not come; it gets those that ride in a frame.
  void Tell(const Stream& stream, absl::StatusOr<std::string> data);

  World& world_;
  ControllerProcess* controller_ = nullptr;
  uint64_t life_ = 0;  // counts controllers
  std::map<Key, Waiting> waiting_;
  std::set<Key> of_closed_;  // tickets of closed sessions that may be answered
  std::set<SessionId> open_sessions_;
  std::map<HostBufferId, std::pair<SessionId, std::shared_ptr<const StoredData>>> stored_;
  std::set<Stream> streams_;
  std::set<SessionId> held_;
  std::map<std::pair<SessionId, uint64_t>, int> origins_;  // how often each is open
  uint64_t last_ticket_ = 0;
  uint64_t last_buffer_ = 0;
  int64_t answers_ = 0;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_DOOR_H_
