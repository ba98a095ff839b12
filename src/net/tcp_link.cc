#include "net/tcp_link.h"

#include <algorithm>
#include <array>
#include <asio/steady_timer.hpp>
#include <atomic>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "net/frame_reader.h"
#include "net/sockets.h"

namespace causeway {
namespace {

// Frames that go out in one system call.
constexpr size_t kFramesPerWrite = 64;
// Reads before the other links of the I/O thread get their turn.
constexpr int kReadsPerTurn = 16;

// The link itself. Reading, closing and the handler's calls happen on the I/O thread; Send writes on any thread, under
// mu_.
class TcpLink : public IoResident, public std::enable_shared_from_this<TcpLink> {
 public:
  TcpLink(IoThread* io, Socket socket, const LinkOptions& options)
      : io_(io),
        options_(options),
        peer_(PeerNameOf(socket)),
        fd_(socket.native_handle()),
        socket_(std::move(socket)),
        timer_(std::in_place, io->context()) {}

  // Says the preamble. On the I/O thread, as all that makes a link.
  void Open() {
    io_->Add(shared_from_this());
    TuneSocket(*socket_);
    MutexLock lock(&mu_);
    Enqueue({.header_bytes = 0, .body = std::string(kLinkPreamble.begin(), kLinkPreamble.end())});
  }

  // Closes the link unless a frame comes in time. On the I/O thread.
  void ExpectFirstFrame() {
    timer_->expires_after(absl::ToChronoNanoseconds(options_.first_frame_timeout));
    timer_->async_wait([weak = weak_from_this()](asio::error_code error) {
      const std::shared_ptr<TcpLink> self = weak.lock();
      if (error || self == nullptr || self->first_frame_came()) return;
      self->Close(absl::UnavailableError("no frame came in time after it had connected"));
    });
  }
  bool first_frame_came() const { return first_frame_came_; }

  void Start(LinkHandler* handler) {
    io_->Post([self = shared_from_this(), handler] {
      self->handler_ = handler;
      if (self->ended_) return self->ReportClosed();
      self->StartReading();
      self->TellFull();
    });
  }

  void Send(std::string frame) {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen || write_failed_) return;
    if (frame.size() > std::numeric_limits<uint32_t>::max()) {
      return End(
          absl::InvalidArgumentError(absl::StrCat("a frame of ", frame.size(), " bytes is too long to be sent")));
    }
    Enqueue({.header = FrameHeader(static_cast<uint32_t>(frame.size())), .body = std::move(frame)});
    if (waiting_bytes_ > options_.max_queued_bytes) {
      End(absl::ResourceExhaustedError(
          absl::StrCat("it does not read: more than ", options_.max_queued_bytes, " bytes wait to be sent to it")));
    }
  }

  void Close(const absl::Status& why) {
    MutexLock lock(&mu_);
    if (!why.ok()) return End(why);
    if (state_ != State::kOpen) return;
    state_ = State::kFlushing;
    io_->Post([self = shared_from_this()] { self->BeginClosing(); });
  }

  void IoEnds() override {
    {
      MutexLock lock(&mu_);
      if (state_ != State::kEnding) why_ = absl::CancelledError("the I/O thread has ended");
      state_ = State::kEnding;
    }
    Finish();
  }

  void SetMaxFrameBytes(int64_t limit_bytes) { max_frame_bytes_ = limit_bytes; }
  const std::string& peer() const { return peer_; }

 private:
  enum class State {
    kOpen,
    kFlushing,  // Close(OK): what is queued goes out, then our side is shut, then the other side shuts its own
    kEnding,    // decided: Finish is on its way or was there
  };
  struct Item {
    std::array<char, kFrameHeaderBytes> header = {};
    size_t header_bytes = kFrameHeaderBytes;
    std::string body;
    size_t bytes() const { return header_bytes + body.size(); }
  };

  // Adds to the queue; writes at once if nothing was waiting.
  void Enqueue(Item item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const bool was_empty = queue_.empty();
    if (!was_empty) waiting_bytes_ += static_cast<int64_t>(item.bytes());
    queue_.push_back(std::move(item));
    if (!was_empty) return NoteFull();
    Flush();
    if (!queue_.empty()) io_->Post([self = shared_from_this()] { self->AwaitWritable(); });
  }

  // Sees whether the handler has to be told that the queue is full, or no longer.
  void NoteFull() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const bool full = waiting_bytes_ > (full_ ? options_.full_bytes / 2 : options_.full_bytes);
    if (state_ == State::kEnding || std::exchange(full_, full) == full) return;
    io_->Post([self = shared_from_this()] { self->TellFull(); });
  }

  // Writes until the queue is empty or the socket is full.
  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    while (!queue_.empty()) {
      std::array<iovec, 2 * kFramesPerWrite> parts;
      int count = 0;
      size_t skip = front_written_;
      const auto add = [&](const char* data, size_t size) {
        const size_t written = std::min(skip, size);
        skip -= written;
        if (size > written) parts[count++] = {const_cast<char*>(data + written), size - written};
      };
      for (size_t i = 0; i < std::min(queue_.size(), kFramesPerWrite); ++i) {
        add(queue_[i].header.data(), queue_[i].header_bytes);
        add(queue_[i].body.data(), queue_[i].body.size());
      }
      absl::Status why;
      const std::optional<size_t> sent = SendSome(fd_, parts.data(), count, &why);
      if (!sent.has_value()) {
        // It is the reader that ends the link: what the other side said before it went is still to be read.
        write_failed_ = true;
        queue_.clear();
        waiting_bytes_ = 0;
        return;
      }
      if (*sent == 0) return;
      progress_ = true;
      front_written_ += *sent;
      while (!queue_.empty() && front_written_ >= queue_.front().bytes()) {
        front_written_ -= queue_.front().bytes();
        queue_.pop_front();
        if (!queue_.empty()) waiting_bytes_ -= static_cast<int64_t>(queue_.front().bytes());
      }
    }
  }

  // Decides how the link ends, once.
  void End(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (state_ == State::kEnding) return;
    state_ = State::kEnding;
    why_ = why.ok() ? why : absl::Status(why.code(), absl::StrCat(peer_, ": ", why.message()));
    io_->Post([self = shared_from_this()] { self->Finish(); });
  }

  // ---- on the I/O thread

  void AwaitWritable() {
    if (ended_) return;
    socket_->async_wait(Socket::wait_write, [self = shared_from_this()](asio::error_code error) {
      if (!error) self->OnWritable();
    });
  }

  void OnWritable() {
    bool more;
    {
      MutexLock lock(&mu_);
      if (state_ == State::kEnding) return;
      Flush();
      NoteFull();
      more = !queue_.empty();
      ShutIfFlushed();
    }
    if (more) AwaitWritable();
  }

  void TellFull() {
    if (ended_ || handler_ == nullptr) return;
    bool full;
    {
      MutexLock lock(&mu_);
      full = full_;
    }
    if (std::exchange(told_full_, full) != full) handler_->OnFull(full);
  }

  void BeginClosing() {
    {
      MutexLock lock(&mu_);
      if (state_ != State::kFlushing) return;
      closing_ = true;
      ShutIfFlushed();
    }
    StartReading();
    Linger();
  }

  // Tells the other side that nothing more comes. The socket stays open until it has closed too: closing it with bytes
  // unread would take back what the other side has not read yet.
  void ShutIfFlushed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!closing_ || !queue_.empty()) return;
    asio::error_code ignored;
    socket_->shutdown(Socket::shutdown_send, ignored);
  }

  // Ends a closing link when nothing has moved for a while.
  void Linger() {
    timer_->expires_after(absl::ToChronoNanoseconds(options_.linger));
    timer_->async_wait([self = shared_from_this()](asio::error_code error) {
      if (error || self->ended_) return;
      {
        MutexLock lock(&self->mu_);
        if (!std::exchange(self->progress_, false)) return self->End(absl::OkStatus());
      }
      self->Linger();
    });
  }

  void StartReading() {
    if (!std::exchange(reading_, true)) AwaitReadable();
  }

  void AwaitReadable() {
    socket_->async_wait(Socket::wait_read, [self = shared_from_this()](asio::error_code error) {
      if (!error) self->ReadSome();
    });
  }

  void ReadSome() {
    for (int i = 0; i < kReadsPerTurn; ++i) {
      if (ended_) return;
      const absl::Span<char> room = reader_.Buffer();
      const iovec part{room.data(), room.size()};
      absl::Status why;
      const std::optional<size_t> received = ReceiveSome(fd_, &part, 1, &why);
      if (!received.has_value()) {
        MutexLock lock(&mu_);
        return End(state_ == State::kFlushing ? absl::OkStatus() : why);
      }
      if (*received == 0) break;
      // After Close nothing is delivered: what comes is read into the same place again.
      if (IsOpen()) {
        reader_.Filled(*received);
        if (!Deliver()) return;
      }
      if (*received < room.size()) break;
    }
    AwaitReadable();
  }

  bool IsOpen() {
    MutexLock lock(&mu_);
    return state_ == State::kOpen;
  }

  // Hands over the whole frames that have come. False: the link ends.
  bool Deliver() {
    while (IsOpen()) {
      absl::StatusOr<std::optional<std::string>> frame = reader_.Next(max_frame_bytes_);
      if (!frame.ok()) {
        MutexLock lock(&mu_);
        End(frame.status());
        return false;
      }
      if (!frame->has_value()) return true;
      if (!first_frame_came_.exchange(true)) timer_->cancel();
      handler_->OnFrame(**std::move(frame));
    }
    return true;
  }

  void Finish() {
    if (std::exchange(ended_, true)) return;
    timer_ = std::nullopt;
    socket_ = std::nullopt;
    io_->Remove(this);
    if (handler_ != nullptr) ReportClosed();
  }

  void ReportClosed() {
    absl::Status why;
    {
      MutexLock lock(&mu_);
      why = why_;
    }
    std::exchange(handler_, nullptr)->OnClosed(why);
  }

  IoThread* const io_;  // may be gone once state_ is kEnding
  const LinkOptions options_;
  const std::string peer_;
  const int fd_;  // of socket_. Used under mu_ while state_ is not kEnding, or on the I/O thread while not ended_
  std::atomic<int64_t> max_frame_bytes_ = kMaxHelloBytes;
  std::atomic<bool> first_frame_came_ = false;

  // Touched on the I/O thread only. Without value once ended_.
  std::optional<Socket> socket_;
  std::optional<asio::steady_timer> timer_;  // first for the first frame, then for lingering
  FrameReader reader_;
  LinkHandler* handler_ = nullptr;
  bool reading_ = false;
  bool told_full_ = false;
  bool ended_ = false;

  Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  absl::Status why_ ABSL_GUARDED_BY(mu_);
  std::deque<Item> queue_ ABSL_GUARDED_BY(mu_);
  size_t front_written_ ABSL_GUARDED_BY(mu_) = 0;   // bytes of queue_.front()
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mu_) = 0;  // of queue_ behind its front
  bool full_ ABSL_GUARDED_BY(mu_) = false;  // waiting_bytes_ is above full_bytes, or was and is not yet half of it
  bool write_failed_ ABSL_GUARDED_BY(mu_) = false;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;   // BeginClosing was there
  bool progress_ ABSL_GUARDED_BY(mu_) = false;  // since Linger looked last
};

// What users hold. The link lives on without it until it has ended.
class TcpLinkHandle final : public Link {
 public:
  explicit TcpLinkHandle(std::shared_ptr<TcpLink> link) : link_(std::move(link)) {}
  ~TcpLinkHandle() override { link_->Close(absl::CancelledError("the link was dropped on this side")); }

  void Start(LinkHandler* handler) override { link_->Start(handler); }
  void Send(std::string frame) override { link_->Send(std::move(frame)); }
  void Close(absl::Status why) override { link_->Close(why); }
  void SetMaxFrameBytes(int64_t limit_bytes) override { link_->SetMaxFrameBytes(limit_bytes); }
  std::string PeerName() const override { return link_->peer(); }

 private:
  const std::shared_ptr<TcpLink> link_;
};

class TcpLinkListener final : public LinkListener {
 public:
  TcpLinkListener(IoThread* io, std::shared_ptr<SocketListener> listener, OnLink on_link, const LinkOptions& options)
      : io_(io), listener_(std::move(listener)), on_link_(std::move(on_link)), options_(options) {
    listener_->Start([this](Socket socket) { Accept(std::move(socket)); });
  }
  ~TcpLinkListener() override { listener_->Stop(); }

  const std::string& address() const override { return listener_->address(); }

 private:
  void Accept(Socket socket) {
    auto link = std::make_shared<TcpLink>(io_, std::move(socket), options_);
    link->Open();
    link->ExpectFirstFrame();
    MakeRoom();
    waiting_.push_back(link);
    on_link_(std::make_unique<TcpLinkHandle>(std::move(link)));
  }

  // Forgets the connections that have shown themselves, and closes the oldest of the others if they are too many.
  void MakeRoom() {
    const auto limit = static_cast<size_t>(std::max(1, options_.max_waiting_for_first_frame));
    if (waiting_.size() < limit) return;
    std::erase_if(waiting_, [](const std::weak_ptr<TcpLink>& weak) {
      const std::shared_ptr<TcpLink> link = weak.lock();
      return link == nullptr || link->first_frame_came();
    });
    if (waiting_.size() < limit) return;
    if (const std::shared_ptr<TcpLink> oldest = waiting_.front().lock()) {
      Log(LogLevel::kWarning, absl::StrCat(waiting_.size(), " connections to ", address(),
                                           " have said nothing; closing the oldest, ", oldest->peer()));
      oldest->Close(absl::UnavailableError("too many connections that say nothing"));
    }
    waiting_.pop_front();
  }

  IoThread* io_;
  const std::shared_ptr<SocketListener> listener_;
  const OnLink on_link_;
  const LinkOptions options_;
  std::deque<std::weak_ptr<TcpLink>> waiting_;  // for their first frame, oldest first
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinkListener>> LinkListener::Listen(IoThread* io, const std::string& address,
                                                                   OnLink on_link, LinkOptions options) {
  ASSIGN_OR_RETURN(std::shared_ptr<SocketListener> listener, SocketListener::Listen(io, address));
  return std::make_unique<TcpLinkListener>(io, std::move(listener), std::move(on_link), options);
}

void DialLink(IoThread* io, const std::string& address, absl::Duration timeout,
              std::function<void(absl::StatusOr<std::unique_ptr<Link>>)> done, LinkOptions options) {
  Connect(io, address, timeout, [io, options, done = std::move(done)](absl::StatusOr<Socket> socket) {
    if (!socket.ok()) return done(socket.status());
    auto link = std::make_shared<TcpLink>(io, *std::move(socket), options);
    link->Open();
    done(std::make_unique<TcpLinkHandle>(std::move(link)));
  });
}

}  // namespace causeway
