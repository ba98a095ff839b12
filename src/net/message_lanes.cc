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
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "net/little_endian.h"
#include "net/sockets.h"

namespace causeway {
namespace {

constexpr size_t kHeaderBytes = 8;
constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kMaxParts = 64;
constexpr int kMaxEvents = 64;
constexpr uint64_t kWakeToken = 0;
constexpr absl::Duration kLookAfter = absl::Seconds(1);

void Watch(int epoll, int operation, int fd, uint64_t token, bool writes) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (writes) event.events |= EPOLLOUT;
  event.data.u64 = token;
  epoll_ctl(epoll, operation, fd, &event);
}

}  // namespace

struct MessageLanes::Lane {
  explicit Lane(PeerId id) : peer(id) {}

  const PeerId peer;

  Mutex mu;
  int fd ABSL_GUARDED_BY(mu) = -1;  // closed by the thread only, so that it can read without the lock
  uint64_t token ABSL_GUARDED_BY(mu) = 0;
  std::string waiting ABSL_GUARDED_BY(mu);  // bytes; the first `written` of them are out
  size_t written ABSL_GUARDED_BY(mu) = 0;
  absl::Time waits_since ABSL_GUARDED_BY(mu);  // for a connection
  absl::Status broken ABSL_GUARDED_BY(mu);     // the thread is to close it

  // Of the thread.
  std::string partial;  // bytes of a message that has not come as a whole
  std::function<void()> on_lost;
};

MessageLanes::MessageLanes(absl::Duration patience)
    : patience_(patience), epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  buffer_.resize(kReadBytes);
  Watch(epoll_, EPOLL_CTL_ADD, wake_, kWakeToken, /*writes=*/false);
  thread_ = std::thread([this] { Work(); });
  pthread_setname_np(thread_.native_handle(), "data-messages");
}

MessageLanes::~MessageLanes() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  Post([] {});
  thread_.join();
  for (const auto& [peer, lane] : lanes_) CloseFd(*lane);
  close(wake_);
  close(epoll_);
}

void MessageLanes::SetHandler(MessageHandler* handler) {
  MutexLock lock(&handler_mu_);
  handler_ = handler;
}

MessageLanes::LaneRef MessageLanes::Find(PeerId peer) {
  MutexLock lock(&mu_);
  const auto found = lanes_.find(peer);
  return found == lanes_.end() ? nullptr : found->second;
}

void MessageLanes::Post(std::function<void()> task) {
  {
    MutexLock lock(&mu_);
    tasks_.push_back(std::move(task));
  }
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof(one));
}

void MessageLanes::Know(PeerId peer) {
  MutexLock lock(&mu_);
  LaneRef& lane = lanes_[peer];
  if (lane == nullptr) lane = std::make_shared<Lane>(peer);
}

void MessageLanes::Forget(PeerId peer, const absl::Status& why) {
  LaneRef lane;
  {
    MutexLock lock(&mu_);
    const auto found = lanes_.find(peer);
    if (found == lanes_.end()) return;
    lane = std::move(found->second);
    lanes_.erase(found);
  }
  Post([this, lane, why] { Lose(lane, why, /*tell_owner=*/false); });
}

void MessageLanes::Attach(PeerId peer, int fd, std::function<void()> on_lost) {
  Post([this, peer, fd, on_lost = std::move(on_lost)]() mutable {
    const LaneRef lane = Find(peer);
    if (lane == nullptr) {
      close(fd);
      return;
    }
    bool had_one = false;
    {
      MutexLock lock(&lane->mu);
      had_one = lane->fd >= 0;
    }
    if (had_one) Lose(lane, absl::UnavailableError("the peer has connected anew"), /*tell_owner=*/false);
    uint64_t token = 0;
    {
      MutexLock lock(&mu_);
      token = ++last_token_;
      by_token_[token] = lane;
    }
    lane->on_lost = std::move(on_lost);
    {
      MutexLock lock(&lane->mu);
      lane->fd = fd;
      lane->token = token;
      Watch(epoll_, EPOLL_CTL_ADD, fd, token, !lane->waiting.empty());
    }
  });
}

void MessageLanes::Send(PeerId peer, absl::Span<const absl::Span<const char>> parts) {
  const LaneRef lane = Find(peer);
  if (lane == nullptr) {
    return Post([this, peer] { TellLost(peer, absl::UnavailableError("the data plane does not know the peer")); });
  }
  std::array<char, kHeaderBytes> header;
  std::array<iovec, kMaxParts + 1> io;
  size_t total = 0;
  int count = 1;
  for (absl::Span<const char> part : parts) {
    if (part.empty()) continue;
    total += part.size();
    if (count <= static_cast<int>(kMaxParts)) io[count] = {const_cast<char*>(part.data()), part.size()};
    ++count;
  }
  StoreLittleEndian<uint32_t>(static_cast<uint32_t>(total), header.data());
  StoreLittleEndian<uint32_t>(0, header.data() + 4);
  io[0] = {header.data(), header.size()};
  const size_t bytes = total + header.size();

  MutexLock lock(&lane->mu);
  if (!lane->broken.ok()) return;
  if (total == 0 || total > kMaxMessageBytes || count > static_cast<int>(kMaxParts) + 1) {
    lane->broken = absl::InvalidArgumentError(absl::StrCat("a message of ", total, " bytes in ", count - 1, " parts"));
  }
  size_t sent = 0;
  if (lane->broken.ok() && lane->fd >= 0 && lane->waiting.empty()) {
    absl::Status why;
    const std::optional<size_t> some = SendSome(lane->fd, io.data(), count, &why);
    if (some.has_value()) {
      sent = *some;
    } else {
      lane->broken = why;
    }
  }
  if (lane->broken.ok() && sent == bytes) return;
  if (lane->waiting.size() - lane->written + bytes > static_cast<size_t>(kMaxWaitingMessageBytes)) {
    lane->broken.Update(absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxWaitingMessageBytes, " bytes of messages wait for a peer that does not read")));
  }
  if (!lane->broken.ok()) {
    return Post([this, lane, why = lane->broken] { Lose(lane, why, /*tell_owner=*/true); });
  }
  if (lane->waiting.empty()) {
    lane->waits_since = absl::Now();
    if (lane->fd >= 0) Watch(epoll_, EPOLL_CTL_MOD, lane->fd, lane->token, /*writes=*/true);
  }
  for (int i = 0; i < count; ++i) {
    const size_t skip = std::min(sent, io[i].iov_len);
    sent -= skip;
    lane->waiting.append(static_cast<const char*>(io[i].iov_base) + skip, io[i].iov_len - skip);
  }
}

// ---------------------------------------------------------------- the thread

void MessageLanes::Work() {
  std::array<epoll_event, kMaxEvents> events;
  absl::Time look_after = absl::Now() + kLookAfter;
  while (true) {
    const int ready =
        epoll_wait(epoll_, events.data(), kMaxEvents, static_cast<int>(kLookAfter / absl::Milliseconds(1)));
    for (int i = 0; i < ready; ++i) {
      const uint64_t token = events[i].data.u64;
      if (token == kWakeToken) {
        uint64_t count = 0;
        (void)!read(wake_, &count, sizeof(count));
        continue;
      }
      LaneRef lane;
      {
        MutexLock lock(&mu_);
        const auto found = by_token_.find(token);
        if (found == by_token_.end()) continue;
        lane = found->second;
      }
      if ((events[i].events & EPOLLOUT) != 0) OnWritable(lane);
      if ((events[i].events & ~EPOLLOUT) != 0) OnReadable(lane);
    }
    RunTasks();
    {
      MutexLock lock(&mu_);
      if (stopping_) return;
    }
    if (absl::Now() >= look_after) {
      GiveUpWaiting();
      look_after = absl::Now() + kLookAfter;
    }
  }
}

void MessageLanes::RunTasks() {
  std::vector<std::function<void()>> tasks;
  {
    MutexLock lock(&mu_);
    tasks.swap(tasks_);
    if (stopping_) return;
  }
  for (const auto& task : tasks) task();
}

void MessageLanes::OnReadable(const LaneRef& lane) {
  int fd = -1;
  {
    MutexLock lock(&lane->mu);
    fd = lane->fd;
  }
  if (fd < 0) return;
  const iovec room{buffer_.data(), buffer_.size()};
  absl::Status why;
  const std::optional<size_t> received = ReceiveSome(fd, &room, 1, &why);
  if (!received.has_value()) return Lose(lane, why, /*tell_owner=*/true);
  absl::Span<const char> bytes(buffer_.data(), *received);
  const bool was_empty = lane->partial.empty();
  if (!was_empty) {
    lane->partial.append(bytes.data(), bytes.size());
    bytes = lane->partial;
  }
  while (bytes.size() >= kHeaderBytes) {
    const auto length = LoadLittleEndian<uint32_t>(bytes.data());
    if (length == 0 || length > kMaxMessageBytes || LoadLittleEndian<uint32_t>(bytes.data() + 4) != 0) {
      const absl::Status breach = absl::InvalidArgumentError("the peer sends what are no messages");
      Log(LogLevel::kWarning, absl::StrCat("closing the messages' connection to peer ", static_cast<int>(lane->peer),
                                           ": ", breach.message()));
      return Lose(lane, breach, /*tell_owner=*/true);
    }
    if (bytes.size() < kHeaderBytes + length) break;
    {
      MutexLock lock(&handler_mu_);
      if (handler_ != nullptr) handler_->OnMessage(lane->peer, bytes.subspan(kHeaderBytes, length));
    }
    bytes.remove_prefix(kHeaderBytes + length);
  }
  if (was_empty) {
    lane->partial.assign(bytes.data(), bytes.size());
  } else {
    lane->partial.erase(0, lane->partial.size() - bytes.size());
  }
}

void MessageLanes::OnWritable(const LaneRef& lane) {
  absl::Status why;
  {
    MutexLock lock(&lane->mu);
    if (lane->fd < 0) return;
    while (lane->written < lane->waiting.size()) {
      const iovec rest{lane->waiting.data() + lane->written, lane->waiting.size() - lane->written};
      const std::optional<size_t> sent = SendSome(lane->fd, &rest, 1, &why);
      if (!sent.has_value() || *sent == 0) break;
      lane->written += *sent;
    }
    if (lane->written == lane->waiting.size()) {
      lane->waiting = std::string();
      lane->written = 0;
      Watch(epoll_, EPOLL_CTL_MOD, lane->fd, lane->token, /*writes=*/false);
    }
  }
  if (!why.ok()) Lose(lane, why, /*tell_owner=*/true);
}

void MessageLanes::CloseFd(Lane& lane) {
  uint64_t token = 0;
  {
    MutexLock lock(&lane.mu);
    if (lane.fd >= 0) close(lane.fd);  // which takes it out of the epoll set
    lane.fd = -1;
    token = std::exchange(lane.token, 0);
    lane.waiting = std::string();
    lane.written = 0;
    lane.broken = absl::OkStatus();
  }
  MutexLock lock(&mu_);
  by_token_.erase(token);
}

void MessageLanes::Lose(const LaneRef& lane, const absl::Status& why, bool tell_owner) {
  CloseFd(*lane);
  lane->partial = std::string();
  const auto on_lost = std::exchange(lane->on_lost, nullptr);
  TellLost(lane->peer, why);
  if (tell_owner && on_lost != nullptr) on_lost();
}

void MessageLanes::TellLost(PeerId peer, const absl::Status& why) {
  MutexLock lock(&handler_mu_);
  if (handler_ != nullptr) handler_->OnMessagesLost(peer, why);
}

void MessageLanes::GiveUpWaiting() {
  std::vector<LaneRef> lanes;
  {
    MutexLock lock(&mu_);
    for (const auto& [peer, lane] : lanes_) lanes.push_back(lane);
  }
  const absl::Time now = absl::Now();
  for (const LaneRef& lane : lanes) {
    bool given_up = false;
    {
      MutexLock lock(&lane->mu);
      given_up = lane->fd < 0 && !lane->waiting.empty() && now - lane->waits_since > patience_;
    }
    if (given_up) {
      Lose(lane, absl::UnavailableError(absl::StrCat("no connection within ", absl::FormatDuration(patience_))),
           /*tell_owner=*/true);
    }
  }
}

}  // namespace causeway
