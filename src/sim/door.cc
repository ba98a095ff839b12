#include "sim/door.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"

namespace causeway::sim {
namespace {

// What a client's stream of bytes advances by, at most.
constexpr int64_t kStepBytes = 48 << 10;

// Of a fetched stream: byte by byte would be fair as well, but take for ever.
int64_t LeastWindow(int64_t total_bytes) { return total_bytes / 50 + 1; }

}  // namespace

// ---------------------------------------------------------------- host data on their way in

// Gives the bytes of one store to one worker, as they come from the client.
class Door::Source final : public StreamSource {
 public:
  Source(Door& door, Stream stream, std::shared_ptr<const StoredData> data)
      : door_(door), stream_(stream), data_(std::move(data)), life_(door.life_) {}

  bool KeepsMemory() const override { return true; }

  absl::Span<const char> Read(int64_t offset, int64_t max_bytes) override {
    const int64_t bytes = std::min(max_bytes, available_ - offset);
    return bytes <= 0 ? absl::Span<const char>() : absl::MakeConstSpan(data_->data).subspan(offset, bytes);
  }

  void OnDone(absl::Status) override {
    done_ = true;
    if (door_.life_ == life_) door_.streams_.erase(stream_);
  }

  // The client sends the next bytes.
  static void Step(const std::shared_ptr<Source>& self) {
    self->door_.world_.After(self->door_.world_.random().Delay(self->data_->delay), [self] {
      Door& door = self->door_;
      if (door.life_ != self->life_) return;
      if (self->done_) return door.Tell(self->stream_, "");
      const auto total = static_cast<int64_t>(self->data_->data.size());
      if (!self->data_->aborted.ok() && self->available_ >= total / 2) {
        door.controller_->data_plane().Cancel(PeerOf(self->stream_.worker), self->stream_.id, self->data_->aborted);
        return door.Tell(self->stream_, self->data_->aborted);
      }
      const int64_t most = self->data_->aborted.ok() ? total : total - 1;
      self->available_ = std::min(most, self->available_ + door.world_.random().Between(1, kStepBytes));
      door.controller_->data_plane().Wake(PeerOf(self->stream_.worker), self->stream_.id);
      if (self->available_ < total) return Step(self);
      door.Tell(self->stream_, "");
    });
  }

 private:
  Door& door_;
  const Stream stream_;
  const std::shared_ptr<const StoredData> data_;
  const uint64_t life_;
  int64_t available_ = 0;
  bool done_ = false;
};

// ---------------------------------------------------------------- fetched data on their way out

// Takes what a fetch brought, a window at a time.
class Door::Sink final : public StreamSink {
 public:
  Sink(Door& door, Stream stream, int64_t total_bytes, Answers answers)
      : door_(door), stream_(stream), bytes_(total_bytes, '\0'), answers_(std::move(answers)), life_(door.life_) {}

  bool TakesAnyOrder() const override { return true; }

  absl::Span<char> Buffer(int64_t offset, int64_t length) override {
    return absl::MakeSpan(bytes_).subspan(offset, door_.world_.random().Between(1, length));
  }

  void OnData(int64_t offset, int64_t length) override {
    if (offset != received_) door_.world_.Fail("fetched bytes come with a gap");
    received_ += length;
    door_.controller_->data_plane().Grant(PeerOf(stream_.worker), stream_.id,
                                          std::max(length, LeastWindow(static_cast<int64_t>(bytes_.size()))));
  }

  void OnDone(absl::Status status) override {
    if (door_.life_ != life_ || door_.streams_.erase(stream_) == 0) return;  // nobody waits for it any more
    if (status.ok() && received_ != static_cast<int64_t>(bytes_.size())) {
      return door_.world_.Fail("a fetch ends before all of its bytes are there");
    }
    door_.Later([answers = std::move(answers_), status, bytes = std::move(bytes_)] {
      if (status.ok()) {
        answers.fetched(bytes);
      } else {
        answers.done(status);
      }
    });
  }

 private:
  Door& door_;
  const Stream stream_;
  std::string bytes_;
  const Answers answers_;
  const uint64_t life_;
  int64_t received_ = 0;
};

// ---------------------------------------------------------------- sessions

void Door::Restart(ControllerProcess* controller) {
  controller_ = controller;
  ++life_;
  waiting_.clear();
  of_closed_.clear();
  open_sessions_.clear();
  stored_.clear();
  streams_.clear();
  held_.clear();
  origins_.clear();
}

void Door::Later(std::function<void()> call) {
  world_.After(world_.random().Delay(absl::Microseconds(2)), [this, life = life_, call = std::move(call)] {
    if (life_ == life) call();
  });
}

RequestHeader Door::Ask(SessionId session, std::string what, Answers answers) {
  const RequestHeader request{session, Ticket{++last_ticket_}};
  world_.Note("session ", session, " asks ", request.ticket, ": ", what);
  waiting_.emplace(Key{session, request.ticket}, Waiting{std::move(what), std::move(answers)});
  return request;
}

HostBufferId Door::Store(SessionId session, StoredData data) {
  const HostBufferId id{++last_buffer_};
  stored_[id] = {session, std::make_shared<const StoredData>(std::move(data))};
  return id;
}

void Door::Close(SessionId session) {
  open_sessions_.erase(session);
  held_.erase(session);
  std::erase_if(origins_, [&](const auto& origin) { return origin.first.first == session; });
  for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
    const auto next = std::next(waiting);
    if (waiting->first.first == session) {
      of_closed_.insert(waiting->first);
      waiting_.erase(waiting);
    }
    waiting = next;
  }
  std::erase_if(stored_, [&](const auto& stored) { return stored.second.first == session; });
  for (auto stream = streams_.begin(); stream != streams_.end();) {
    const auto next = std::next(stream);
    if (stream->session == session) {
      controller_->data_plane().Cancel(PeerOf(stream->worker), stream->id,
                                       absl::CancelledError("the session is closed"));
      streams_.erase(stream);
    }
    stream = next;
  }
}

std::vector<std::string> Door::Unfinished() const {
  std::vector<std::string> open;
  for (const auto& [key, waiting] : waiting_) open.push_back(waiting.what);
  for (const Stream& stream : streams_) open.push_back(absl::StrCat("stream ", Raw(stream.id)));
  for (SessionId session : held_) open.push_back(absl::StrCat("session ", Raw(session), ", which is held"));
  for (const auto& [key, count] : origins_) {
    open.push_back(absl::StrCat("origin ", key.second, " of session ", Raw(key.first)));
  }
  return open;
}

// ---------------------------------------------------------------- answers

std::unique_ptr<Door::Waiting> Door::Take(RequestHeader request) {
  ++answers_;
  const Key key{request.session, request.ticket};
  const auto found = waiting_.find(key);
  if (found == waiting_.end()) {
    if (of_closed_.erase(key) == 0) {
      world_.Fail(absl::StrCat("ticket ", Raw(request.ticket), " of session ", Raw(request.session),
                               " is answered twice, or was never asked"));
    }
    return nullptr;
  }
  auto waiting = std::make_unique<Waiting>(std::move(found->second));
  waiting_.erase(found);
  return waiting;
}

void Door::ReplyDone(RequestHeader request, const absl::Status& status) {
  world_.Note("ticket ", request.ticket, " is done: ", status.message());
  const auto waiting = Take(request);
  if (waiting == nullptr) return;
  const bool of_this_kind = waiting->answers.compiled == nullptr && waiting->answers.fetched == nullptr &&
                            waiting->answers.answered == nullptr;
  // Where the session is not open, nothing else can be said.
  if (!of_this_kind && !absl::IsFailedPrecondition(status)) {
    return world_.Fail(absl::StrCat(waiting->what, " is answered as if it were another request"));
  }
  waiting->answers.done(status);
}

void Door::ReplyCompiled(RequestHeader request, absl::StatusOr<std::shared_ptr<const ProgramView>> program) {
  world_.Note("ticket ", request.ticket, " is compiled: ", program.status().message());
  const auto waiting = Take(request);
  if (waiting == nullptr) return;
  if (!program.ok()) return waiting->answers.done(program.status());
  if (waiting->answers.compiled == nullptr)
    return world_.Fail(absl::StrCat(waiting->what, " is answered by a program"));
  waiting->answers.compiled(*program);
}

void Door::ReplyFetched(RequestHeader request, absl::StatusOr<Fetched> fetched) {
  world_.Note("ticket ", request.ticket, " is fetched: ", fetched.status().message());
  const auto waiting = Take(request);
  if (waiting == nullptr) {
    if (!fetched.ok() || Raw(fetched->worker) < 0) return;
    // As src/ifrt does when the session has gone: the worker must learn that nobody wants the bytes.
    const auto sink = std::make_shared<Sink>(*this, Stream{}, fetched->total_bytes, Answers{});
    controller_->data_plane().Receive(PeerOf(fetched->worker), fetched->stream, fetched->total_bytes, 0, sink);
    controller_->data_plane().Cancel(PeerOf(fetched->worker), fetched->stream, absl::CancelledError("not wanted"));
    return;
  }
  if (!fetched.ok()) return waiting->answers.done(fetched.status());
  if (waiting->answers.fetched == nullptr) return world_.Fail(absl::StrCat(waiting->what, " is answered by data"));
  if (Raw(fetched->worker) < 0) return waiting->answers.fetched(fetched->data);
  const Stream stream{request.session, fetched->worker, fetched->stream};
  const auto sink = std::make_shared<Sink>(*this, stream, fetched->total_bytes, std::move(waiting->answers));
  streams_.insert(stream);
  const int64_t window = world_.random().Between(LeastWindow(fetched->total_bytes), fetched->total_bytes);
  Later([this, stream, total_bytes = fetched->total_bytes, window, sink] {
    if (!streams_.contains(stream)) {
      controller_->data_plane().Receive(PeerOf(stream.worker), stream.id, total_bytes, 0, sink);
      controller_->data_plane().Cancel(PeerOf(stream.worker), stream.id, absl::CancelledError("not wanted"));
      return;
    }
    controller_->data_plane().Receive(PeerOf(stream.worker), stream.id, total_bytes, window, sink);
  });
}

void Door::ReplyQuery(RequestHeader request, absl::StatusOr<proto::QueryDone> answer) {
  world_.Note("ticket ", request.ticket, " is answered: ", answer.status().message());
  const auto waiting = Take(request);
  if (waiting == nullptr) return;
  if (!answer.ok()) return waiting->answers.done(answer.status());
  if (waiting->answers.answered == nullptr) return world_.Fail(absl::StrCat(waiting->what, " is answered as a query"));
  waiting->answers.answered(*answer);
}

void Door::WantHostData(SessionId session, HostBufferId buffer, WorkerId worker, StreamId stream, int64_t total_bytes,
                        bool in_frame, bool last) {
  const auto found = stored_.find(buffer);
  if (found == stored_.end()) return world_.Fail("the core wants host data that nobody stores, or after the last time");
  const std::shared_ptr<const StoredData> data = found->second.second;
  if (last) stored_.erase(found);
  if (static_cast<int64_t>(data->data.size()) != total_bytes) world_.Fail("the core wants other bytes than are stored");
  if (in_frame != (total_bytes <= kInlineBytes)) world_.Fail("host data go by the wrong way");
  const Stream name{session, worker, stream};
  if (in_frame) {
    world_.After(world_.random().Delay(data->delay), [this, life = life_, name, data] {
      if (life_ != life) return;
      if (data->aborted.ok()) return Tell(name, data->data);
      Tell(name, data->aborted);
    });
    return;
  }
  const auto source = std::make_shared<Source>(*this, name, data);
  streams_.insert(name);
  controller_->data_plane().Send(PeerOf(worker), stream, total_bytes, source);
  Source::Step(source);
}

void Door::Tell(const Stream& stream, absl::StatusOr<std::string> data) {
  if (!open_sessions_.contains(stream.session)) return;
  controller_->Handle(HostDataArrived{stream.worker, stream.id, std::move(data)});
}

void Door::Throttle(SessionId session, bool hold) {
  world_.Note("session ", session, hold ? " is held" : " is released");
  const bool changed = hold ? held_.insert(session).second : held_.erase(session) > 0;
  if (!changed) world_.Fail("a session is held or released twice");
}

void Door::OriginOpened(SessionId session, uint64_t origin) { ++origins_[{session, origin}]; }

void Door::OriginClosed(SessionId session, uint64_t origin, bool) {
  if (!open_sessions_.contains(session)) return;  // what it had begun ends all the same
  const auto found = origins_.find({session, origin});
  if (found == origins_.end()) return world_.Fail(absl::StrCat("origin ", origin, " is closed and was not open"));
  if (--found->second == 0) origins_.erase(found);
}

}  // namespace causeway::sim
