#include "net/message_lanes.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "net/message_reader.h"
#include "net/sockets.h"

namespace causeway {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
// How often it is looked after what waits for a connection.
constexpr absl::Duration kLookAfter = absl::Seconds(1);
// Small messages that wait are put together up to this, so that neither their number costs memory nor each its own
// call.
constexpr size_t kWaitingBytesTogether = 64 << 10;
// What one lane does before the others get their turn.
constexpr int kReadsPerTurn = 16;
constexpr size_t kWrittenBytesPerTurn = 4 << 20;
// Of one message; what has more is put together first.
constexpr size_t kMaxParts = 64;
constexpr uint64_t kWakeNumber = 0;

absl::Status NotKnown() { return absl::UnavailableError("the data plane does not know the peer"); }

}  // namespace

struct MessageLanes::Lane {
  Lane(PeerId peer, std::string address, uint64_t key) : peer(peer), address(std::move(address)), key(key) {}

  const PeerId peer;
  const std::string address;
  const uint64_t key;
  std::atomic<bool> dropped = false;  // set once, under `mutex`

  Mutex mutex;
  int fd ABSL_GUARDED_BY(mutex) = -1;  // changed on the lanes' thread only
  // Lost, but the handler has not been told: until it is, what is sent is lost too.
  bool broken ABSL_GUARDED_BY(mutex) = false;
  absl::Status why ABSL_GUARDED_BY(mutex);
  std::deque<std::string> waiting ABSL_GUARDED_BY(mutex);
  size_t waiting_bytes ABSL_GUARDED_BY(mutex) = 0;
  size_t front_sent ABSL_GUARDED_BY(mutex) = 0;
  bool awaits_writable ABSL_GUARDED_BY(mutex) = false;
  absl::Time waits_since ABSL_GUARDED_BY(mutex);  // of what waits for a connection

  // Touched on the lanes' thread only.
  uint64_t number = 0;  // 0: not attached
  uint64_t attempt = 0;
  MessageReader reader;

  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    waiting.clear();
    waiting_bytes = front_sent = 0;
  }
};

absl::StatusOr<std::shared_ptr<MessageLanes>> MessageLanes::Start(Redial redial, int64_t max_waiting_bytes,
                                                                  absl::Duration patience) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeNumber}};
  if (epoll < 0 || wake < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event) != 0) {
    const int error = errno;
    if (epoll >= 0) close(epoll);
    if (wake >= 0) close(wake);
    return absl::UnavailableError(absl::StrCat("cannot wait for messages: ", strerror(error)));
  }
  return std::shared_ptr<MessageLanes>(new MessageLanes(std::move(redial), max_waiting_bytes, patience, epoll, wake));
}

MessageLanes::MessageLanes(Redial redial, int64_t max_waiting_bytes, absl::Duration patience, int epoll, int wake)
    : redial_(std::move(redial)),
      max_waiting_bytes_(static_cast<size_t>(max_waiting_bytes)),
      patience_(patience),
      epoll_(epoll),
      wake_(wake),
      buffer_(new char[kBufferBytes]),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "data-messages");
}

MessageLanes::~MessageLanes() {
  Stop();
  close(wake_);
  close(epoll_);
}

void MessageLanes::Stop() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(stopping_, true)) return;
  }
  eventfd_write(wake_, 1);
  thread_.join();
  for (const auto& [number, lane] : attached_) {
    MutexLock lock(&lane->mutex);
    lane->broken = true;
    close(std::exchange(lane->fd, -1));
  }
  MutexLock lock(&mutex_);
  for (const Task& task : tasks_) {
    if (task.fd >= 0) close(task.fd);
  }
  tasks_.clear();
}

// ---------------------------------------------------------------- any thread

MessageLanes::LaneRef MessageLanes::Find(PeerId peer) {
  MutexLock lock(&mutex_);
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : found->second;
}

void MessageLanes::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    if (stopping_) {
      if (task.fd >= 0) close(task.fd);
      return;
    }
    // One word about a peer says it all until it is heard.
    if (task.lane == nullptr && !said_lost_.insert(task.peer).second) return;
    tasks_.push_back(std::move(task));
  }
  eventfd_write(wake_, 1);
}

void MessageLanes::SayLost(PeerId peer, absl::Status why) { Post({.peer = peer, .lost = std::move(why)}); }

void MessageLanes::SetPeer(PeerId peer, const std::string& address, uint64_t key) {
  LaneRef before;
  {
    MutexLock lock(&mutex_);
    LaneRef& lane = peers_[peer];
    if (lane != nullptr && lane->address == address && lane->key == key) return;
    before = std::exchange(lane, std::make_shared<Lane>(peer, address, key));
  }
  if (before != nullptr) Drop(before);
}

void MessageLanes::DropPeer(PeerId peer) {
  LaneRef lane;
  {
    MutexLock lock(&mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    lane = std::move(found->second);
    peers_.erase(found);
  }
  Drop(lane);
}

void MessageLanes::DropAll() {
  absl::flat_hash_map<PeerId, LaneRef> peers;
  {
    MutexLock lock(&mutex_);
    peers.swap(peers_);
  }
  for (const auto& [peer, lane] : peers) Drop(lane);
}

void MessageLanes::Drop(const LaneRef& lane) {
  {
    MutexLock lock(&lane->mutex);
    lane->dropped = true;
    lane->broken = true;
    lane->Forget();
  }
  Post({.lane = lane, .peer = lane->peer, .lost = absl::UnavailableError("the peer was dropped from the data plane")});
}

void MessageLanes::Attach(PeerId peer, const std::string& address, uint64_t key, uint64_t attempt, int fd) {
  const LaneRef lane = Find(peer);
  if (lane == nullptr || lane->address != address || lane->key != key) {
    close(fd);
    return;
  }
  TuneForMessages(fd);
  Post({.lane = lane, .fd = fd, .attempt = attempt, .peer = peer});
}

void MessageLanes::Send(PeerId peer, absl::Span<const absl::Span<const char>> parts) {
  size_t bytes = 0;
  for (const absl::Span<const char> part : parts) bytes += part.size();
  if (bytes > static_cast<size_t>(kMaxMessageBytes)) {
    return SayLost(peer, absl::InvalidArgumentError(absl::StrCat("a message of ", bytes, " bytes is too large")));
  }
  const LaneRef lane = Find(peer);
  if (lane == nullptr) return SayLost(peer, NotKnown());

  std::array<char, kMessageHeaderBytes> header;
  WriteMessageHeader(bytes, header.data());
  absl::InlinedVector<iovec, 8> vectors{{header.data(), header.size()}};
  std::string together;
  if (parts.size() > kMaxParts) {
    together.reserve(bytes);
    for (const absl::Span<const char> part : parts) together.append(part.data(), part.size());
    vectors.push_back({together.data(), together.size()});
  } else {
    for (const absl::Span<const char> part : parts) vectors.push_back({const_cast<char*>(part.data()), part.size()});
  }
  const size_t total = header.size() + bytes;

  MutexLock lock(&lane->mutex);
  if (lane->broken) return;
  size_t sent = 0;
  if (lane->fd >= 0 && lane->waiting.empty()) {
    absl::Status why;
    const std::optional<size_t> taken = SendSome(lane->fd, vectors.data(), static_cast<int>(vectors.size()), &why);
    if (!taken.has_value()) return Break(*lane, why);
    sent = *taken;
    if (sent == total) return;
  }
  if (lane->waiting_bytes + total - sent > max_waiting_bytes_) {
    return Break(*lane, absl::ResourceExhaustedError(
                            absl::StrCat("the peer is slow: ", lane->waiting_bytes, " bytes of messages wait for it")));
  }
  Wait(*lane, vectors, sent);
}

void MessageLanes::Wait(Lane& lane, absl::Span<const iovec> parts, size_t skip) {
  std::deque<std::string>& waiting = lane.waiting;
  if (waiting.empty()) lane.waits_since = absl::Now();
  if (waiting.empty() || waiting.back().size() >= kWaitingBytesTogether) waiting.emplace_back();
  for (const iovec& part : parts) {
    const size_t skipped = std::min(skip, part.iov_len);
    skip -= skipped;
    waiting.back().append(static_cast<const char*>(part.iov_base) + skipped, part.iov_len - skipped);
    lane.waiting_bytes += part.iov_len - skipped;
  }
  if (lane.fd >= 0 && !lane.awaits_writable) Arm(lane, true);
}

void MessageLanes::Arm(Lane& lane, bool writable) {
  lane.awaits_writable = writable;
  epoll_event event{.events = writable ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {.u64 = lane.number}};
  (void)epoll_ctl(epoll_, EPOLL_CTL_MOD, lane.fd, &event);
}

void MessageLanes::Break(Lane& lane, absl::Status why) {
  lane.Forget();
  if (lane.fd < 0) return SayLost(lane.peer, std::move(why));
  lane.broken = true;
  lane.why = std::move(why);
  // Its own thread finds the end, after what has come.
  (void)shutdown(lane.fd, SHUT_RDWR);
}

void MessageLanes::SetHandler(MessageHandler* handler) {
  MutexLock lock(&handler_mutex_);
  handler_ = handler;
  if (std::this_thread::get_id() == thread_.get_id()) return;
  while (calling_) called_.Wait(&handler_mutex_);
}

// ---------------------------------------------------------------- the lanes' thread

template <typename Call>
void MessageLanes::WithHandler(const Call& call) {
  MessageHandler* handler;
  {
    MutexLock lock(&handler_mutex_);
    handler = handler_;
    if (handler == nullptr) return;
    calling_ = true;
  }
  call(*handler);
  MutexLock lock(&handler_mutex_);
  calling_ = false;
  called_.SignalAll();
}

void MessageLanes::Run() {
  std::array<epoll_event, 64> events;
  absl::Time look_after = absl::Now() + kLookAfter;
  while (true) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()),
                                 static_cast<int>(kLookAfter / absl::Milliseconds(1)));
    if (absl::Now() >= look_after) {
      GiveUpWaiting();
      look_after = absl::Now() + kLookAfter;
    }
    for (int i = 0; i < count; ++i) {
      const uint64_t number = events[i].data.u64;  // a copy: the events are packed
      if (number == kWakeNumber) {
        {
          MutexLock lock(&mutex_);
          if (stopping_) return;
        }
        RunTasks();
        continue;
      }
      const auto found = attached_.find(number);
      if (found == attached_.end()) continue;  // lost by an event before this
      const LaneRef lane = found->second;
      if ((events[i].events & EPOLLOUT) != 0) Write(lane);
      if (lane->number != 0 && (events[i].events & ~EPOLLOUT) != 0) Read(lane);
    }
  }
}

void MessageLanes::GiveUpWaiting() {
  std::vector<LaneRef> lanes;
  {
    MutexLock lock(&mutex_);
    for (const auto& [peer, lane] : peers_) lanes.push_back(lane);
  }
  const absl::Time since = absl::Now() - patience_;
  for (const LaneRef& lane : lanes) {
    {
      MutexLock lock(&lane->mutex);
      if (lane->fd >= 0 || lane->waiting.empty() || lane->waits_since > since) continue;
      lane->Forget();
    }
    const absl::Status why =
        absl::UnavailableError(absl::StrCat("no connection within ", absl::FormatDuration(patience_)));
    WithHandler([&](MessageHandler& handler) { handler.OnMessagesLost(lane->peer, why); });
  }
}

void MessageLanes::RunTasks() {
  eventfd_t ignored;
  (void)eventfd_read(wake_, &ignored);
  std::vector<Task> tasks;
  {
    MutexLock lock(&mutex_);
    tasks.swap(tasks_);
    said_lost_.clear();
  }
  for (const Task& task : tasks) {
    if (task.fd >= 0) {
      AttachNow(task.lane, task.attempt, task.fd);
    } else if (task.lane != nullptr && task.lane->number != 0) {
      Lose(task.lane, task.lost);
    } else {
      WithHandler([&](MessageHandler& handler) { handler.OnMessagesLost(task.peer, task.lost); });
    }
  }
}

void MessageLanes::AttachNow(const LaneRef& lane, uint64_t attempt, int fd) {
  if (lane->number != 0) Lose(lane, absl::UnavailableError("the peer has connected anew"));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = ++last_number_}};
  if (lane->dropped || epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    close(fd);
    if (!lane->dropped) redial_(lane->peer, attempt);
    return;
  }
  {
    MutexLock lock(&lane->mutex);
    lane->fd = fd;
    lane->number = last_number_;
    lane->attempt = attempt;
    attached_[lane->number] = lane;
  }
  Write(lane);
}

void MessageLanes::Write(const LaneRef& lane) {
  MutexLock lock(&lane->mutex);
  for (size_t turn = 0; !lane->waiting.empty() && turn < kWrittenBytesPerTurn;) {
    const std::string& front = lane->waiting.front();
    const iovec part{const_cast<char*>(front.data()) + lane->front_sent, front.size() - lane->front_sent};
    absl::Status why;
    const std::optional<size_t> sent = SendSome(lane->fd, &part, 1, &why);
    if (!sent.has_value()) return Break(*lane, why);
    if (*sent == 0) break;
    turn += *sent;
    lane->waiting_bytes -= *sent;
    lane->front_sent += *sent;
    if (lane->front_sent == front.size()) {
      lane->waiting.pop_front();
      lane->front_sent = 0;
    }
  }
  if (lane->awaits_writable == lane->waiting.empty()) Arm(*lane, !lane->waiting.empty());
}

void MessageLanes::Read(const LaneRef& lane) {
  int fd;
  {
    MutexLock lock(&lane->mutex);
    fd = lane->fd;
  }
  for (int i = 0; i < kReadsPerTurn; ++i) {
    const absl::Span<char> rest = lane->reader.Rest();
    const std::array<iovec, 2> room{{{rest.data(), rest.size()}, {buffer_.get(), kBufferBytes}}};
    absl::Status why;
    const std::optional<size_t> received =
        rest.empty() ? ReceiveSome(fd, &room[1], 1, &why) : ReceiveSome(fd, room.data(), 2, &why);
    if (!received.has_value()) return Lose(lane, why);
    if (*received == 0) return;
    const size_t most = rest.size() + kBufferBytes;
    const absl::Status breach =
        lane->reader.Filled(*received, {buffer_.get(), kBufferBytes}, [&](absl::Span<const char> message) {
          if (lane->dropped) return false;
          WithHandler([&](MessageHandler& handler) { handler.OnMessage(lane->peer, message); });
          return true;
        });
    if (!breach.ok()) {
      Log(LogLevel::kWarning, absl::StrCat("peer ", static_cast<int>(lane->peer), " at ", lane->address,
                                           " breaks the protocol of messages: ", breach.message()));
      return Lose(lane, absl::UnavailableError(breach.message()));
    }
    if (lane->dropped) return;  // its task is on the way
    if (*received < most) return;
  }
}

void MessageLanes::Lose(const LaneRef& lane, const absl::Status& why) {
  absl::Status said;
  const uint64_t attempt = lane->attempt;
  {
    MutexLock lock(&lane->mutex);
    said = std::exchange(lane->why, absl::OkStatus());
    close(std::exchange(lane->fd, -1));  // leaves the epoll by that
    lane->broken = lane->dropped;
    lane->awaits_writable = false;
    lane->Forget();
    attached_.erase(std::exchange(lane->number, 0));
    lane->reader = MessageReader();
  }
  if (said.ok()) said = why;
  WithHandler([&](MessageHandler& handler) { handler.OnMessagesLost(lane->peer, said); });
  if (!lane->dropped) redial_(lane->peer, attempt);
}

}  // namespace causeway
